"""Every option of `edge-detect`, declared once: name, default, unit, range and help; and what fits together.

The names are those of the command line (`--connect-timeout`), of the environment (`EDGE_DETECT_CONNECT_TIMEOUT`)
and of the configuration file (`connect_timeout`); `docs/settings.md` is printed from here.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from edge_runtime.errors import UsageError
from edge_runtime.settings import fitting
from edge_runtime.settings.option import (
    flag,
    live_option,
    live_time,
    option,
    option_of,
    score_option,
    time_option,
    unfit,
)

_LITTLE = ("s16le", "s24le", "s24le-in-32", "s32le", "f32le", "f64le", "u8", "s8")
ENCODING_NAMES = (*_LITTLE, "s16be", "s24be", "s24be-in-32", "s32be", "f32be", "f64be")
AUTO = "auto"
FOREVER = "forever"
MIX = "mix"
LEVELS = ("error", "warning", "info", "debug")  # of system.log, which is not light to import
PROVIDERS = (AUTO, "cpu", "cuda", "tensorrt")

_SOURCE = "what to listen to (one of them)"
_RAW = "raw sound (with --file)"
_LIVE = "the live source (with --device, --stream or --live)"
_ALARM = "when to raise an alarm, which also makes a recording spoof (with any source)"
_KEEP = "what to keep and whom to tell (with a live source)"
_TRY = "to try another model beside the one that runs"
_OUTPUT = "what to print"

SOURCES = ("device", "stream", "file", "list_devices")
"""Exclude each other: naming one on the command line puts those of the configuration aside."""
RAW = ("raw", "rate", "channels", "live")
"""Describe a file, and go with it."""


@dataclass(frozen=True)
class Settings:
    """What the user asked for. Raises UsageError when it does not fit together."""

    device: str | None = option(
        None,
        group=_SOURCE,
        metavar="NAME",
        example="hw:1",
        help="a microphone: hw:1, hw:CARD=Device, part of its name, its number in --list-devices, or default",
    )
    stream: str | None = option(
        None,
        group=_SOURCE,
        metavar="URL",
        secret=True,
        example="rtsp://camera.example/stream1",
        help="sound from the network, through ffmpeg: rtsp://, http:// and others; docs/sources.md tells where to put "
        "its password",
    )
    file: tuple[str, ...] = option(
        (),
        group=_SOURCE,
        metavar="PATH",
        many=True,
        example=("clip.wav",),
        help="sound files that libsndfile or, where installed, ffmpeg reads; - is a WAV or raw sound on standard input",
    )
    live: bool = option(
        False,
        kind=bool,
        group=_SOURCE,
        help="the pipe of --file (- or a FIFO) is live: it is listened to as a microphone is, no faster than the clock",
    )
    list_devices: bool = option(False, kind=bool, group=_SOURCE, stored=False, help="list the microphones and end")
    config: str | None = option(
        None,
        group="configuration",
        metavar="PATH",
        stored=False,
        help="a TOML file with any of these options; the command line and EDGE_DETECT_... variables override it",
    )
    raw: str | None = option(
        None,
        group=_RAW,
        choices=ENCODING_NAMES,
        metavar="CODING",
        help=f"the input has no header; its samples are {', '.join(ENCODING_NAMES)} (s24le: packed in three bytes; "
        "s24le-in-32: the low three of four, as ALSA's S24_LE)",
    )
    rate: int | None = option(
        None, kind=int, group=_RAW, unit="Hz", low=1000, high=10_000_000, example=48000, help="its rate (default 16000)"
    )
    channels: int | None = option(
        None, kind=int, group=_RAW, low=1, high=1024, example=2, help="its interleaved channels (default 1)"
    )
    model: str | None = option(
        None,
        metavar="PATH",
        example="/etc/edge-detect/model.onnx",
        help="an ONNX file that `edge-detect export` wrote (default: the one that is shipped)",
    )
    provider: str = option(
        AUTO,
        choices=PROVIDERS,
        metavar="NAME",
        help="what runs the model: cpu, cuda, tensorrt, or auto, the first of TensorRT, CUDA and the CPU that ONNX "
        "Runtime has, that works, and whose scores are the CPU's",
    )
    window: float | None = option(
        None,
        kind=float,
        unit="seconds",
        low=0.05,
        high=60,
        example=4,
        help="sound in one verdict (default: the model's)",
    )
    hop: float | str | None = option(
        None,
        kind=float,
        unit="seconds",
        low=0.01,
        high=3600,
        words=(AUTO,),
        example=0.5,
        help="from one verdict to the next, at most the window (default 0.5, or the window where that is shorter), or "
        "auto: the shortest, from 0.1 s on, that this machine sustains; with a live source it widens while the machine "
        "cannot keep up, while a file is scored as asked and waits",
    )
    threshold: float | None = option(
        None,
        kind=float,
        unit="llr",
        low=-1e6,
        high=1e6,
        example=0,
        help="scores below this are spoof, from it on bona fide (default: the model's)",
    )
    duration: float | None = option(
        None,
        kind=float,
        unit="seconds",
        low=0.01,
        high=1e9,
        example=3600,
        help="end after so much sound (default: never)",
    )
    gate: bool = option(
        True,
        kind=bool,
        negatable=True,
        help="score only windows with speech in them, as Silero's detector hears it (default: yes); --no-gate scores "
        "music, noise and animals too, and often calls them human",
    )
    least_speech: float = option(
        1.0,
        kind=float,
        unit="seconds",
        low=0,
        high=60,
        help="with the gate: a window with less speech is not scored; at most half of a window is asked for",
    )
    channel: int | str = live_option(
        MIX,
        _LIVE,
        "the one channel to listen to, counted from 1, or mix: the mean of all that have sound and do not cancel",
        kind=int,
        low=1,
        high=64,
        words=(MIX,),
        metavar="N",
    )
    connect_timeout: float | str = live_time(
        0.0,
        _LIVE,
        (0, 86400),
        "how long to wait at the start for a microphone that is missing or busy, or forever; with 0 it is an error at "
        "once",
        words=(FOREVER,),
    )
    recover_timeout: float | str = live_time(
        FOREVER,
        _LIVE,
        (0, 86400),
        "how long to wait for a microphone that was there and is gone, or forever",
        words=(FOREVER,),
    )
    stall: float = live_time(
        4.0, _LIVE, (0.5, 600), "a microphone from which nothing came for so long is closed and opened again"
    )
    silent_after: float = live_time(
        10.0,
        _LIVE,
        (1, 3600),
        "a microphone that gave nothing but zeros, or one constant, for so long is reported as silent",
    )
    alarm_on: float | None = score_option(
        _ALARM,
        "the smoothed score below which an alarm begins (default: the model's threshold for spoof)",
        example=-2.5,
    )
    alarm_off: float | None = score_option(
        _ALARM,
        "the smoothed score from which on it ends; not below --alarm-on (default: the model's threshold for bona fide)",
        example=0.5,
    )
    smoothing: float | str = time_option(
        AUTO,
        _ALARM,
        (0, 3600),
        "time over which scores are averaged; 0: each window counts for itself; auto: 5 with a live source, 0 else",
        words=(AUTO,),
    )
    alarm_duration: float = time_option(
        2.0, _ALARM, (0, 3600), "how long the smoothed score must stay below --alarm-on before an alarm begins"
    )
    alarm_hold: float = time_option(
        10.0, _ALARM, (0, 3600), "how long after the last score below --alarm-off an alarm still lasts"
    )
    refractory: float = time_option(30.0, _ALARM, (0, 86400), "how long after an alarm's end no other begins")
    ledger: str | None = live_option(
        None,
        _KEEP,
        "a file in which every minute is accounted for: heard, lost, silent, speech, judged; `edge-detect coverage` "
        "prints it (default: none)",
        metavar="PATH",
        example="/var/lib/edge-detect/ledger.sqlite",
    )
    save_clips: str | None = live_option(
        None,
        _KEEP,
        "a folder for the sound around each alarm, as FLAC with a JSON beside it; made if it is missing (default: none "
        "is kept). A power cut takes some 10 s of an alarm that goes on: the next start makes a clip of the rest "
        '(`"interrupted": true`)',
        metavar="DIR",
        example="/var/lib/edge-detect/clips",
    )
    clip_before: float = live_time(10.0, _KEEP, (0, 300), "sound kept from before an alarm")
    clip_after: float = live_time(5.0, _KEEP, (0, 300), "sound kept from after an alarm's end")
    clip_budget: float = live_option(
        200.0,
        _KEEP,
        "room for all clips; the oldest are removed for new ones, and also to leave 1 MB free on their disk",
        kind=float,
        unit="MB",
        low=1,
        high=1e6,
    )
    exec: str | None = live_option(
        None,
        _KEEP,
        "a command that hears of every alarm, run without a shell, and also when the alarm ends, with a reason; "
        "it finds the JSON line on its standard input, and alarm-on or alarm-off in EDGE_DETECT_EVENT; one that is not "
        "there at the start is reported and tried at each alarm (default: none)",
        metavar="COMMAND",
        example="/usr/local/bin/tell-someone --now",
    )
    exec_timeout: float = live_time(10.0, _KEEP, (0.1, 3600), "time after which the command is killed")
    light: str | None = live_option(
        None,
        _KEEP,
        "an LED, by its name in /sys/class/leds: a flash every 2 s while it listens, two when the microphone gives "
        "nothing, fast blinking in an alarm; dark or steadily lit when nobody listens (default: none)",
        metavar="LED",
        example="ACT",
    )
    shadow: str | None = option(
        None,
        group=_TRY,
        metavar="PATH",
        example="/data/models/next.onnx",
        help="another model that scores the same windows in a process of its own; it has no say in verdicts, and what "
        "becomes of it disturbs nothing",
    )
    shadow_report: str | None = option(
        None,
        group=_TRY,
        metavar="PATH",
        example="/var/lib/edge-detect/shadow.json",
        help="a JSON file that tells how the trial stands; a run with the same two models carries it on",
    )
    shadow_windows: int = option(
        600,
        kind=int,
        group=_TRY,
        low=1,
        high=1_000_000,
        help="windows that both must have scored, and seconds that must have been heard, before the trial is decided",
    )
    json: bool | None = option(
        None,
        kind=bool,
        group=_OUTPUT,
        negatable=True,
        help="a JSON object a line (default when the output is no terminal); --no-json: text for people",
    )
    fail_on_spoof: bool = option(
        False, kind=bool, group=_OUTPUT, help="end with code 10 when the verdict on any input is spoof"
    )
    log_level: str = option(
        "info",
        group=_OUTPUT,
        choices=LEVELS,
        metavar="LEVEL",
        help="how much to say on standard error: lines of this level and of those before it in the order "
        + ", ".join(LEVELS)
        + "; debug says what each window costs and what is opened",
    )

    def __post_init__(self) -> None:
        for option_field in dataclasses.fields(self):
            reason = unfit(option_of(option_field), getattr(self, option_field.name))
            if reason:
                raise UsageError(f"{flag(option_field.name)} {reason}")
        if not any(getattr(self, name) for name in SOURCES) and self.device is None:
            raise UsageError(fitting.NOTHING)
        for reason in misfits({field.name: getattr(self, field.name) for field in dataclasses.fields(self)}):
            raise UsageError(reason)

    @property
    def listens(self) -> bool:
        """Whether the source is live: a microphone, a stream or a live pipe."""
        return self.device is not None or self.stream is not None or self.live

    @property
    def connect_seconds(self) -> float:
        """`connect_timeout` as a number: infinite for forever."""
        return _seconds(self.connect_timeout)

    @property
    def recover_seconds(self) -> float:
        """`recover_timeout` as a number: infinite for forever."""
        return _seconds(self.recover_timeout)


FIELDS: Mapping[str, dataclasses.Field[Any]] = {field.name: field for field in dataclasses.fields(Settings)}
"""The options by their names, in the order in which they are shown."""


def takes_value(word: str) -> bool:
    """Whether what follows `word` on the command line is its value."""
    field = FIELDS.get(word[2:].replace("-", "_")) if word.startswith("--") else None
    return field is not None and option_of(field).kind is not bool


def misfits(values: Mapping[str, Any], unclear: Collection[str] = ()) -> Iterator[str]:
    """Why values do not fit together (`fitting.misfits`); `values` may lack options, also a source of sound."""
    return fitting.misfits(lambda name: values.get(name, FIELDS[name].default), unclear)


def _seconds(value: float | str) -> float:
    return math.inf if value == FOREVER else float(value)
