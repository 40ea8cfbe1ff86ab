"""`latency`: how long a window takes, in detail, on the machine that this runs on."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmarks.machine.record import warn
from benchmarks.tasks.common import add_hop, add_report
from benchmarks.timing.latency import latency
from benchmarks.timing.latency_table import latency_table
from edge_runtime.errors import UsageError

QUICK_ROUNDS = 70
"""A p90 takes 64."""
BASELINE = (
    "A file of the waveform form is timed in the baseline pipeline, which gives ONNX Runtime the whole window at each "
    "hop; any other in the runtime."
)
"""For the help of what times files."""


def declare(tasks: Any) -> None:
    """Adds the command."""
    task = tasks.add_parser(
        "latency",
        help="a window's time in detail: percentiles, stages, threads, start, memory, energy (needs onnx)",
        epilog=BASELINE,
    )
    task.add_argument("models", metavar="MODEL", type=Path, nargs="+", help="files; the first, the float one, is 1")
    add_hop(task)
    add_times(task)
    add_report(task)
    task.set_defaults(run=run)


def add_times(task: Any) -> None:
    """How times are taken, here and by `report`; `task` is a parser or a group of one."""
    task.add_argument("--rounds", type=int, default=230, help="rounds of timing in each process (default: %(default)s)")
    task.add_argument("--processes", type=int, default=3, help="fresh processes (default: %(default)s)")
    task.add_argument("--threads", type=int, default=1, help="threads while timing (default: %(default)s)")
    task.add_argument("--quick", action="store_true", help="70 rounds in one process: a first look, in minutes on a Pi")
    task.add_argument("--sweep", default="", metavar="1,2", help="numbers of threads to time as well (default: none)")


def rounds_of(arguments: argparse.Namespace) -> tuple[int, int]:
    """Rounds of timing in each process, and processes; with `--quick` as few as a p90 takes."""
    return (QUICK_ROUNDS, 1) if arguments.quick else (arguments.rounds, arguments.processes)


def sweep_of(text: str) -> list[int]:
    """The numbers of threads of `--sweep`. Raises UsageError for what is none."""
    try:
        return [int(number) for number in text.split(",") if number.strip()]
    except ValueError:
        raise UsageError(f"--sweep takes numbers of threads, as in 1,2,4, not {text}") from None


def run(arguments: argparse.Namespace) -> str:
    """The report."""
    found = latency(
        arguments.models,
        arguments.hop,
        arguments.threads,
        *rounds_of(arguments),
        sweep_of(arguments.sweep),
        tqdm,
    )
    warn(found.record)
    return json.dumps(found.as_json(), indent=1, allow_nan=False) + "\n" if arguments.json else latency_table(found)
