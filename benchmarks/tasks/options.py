"""`options`: what ONNX Runtime's session options do to a window's time."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmarks.machine.record import record, warn
from benchmarks.tasks.common import add_report
from benchmarks.timing.session_options import page, session_options


def declare(tasks: Any) -> None:
    """Adds the command."""
    task = tasks.add_parser("options", help="what ONNX Runtime's session options do to a window's time")
    task.add_argument("model", type=Path, help="an ONNX file of `python -m export`")
    task.add_argument("--rounds", type=int, default=50, help="rounds of timing (default: %(default)s)")
    add_report(task)
    task.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> str:
    """The report."""
    about = record(1, 0.5, arguments.rounds)
    choices = session_options(arguments.model, arguments.rounds, tqdm)
    about = about.finished()
    warn(about)
    if not arguments.json:
        return page(arguments.model, choices, about.lines())
    told = {"record": about.as_json(), "options": [asdict(choice) for choice in choices]}
    return json.dumps(told, indent=1, allow_nan=False) + "\n"
