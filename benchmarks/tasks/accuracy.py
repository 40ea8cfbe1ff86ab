"""`accuracy`: how well one model file does on labelled clips, through the runtime."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmarks.report.accuracy import markdown
from benchmarks.tasks.common import add_data, add_hop, add_report, check_target, write_text
from edge_runtime.detector import Detector
from evaluation.accuracy import accuracy, judge
from evaluation.hop import at_hop
from evaluation.protocols import read_clips
from evaluation.scorefiles import check_names, write_scores
from evaluation.trained import read_trained


def declare(tasks: Any) -> None:
    """Adds the command."""
    task = tasks.add_parser("accuracy", help="EER pooled, within sources, per source, system and condition")
    task.add_argument("model", help="an ONNX file of `python -m export`")
    add_data(task)
    task.add_argument(
        "--trained-on",
        type=Path,
        nargs="+",
        metavar="CSV",
        help="clips.csv of the training data: tells figures on systems and sources apart that were trained on",
    )
    add_hop(task)
    add_report(task)
    task.add_argument("--scores", type=Path, help="file for a line `CLIP LLR` a clip")
    task.add_argument("--figures", type=Path, help="file for the figures that `python -m export --figures` reads")
    task.add_argument("--name", help="what to call the data in the figures (default: the name of --data)")
    task.add_argument("--title", default="Accuracy", help="heading of the report (default: %(default)s)")
    task.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> str:
    """The report, and the files asked for beside it."""
    for target in (arguments.scores, arguments.figures, arguments.output):
        if target is not None:
            check_target(target, may_be_device=True)
    detector = at_hop(Detector(arguments.model, hop_seconds=arguments.hop), arguments.hop)
    clips = read_clips(arguments.data, arguments.audio)
    known = read_trained(arguments.trained_on) if arguments.trained_on else None
    if arguments.scores:
        check_names(clips)
    judged, unscored = judge(detector, clips, tqdm)
    result = accuracy(judged, unscored, known)
    for line in unscored:
        print(f"no score: {line}", file=sys.stderr)
    if arguments.scores:
        write_scores(arguments.scores, [item.clip for item in judged], [item.score for item in judged])
    if arguments.figures:
        figures = result.as_figures(arguments.name or arguments.data.stem)
        write_text(arguments.figures, json.dumps(figures, indent=1) + "\n")
    return json.dumps(asdict(result)) + "\n" if arguments.json else markdown(result, arguments.title)
