"""A user's recordings, of seconds or of hours, cut into clips of speech; and which of them are held out."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from edge_runtime.capture.file import read_blocks
from edge_runtime.decision.quality import SILENCE_DBFS
from edge_runtime.errors import InputError, OutputError
from evaluation.protocols import SUFFIXES, Clip, read_clips

PIECE_SECONDS = 5.0
SHORTEST_SECONDS = 1.0
"""A rest at a recording's end below this is left out."""
BELOW_SPEECH_DB = 20.0
"""How far below a recording's loud frames its frames may lie and still count as speech: pauses lie lower."""
SPEECH_SHARE = 0.15
"""Share of a piece's frames that must be speech; else it is a pause."""
FRAME_SECONDS = 0.02
EVERY = 5
"""One in so many recordings is held out."""

Samples = NDArray[np.int16]


@dataclass(frozen=True)
class RecordingPiece:
    """Up to 5 s of a recording. `minute` is the one, counted from 0, that it begins in."""

    recording: str
    minute: int
    samples: Samples


def files_of(place: Path, label: str) -> list[Path]:
    """Audio files of a folder at any depth, those of a list of clips that have `label`, or the one file that it is.

    Raises InputError when there are none.
    """
    if not place.exists():
        raise InputError(f"no such file or folder: {place}")
    listed = (place / "clips.csv").is_file() or (place.is_file() and place.suffix.lower() not in SUFFIXES)
    if listed:
        found = [clip.path for clip in read_clips(place) if clip.label == label]
    elif place.is_dir():
        folder = place / label if (place / label).is_dir() else place
        found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    else:
        found = [place]
    if not found:
        raise InputError(f"{place} holds no recordings ({', '.join(sorted(SUFFIXES))})")
    return found


def cut(path: Path, name: str, rate: int) -> Iterator[RecordingPiece]:
    """The pieces of a recording that hold speech, resampled to `rate` Hz, mono. Says what it could not read."""
    blocks: list[Samples] = []
    try:
        for block in read_blocks(str(path), None, rate, 16.0):
            blocks.append((np.clip(np.nan_to_num(block), -1, 1) * 32767).astype(np.int16))
    except InputError as reason:
        print(f"left out{' from there on' if blocks else ''}: {reason}", file=sys.stderr)
    sound = np.concatenate(blocks) if blocks else np.zeros(0, np.int16)
    length = int(PIECE_SECONDS * rate)
    floor = speech_floor(sound, rate)
    for start in range(0, len(sound), length):
        samples = sound[start : start + length]
        spoken = float(np.mean(levels(samples, rate) > floor)) if len(samples) >= SHORTEST_SECONDS * rate else 0.0
        if spoken >= SPEECH_SHARE:
            yield RecordingPiece(name, start // (60 * rate), samples)


def levels(samples: Samples, rate: int) -> NDArray[np.float64]:
    """Level of each whole frame of 20 ms, dBFS, float64 [frames]."""
    size = int(FRAME_SECONDS * rate)
    frames = samples[: len(samples) // size * size].reshape(-1, size)
    power = np.einsum("ij,ij->i", frames, frames, dtype=np.float64) / size / 32768**2
    return np.asarray(10 * np.log10(power + 1e-12))


def speech_floor(samples: Samples, rate: int) -> float:
    """The level in dBFS that frames of a recording must pass to count as speech."""
    found = levels(samples, rate)
    found = found[found > SILENCE_DBFS]
    return max(SILENCE_DBFS, float(np.percentile(found, 95)) - BELOW_SPEECH_DB) if len(found) else 0.0


def units(pieces: Sequence[RecordingPiece]) -> list[str]:
    """What is held out as a whole, by name, for each piece: its recording; its minute where recordings are few."""
    by_file = [piece.recording for piece in pieces]
    by_minute = [f"{piece.recording}, minute {piece.minute + 1}" for piece in pieces]
    if len(set(by_file)) >= EVERY:
        return by_file
    if len(set(by_minute)) >= EVERY:
        return by_minute
    return [f"{name}, piece {number + 1}" for number, name in enumerate(by_minute)]


def held_out(names: Sequence[str]) -> NDArray[np.bool_]:
    """Which of the pieces [n], each of a unit with a name, belong to every fifth unit."""
    order = list(dict.fromkeys(names))
    chosen = set(order[EVERY - 1 :: EVERY])
    return np.array([name in chosen for name in names], bool)


def write_pieces(place: Path, label: str, folder: Path, rate: int) -> tuple[list[Clip], list[Clip]]:
    """Cuts the recordings of `place` into clips in `folder`; gives those to train on and those held out.

    The source of a clip is its unit. Raises InputError when too little speech is found, OutputError when `folder`
    cannot be written.
    """
    files = files_of(place, label)
    pieces = [piece for path in files for piece in cut(path, _name(path, place), rate)]
    if len(pieces) < EVERY:
        raise InputError(f"{place} has {len(pieces)} pieces of speech of up to 5 s: at least {EVERY} are needed")
    names = units(pieces)
    train: list[Clip] = []
    held: list[Clip] = []
    for number, (piece, name, out) in enumerate(zip(pieces, names, held_out(names), strict=True)):
        path = folder / f"{label}-{number:05}.flac"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, piece.samples, rate, subtype="PCM_16")
        except (OSError, soundfile.LibsndfileError) as reason:
            raise OutputError(f"cannot write {path}: {reason}") from None
        system = "-" if label == "bonafide" else "the user's"
        (held if out else train).append(Clip(path, label, system, source=name))
    return train, held


def _name(path: Path, place: Path) -> str:
    return str(path.relative_to(place)) if place.is_dir() and path.is_relative_to(place) else path.name
