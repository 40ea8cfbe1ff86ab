"""`compare`: what changed between two reports, of two boards or two commits."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks.report.changes import changes, markdown
from benchmarks.report.page import read
from benchmarks.tasks.common import add_report
from edge_runtime.errors import UsageError


def declare(tasks: Any) -> None:
    """Adds the command."""
    task = tasks.add_parser("compare", help="what changed between the report.json of two boards or two commits")
    task.add_argument("before", metavar="A.json", type=Path)
    task.add_argument("after", metavar="B.json", type=Path)
    add_report(task)
    task.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> str:
    """The report."""
    for path in (arguments.before, arguments.after):
        if path.suffix == ".onnx":
            raise UsageError("compare takes two report.json; `report FLOAT MODEL...` compares models with each other")
    found = changes(read(arguments.before), read(arguments.after))
    if arguments.json:
        return json.dumps(found.as_json(), indent=1, allow_nan=False) + "\n"
    return markdown(found, str(arguments.before), str(arguments.after))
