"""The options as people read them: a configuration file with comments, a page in Markdown, the values in effect."""

from __future__ import annotations

import dataclasses
import json
import textwrap
from collections.abc import Iterator
from typing import Any

from edge_runtime.capture.address import shown
from edge_runtime.settings.config import DEFAULT, Effective
from edge_runtime.settings.option import Option, allowed, flag, option_of
from edge_runtime.settings.schema import FIELDS
from edge_runtime.system.markdown import table
from edge_runtime.system.text import printable

_WIDTH = 100
_JSON = {str: "string", bool: "boolean", int: "integer", float: "number"}
_BRIEF = 78
"""Characters of an option's help in a short page, from which on it is cut at a comma or colon."""
_PAGE = """\
# Settings

<!-- Printed by `edge-detect config document --markdown`; change edge_runtime/settings/schema.py instead. -->

Every option has one name in three places: `connect_timeout = 30` in a configuration file,
`EDGE_DETECT_CONNECT_TIMEOUT=30` in the environment and `--connect-timeout 30` on the command line. The command line
overrides the environment, the environment the file, the file the default. A file is read only where
`--config PATH` or `EDGE_DETECT_CONFIG` names it; it is TOML, without tables, in UTF-8 and at most 256 KB long, and a
regular file: no pipe, no device. Paths in it are relative to where the program was started.

A place that names a source of sound puts those of the places below it aside: `--file clip.wav` scores a file, whatever
microphone the configuration names, and options for a microphone rest then.

```sh
edge-detect config document > edge-detect.toml     # a file with every option and its default
edge-detect config check edge-detect.toml          # all that is wrong with it; exit code 2 if something is
edge-detect config show --config edge-detect.toml  # the values in effect, and where each comes from
```

The check of a file that names a live source (a microphone, a stream or a live pipe: [sources.md](sources.md)) also
loads its model and looks for its command, as a start would; the source itself is left alone.

A running `edge-detect --device ... --config ...` reads its file again at SIGHUP: that ends the run with its summary and
begins another one, whose times begin at 0, on the same open source (on a new one where what is listened to changed).
A file that is wrong then is reported, and the old values stay.

In the environment a switch is `1`, `true`, `yes` or `on`, or `0`, `false`, `no` or `off`; several files are separated
by colons; an empty variable counts as not set. Numbers there and on the command line are plain digits with a point or
an exponent: `1000`, `0.5`, `1e3`; no `1_000` and no `0x10`, which a TOML file may have.
"""


def as_toml() -> str:
    """A complete configuration file: every option with its comment and its default; those without are commented out."""
    lines = [
        "# Configuration of edge-detect: every option, with its default. Lines that begin with #name are examples.",
        "# Check it: edge-detect config check THIS_FILE",
    ]
    for group, names in _groups():
        lines += ["", f"## {group}"]
        for name in names:
            declared = option_of(FIELDS[name])
            lines += ["", *textwrap.wrap(_comment(declared), _WIDTH, initial_indent="# ", subsequent_indent="# ")]
            default = FIELDS[name].default
            if default in (None, ()):
                lines.append(f"#{name} = {_toml(_example(declared))}")
            else:
                lines.append(f"{name} = {_toml(default)}")
    return "\n".join(lines) + "\n"


def as_markdown() -> str:
    """The page `docs/settings.md`."""
    parts = [_PAGE]
    for group, names in _groups():
        rows = []
        for name in names:
            declared = option_of(FIELDS[name])
            default = FIELDS[name].default
            shown = "not set" if default in (None, ()) else f"`{_toml(default)}`"
            rows.append((f"`{name}`", _values(declared), shown, _sentence(declared.help)))
        lines = table(("option", "values", "default", "meaning"), rows)
        parts.append("\n".join([f"## {group[0].upper()}{group[1:]}", "", *lines]) + "\n")
    alone = [f"`{flag(name)}`" for name, field in FIELDS.items() if not option_of(field).stored]
    parts.append(f"Only on the command line: {', '.join(alone)} (and `EDGE_DETECT_CONFIG`).\n")
    return "\n".join(parts)


def schema() -> dict[str, Any]:
    """A JSON schema (draft 2020-12) of a configuration file, which is TOML of the same shape."""
    properties: dict[str, Any] = {}
    for name, field in FIELDS.items():
        declared = option_of(field)
        if not declared.stored:
            continue
        kind: dict[str, Any] = {"type": _JSON[declared.kind]}
        if declared.many:
            kind = {"type": "array", "items": {"type": "string"}, "minItems": 1}
        elif declared.choices:
            kind = {"enum": list(declared.choices)}
        elif declared.kind in (int, float):
            kind |= {"minimum": declared.low, "maximum": declared.high}
        if declared.words:
            kind = {"anyOf": [kind, {"enum": list(declared.words)}]}
        properties[name] = {"description": declared.help, **kind}
        if field.default not in (None, ()):
            properties[name]["default"] = field.default
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "The configuration of edge-detect",
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
    }


def as_shown(found: Effective) -> str:
    """The values in effect as TOML, a line an option; the comment says where it comes from. No password is shown."""
    rows = []
    for name, field in FIELDS.items():
        if not option_of(field).stored:
            continue
        value = found.values.get(name, field.default)
        if option_of(field).secret and value:
            value = shown(value)
        text = f"#{name}" if value in (None, ()) else f"{name} = {_toml(value)}"
        rows.append((text, printable(found.origins.get(name, DEFAULT))))
    width = min(40, max(len(text) for text, _ in rows))
    return "".join(f"{text:{width}s}  # {origin}\n" for text, origin in rows)


def help_of(field: dataclasses.Field[Any]) -> str:
    """An option's help on the command line, with its default where it is a value."""
    declared = option_of(field)
    default = field.default
    if default is None or default == () or isinstance(default, bool):
        return declared.help
    text = default if isinstance(default, str) else _toml(default)
    return f"{declared.help} (default {text})"


def brief_of(field: dataclasses.Field[Any]) -> str:
    """An option's help in a line: what it is, and its default where that is a value."""
    text = option_of(field).help.split("; ")[0].split(" (default")[0]
    text = text if len(text) <= _BRIEF else text.split(", through")[0].split(": ")[0].split(" (")[0]
    return help_of(dataclasses.field(default=field.default, metadata={"option": Option(help=text)}))


def _groups() -> Iterator[tuple[str, list[str]]]:
    found: dict[str, list[str]] = {}
    for name, field in FIELDS.items():
        if option_of(field).stored:
            found.setdefault(option_of(field).group, []).append(name)
    yield from found.items()


def _values(declared: Option) -> str:
    """What may stand there: `number, 0.01 to 60 seconds, or "auto"`."""
    if declared.many:
        return "list of texts"
    if declared.kind is bool:
        return "true or false"
    if declared.choices:
        return ", ".join(declared.choices)
    if declared.kind is str:
        return "text"
    number = "whole number" if declared.kind is int else "number"
    words = "".join(f', or "{word}"' for word in declared.words)
    return f"{number}, {allowed(declared).split(' (or ')[0].replace(' and ', ' to ')}{words}"


def _comment(declared: Option) -> str:
    choices = "" if declared.choices else f" Value: {_values(declared)}."
    return _sentence(declared.help) + choices


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + "."


def _example(declared: Option) -> Any:
    if declared.example is not None:
        return declared.example
    return declared.choices[0] if declared.choices else True


def _letter(letter: str) -> str:
    """A character of a text as TOML has it: what a terminal would obey or not show is written as a number."""
    if letter.isprintable() or 0xD800 <= ord(letter) < 0xE000:  # half a character cannot be written in TOML at all
        return letter
    return f"\\u{ord(letter):04x}" if ord(letter) < 0x10000 else f"\\U{ord(letter):08x}"


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return "".join(_letter(one) for one in json.dumps(value, ensure_ascii=False))
    if isinstance(value, tuple):
        return "[" + ", ".join(_toml(one) for one in value) + "]"
    return repr(value).removesuffix(".0")
