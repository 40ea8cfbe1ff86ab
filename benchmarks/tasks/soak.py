"""`soak`: whether a hop's cost stays flat over a day of sound."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmarks.machine.record import record, warn
from benchmarks.tasks.common import add_hop, add_report
from benchmarks.timing.soak import soak, table


def declare(tasks: Any) -> None:
    """Adds the command."""
    task = tasks.add_parser("soak", help="whether a hop's cost stays flat over a day of sound, in fast motion")
    task.add_argument("model", type=Path, help="an ONNX file of `python -m export`")
    task.add_argument("--hours", type=float, default=24, help="of sound (default: %(default)s)")
    task.add_argument("--threads", type=int, default=1, help="(default: %(default)s)")
    add_hop(task)
    add_report(task)
    task.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> str:
    """The report."""
    about = record(arguments.threads, arguments.hop)
    hours = soak(arguments.model, arguments.hours, arguments.hop, arguments.threads, tqdm)
    about = about.finished()
    warn(about)
    if not arguments.json:
        return table(arguments.model, hours, about.lines())
    told = {"record": about.as_json(), "hours": [asdict(hour) for hour in hours]}
    return json.dumps(told, indent=1, allow_nan=False) + "\n"
