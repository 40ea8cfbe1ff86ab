"""Every option of `edge-detect`, declared once: name, default, unit, range and help; and their check."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from edge_runtime.errors import UsageError

ENCODING_NAMES = (
    *("s16le", "s24le", "s32le", "f32le", "f64le", "u8", "s8"),
    *("s16be", "s24be", "s32be", "f32be", "f64be"),
)


@dataclass(frozen=True)
class Option:
    """One option as the command line and the documents show it."""

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


def _option(default: Any, **declared: Any) -> Any:
    return dataclasses.field(default=default, metadata={"option": Option(**declared)})


AUTO = "auto"
_SOURCE = "what to listen to (one of them)"
_RAW = "raw sound (with --file)"
_OUTPUT = "what to print"


@dataclass(frozen=True)
class Settings:
    """What the user asked for. Raises UsageError when it does not fit together."""

    device: str | None = _option(
        None,
        group=_SOURCE,
        metavar="NAME",
        help="a microphone: hw:1, hw:CARD=Device, part of its name, its number in --list-devices, or default",
    )
    file: tuple[str, ...] = _option(
        (),
        group=_SOURCE,
        metavar="PATH",
        many=True,
        help="sound files, in any format that libsndfile reads; - is a WAV (or raw sound) on standard input",
    )
    list_devices: bool = _option(False, kind=bool, group=_SOURCE, help="list the microphones and end")
    raw: str | None = _option(
        None,
        group=_RAW,
        choices=ENCODING_NAMES,
        metavar="CODING",
        help="the input has no header; its samples are " + ", ".join(ENCODING_NAMES),
    )
    rate: int | None = _option(
        None, kind=int, group=_RAW, unit="Hz", low=1, high=10_000_000, help="its rate (default 16000)"
    )
    channels: int | None = _option(
        None, kind=int, group=_RAW, low=1, high=1024, help="its interleaved channels (default 1)", metavar="N"
    )
    model: str | None = _option(
        None,
        metavar="PATH",
        help="an ONNX file that `python -m export` wrote (default: the one that is shipped)",
    )
    window: float | None = _option(
        None,
        kind=float,
        unit="seconds",
        low=0.05,
        high=60,
        help="sound in one verdict (default: the model's)",
    )
    hop: float | str | None = _option(
        None,
        kind=float,
        unit="seconds",
        low=0.01,
        high=3600,
        words=(AUTO,),
        help="from one verdict to the next (default 0.5, or the window where that is shorter), or auto: the shortest, "
        "from 0.1 s on, that this machine sustains; with --device it widens while the machine cannot keep up, while a "
        "file or a pipe is scored as asked and waits",
    )
    threshold: float | None = _option(
        None,
        kind=float,
        unit="llr",
        low=-1e6,
        high=1e6,
        help="scores below this are spoof, from it on bona fide (default: the model's)",
    )
    duration: float | None = _option(
        None, kind=float, unit="seconds", low=0.01, high=1e9, help="end after so much sound (default: never)"
    )
    json: bool | None = _option(
        None,
        kind=bool,
        group=_OUTPUT,
        negatable=True,
        help="a JSON object a line (default when the output is no terminal); --no-json: text for people",
    )
    fail_on_spoof: bool = _option(
        False, kind=bool, group=_OUTPUT, help="end with code 10 when the verdict on any input is spoof"
    )

    def __post_init__(self) -> None:
        for option_field in dataclasses.fields(self):
            _check(option_field.name, option_of(option_field), getattr(self, option_field.name))
        sources = [bool(self.file), self.device is not None, self.list_devices]
        if sum(sources) == 0:
            raise UsageError(
                "nothing to listen to: name a file (--file clip.wav), a microphone (--device hw:1; "
                "--list-devices shows them) or pipe a WAV in (--file -)"
            )
        if sum(sources) > 1:
            raise UsageError("--file, --device and --list-devices exclude each other: give one of them")
        if self.file.count("-") > 1:
            raise UsageError("standard input (--file -) can be read only once")
        if self.raw is not None and not self.file:
            raise UsageError("--raw describes a file or standard input: add --file -")
        if self.raw is None and (self.rate is not None or self.channels is not None):
            raise UsageError(
                "--rate and --channels describe raw sound: add --raw s16le (other files say it themselves)"
            )


def option_of(option_field: dataclasses.Field[Any]) -> Option:
    """The declaration of one field of Settings."""
    option: Option = option_field.metadata["option"]
    return option


def flag(name: str) -> str:
    """How the command line spells a field's name."""
    return "--" + name.replace("_", "-")


def _check(name: str, option: Option, value: Any) -> None:
    if value is None or option.kind in (bool,) or value in option.words:
        return
    if option.choices and value not in option.choices:
        raise UsageError(f"{flag(name)} is one of {', '.join(option.choices)}, not {value!r}")
    if option.kind in (int, float) and not option.low <= value <= option.high:  # refuses NaN too
        unit = f" {option.unit}" if option.unit else ""
        raise UsageError(f"{flag(name)} must lie between {option.low:g} and {option.high:g}{unit}, not {value:g}")
    if option.kind is str and not option.many and not str(value).strip():
        raise UsageError(f"{flag(name)} needs a value that is not empty")
