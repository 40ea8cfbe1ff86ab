"""Sound that is wired or offset wrongly, and windows that the model is not calibrated for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from tests.faults.case import Case

_EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
_RAW = ("--file", "-", "--raw", "f32le")
Samples = NDArray[np.float64]


def _written(
    make: Callable[[Samples], Samples], clip: str = "synthetic", *more: str
) -> Callable[[Path], Sequence[str | Path]]:
    """Arguments that score what `make` does with an example, float64 [n], to give [n] or [n, channels]."""

    def arguments(folder: Path) -> Sequence[str | Path]:
        sound, rate = soundfile.read(_EXAMPLES / f"{clip}.flac")
        soundfile.write(folder / "sound.wav", make(sound), rate, subtype="FLOAT")
        return ("--file", "sound.wav", "--json", *more)

    return arguments


def _piped(make: Callable[[Samples], Samples]) -> Callable[[Path], bytes]:
    def sound_of(folder: Path) -> bytes:
        sound, _ = soundfile.read(_EXAMPLES / "synthetic.flac")
        return make(sound).astype("<f4").tobytes()

    return sound_of


def _rms(sound: Samples) -> float:
    return float(np.sqrt(np.mean(sound**2)))


def _off_by_tenth(sound: Samples) -> Samples:
    return sound + 0.1


def _ramp(sound: Samples) -> Samples:
    return sound + 0.1 * np.arange(len(sound)) / 16000


def _balanced(sound: Samples) -> Samples:
    return np.stack([sound, -sound], axis=1)


CASES = [
    Case(
        "a constant of ten times the voice's RMS under a synthetic voice",
        _written(lambda sound: 0.1 * (sound + 10 * _rms(sound))),
        0,
        "spoof (-",
    ),
    Case("a constant of 0.1 under a human voice", _written(_off_by_tenth, "human"), 0, "bonafide (+"),
    Case("a constant of 0.1 of full scale, on a pipe", lambda folder: _RAW, 0, "spoof (-", stdin=_piped(_off_by_tenth)),
    Case("an offset that drifts by 0.1 of full scale a second", _written(_ramp), 0, "spoof (-"),
    Case("a constant and no sound", _written(lambda sound: np.full_like(sound, 0.2)), 0, "silent"),
    Case("left is minus right, as on a balanced line", _written(_balanced), 0, "spoof (-"),
    Case(
        "left is minus right, on a pipe and for people",
        lambda folder: (*_RAW, "--channels", "2", "--no-json"),
        0,
        "channel 1 alone is scored",
        stdin=_piped(_balanced),
    ),
    Case(
        "one of four channels has sound",
        _written(lambda sound: np.stack([0 * sound, 0 * sound, sound, 0 * sound], axis=1), "synthetic", "--no-json"),
        0,
        "channel 1, 2, 4 gives no sound beside channel 3",
    ),
    Case(
        "windows of 1 s for a model of 4 s",
        _written(lambda sound: sound, "human", "--window", "1"),
        0,
        "calibrated for 4 s",
    ),
]
