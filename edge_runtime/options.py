"""What an option is: its kind, range and words, how text becomes its value, and why a value is refused."""

from __future__ import annotations

import dataclasses
import math
import os
from dataclasses import dataclass
from typing import Any

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
    live: bool = False  # means something with a microphone only
    example: Any = None  # of an option without a default: what a configuration file could say


def option(default: Any, **declared: Any) -> Any:
    """A field of a dataclass that is an option; `declared` are the fields of Option."""
    return dataclasses.field(default=default, metadata={"option": Option(**declared)})


def live_option(default: Any, group: str, help: str, **declared: Any) -> Any:
    """An option that means something with a microphone only."""
    return option(default, group=group, help=help, live=True, **declared)


def live_time(default: float | str, group: str, between: tuple[float, float], help: str, **declared: Any) -> Any:
    """The same, a time in seconds."""
    low, high = between
    return live_option(default, group, help, kind=float, unit="seconds", low=low, high=high, **declared)


def live_score(group: str, help: str, **declared: Any) -> Any:
    """The same, a log-likelihood ratio that the model decides on where it is not given."""
    return live_option(None, group, help, kind=float, unit="llr", low=-1e6, high=1e6, **declared)


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
        return f"must be one of {', '.join(declared.choices)}, not {value!r}"
    if declared.kind in (int, float) and not declared.low <= value <= declared.high:  # refuses NaN too
        return f"must lie between {allowed(declared)}, not {_short(value)}"
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


def _short(value: float) -> str:
    try:
        return f"{value:g}"
    except OverflowError:  # a whole number of hundreds of digits
        return "a number that large"


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
        return None if isinstance(value, str) else f"must be text in quotes, not {_shown(value)}"
    if isinstance(value, str) and value in declared.words:
        return None
    wanted = (int,) if declared.kind is int else (int, float)
    if isinstance(value, wanted) and not isinstance(value, bool):
        return None
    name = "a whole number" if declared.kind is int else "a number"
    return f"must be {name} between {allowed(declared)}, not {_shown(value)}"


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return "a table" if isinstance(value, dict) else repr(value)


def from_text(declared: Option, text: str) -> Any:
    """The value that an environment variable holds. Raises ValueError with the reason, the end of a sentence."""
    if declared.many:
        return tuple(part for part in text.split(os.pathsep) if part)
    if declared.kind is bool:
        word = text.strip().lower()
        if word not in (*_YES, *_NO):
            raise ValueError(f"must be {', '.join((*_YES, *_NO[:-1]))} or {_NO[-1]}, not {text!r}")
        return word in _YES
    if declared.kind is str or text in declared.words:
        return text
    try:
        return declared.kind(text)
    except ValueError:
        name = "a whole number" if declared.kind is int else "a number"
        raise ValueError(f"must be {name} between {allowed(declared)}, not {text!r}") from None
