"""`streaming`: what a hop costs, against the baseline pipeline."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmarks.machine.record import warn
from benchmarks.tasks.common import add_hop, add_report, add_timing
from benchmarks.timing.streaming import markdown, streaming


def declare(tasks: Any) -> None:
    """Adds the command."""
    task = tasks.add_parser("streaming", help="what a hop costs, against the baseline pipeline (needs onnx)")
    task.add_argument("baseline", metavar="BASELINE", type=Path, help="a float file of the waveform form")
    task.add_argument("models", metavar="MODEL", type=Path, nargs="+", help="files to hold against it, of any form")
    add_timing(task)
    task.set_defaults(rounds=70)  # a p90 takes 64
    add_hop(task)
    task.add_argument("--starts", type=int, default=5, help="fresh processes for a start (default: %(default)s)")
    task.add_argument("--file-seconds", type=float, default=120, help="of the long WAV (default: %(default)s)")
    add_report(task)
    task.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> str:
    """The report."""
    page = streaming(
        [arguments.baseline, *arguments.models],
        hop_seconds=arguments.hop,
        rounds=arguments.rounds,
        threads=arguments.threads,
        starts=arguments.starts,
        file_seconds=arguments.file_seconds,
        progress=tqdm,
    )
    warn(page.record)
    return json.dumps(page.as_json(), indent=1, allow_nan=False) + "\n" if arguments.json else markdown(page)
