"""`score`: a score file of any number of clips, on all cores or a cluster; killed, it goes on where it stopped."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmarks.tasks.common import add_data, add_hop, add_report, add_workers, check_target
from edge_runtime.errors import InputError
from edge_runtime.system.markdown import table
from evaluation.protocols import read_list
from evaluation.scorefiles import SCORE_FORMS, check_names, write_scores
from evaluation.scoring.clips import KINDS, ScoringResult, score_clips

_NAMED = 20
"""Clips without a score that the report names; the store has all."""


def declare(tasks: Any) -> None:
    """Adds the command."""
    task = tasks.add_parser(
        "score",
        help="scores of many clips, resumable, on all cores or a cluster",
        description="Scores clips into a file. It may be killed at any moment: the same command goes on where it "
        "stopped, and refuses to when the model, the hop or the list of clips is another one.",
    )
    task.add_argument("model", type=Path, help="an ONNX file of `python -m export`")
    add_data(task)
    task.add_argument("--scores", type=Path, required=True, help="the score file, written when all clips are done")
    task.add_argument(
        "--format", choices=SCORE_FORMS, default="2021", help="whose package reads them (default: %(default)s)"
    )
    task.add_argument("--subset", help="of a key that has subsets, such as eval of 2021 (default: all)")
    task.add_argument("--store", type=Path, help="where scores are kept meanwhile (default: SCORES.sqlite)")
    task.add_argument("--retry", action="store_true", help="try the clips again that an earlier run found no score for")
    add_hop(task)
    add_workers(task)
    add_report(task)
    task.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> str:
    """The report, and the score file."""
    clips = read_list(arguments.data, arguments.audio, arguments.subset)
    target: Path = arguments.scores
    store = arguments.store or target.with_name(target.name + ".sqlite")
    check_names(clips.clips)
    check_target(target)
    scored = score_clips(
        arguments.model,
        clips.clips,
        store,
        arguments.hop,
        arguments.jobs,
        arguments.cluster,
        tqdm,
        missing=clips.missing,
        retry=arguments.retry,
    )
    if not scored.judged:
        raise InputError(f"no clip of {arguments.data} has a score: {_counts(scored)}")
    judged = scored.judged
    write_scores(target, [item.clip for item in judged], [item.score for item in judged], arguments.format)
    total = len(scored.judged) + len(scored.unscored)
    if scored.unscored:
        print(f"no score for {len(scored.unscored)} of {total} clips: {_counts(scored)}", file=sys.stderr)
    if arguments.json:
        return json.dumps(_as_json(scored, target, store), indent=1, allow_nan=False) + "\n"
    return _markdown(scored, target, store)


def _counts(scored: ScoringResult) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in scored.kinds().items())


def _as_json(scored: ScoringResult, target: Path, store: Path) -> dict[str, Any]:
    return {
        "scores": str(target),
        "store": str(store),
        "clips": len(scored.judged) + len(scored.unscored),
        "scored": len(scored.judged),
        "resumed": scored.resumed,
        "unscored": [{"clip": item.clip, "kind": item.kind, "reason": item.reason} for item in scored.unscored],
    }


def _markdown(scored: ScoringResult, target: Path, store: Path) -> str:
    total = len(scored.judged) + len(scored.unscored)
    lines = [
        f"{len(scored.judged)} of {total} clips have a score, in {target}; {scored.resumed} were done before this run. "
        f"All outcomes are in {store}, which may be removed.",
    ]
    if scored.unscored:
        counts = [(f"{kind}: {KINDS[kind]}", str(count)) for kind, count in scored.kinds().items()]
        lines += ["", *table(("no score, because", "clips"), counts)]
        lines += ["", *(f"- {item.kind}: {item.reason}" for item in scored.unscored[:_NAMED])]
        if len(scored.unscored) > _NAMED:
            query = "SELECT * FROM outcome WHERE kind != ''"
            lines.append(f'- and {len(scored.unscored) - _NAMED} more: `sqlite3 {store} "{query}"`, or --json')
    return "\n".join(lines) + "\n"
