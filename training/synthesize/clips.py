"""Clips on disk: read the human ones, write the spoofed ones and their rows in clips.csv.

A clip is whole before its row appears (written beside, then renamed), and rows are appended under a
lock, so several runs may write one folder, a reader may follow, and a kill at any time costs one clip.
"""

from __future__ import annotations

import contextlib
import csv
import fcntl
import io
import os
from dataclasses import astuple, dataclass, fields
from pathlib import Path

import soundfile

from edge_runtime.errors import InputError, OutputError
from training.synthesize.dsp import Wave, resample

RATE = 16_000
LIST = "clips.csv"
AUDIO = (".flac", ".wav", ".ogg", ".mp3", ".opus", ".aiff", ".aif")


@dataclass(frozen=True)
class ClipRow:
    """One line of clips.csv. `file` is relative to the list's folder; `system` is `-` for human speech.

    `original` is the human clip that a copy was made from; training lays the two beside each other.
    """

    file: str
    label: str
    system: str
    speaker: str
    source: str
    licence: str
    source_rate: str
    source_codec: str
    seconds: str
    original: str = ""


_UNSTATED = {
    "system": "-",
    "speaker": "unknown",
    "source": "unknown",
    "licence": "unstated",
    "original": "",
    "source_rate": "unknown",
    "source_codec": "unknown",
    "seconds": "5",
}
"""What a list need not have: `file` and `label` alone make one."""
HEADER = [field.name for field in fields(ClipRow)]


@dataclass(frozen=True)
class Human:
    """A human clip: where it lies and what its list says of it."""

    path: Path
    row: ClipRow


def read_rows(path: Path) -> list[ClipRow]:
    """The rows of a clips.csv; a last line that a killed run left unfinished is passed over."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            lines = list(csv.DictReader(file))
        whole = [_UNSTATED | line for line in lines if None not in line.values()]
        return [ClipRow(**{name: line[name] for name in HEADER}) for line in whole]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read as a list of clips ({error})") from None
    except KeyError as error:
        raise InputError(f"{path}: has no column {error}") from None


def find_humans(place: Path) -> list[Human]:
    """Human clips of a clips.csv, of a folder that holds one, or of a plain folder of audio files."""
    if not place.exists():
        raise InputError(f"{place}: no such file or folder")
    table = place / LIST if place.is_dir() else place
    if table.is_file():
        rows = [row for row in read_rows(table) if row.label == "bonafide"]
        humans = [Human(table.parent / row.file, row) for row in rows]
    else:
        place = place / "bonafide" if (place / "bonafide").is_dir() else place
        paths = sorted(path for path in place.rglob("*") if path.suffix.lower() in AUDIO)
        humans = [Human(path, describe(path, path.relative_to(place))) for path in paths]
    if not humans:
        raise InputError(f"{place}: holds no human clips")
    return humans


def describe(path: Path, name: Path) -> ClipRow:
    """A row for a file that no list speaks of."""
    try:
        info = soundfile.info(path)
    except (soundfile.LibsndfileError, OSError):
        raise InputError(f"{path}: cannot be read as audio") from None
    seconds = f"{info.frames / info.samplerate:.3f}"
    return ClipRow(
        str(name), "bonafide", "-", "unknown", "unknown", "unstated", str(info.samplerate), "unknown", seconds
    )


def read_wave(path: Path) -> Wave:
    """The mean of an audio file's channels, float64 [samples] at 16 kHz."""
    try:
        wave, rate = soundfile.read(path, dtype="float64", always_2d=True)
    except (soundfile.LibsndfileError, OSError):
        raise InputError(f"{path}: cannot be read as audio") from None
    if not len(wave):
        raise InputError(f"{path}: holds no samples")
    return resample(wave.mean(axis=1), rate, RATE)


def write_clip(folder: Path, wave: Wave, row: ClipRow) -> None:
    """Write `wave` [samples] at 16 kHz to `folder / row.file` as 16-bit FLAC, then append its row."""
    path = folder / row.file
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        coded = io.BytesIO()  # in memory first: of a full disk libsndfile says that its encoder could not begin
        soundfile.write(coded, wave, RATE, subtype="PCM_16", format="FLAC")
        part.write_bytes(coded.getvalue())
        part.replace(path)
        append_row(folder / LIST, row)
    except (OSError, soundfile.LibsndfileError) as error:
        with contextlib.suppress(OSError):
            part.unlink()
        raise OutputError(f"{path}: cannot be written ({error})") from None


def append_row(table: Path, row: ClipRow) -> None:
    """Append one whole line under a lock, after the header, in place of a line that a kill left open."""
    with table.open("a+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        whole = file.read().rfind(b"\n") + 1
        file.truncate(whole)
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        if whole == 0:
            writer.writerow(HEADER)
        writer.writerow(astuple(row))
        file.write(text.getvalue().encode())
        file.flush()
