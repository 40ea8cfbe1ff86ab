"""`robustness`: error rates along noise, codec, room, length, band, silence and level, of several model files."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmarks.robustness.error_rates import markdown, robustness, subset
from benchmarks.tasks.common import add_data, add_hop, add_report, add_workers
from evaluation.acoustics.conditions import chosen
from evaluation.protocols import read_clips


def declare(tasks: Any) -> None:
    """Adds the command."""
    task = tasks.add_parser("robustness", help="EER under noise, codecs, rooms and more, beside the float model's")
    task.add_argument("float_model", metavar="FLOAT", type=Path, help="the ONNX file that the others are compared with")
    task.add_argument("models", metavar="MODEL", type=Path, nargs="*", help="files to hold against it")
    add_data(task)
    task.add_argument(
        "--conditions",
        nargs="+",
        metavar="NAME",
        help="axes or conditions, such as clean,replay (default: all; a wrong name lists them)",
    )
    task.add_argument("--limit", type=int, metavar="N", help="draw N clips, half of either label (default: all)")
    task.add_argument("--seed", type=int, default=0, help="of noise, rooms and --limit (default: %(default)s)")
    add_hop(task)
    add_workers(task)
    add_report(task)
    task.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> str:
    """The report."""
    conditions = chosen(arguments.conditions)
    clips = subset(read_clips(arguments.data, arguments.audio), arguments.limit, arguments.seed)
    result = robustness(
        [arguments.float_model, *arguments.models],
        clips,
        conditions,
        seed=arguments.seed,
        hop_seconds=arguments.hop,
        jobs=arguments.jobs,
        cluster=arguments.cluster,
        progress=tqdm,
    )
    for line in (*result.left_out, *result.unread):
        print(f"note: {line}", file=sys.stderr)
    return json.dumps(result.as_json(), indent=1, allow_nan=False) + "\n" if arguments.json else markdown(result)
