"""`python -m training.pages CLONES -o DIR`: real output of modern synthesizers, and human speech beside it.

CLONES holds clones of the repositories that the list names, however they were had (`git clone`); they are read as data.
What comes out is a folder of clips with a `clips.csv`, to learn from or to judge on: they are not to be passed on.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edge_runtime.app.arguments import Parser
from edge_runtime.app.shell import entry, put
from edge_runtime.errors import InputError, OutputError, UsageError
from training.pages import listed, tables
from training.pages.alike import groups
from training.pages.listed import ListedClip
from training.pages.report import CuttingReport, fault_lines, report, text
from training.pages.tables import RowResult
from training.pages.work import cut_all

Pair = tuple[ListedClip, RowResult]


@entry("the same command goes on where it was")
def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 done, 2 usage, 3 clones or list, 5 output, 130 stopped."""
    options = parser().parse_args(argv)
    counts = run(options)
    put(json.dumps(counts) if options.json else text(counts))
    return 0


def parser() -> argparse.ArgumentParser:
    command = Parser(prog="edge-detect train pages", description="Cut clips of demo pages out of local clones.")
    add = command.add_argument
    add("clones", type=Path, help="folder of clones, named OWNER+NAME, OWNER/NAME or NAME")
    add("-o", "--output", type=Path, required=True, help="folder for bonafide/, spoof/ and clips.csv")
    add("--list", type=Path, default=listed.LIST, help="which clips (default: training/pages.csv)")
    add("--use", choices=listed.USES, default="train", help="dev2 judges models that ship (default: train)")
    add("--source", action="append", default=[], metavar="OWNER/NAME", help="of this repository alone; repeatable")
    add("--stated-licence-only", action="store_true", help="leave out what states no licence")
    add("--without-partial", action="store_true", help="leave out clips of which a part alone is synthetic")
    add("--apart-from", type=Path, metavar="DIR", help="leave out what sounds the same as a clip of DIR, cut before")
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
    everything = listed.read(options.list)
    if unknown := set(options.source) - {row.source for row in everything}:
        raise UsageError(f"the list has no source {sorted(unknown)[0]}")
    rows = listed.chosen(everything, options.use, options.source, options.stated_licence_only, options.without_partial)
    if not rows:
        raise UsageError("no clip of the list is left: ask for less to be left out")
    if options.repositories:
        return {"repositories": sorted({row.source for row in rows})}
    if not options.clones.is_dir():
        raise InputError(f"there is no folder {options.clones}: clone what --repositories names into one")
    apart = _of_folder(options.apart_from, everything) if options.apart_from else []
    try:
        for label in ("bonafide", "spoof"):
            (options.output / label).mkdir(parents=True, exist_ok=True)
    except OSError as reason:
        raise OutputError(f"cannot write {options.output}: {reason.strerror}") from None
    origin = tables.earlier(options.output)
    if any(Path(file).name.partition("_")[0] != options.use for file in origin):
        raise UsageError(f"{options.output} holds clips of another use: give each use a folder of its own")
    made = cut_all(rows, origin, options.clones, options.output, options.jobs)
    found = _sorted_out(list(zip(rows, made, strict=True)), apart)
    for line in fault_lines(found.faults):
        print(line, file=sys.stderr)
    if not found.clips:
        why = f"{found.faults[0][0].path}: {found.faults[0][1]}" if found.faults else "all are kept apart"
        raise InputError(f"none of {len(rows)} clips could be cut; {why}")
    tables.write(options.output, origin, [row for row, _ in found.clips])
    return report(found)


def _of_folder(folder: Path, rows: Sequence[ListedClip]) -> list[Pair]:
    """What an earlier run put into another folder. Raises InputError when that holds nothing of the list."""
    lines = tables.earlier(folder)
    pairs = [(row, made) for row in rows if (line := lines.get(row.file)) and (made := tables.read(line))]
    if not pairs:
        raise InputError(f"{folder} holds no clip of the list: cut it first, or leave --apart-from out")
    return pairs


def _sorted_out(pairs: Sequence[Pair], apart: Sequence[Pair]) -> CuttingReport:
    """Which clips are kept: each sound once, none that lies in `apart`, none that is labelled both ways."""
    labels: dict[str, set[str]] = {}
    for row, made in pairs:
        labels.setdefault(made.sha256, set()).add(row.label)
    faults = [(row, made.fault) for row, made in pairs if made.fault]
    both = [(row, made) for row, made in pairs if not made.fault and len(labels[made.sha256]) > 1]
    faults += [(row, "the same bytes are listed as bonafide and as spoof") for row, _ in both]
    cut = [(row, made) for row, made in pairs if not made.fault and len(labels[made.sha256]) == 1]
    every = [*apart, *cut]
    first = list(enumerate(_first(every)))[len(apart) :]
    return CuttingReport(
        asked=[row for row, _ in pairs],
        clips=[every[index] for index, place in first if place == index],
        twice=[(every[index][0], every[place][0]) for index, place in first if len(apart) <= place != index],
        apart=[(every[index][0], every[place][0]) for index, place in first if place < len(apart)],
        faults=faults,
    )


def _first(pairs: Sequence[Pair]) -> list[int]:
    """For each clip the first of the same sound: of the same bytes and label, or alike within its label and system."""
    kinds = [(row.label, row.system if row.label == "spoof" else "") for row, _ in pairs]
    prints = [np.frombuffer(made.course, np.int8) for _, made in pairs]
    found = groups(prints, [made.whole_samples for _, made in pairs], kinds)
    by_bytes: dict[tuple[str, str], int] = {}
    for index, (row, made) in enumerate(pairs):
        place = by_bytes.setdefault((row.label, made.sha256), found[index])
        found[index] = min(place, found[index])
    return found


if __name__ == "__main__":
    sys.exit(main())
