"""`compare`: how far quantized files are from the float one, clip by clip, and how fast."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmarks.accuracy import Judged, judge
from benchmarks.comparison import Row, compare, comparison_table, describe
from benchmarks.protocols import read_clips
from benchmarks.speed import relative_speed
from benchmarks.tasks.common import add_data, add_hop, add_report, add_timing, open_anywhere
from edge_runtime.detector import Detector
from edge_runtime.errors import InputError, ModelError


def declare(tasks: Any) -> None:
    """Adds the command."""
    task = tasks.add_parser("compare", help="size, speed, and how far the scores are from the float model's")
    task.add_argument("float_model", metavar="FLOAT", type=Path, help="the ONNX file that the others are held against")
    task.add_argument("models", metavar="MODEL", type=Path, nargs="+", help="files quantized from it, by any tool")
    add_data(task)
    add_hop(task)
    add_report(task)
    add_timing(task)
    task.add_argument("--no-speed", action="store_true", help="do not time the models")
    task.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> str:
    """The report. All files are opened before the first clip is scored: a wrong name costs no hour."""
    paths = [arguments.float_model, *arguments.models]
    opened = [open_anywhere(path) for path in paths]
    if opened[0][1]:
        raise ModelError(opened[0][1])
    detectors = [Detector(network, hop_seconds=arguments.hop) for network, _ in opened]
    clips = read_clips(arguments.data, arguments.audio)
    running = [path for path, (_, refusal) in zip(paths, opened, strict=True) if not refusal]
    timed = [] if arguments.no_speed else relative_speed(running, arguments.rounds, arguments.threads, tqdm)
    speeds = dict(zip(running, timed, strict=False))
    reference: list[Judged] = []
    rows = []
    for path, detector, (network, refusal) in zip(paths, detectors, opened, strict=True):
        comparison = failure = None
        for note in [f"{path}: {note}" for note in network.notes]:
            print(f"note: {note}", file=sys.stderr)
        if refusal:
            print(f"note: {refusal}; its accuracy is measured with exact sums, its speed is not", file=sys.stderr)
        print(f"scoring with {path}", file=sys.stderr)
        judged, unscored = judge(detector, clips, tqdm)
        if reference and judged:
            comparison = compare(reference, judged)
        elif reference:  # the other models' rows must not be lost with this one's
            failure = "it gave no clip a score"
        else:
            reference = judged
            for line in unscored:
                print(f"no score: {line}", file=sys.stderr)
            if not judged:
                raise InputError(f"{path} gave no clip of {arguments.data} a score")
        rows.append(describe(path, paths[0], network.contract, comparison, speeds.get(path), failure))
    if not arguments.json:
        return comparison_table(rows)
    return json.dumps([_as_json(row) for row in rows], indent=1, allow_nan=False) + "\n"


def _as_json(row: Row) -> dict[str, Any]:
    values = asdict(row)
    values["comparison"] = row.comparison.as_figures() if row.comparison else None
    return values
