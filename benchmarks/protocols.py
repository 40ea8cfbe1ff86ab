"""Lists of labelled clips: from folders, from a CSV, or from an ASVspoof protocol."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from edge_runtime.errors import InputError

LABELS = ("bonafide", "spoof")
SUFFIXES = {".wav", ".flac", ".ogg", ".mp3", ".aiff", ".aif", ".opus"}


@dataclass(frozen=True)
class Clip:
    """One labelled recording. `system` is the synthesizer that made it, `-` for human speech."""

    path: Path
    label: str
    system: str = "-"
    speaker: str = "unknown"
    source: str = "unknown"
    licence: str = "unstated"
    original: Path | None = None  # the human clip that a copy-synthesis was made from

    @property
    def is_bonafide(self) -> bool:
        return self.label == "bonafide"


def read_clips(location: Path, audio: Path | None = None) -> list[Clip]:
    """Clips of a folder with `bonafide/` and `spoof/`, of a CSV, or of an ASVspoof protocol.

    A CSV has at least the columns `file` (relative to the CSV) and `label`; `system`, `speaker`, `source` and
    `licence` are read when there, and `original`, the human clip that a copy was made from. Any other file is
    taken for a protocol of ASVspoof 2019, 2021 or 5, whose trials lie as `TRIAL.flac` or `TRIAL.wav` below
    `audio`. Raises InputError for what cannot be read.
    """
    if location.is_dir():
        return _from_csv(location / "clips.csv") if (location / "clips.csv").is_file() else _from_folders(location)
    if not location.is_file():
        raise InputError(f"no such file or folder: {location}")
    if location.suffix.lower() == ".csv":
        return _from_csv(location)
    if audio is None:
        raise InputError(f"{location} looks like a protocol: name the folder of its clips with --audio DIR")
    return _from_protocol(location, audio)


def _from_folders(folder: Path) -> list[Clip]:
    clips = []
    for label in LABELS:
        if not (folder / label).is_dir():
            raise InputError(f"{folder} has no folder {label}/: put human clips in bonafide/, synthetic ones in spoof/")
        for path in sorted((folder / label).rglob("*")):
            if path.suffix.lower() in SUFFIXES:
                below = path.relative_to(folder / label).parts
                group = below[0] if len(below) > 1 else "unknown"
                clips.append(Clip(path, label, "-" if label == "bonafide" else group, source=group))
    if not clips:
        raise InputError(f"{folder} holds no audio file ({', '.join(sorted(SUFFIXES))})")
    return clips


def _from_csv(table: Path) -> list[Clip]:
    try:
        with table.open(newline="", encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream))
    except (OSError, UnicodeDecodeError, csv.Error) as reason:
        raise InputError(f"cannot read {table}: {reason}") from None
    clips = []
    for number, row in enumerate(rows, start=2):
        label = (row.get("label") or "").replace("bona-fide", "bonafide")
        if not row.get("file") or label not in LABELS:
            raise InputError(f"{table}, line {number}: needs the columns file and label (bonafide or spoof)")
        known = {key: row[key] for key in ("system", "speaker", "source", "licence") if row.get(key)}
        original = table.parent / row["original"] if row.get("original") else None
        clips.append(Clip(table.parent / row["file"], label, original=original, **known))
    return clips


def _from_protocol(protocol: Path, audio: Path) -> list[Clip]:
    files = {path.stem: path for path in audio.rglob("*") if path.suffix.lower() in SUFFIXES}
    clips = []
    try:
        lines = protocol.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as reason:
        raise InputError(f"cannot read {protocol}: {reason}") from None
    for number, line in enumerate(lines, start=1):
        fields = line.split()
        if not fields:
            continue
        position = next((index for index, field in enumerate(fields) if field in LABELS), None)
        if position is None or len(fields) < 3:
            raise InputError(f"{protocol}, line {number}: no field says bonafide or spoof")
        if fields[1] not in files:
            raise InputError(f"{protocol}, line {number}: no clip {fields[1]} below {audio}")
        system = fields[position - 1] if position > 1 else "unknown"
        clips.append(Clip(files[fields[1]], fields[position], system, fields[0], protocol.stem))
    return clips
