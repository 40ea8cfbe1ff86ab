"""Lists of labelled clips: from folders, from tables with a header, or from the protocols and keys of ASVspoof."""

from __future__ import annotations

import csv
import os
from collections.abc import Container, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from edge_runtime.errors import InputError

LABELS = ("bonafide", "spoof")
SUFFIXES = {".wav", ".flac", ".ogg", ".mp3", ".aiff", ".aif", ".opus"}


@dataclass(frozen=True)
class Clip:
    """One labelled recording. `system` is the synthesizer that made it, `-` for human speech.

    `source` names what is alike and is drawn as one by a bootstrap: where the clip came from, or its speaker.
    """

    path: Path
    label: str
    system: str = "-"
    speaker: str = "unknown"
    source: str = "unknown"
    licence: str = "unstated"
    original: Path | None = None  # the human clip that a copy-synthesis was made from
    condition: str = "-"  # the codec or compression that it went through; of replayed speech, the room
    kind: str = ""  # tts, vc, codec, vocoder or human
    year: str = ""  # of the system
    language: str = ""

    @property
    def is_bonafide(self) -> bool:
        return self.label == "bonafide"

    @property
    def trial(self) -> str:
        """The name that score files know it by: that of its file, without the suffix of a sound."""
        return trial_name(self.path.name)


def trial_name(file: str) -> str:
    """`T1` of `T1`, `T1.flac` and `below/T1.wav`; a full stop within a name stays."""
    name = file.rpartition("/")[2]
    stem, stop, suffix = name.rpartition(".")
    return stem if stop and f".{suffix.lower()}" in SUFFIXES else name


@dataclass(frozen=True)
class ClipList:
    """What a list holds: `clips` that are there, and the names of those that are not, or that were not asked for."""

    clips: list[Clip]
    missing: list[str]  # in the list, but no such file
    left_out: list[str]  # trials of other subsets


@dataclass(frozen=True)
class Layout:
    """Where a protocol has what, counted from 0. The speaker comes first and the trial second in all of them."""

    name: str
    label: int
    system: int | None
    condition: int
    source: int = 0
    subset: int | None = None


LAYOUTS = {
    5: Layout("ASVspoof 2019", label=4, system=3, condition=2),  # LA has no condition; of PA, the room
    6: Layout("ASVspoof 5, as its baseline reads it", label=5, system=4, condition=3),
    8: Layout("ASVspoof 2021 LA", label=5, system=4, condition=2, subset=7),
    10: Layout("ASVspoof 5", label=8, system=7, condition=3),
    12: Layout("ASVspoof 2021 PA", label=9, system=None, condition=2, subset=11),
    13: Layout("ASVspoof 2021 DF", label=5, system=4, condition=2, source=3, subset=7),
}
"""By the number of columns."""

COLUMNS = {
    "file": ("file", "filename", "trial_anon"),
    "label": ("label", "cm-label", "cm_label"),
    "system": ("system", "attack_anon"),
    "speaker": ("speaker", "tar_spk_anon"),
    "source": ("source",),
    "licence": ("licence",),
    "original": ("original",),
    "condition": ("condition", "codec"),
    "subset": ("subset",),
    "kind": ("kind",),
    "year": ("year",),
    "language": ("language",),
}
"""What a table may say of a clip, and the names of such columns: first ours, then those of ASVspoof 5."""


def read_clips(location: Path, audio: Path | None = None, subset: str | None = None) -> list[Clip]:
    """The clips of a list, all of which have to be there: see `read_list`.

    Raises InputError for what cannot be read, and when a file is missing: it says how many are, and names the first.
    """
    found = read_list(location, audio, subset)
    if found.missing:
        rest = ", ..." if len(found.missing) > 3 else ""
        raise InputError(
            f"{len(found.missing)} of {len(found.clips) + len(found.missing)} clips of {location} are missing: "
            f"{', '.join(found.missing[:3])}{rest}"
        )
    return found.clips


def read_list(
    location: Path, audio: Path | None = None, subset: str | None = None, *, needs_audio: bool = True
) -> ClipList:
    """Clips of a folder with `bonafide/` and `spoof/`, of a table, or of a protocol or key of ASVspoof.

    What a file is, its content says and not its name:
    - a table has a header with `file` (relative to the table) and `label`, its columns parted by commas, tabs or
      spaces; COLUMNS has what else is read. In-the-Wild's meta.csv (`file,speaker,label`) is one: as it has no
      source, the speaker counts as that. So are ASVspoof 5's keys (`filename`, `cm-label`);
    - any other file is a protocol or key of ASVspoof 2019, 2021 or 5 (LAYOUTS). A source is a speaker, but the corpus
      that a clip came from in 2021 DF, where vcc2018, vcc2020 and asvspoof differ more than speakers do.

    Trials without a suffix are looked for below `audio`, as `TRIAL.flac`, `TRIAL.wav` and so on, and are `missing`
    where there is no such file; so is a table's file that does not exist. With `needs_audio` False, no file is looked
    for: that is for scores that are there already. `subset` takes a part of the lists that have a column of that name,
    such as the keys of 2021 (eval, progress, hidden); the default is all, while the challenge reports on eval.

    Raises InputError for what cannot be read or is no such list, for a trial that several files fit, and for a subset
    that is not there.
    """
    if location.is_dir() and not (location / "clips.csv").is_file():
        if subset is not None:
            raise InputError(f"{location} is a folder and has no subsets")
        return ClipList(_from_folders(location), [], [])
    table = location / "clips.csv" if location.is_dir() else location
    if not table.is_file():
        raise InputError(f"no such file or folder: {location}")
    try:
        lines = table.read_text(encoding="utf-8-sig").split("\n")
        first = next((line for line in lines if line.strip()), "")
        comma = next((mark for mark in ",\t " if mark in first), ",")
        header = next(csv.reader([first], delimiter=comma), [])
    except (OSError, UnicodeDecodeError, csv.Error) as reason:
        raise InputError(f"cannot read {table}: {reason}") from None
    if _is_header(header) or (table.suffix.lower() == ".csv" and not _has_label(first.split())):
        listed = _of_table(table, lines, comma)
    else:
        listed = _of_protocol(table, lines)
    if not listed:
        raise InputError(f"{table} lists no clip: it needs the columns file and label (bonafide or spoof)")
    if subset is not None:
        _check_subset(table, listed, subset)
    wanted = [item for item in listed if subset is None or item.subset == subset]
    left_out = [trial_name(item.file) for item in listed if subset is not None and item.subset != subset]
    if not needs_audio:
        return ClipList([Clip(Path(item.file), *item.about) for item in wanted], [], left_out)
    if audio is None and any(item.is_trial for item in wanted):
        raise InputError(f"{table} looks like a protocol: name the folder of its clips with --audio DIR")
    return _found(table, wanted, left_out, audio)


class _Listed(NamedTuple):
    """A line of a list; of large ones a part only becomes clips, and building those takes most of the time."""

    file: str
    is_trial: bool  # the name of a trial, whose file is to be found
    subset: str | None
    about: tuple[Any, ...]  # all else that a Clip holds, in its order


def _is_header(cells: Sequence[str]) -> bool:
    return all(any(name in cells for name in COLUMNS[what]) for what in ("file", "label"))


def _has_label(fields: Sequence[str]) -> bool:
    return any(field in LABELS for field in fields)


def _from_folders(folder: Path) -> list[Clip]:
    """A folder below the label's names the source, and of spoof the system; what lies flat is of the source `unknown`.

    That may be one source or many: intervals are over clips then (`bootstrap.Units`).
    """
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


def _of_table(table: Path, lines: list[str], comma: str) -> list[_Listed]:
    listed = []
    reader = csv.DictReader(lines, delimiter=comma)
    try:
        names = list(reader.fieldnames or [])
        rows = [(reader.line_num, row) for row in reader]
    except csv.Error as reason:
        raise InputError(f"cannot read {table}: {reason}") from None
    column = {what: next((name for name in known if name in names), "") for what, known in COLUMNS.items()}
    of_speakers = set(names) == {"file", "speaker", "label"}
    for number, row in rows:
        said = {what: row.get(name) or "" for what, name in column.items()}
        label = said["label"].replace("bona-fide", "bonafide")
        if not said["file"] or label not in LABELS:
            raise InputError(f"{table}, line {number}: needs the columns file and label (bonafide or spoof)")
        original = table.parent / said["original"] if said["original"] else None
        speaker = said["speaker"] or "unknown"
        source = said["source"] or (speaker if of_speakers else "unknown")
        system, licence = said["system"] or "-", said["licence"] or "unstated"
        is_trial = trial_name(said["file"]) == said["file"].rpartition("/")[2]
        file = said["file"] if is_trial else str(table.parent / said["file"])
        about = (label, system, speaker, source, licence, original, said["condition"] or "-")
        of_system = (said["kind"], said["year"], said["language"])
        listed.append(_Listed(file, is_trial, said["subset"] or None, (*about, *of_system)))
    return listed


def _of_protocol(protocol: Path, lines: list[str]) -> list[_Listed]:
    listed: list[_Listed] = []
    width, layout = 0, None
    for number, line in enumerate(lines, start=1):
        fields = line.split()
        if not fields:
            continue
        if layout is None:
            width, layout = len(fields), LAYOUTS.get(len(fields))
        if layout is None or len(fields) != width or fields[layout.label] not in LABELS:
            raise InputError(f"{protocol}, line {number}: {_fault(fields, width)}")
        label = fields[layout.label]
        system = "-" if label == "bonafide" else "unknown" if layout.system is None else fields[layout.system]
        about = (label, system, fields[0], fields[layout.source], "unstated", None, fields[layout.condition])
        subset = None if layout.subset is None else fields[layout.subset]
        listed.append(_Listed(trial_name(fields[1]), True, subset, about))
    return listed


def _fault(fields: Sequence[str], width: int) -> str:
    """What is wrong with a protocol's line, `width` being the number of columns of its first."""
    if not _has_label(fields):
        return "no field says bonafide or spoof"
    if len(fields) != width:
        return f"{len(fields)} columns, after {width} before: is it cut off?"
    known = "; ".join(f"{columns}: {layout.name}" for columns, layout in LAYOUTS.items())
    return f"columns as in no protocol that is known (number of columns: {known})"


def _check_subset(table: Path, listed: Sequence[_Listed], subset: str) -> None:
    parts = {item.subset for item in listed}
    if subset not in parts:
        known = ", ".join(sorted(part for part in parts if part)) or "none"
        raise InputError(f"{table} has no subset {subset}: it has {known}")


def _found(table: Path, wanted: Sequence[_Listed], left_out: list[str], audio: Path | None) -> ClipList:
    """The clips whose files are there. The folder of trials is listed once, whatever its size."""
    trials = {item.file for item in wanted if item.is_trial}
    files = _files_of(trials, audio, table) if audio is not None and trials else {}
    clips, missing = [], []
    for item in wanted:
        file = files.get(item.file) if item.is_trial else item.file
        if file is None or (not item.is_trial and not os.path.isfile(file)):
            missing.append(item.file)
        else:
            clips.append(Clip(Path(file), *item.about))
    return ClipList(clips, missing, left_out)


def _files_of(trials: Container[str], audio: Path, table: Path) -> dict[str, str]:
    """The file of each trial that has one below `audio`."""
    if not audio.is_dir():
        raise InputError(f"no such folder: {audio}")
    files: dict[str, str] = {}
    for folder, _, names in os.walk(audio):
        for name in names:
            trial = trial_name(name)
            if trial in trials and trial != name:
                file = os.path.join(folder, name)
                if trial in files:
                    raise InputError(f"{trial} of {table} is there twice: {files[trial]} and {file}")
                files[trial] = file
    return files
