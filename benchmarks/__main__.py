"""`python -m benchmarks TASK`: how well model files do through the runtime, how fast, and in how much memory."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

from edge_runtime.app.arguments import Parser
from edge_runtime.app.shell import entry, put
from edge_runtime.system.extras import demand

TASKS = (
    "report",
    "compare",
    "accuracy",
    "metrics",
    "score",
    "robustness",
    "shortcuts",
    "latency",
    "instructions",
    "streaming",
    "soak",
    "alarms",
    "recordings",
    "folds",
    "options",
    "gru",
)
"""Modules of `benchmarks.tasks`: each has `declare`, and gives its report as the text that its `run` returns."""


def parser() -> argparse.ArgumentParser:
    """The command line. Raises UsageError where the extra `bench` is not installed."""
    demand("bench", "tqdm")  # first, as what is imported next needs it
    command = Parser(
        prog="edge-detect benchmark",
        epilog="Exit codes: 0 done, 2 usage, 3 data, 4 model, 5 output, 11 a requirement is not met.",
    )
    tasks = command.add_subparsers(dest="task", required=True)
    for task in TASKS:
        import_module(f"benchmarks.tasks.{task}").declare(tasks)
    return command


@entry()
def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code."""
    arguments = parser().parse_args(argv)
    text = arguments.run(arguments)
    if arguments.output:
        from benchmarks.tasks.common import write_text

        write_text(arguments.output, text)
    else:
        put(text, end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
