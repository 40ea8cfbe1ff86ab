"""What a run keeps beside the clips: `clips.csv` to learn from, and `origin.csv`, where each clip came from.

While a run cuts, a line for each clip goes into `origin.part.csv` at once, so that a run that was killed goes on where
it was; at its end these lines are in `origin.csv`.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from edge_runtime.atomic import whole_file
from edge_runtime.errors import InputError, OutputError
from training.pages.alike import BANDS, SLICES
from training.pages.listed import ListedClip

CLIPS = ("file", "label", "system", "speaker", "source", "licence", "kind", "year", "language", "use")
ORIGIN = ("file", "path", "ref", "sha256", "offset_samples", "samples", "whole_samples", "print")


@dataclass(frozen=True)
class RowResult:
    """What became of a row: a clip, or a `fault` in one line."""

    fault: str = ""
    sha256: str = ""
    offset_samples: int = 0
    samples: int = 0
    whole_samples: int = 0
    course: bytes = b""  # `alike.print_of` the recording


Line = tuple[str, ...]


def line_of(row: ListedClip, made: RowResult) -> Line:
    """The line of ORIGIN for a clip."""
    sizes = (made.offset_samples, made.samples, made.whole_samples)
    return (row.file, row.path, row.ref, made.sha256, *map(str, sizes), made.course.hex())


def earlier(output: Path) -> dict[str, Line]:
    """The lines of earlier runs, by file, of clips that are still there. Raises InputError when they cannot be read."""
    found = {}
    for name in ("origin.csv", "origin.part.csv"):
        table = output / name
        try:
            with table.open(encoding="utf-8", newline="") as file:
                lines = [tuple(line) for line in csv.reader(file)]
        except FileNotFoundError:
            continue
        except (OSError, ValueError, csv.Error):
            lines = []
        if not lines or (name == "origin.csv" and lines[0] != ORIGIN):
            raise InputError(f"{table} cannot be read: remove it, and all clips are cut again")
        for line in lines:
            if read(line) and (output / line[0]).is_file():  # the last one of a killed run may be torn
                found[line[0]] = line
    return found


def read(line: Line) -> RowResult | None:
    """What a line of ORIGIN says; None where it is torn or no such line."""
    if len(line) != len(ORIGIN):
        return None
    try:
        offset, samples, whole = map(int, line[4:7])
        course = bytes.fromhex(line[7])
    except ValueError:
        return None
    return RowResult("", line[3], offset, samples, whole, course) if len(course) == BANDS * SLICES else None


@contextmanager
def journal(output: Path) -> Iterator[TextIO]:
    """The file that lines of ORIGIN go into while a run cuts. Raises OutputError when it cannot be written."""
    try:
        with (output / "origin.part.csv").open("a", encoding="utf-8", newline="", buffering=1) as file:
            file.write("\n")  # after a torn line
            yield file
    except OSError as reason:
        raise OutputError(f"cannot write {output / 'origin.part.csv'}: {reason.strerror or reason}") from None


def note(file: TextIO, line: Line) -> None:
    """Writes a line of the journal."""
    csv.writer(file, lineterminator="\n").writerow(line)
    file.flush()


def write(output: Path, origin: Mapping[str, Line], chosen: Sequence[ListedClip]) -> None:
    """Writes both tables whole, and removes the journal. Raises OutputError when it cannot."""
    clips = ([getattr(row, name) for name in CLIPS] for row in chosen)
    _table(output / "origin.csv", ORIGIN, origin.values())
    _table(output / "clips.csv", CLIPS, clips)
    (output / "origin.part.csv").unlink(missing_ok=True)


def _table(path: Path, columns: Sequence[str], lines: Iterable[Sequence[str]]) -> None:
    with whole_file(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(lines)
