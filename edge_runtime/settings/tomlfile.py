"""TOML from a file that may hold anything: bounded in size, time and memory, and wrong in one line only."""

from __future__ import annotations

import os
import re
import stat
import tomllib
from typing import Any

from edge_runtime.errors import UsageError
from edge_runtime.settings.option import short

LARGEST_FILE = 256 << 10
"""Bytes: a longer file is no configuration; the one with all options has 7 KB."""
_MOST_DOTS = 8
"""In one line, outside of quotes. tomllib takes time with the square of a key's parts: minutes for a long file."""
_MOST_DIGITS = 4300
"""Of a decimal number, as Python has it. Hexadecimal ones have no limit of their own."""

# What begins with a quote or # and goes on to its end; where the end is missing, to where tomllib gives up.
_QUOTED = re.compile(
    r'"""(?:\\(?:.|\Z)|"{1,2}(?!")|[^"\\]+)*(?:"{3,5}|\Z)'
    r"|'{3}(?:'{1,2}(?!')|[^']+)*(?:'{3,5}|\Z)"
    r'|"(?:\\.|[^"\\\n]+)*"?'
    r"|'[^'\n]*'?"
    r"|\#[^\n]*",
    re.DOTALL,
)
_LONG_NUMBER = re.compile(rf"(?<![0-9_])[0-9_]{{{_MOST_DIGITS + 1},}}")
_KINDS = (
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def read_toml(path: str) -> dict[str, Any]:
    """The tables of a file. Raises UsageError, which names the file, when it is no regular file, is too long, is no
    UTF-8 (with or without a byte order mark) or no TOML, or would take more time or memory than a configuration may.
    """
    try:
        content = _read(path)
        return tomllib.loads(_checked(content, path))
    except OSError as reason:
        raise UsageError(f"cannot read the configuration {path}: {reason.strerror or reason}") from None
    except ValueError as reason:  # with line and column, and parts of the text; or the path holds a null
        raise UsageError(f"{path} is no TOML: {short(str(reason), 200)}") from None
    except RecursionError:
        raise UsageError(f"{path} is no TOML: brackets without end") from None
    except MemoryError:
        raise UsageError(f"cannot read the configuration {path}: there is not enough memory") from None


def _read(path: str) -> bytes:
    """All of a regular file. Never waits, as opening a named pipe would."""
    _need_file(os.stat(path).st_mode, path)  # first, since opening some devices does something
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        _need_file(os.fstat(handle).st_mode, path)
        parts, room = [], LARGEST_FILE + 1
        while room and (part := os.read(handle, room)):
            parts.append(part)
            room -= len(part)
    finally:
        os.close(handle)
    if not room:
        raise UsageError(f"{path} is longer than {LARGEST_FILE >> 10} KB: that is no configuration")
    return b"".join(parts)


def _need_file(mode: int, path: str) -> None:
    for is_kind, kind in _KINDS:
        if is_kind(mode):
            raise UsageError(f"cannot read the configuration {path}: it is {kind}, not a file")


def _checked(content: bytes, path: str) -> str:
    """The text, when tomllib may have it. Raises UsageError."""
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise UsageError(f"{path} is no TOML: it is UTF-16 text; save it as UTF-8")
    try:
        text = content.decode("utf-8-sig")  # editors on Windows put a mark before the first line
    except UnicodeDecodeError as reason:
        line = content.count(b"\n", 0, reason.start) + 1
        raise UsageError(f"{path} is no TOML: line {line} is no UTF-8 text; save the file as UTF-8") from None
    plain = _QUOTED.sub(lambda found: '""' + "\n" * found[0].count("\n"), text)
    for number, line_text in enumerate(plain.split("\n"), start=1):
        if line_text.count(".") > _MOST_DOTS:
            raise UsageError(f"{path} is no configuration: line {number} has more than {_MOST_DOTS} dots")
    if found := _LONG_NUMBER.search(plain):
        line = plain.count("\n", 0, found.start()) + 1
        raise UsageError(f"{path} is no configuration: line {line} has a number of more than {_MOST_DIGITS} digits")
    return text
