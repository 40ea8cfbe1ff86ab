"""`folds`: who is judged by whom, and what heads do on sources that they never met."""

from __future__ import annotations

import argparse
import csv
import io
import json
import math
import shlex
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmarks.report.folds import FoldsPage, as_json, markdown
from benchmarks.report.ledger import LEDGER, append, check_unscored, sha256
from benchmarks.tasks.common import add_report, check_target, write_text
from edge_runtime.errors import InputError, UsageError
from edge_runtime.system.markdown import table
from evaluation.folds.agreement import agreement, read_page
from evaluation.folds.assignment import assign, balance
from evaluation.folds.calls import calls
from evaluation.folds.figures import Sheet, judge
from evaluation.folds.slices import slices
from evaluation.folds.table import matched, read_records, read_scored
from evaluation.trained import read_trained


def declare(tasks: Any) -> None:
    """Adds the command."""
    task = tasks.add_parser("folds", help="folds by source (`assign`), and the figures of out-of-fold scores (`score`)")
    actions = task.add_subparsers(dest="action", required=True)
    _declare_assign(actions)
    _declare_score(actions)


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


def _declare_score(actions: Any) -> None:
    action = actions.add_parser("score", help="figures of out-of-fold scores: mean over folds, interval over sources")
    action.add_argument(
        "scores",
        metavar="SCORES.csv",
        type=Path,
        help="columns file, label, source, score, fold; system, kind, year, language, duration, verdict if known",
    )
    action.add_argument("--against", metavar="OTHER.csv", type=Path, help="other scores of the same clips, compared")
    action.add_argument("--threshold", type=float, metavar="LLR", help="verdicts by this: spoof below it")
    action.add_argument("--order-only", action="store_true", help="the scores are no LLRs: leave Cllr out")
    action.add_argument("--rounds", type=int, default=1000, help="draws of the bootstrap (default: %(default)s)")
    action.add_argument("--figures", type=Path, metavar="FILE", help="file for the page's JSON, beside the page")
    dev2 = action.add_argument_group("clips that were kept back, scored once by a shipped model")
    dev2.add_argument("--dev2", action="store_true", help="no folds; needs --model, and writes a row into the ledger")
    dev2.add_argument("--model", type=Path, metavar="FILE", help="the model file that made the scores")
    dev2.add_argument("--folds-page", type=Path, metavar="JSON", help="page of folds: do the figures agree?")
    dev2.add_argument("--trained-on", type=Path, nargs="+", metavar="CSV", help="its training clips: systems never met")
    dev2.add_argument("--ledger", type=Path, default=LEDGER, metavar="FILE", help="default: benchmarks/results/dev2.md")
    dev2.add_argument("--again", action="store_true", help="although the ledger has a row of this model file")
    add_report(action)
    action.set_defaults(run=run_score)


def run_score(arguments: argparse.Namespace) -> str:
    """The page, and its JSON beside it; with --dev2 a row in the ledger first."""
    _check(arguments)
    digest = ""
    if arguments.dev2:
        digest = sha256(arguments.model)
        check_unscored(arguments.ledger, digest, again=arguments.again)
    folded = not arguments.dev2
    of = read_scored(arguments.scores, folded=folded)
    known = read_trained(arguments.trained_on).knows_system if arguments.trained_on else None
    earlier = read_page(arguments.folds_page) if arguments.folds_page else None
    cuts = slices(of, known)
    sheet, other, further = Sheet(of, cuts, llr=not arguments.order_only), None, 0
    if arguments.against is not None:
        theirs, further = matched(arguments.against, of, folded=folded)
        other = Sheet(theirs, cuts, llr=not arguments.order_only)
    judged = judge(sheet, other, arguments.rounds, progress=tqdm)
    page = FoldsPage(
        name=arguments.scores.name,
        of=of,
        judged=judged,
        calls=calls(of, cuts, arguments.threshold),
        against=arguments.against.name if arguments.against else None,
        further=further,
        dev2=arguments.model.name if arguments.dev2 else None,
        agreements=agreement(judged.figures, earlier) if earlier is not None else (),
    )
    data = json.dumps(as_json(page), indent=1, allow_nan=False) + "\n"
    if arguments.dev2:
        append(
            arguments.ledger,
            arguments.model,
            digest,
            _command(arguments),
            len(of.clips),
            judged.figures,
            again=arguments.again,
        )
    if arguments.figures is not None:
        write_text(arguments.figures, data)
    return data if arguments.json else markdown(page)


def _check(arguments: argparse.Namespace) -> None:
    if arguments.rounds < 1:
        raise UsageError(f"--rounds {arguments.rounds}: at least 1 is needed")
    if arguments.threshold is not None and not math.isfinite(arguments.threshold):
        raise UsageError(f"--threshold {arguments.threshold}: a finite number is needed")
    if arguments.dev2 and arguments.model is None:
        raise UsageError("--dev2 needs --model, the file that made the scores: the ledger has one row for each")
    if not arguments.dev2:
        for name in ("model", "folds_page", "trained_on", "again"):
            if getattr(arguments, name):
                raise UsageError(f"--{name.replace('_', '-')} needs --dev2")
    targets = (arguments.output, arguments.figures, arguments.ledger if arguments.dev2 else None)
    for target in targets:
        if target is not None:
            check_target(target, may_be_device=target is not arguments.ledger)


def _command(arguments: argparse.Namespace) -> str:
    """The command for the ledger: files by their names alone, as a page names no machine's folders."""
    said = ["python", "-m", "benchmarks", "folds", "score", arguments.scores.name, "--dev2"]
    for option in ("model", "folds_page", "against"):
        if value := getattr(arguments, option):
            said += [f"--{option.replace('_', '-')}", value.name]
    if arguments.trained_on:
        said += ["--trained-on", *(path.name for path in arguments.trained_on)]
    if arguments.threshold is not None:
        said += ["--threshold", f"{arguments.threshold:g}"]
    said += ["--order-only"] if arguments.order_only else []
    return shlex.join([*said, "--rounds", str(arguments.rounds), *(["--again"] if arguments.again else [])])
