"""`instructions`: what a hop takes on an emulated 64-bit ARM, counted and not timed."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmarks.emulated.instructions import instruction_table, instructions
from benchmarks.tasks.common import add_hop, add_report


def declare(tasks: Any) -> None:
    """Adds the command."""
    task = tasks.add_parser(
        "instructions", help="instructions of a hop on emulated 64-bit ARM (needs Debian's qemu-user and gcc)"
    )
    task.add_argument("models", metavar="MODEL", type=Path, nargs="+", help="files; the first, the float one, is 1")
    task.add_argument("--windows", type=int, default=3, help="hops to count with each model (default: %(default)s)")
    task.add_argument("--repeats", type=int, default=2, help="emulated runs, to see them agree (default: %(default)s)")
    task.add_argument(
        "--cpu", default="cortex-a72,cortex-a76", help="emulated cores, cortex-a53 among them (default: %(default)s)"
    )
    add_hop(task)
    add_report(task)
    task.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> str:
    """The report."""
    found = instructions(
        arguments.models,
        arguments.hop,
        arguments.windows,
        [cpu.strip() for cpu in arguments.cpu.split(",") if cpu.strip()],
        arguments.repeats,
        tqdm,
    )
    if arguments.json:
        return json.dumps(found.as_json(), indent=1, allow_nan=False) + "\n"
    return instruction_table(found)
