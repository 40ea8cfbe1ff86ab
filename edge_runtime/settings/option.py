"""What an option is: its kind, range and words, how text becomes its value, and why a value is refused."""

from __future__ import annotations

import dataclasses
import math
import os
import re
from dataclasses import dataclass
from typing import Any

_LONGEST_SHOWN = 60
"""Characters of somebody's text in a line about it."""
_WHOLE = re.compile(r"[+-]?[0-9]+")
_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
_YES = ("1", "true", "yes", "on")
_NO = ("0", "false", "no", "off")


@dataclass(frozen=True)
class Option:
    """One option as the command line, the configuration file and the documents show it."""

    help: str
    kind: type = str  # str, int, float or bool
    group: str = "how to score"
    unit: str = ""
    low: float = -math.inf
    high: float = math.inf
    choices: tuple[str, ...] = ()
    many: bool = False
    negatable: bool = False
    metavar: str = ""
    words: tuple[str, ...] = ()  # allowed in the place of a number
    stored: bool = True  # whether a configuration file may have it
    live: bool = False  # means something with a live source only
    secret: bool = False  # a URL, whose password nobody may read
    example: Any = None  # of an option without a default: what a configuration file could say


def option(default: Any, **declared: Any) -> Any:
    """A field of a dataclass that is an option; `declared` are the fields of Option."""
    return dataclasses.field(default=default, metadata={"option": Option(**declared)})


def live_option(default: Any, group: str, help: str, **declared: Any) -> Any:
    """An option that means something with a live source only."""
    return option(default, group=group, help=help, live=True, **declared)


def time_option(default: float | str, group: str, between: tuple[float, float], help: str, **declared: Any) -> Any:
    """An option that is a time in seconds."""
    low, high = between
    return option(default, group=group, help=help, kind=float, unit="seconds", low=low, high=high, **declared)


def live_time(default: float | str, group: str, between: tuple[float, float], help: str, **declared: Any) -> Any:
    """The same, of a microphone only."""
    return time_option(default, group, between, help, live=True, **declared)


def score_option(group: str, help: str, **declared: Any) -> Any:
    """A log-likelihood ratio that the model decides on where it is not given."""
    return option(None, group=group, help=help, kind=float, unit="llr", low=-1e6, high=1e6, **declared)


def option_of(option_field: dataclasses.Field[Any]) -> Option:
    """The declaration of one field of Settings."""
    declared: Option = option_field.metadata["option"]
    return declared


def flag(name: str) -> str:
    """How the command line spells a field's name."""
    return "--" + name.replace("_", "-")


def variable(name: str) -> str:
    """How the environment spells a field's name."""
    return "EDGE_DETECT_" + name.upper()


def unfit(declared: Option, value: Any) -> str | None:
    """Why a value cannot be, as the end of a sentence that begins with the option's name; None when it can.

    `value` has the option's kind already, or is None, which stands for "not given".
    """
    if value is None or declared.kind is bool or (isinstance(value, str) and value in declared.words):
        return None
    if declared.choices and value not in declared.choices:
        return f"must be one of {', '.join(declared.choices)}, not {_shown(value)}"
    if declared.kind in (int, float) and not declared.low <= value <= declared.high:  # refuses NaN too
        return f"must lie between {allowed(declared)}, not {_shown(value)}"
    if declared.kind is str and any("\0" in str(one) for one in (value if declared.many else (value,))):
        return "must not hold a null character"
    if declared.kind is str and not declared.many and not str(value).strip():
        return "needs a value that is not empty"
    if declared.many and not all(str(one).strip() for one in value):
        return "needs values that are not empty"
    return None


def allowed(declared: Option) -> str:
    """The range of a number: `0.01 and 3600 seconds (or auto)`."""
    unit = f" {declared.unit}" if declared.unit else ""
    words = f" (or {' or '.join(declared.words)})" if declared.words else ""
    return f"{_number(declared.low)} and {_number(declared.high)}{unit}{words}"


def _number(value: float) -> str:
    """As short as it can be: 0.01, 60, 10000000."""
    return str(int(value)) if value == int(value) else f"{value:g}"


def mistyped(declared: Option, value: Any) -> str | None:
    """Why a value of a configuration file has the wrong type, as the end of a sentence; None when it is right."""
    if declared.many:
        if isinstance(value, list) and value and all(isinstance(one, str) for one in value):
            return None
        return f'must be a list of texts such as ["clip.wav"], not {_shown(value)}'
    if declared.kind is bool:
        return None if isinstance(value, bool) else f"must be true or false, not {_shown(value)}"
    if declared.kind is str:
        return (
            None
            if isinstance(value, str)
            else "must be text in quotes" + ("" if declared.secret else f", not {_shown(value)}")
        )
    if isinstance(value, str) and value in declared.words:
        return None
    wanted = (int,) if declared.kind is int else (int, float)
    if isinstance(value, wanted) and not isinstance(value, bool):
        return None
    name = "a whole number" if declared.kind is int else "a number"
    return f"must be {name} between {allowed(declared)}, not {_shown(value)}"


def short(text: str, most: int = _LONGEST_SHOWN) -> str:
    """`text` in at most `most` characters: what is left out is marked."""
    return text if len(text) <= most else f"{text[: most - 3]}..."


def _shown(value: Any) -> str:
    """A value as the end of a sentence about it: bounded, whatever a file held."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        try:
            return f"{value:g}"
        except OverflowError:  # a whole number of hundreds of digits
            return "a number that large"
    if isinstance(value, str):
        return short(repr(short(value, 2 * _LONGEST_SHOWN)))  # cut twice: the first saves time, escapes are longer
    if isinstance(value, dict | list):
        return "a table" if isinstance(value, dict) else "a list"
    return short(str(value))  # a date or a time


def number_from(text: str) -> float:
    """The number that a text says in plain digits. Raises ValueError, also for what only Python takes (1_000)."""
    if not _NUMBER.fullmatch(text.strip()):
        raise ValueError(text)
    return float(text)


def from_text(declared: Option, text: str) -> Any:
    """The value that a text from the command line or the environment says.

    Raises ValueError with the reason, the end of a sentence.
    """
    if declared.many:
        return tuple(part for part in text.split(os.pathsep) if part)
    if declared.kind is bool:
        word = text.strip().lower()
        if word not in (*_YES, *_NO):
            raise ValueError(f"must be {', '.join((*_YES, *_NO[:-1]))} or {_NO[-1]}, not {_shown(text)}")
        return word in _YES
    if declared.kind is str or text in declared.words:
        return text
    name, pattern = ("a whole number", _WHOLE) if declared.kind is int else ("a number", _NUMBER)
    try:
        if not pattern.fullmatch(text.strip()):
            raise ValueError
        return declared.kind(text)
    except ValueError:  # also a whole number of more digits than Python reads
        plain = " (write it in plain digits)" if any(letter.isdigit() for letter in text) else ""
        raise ValueError(f"must be {name} between {allowed(declared)}, not {_shown(text)}{plain}") from None
