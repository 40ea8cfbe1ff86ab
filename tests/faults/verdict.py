"""Verdicts of whole recordings: a synthetic voice in a part of them, and what holds nothing to judge."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from tests.faults.case import Case

_EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
_RATE = 16000
_GUARD = "--fail-on-spoof"


def _joined(*parts: tuple[str, float]) -> NDArray[np.int16]:
    """int16 [n]: so many seconds of the example clips `human` and `synthetic`, repeated where they are shorter."""
    sounds = []
    for name, seconds in parts:
        sound, _ = soundfile.read(_EXAMPLES / f"{name}.flac", dtype="int16")
        sounds.append(np.resize(sound, round(seconds * _RATE)))
    return np.concatenate(sounds)


def _short_middle(folder: Path) -> Sequence[str | Path]:
    soundfile.write(folder / "middle.flac", _joined(("human", 8), ("synthetic", 5), ("human", 8)), _RATE)
    return ["--file", "middle.flac", _GUARD]


def _middle(folder: Path) -> Sequence[str | Path]:
    soundfile.write(folder / "middle.flac", _joined(("human", 8), ("synthetic", 7), ("human", 8)), _RATE)
    return ["--file", "middle.flac", _GUARD]


def _end(folder: Path) -> Sequence[str | Path]:
    soundfile.write(folder / "end.wav", _joined(("human", 14), ("synthetic", 7)), _RATE)
    return ["--file", "end.wav", _GUARD]


def _pipe(folder: Path) -> bytes:
    return _joined(("human", 12), ("synthetic", 6)).astype("<i2").tobytes()


def _half(folder: Path) -> Sequence[str | Path]:
    path = folder / "half.wav"
    soundfile.write(path, _joined(("synthetic", 12), ("human", 12)), _RATE)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return ["--file", "half.wav", _GUARD]


def _empty(folder: Path) -> Sequence[str | Path]:
    (folder / "empty.wav").touch()
    return ["--file", "empty.wav"]


def _one_missing(folder: Path) -> Sequence[str | Path]:
    soundfile.write(folder / "voice.wav", _joined(("synthetic", 8)), _RATE)
    return ["--file", "voice.wav", "none.wav", _GUARD]


def _music(folder: Path) -> Sequence[str | Path]:
    time = np.arange(8 * _RATE) / _RATE
    decay = np.exp(-3 * (time % 0.5))
    chord = sum(0.1 * np.sin(2 * np.pi * hertz * harmonic * time) for hertz in (220, 277, 330) for harmonic in (1, 2))
    soundfile.write(folder / "chords.wav", decay * chord, _RATE)
    return ["--file", "chords.wav"]


def _typing(folder: Path) -> Sequence[str | Path]:
    random = np.random.default_rng(1)
    sound = 0.001 * random.standard_normal(8 * _RATE)
    for place in random.integers(0, sound.size - 800, 60).tolist():
        sound[place : place + 800] += 0.3 * random.standard_normal(800) * np.exp(-np.arange(800) / 100)
    soundfile.write(folder / "typing.wav", np.clip(sound, -1, 1), _RATE)
    return ["--file", "typing.wav"]


CASES: list[Case] = [
    Case("5 s of a synthetic voice in the middle of 16 s of human speech: missed", _short_middle, 0, "bonafide (+"),
    Case("7 s of it in the middle of 16 s of human speech", _middle, 10, "spoof (+"),
    Case("14 s of human speech, then 7 s of a synthetic voice", _end, 10, "spoof (+"),
    Case(
        "12 s of human speech, then 6 s of a synthetic voice, on a pipe",
        lambda folder: ["--file", "-", "--raw", "s16le", _GUARD],
        10,
        "spoof (",
        stdin=_pipe,
    ),
    Case("a WAV that breaks off after its synthetic half", _half, 3, "spoof (-"),
    Case("no such file", lambda folder: ["--file", "none.wav"], 3, "no verdict, 0.0 s; edge-detect: none.wav"),
    Case("an empty file", _empty, 3, "no verdict, 0.0 s; edge-detect: empty.wav"),
    Case("a synthetic voice, and a file that is not there", _one_missing, 3, "; no verdict, 0.0 s"),
    Case("a pipe that ends at once", lambda folder: ["--file", "-", "--raw", "s16le"], 3, "no verdict, 0.0 s"),
    Case("chords", _music, 0, "--no-gate"),
    Case("clatter like typing", _typing, 0, "--no-gate"),
    Case(
        "an alarm that would end below the score it begins at",
        lambda folder: ["--file", "none.wav", "--alarm-on", "5"],
        2,
        "--alarm-off",
    ),
]
