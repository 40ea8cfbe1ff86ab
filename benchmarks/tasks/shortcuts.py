"""`shortcuts`: what a model listens to, by what moves when both labels are changed alike."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmarks.report.shortcuts import markdown
from benchmarks.robustness.interventions import INTERVENTIONS
from benchmarks.robustness.shortcuts import drawn, shortcuts
from benchmarks.tasks.common import add_data, add_hop, add_report, add_workers
from edge_runtime.system.extras import demand
from evaluation.acoustics.conditions import chosen
from evaluation.protocols import read_clips


def declare(tasks: Any) -> None:
    """Adds the command."""
    task = tasks.add_parser("shortcuts", help="what the model listens to: interventions, and what features alone tell")
    task.add_argument("model", type=Path, help="an ONNX file of `python -m export`")
    add_data(task)
    task.add_argument(
        "--conditions",
        nargs="+",
        metavar="NAME",
        help="interventions or their axes, such as trimmed,band (default: all; a wrong name lists them)",
    )
    task.add_argument("--clips", type=int, metavar="N", help="draw whole sources up to N clips (default: all)")
    task.add_argument("--seed", type=int, default=0, help="of noise and --clips (default: %(default)s)")
    add_hop(task)
    add_workers(task)
    add_report(task)
    task.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> str:
    """The report."""
    demand("bench", "scipy")
    interventions = chosen(arguments.conditions, INTERVENTIONS)
    clips = drawn(read_clips(arguments.data, arguments.audio), arguments.clips, arguments.seed)
    result = shortcuts(
        arguments.model,
        clips,
        interventions,
        seed=arguments.seed,
        hop_seconds=arguments.hop,
        jobs=arguments.jobs,
        cluster=arguments.cluster,
        progress=tqdm,
    )
    for line in (*result.left_out, *result.unread):
        print(f"note: {line}", file=sys.stderr)
    return json.dumps(result.as_json(), indent=1, allow_nan=False) + "\n" if arguments.json else markdown(result)
