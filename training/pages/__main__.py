"""`python -m training.pages CLONES -o DIR`: real output of modern synthesizers, and human speech beside it.

CLONES holds clones of the repositories that the list names, however they were had (`git clone`); they are read as data.
What comes out is a folder of clips with a `clips.csv`, to learn from or to judge on: they are not to be passed on.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from tqdm import tqdm

from edge_runtime.atomic import whole_file
from edge_runtime.errors import EdgeDetectError, InputError, OutputError, UsageError
from training.pages import listed
from training.pages.alike import Print, groups, print_of
from training.pages.cut import RATE, NotCut, content, cut, git_folder
from training.pages.listed import Row

COLUMNS = ("file", "label", "system", "speaker", "source", "licence", "kind", "year", "language", "use")
ORIGIN = ("file", "path", "ref", "sha256", "offset_samples", "samples", "whole_samples", "print")


@dataclass(frozen=True)
class Made:
    """What became of a row: a clip, or a `fault` in one line."""

    fault: str = ""
    sha256: str = ""
    offset_samples: int = 0
    samples: int = 0
    whole_samples: int = 0
    course: bytes = b""  # `alike.print_of` the recording


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 done, 2 usage, 3 clones or list, 5 output, 130 stopped."""
    options = parser().parse_args(argv)
    try:
        report = run(options)
    except EdgeDetectError as reason:
        print(f"error: {reason}", file=sys.stderr)
        return reason.exit_code
    except KeyboardInterrupt:
        print("stopped: the same command goes on where it was", file=sys.stderr)
        return 130
    print(json.dumps(report) if options.json else text(report))
    return 0


def parser() -> argparse.ArgumentParser:
    command = argparse.ArgumentParser(
        prog="python -m training.pages", description="Cut clips of demo pages out of local clones."
    )
    add = command.add_argument
    add("clones", type=Path, help="folder of clones, named OWNER+NAME, OWNER/NAME or NAME")
    add("-o", "--output", type=Path, required=True, help="folder for bonafide/, spoof/ and clips.csv")
    add("--list", type=Path, default=listed.LIST, help="which clips (default: training/pages.csv)")
    add("--use", choices=listed.USES, default="train", help="dev2 judges models that ship (default: train)")
    add("--source", action="append", default=[], metavar="OWNER/NAME", help="of this repository alone; repeatable")
    add("--stated-licence-only", action="store_true", help="leave out what states no licence")
    add("--without-partial", action="store_true", help="leave out clips of which a part alone is synthetic")
    add("--repositories", action="store_true", help="print which repositories are needed, and stop")
    add("--jobs", type=int, default=2, help="processes (default: 2)")
    add("--json", action="store_true", help="print the counts as JSON")
    return command


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Cuts what is not there yet, writes the tables and gives the counts.

    Raises UsageError, InputError or OutputError.
    """
    if options.jobs < 1:
        raise UsageError("--jobs must be 1 or more")
    rows = listed.read(options.list)
    if unknown := set(options.source) - {row.source for row in rows}:
        raise UsageError(f"the list has no source {sorted(unknown)[0]}")
    rows = listed.chosen(rows, options.use, options.source, options.stated_licence_only, options.without_partial)
    if not rows:
        raise UsageError("no clip of the list is left: ask for less to be left out")
    if options.repositories:
        return {"repositories": sorted({row.source for row in rows})}
    if not options.clones.is_dir():
        raise InputError(f"there is no folder {options.clones}: clone what --repositories names into one")
    try:
        for label in ("bonafide", "spoof"):
            (options.output / label).mkdir(parents=True, exist_ok=True)
    except OSError as reason:
        raise OutputError(f"cannot write {options.output}: {reason.strerror}") from None
    known = _known(options.output)
    made = list(_made(rows, known, options))
    kept = [(row, item) for row, item in zip(rows, made, strict=True) if not item.fault]
    faults = [(row, item.fault) for row, item in zip(rows, made, strict=True) if item.fault]
    for row, fault in faults[:20]:
        print(f"left out: {row.path}: {fault}", file=sys.stderr)
    if not kept:
        raise InputError(f"none of {len(rows)} clips could be cut; {faults[0][0].path}: {faults[0][1]}")
    prints = [np.frombuffer(item.course, np.int8) for _, item in kept]
    first = _first(kept, prints)
    twice = [index for index, place in enumerate(first) if place != index]
    chosen = [pair for index, pair in enumerate(kept) if first[index] == index]
    _write(options.output, kept, chosen)
    return _report(rows, chosen, faults, [(kept[index][0], kept[first[index]][0]) for index in twice])


def _made(rows: Sequence[Row], known: dict[str, Made], options: argparse.Namespace) -> Iterator[Made]:
    """What becomes of each row, in order; what is there already is not cut a second time."""
    left = [row for row in rows if row.file not in known]
    work = partial(make, clones=options.clones, output=options.output)
    if options.jobs == 1:
        fresh = iter(map(work, left))
        yield from _merged(rows, known, fresh, len(left))
        return
    with ProcessPoolExecutor(options.jobs) as pool:
        yield from _merged(rows, known, pool.map(work, left, chunksize=8), len(left))


def _merged(rows: Sequence[Row], known: dict[str, Made], fresh: Iterator[Made], count: int) -> Iterator[Made]:
    with tqdm(total=count, desc="cutting", unit="clip", disable=None) as bar:
        for row in rows:
            if row.file in known:
                yield known[row.file]
                continue
            yield next(fresh)
            bar.update()


def make(row: Row, clones: Path, output: Path) -> Made:
    """Cuts the clip of one row and writes it. Raises OutputError when it cannot be written."""
    git = git_folder(clones, row)
    if git is None:
        return Made(f"there is no clone of {row.source}")
    try:
        found = cut(content(git, row))
    except NotCut as reason:
        return Made(str(reason))
    sound = io.BytesIO()
    soundfile.write(sound, found.samples, RATE, subtype="PCM_16", format="FLAC")
    with whole_file(output / row.file) as temporary:
        temporary.write_bytes(sound.getvalue())
    course = print_of(found.whole, RATE).tobytes()
    return Made("", found.sha256, found.offset, len(found.samples), len(found.whole), course)


def _known(output: Path) -> dict[str, Made]:
    """What an earlier run wrote into its table of origins, by file."""
    table = output / "origin.csv"
    found = {}
    try:
        with table.open(encoding="utf-8", newline="") as file:
            for line in csv.DictReader(file):
                if (output / line["file"]).is_file():
                    offset, samples, whole = (int(line[n]) for n in ("offset_samples", "samples", "whole_samples"))
                    course = bytes.fromhex(line["print"])
                    found[line["file"]] = Made("", line["sha256"], offset, samples, whole, course)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(f"{table} cannot be read: remove it, and all clips are cut again") from None
    return found


def _first(kept: Sequence[tuple[Row, Made]], prints: Sequence[Print]) -> list[int]:
    """For each clip the first of the same sound: of the same bytes and label, or alike within its label and system."""
    kinds = [f"{row.label} {row.system if row.label == 'spoof' else ''}" for row, _ in kept]
    found = groups(prints, [item.whole_samples for _, item in kept], kinds)
    by_bytes: dict[tuple[str, str], int] = {}
    for index, (row, item) in enumerate(kept):
        place = by_bytes.setdefault((row.label, item.sha256), found[index])
        found[index] = min(place, found[index])
    return found


def _write(output: Path, kept: Sequence[tuple[Row, Made]], chosen: Sequence[tuple[Row, Made]]) -> None:
    origin = []
    for row, made in kept:
        sizes = (made.offset_samples, made.samples, made.whole_samples)
        origin.append((row.file, row.path, row.ref, made.sha256, *sizes, made.course.hex()))
    clips = [[getattr(row, name) for name in COLUMNS] for row, _ in chosen]
    for name, columns, lines in (("origin.csv", ORIGIN, origin), ("clips.csv", COLUMNS, clips)):
        with whole_file(output / name) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(columns)
            writer.writerows(lines)


def _report(
    rows: Sequence[Row],
    chosen: Sequence[tuple[Row, Made]],
    faults: Sequence[tuple[Row, str]],
    twice: Sequence[tuple[Row, Row]],
) -> dict[str, Any]:
    def count(what: str) -> dict[str, int]:
        return dict(sorted(Counter(str(getattr(row, what)) or "unknown" for row, _ in spoofed).items()))

    spoofed = [(row, made) for row, made in chosen if row.label == "spoof"]
    return {
        "asked": len(rows),
        "clips": len(chosen),
        "bonafide": len(chosen) - len(spoofed),
        "spoof": len(spoofed),
        "minutes": round(sum(made.samples for _, made in chosen) / RATE / 60, 1),
        "sources": len({row.source for row, _ in chosen}),
        "systems": len({row.system for row, _ in spoofed}),
        "spoof by year of the system": count("year"),
        "spoof by kind": count("kind"),
        "clips by language": dict(Counter(row.language or "unknown" for row, _ in chosen).most_common()),
        "same sound as another": len(twice),
        "on two pages": sum(one.source != other.source for one, other in twice),
        "left out": dict(Counter(fault for _, fault in faults).most_common()),
    }


def text(report: dict[str, Any]) -> str:
    """The counts, a line each."""
    if "repositories" in report:
        return "\n".join(report["repositories"])
    lines = []
    for name, value in report.items():
        said = ", ".join(f"{key}: {number}" for key, number in value.items()) if isinstance(value, dict) else value
        lines.append(f"{name}: {said or 'none'}" if isinstance(value, dict) else f"{name}: {said}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
