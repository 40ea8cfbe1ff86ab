"""Settings from three places: a TOML file, the environment, the command line; the later one overrides the others."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edge_runtime.errors import UsageError
from edge_runtime.settings.option import flag, from_text, mistyped, option_of, short, unfit, variable
from edge_runtime.settings.schema import FIELDS, RAW, SOURCES, Settings, misfits
from edge_runtime.settings.tomlfile import LARGEST_FILE as LARGEST_FILE
from edge_runtime.settings.tomlfile import read_toml
from edge_runtime.system.text import printable

COMMAND_LINE = "command line"
DEFAULT = "default"
MOST_FAULTS = 20
"""Of one file, that are named one by one; the others are counted."""
_LONGEST_NAME = 64
"""Characters: what is longer is no misspelt option."""
_FOREIGN = frozenset(("EDGE_DETECT_EVENT", "EDGE_DETECT_AARCH64"))
"""Variables that we know and that are no options: what --exec gives its command, and a folder of the tests."""

_TOGETHER = (
    frozenset(("model", "window", "hop", "least_speech")),
    frozenset(("model", "threshold", "alarm_on", "alarm_off")),
)
"""Options that have to fit to each other at the start."""


@dataclass(frozen=True)
class Effective:
    """What was given, without the defaults, and where each value comes from: a file, a variable, the command line."""

    values: Mapping[str, Any]
    origins: Mapping[str, str]

    def settings(self) -> Settings:
        """Raises UsageError when the values do not fit together or name no source of sound."""
        settings = Settings(**self.values)
        if settings.file and not settings.live:
            for name, origin in self.origins.items():
                if origin == COMMAND_LINE and option_of(FIELDS[name]).live:
                    raise UsageError(
                        f"{flag(name)} is for a live source: it needs --device, --stream, or --live with a pipe"
                    )
        return settings


def effective(given: Mapping[str, Any], environment: Mapping[str, str] | None = None) -> Effective:
    """Puts together what the command line gave (`given`, of the right types) and what the other places say.

    The file is that of `--config`, or of EDGE_DETECT_CONFIG; without either there is none. A place that names a source
    of sound puts the sources of those below it aside, and what they say about raw sound. Raises UsageError for the
    first thing that is wrong; it names the place, the option, the reason and the range.
    """
    environment = os.environ if environment is None else environment
    variables = _from_environment(environment)
    path = given.get("config") or variables.get("config")
    stored = {} if path is None else _first_wrong(*_read(str(path)))
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    layers: tuple[tuple[Mapping[str, Any], Callable[[str], str]], ...] = (
        (stored, lambda _: str(path)),
        (variables, variable),
        (given, lambda _: COMMAND_LINE),
    )
    for layer, origin in layers:
        if any(layer.get(name) for name in SOURCES):
            for name in (*SOURCES, *RAW):
                values.pop(name, None)
                origins.pop(name, None)
        values |= layer
        origins |= {name: origin(name) for name in layer}
    return Effective(values, origins)


def load(given: Mapping[str, Any], environment: Mapping[str, str] | None = None) -> Settings:
    """The settings from all places (see `effective`). Raises UsageError."""
    return effective(given, environment).settings()


def problems(path: str, rehearse: Callable[[Settings], Sequence[str]] | None = None) -> list[str]:
    """All that is wrong with a configuration file, a line each; nothing when it is in order.

    `rehearse` tells what shows only at the start; it is called when the file names a live source, without the options
    that are wrong already.
    """
    values, faults, uncounted = _read(path)
    wrong = list(faults.values())
    if uncounted:
        wrong.append(f"{path}: {uncounted} more of its entries are wrong")
    unclear = {name if name in FIELDS else _meant(name) or name for name in faults}
    reasons = list(misfits(values, unclear))
    if rehearse and any(values.get(name) for name in ("device", "stream", "live")):
        reasons += rehearse(Settings(**_certain(values, unclear), device=values.get("device") or "default"))
    return wrong + [f"{path}: {_without_flags(reason)}" for reason in reasons]


def _certain(values: Mapping[str, Any], unclear: Collection[str]) -> dict[str, Any]:
    """What is known of a run with a live source, of whatever kind: no option that has to fit to one that is wrong."""
    left_out = {*SOURCES, *RAW, *(name for group in _TOGETHER if not group.isdisjoint(unclear) for name in group)}
    certain = {name: value for name, value in values.items() if name not in left_out}
    if any(misfits(certain)):
        del certain["alarm_on"], certain["alarm_off"]
    return certain


def _without_flags(text: str) -> str:
    """Options as the file spells them, in a sentence that spells them as the command line does."""
    flags = re.compile("(" + "|".join(re.escape(flag(name)) for name in FIELDS) + r")(?![\w-])")
    return flags.sub(lambda found: found[1][2:].replace("-", "_"), text)


class Reload:
    """Reads the configuration again when that was asked for."""

    def __init__(self, wanted: Callable[[], bool], given: Mapping[str, Any]) -> None:
        """`wanted` is True once for each request; `given` is what the command line said, which stays above the file."""
        self._wanted = wanted
        self._given = dict(given)

    def __call__(self) -> Settings | None:
        """The new settings, or None where nobody asked. Raises UsageError when they cannot be: keep the old ones."""
        return load(self._given) if self._wanted() else None


def _first_wrong(values: dict[str, Any], faults: Mapping[str, str], uncounted: int) -> dict[str, Any]:
    if not faults:
        return values
    wrong = list(faults.values())
    count = len(wrong) - 1 + uncounted
    raise UsageError(wrong[0] + (f" (and {count} more: see `edge-detect config check`)" if count else ""))


def _read(path: str) -> tuple[dict[str, Any], dict[str, str], int]:
    """What the file holds; what is wrong with it, by the name that it has there ("" is the file itself), of at most
    MOST_FAULTS; and how many faults there are beyond these."""
    try:
        tables = read_toml(path)
    except UsageError as reason:
        return {}, {"": str(reason)}, 0
    values: dict[str, Any] = {}
    faults: dict[str, str] = {}
    uncounted = 0
    for name, value in tables.items():
        if len(faults) >= MOST_FAULTS and name not in FIELDS:  # looking for what is meant by thousands takes minutes
            uncounted += 1
            continue
        fault = _unknown(name, value) or mistyped(option_of(FIELDS[name]), value)
        fault = fault or unfit(option_of(FIELDS[name]), value)
        if not fault:
            values[name] = _converted(name, value)
        elif len(faults) >= MOST_FAULTS:
            uncounted += 1
        else:
            faults[name] = f"{path}: {printable(short(name))} {fault}"
    return values, faults, uncounted


def _unknown(name: str, value: Any) -> str | None:
    if name in FIELDS:
        return None if option_of(FIELDS[name]).stored else f"is for the command line ({flag(name)}) only"
    if isinstance(value, dict):
        return "is a table, but all options stand at the top of the file, without [headings]"
    close = _meant(name)
    return "is no option; " + (f"did you mean {close}?" if close else "`edge-detect config document` lists all")


def _meant(name: str) -> str | None:
    """The option whose name is nearest."""
    if len(name) > _LONGEST_NAME:
        return None
    known = [field for field in FIELDS if option_of(FIELDS[field]).stored]
    close = difflib.get_close_matches(name.lower().replace("-", "_"), known, n=1, cutoff=0.6)
    return close[0] if close else None


def _converted(name: str, value: Any) -> Any:
    declared = option_of(FIELDS[name])
    if declared.many:
        return tuple(value)
    return float(value) if declared.kind is float and not isinstance(value, str) else value


def _from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    """The options that variables name; an empty one counts as not set. Raises UsageError for the first wrong one."""
    names = {variable(name): name for name, field in FIELDS.items() if option_of(field).stored or name == "config"}
    values: dict[str, Any] = {}
    for key, text in environment.items():
        if not text or not key.startswith(variable("")) or key in _FOREIGN:
            continue
        if key not in names:
            # Others may have variables of this kind, so only one that looks like a slip is refused.
            close = difflib.get_close_matches(key, names, n=1, cutoff=0.9)
            if close:
                raise UsageError(f"the variable {key} is no option; did you mean {close[0]}?")
            continue
        declared = option_of(FIELDS[names[key]])
        try:
            value = from_text(declared, text)
        except ValueError as reason:
            raise UsageError(f"the variable {key} {reason}") from None
        fault = unfit(declared, value)
        if fault:
            raise UsageError(f"the variable {key} {fault}")
        values[names[key]] = value
    return values
