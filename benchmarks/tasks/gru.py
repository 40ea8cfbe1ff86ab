"""`gru`: the speed of the GRU alone."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmarks.tasks.common import add_report, add_timing
from benchmarks.timing.gru import gru_speed, table


def declare(tasks: Any) -> None:
    """Adds the command."""
    task = tasks.add_parser("gru", help="speed of the GRU alone (needs onnx)")
    task.add_argument("float_model", metavar="FLOAT", type=Path, help="the ONNX file that the others are compared with")
    task.add_argument("models", metavar="MODEL", type=Path, nargs="+", help="files that were quantized from it")
    add_timing(task)
    add_report(task)
    task.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> str:
    """The report."""
    speeds = gru_speed([arguments.float_model, *arguments.models], arguments.rounds, arguments.threads, tqdm)
    return json.dumps([asdict(item) for item in speeds], indent=1) + "\n" if arguments.json else table(speeds)
