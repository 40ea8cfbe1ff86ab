"""`folds`: who is judged by whom, and what heads do on sources that they never met."""

from __future__ import annotations

import argparse
import csv
import io
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.folds.assignment import assign, balance
from benchmarks.folds.table import read_records
from benchmarks.markdown import table
from benchmarks.tasks.common import check_target, write_text
from edge_runtime.errors import InputError, UsageError


def declare(tasks: Any) -> None:
    """Adds the command."""
    task = tasks.add_parser("folds", help="folds by source (`assign`), and the figures of out-of-fold scores (`score`)")
    actions = task.add_subparsers(dest="action", required=True)
    _declare_assign(actions)


def _declare_assign(actions: Any) -> None:
    action = actions.add_parser("assign", help="the fold of each source: balanced, systems in one fold where they can")
    action.add_argument(
        "clips",
        metavar="CLIPS.csv",
        type=Path,
        nargs="+",
        help="columns source, label, system; year and group if known",
    )
    action.add_argument("--folds", type=int, default=5, help="how many (default: %(default)s)")
    action.add_argument("--seed", type=int, default=0, help="another seed, another assignment (default: %(default)s)")
    action.add_argument("--use", help="only rows whose column `use`, where a list has it, says this (such as train)")
    action.add_argument("-o", "--folds-file", type=Path, metavar="FOLDS.csv", help="file for the lines `source,fold`")
    action.add_argument("--json", action="store_true", help="JSON in place of Markdown")
    action.set_defaults(run=run_assign, output=None)


def run_assign(arguments: argparse.Namespace) -> str:
    """Balance and shared systems; writes the folds."""
    if arguments.folds_file is not None:
        check_target(arguments.folds_file)
    if arguments.folds < 2:
        raise UsageError(f"--folds {arguments.folds}: at least 2 are needed")
    records = [record for path in arguments.clips for record in read_records(path, arguments.use)]
    if not records:
        raise InputError(f"no clips to assign: no row has {arguments.use} in the column use")
    try:
        found = assign(records, arguments.folds, arguments.seed)
    except ValueError as reason:
        raise InputError(f"{arguments.clips[0]}: {reason}") from None
    if arguments.folds_file is not None:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["source", "fold"])
        writer.writerows(sorted({(record.source, fold) for record, fold in zip(records, found, strict=True)}))
        write_text(arguments.folds_file, text.getvalue())
    rows, shared = balance(records, found)
    if arguments.json:
        return json.dumps({"folds": [asdict(row) for row in rows], "shared_systems": shared}, indent=1) + "\n"
    heads = ["fold", "sources", "human", "spoofed", "of 2024 on", "systems", "of 2024 on", "in no other fold"]
    lines = [
        f"{len(records)} clips in {arguments.folds} folds, seed {arguments.seed}.",
        "",
        *table(heads, [[str(value) for value in asdict(row).values()] for row in rows]),
        "",
        f"Systems in several folds: {len(shared)}.",
        *(f"- {name}: folds {', '.join(map(str, places))}" for name, places in shared.items()),
    ]
    return "\n".join(lines) + "\n"
