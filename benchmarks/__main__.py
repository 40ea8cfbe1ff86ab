"""`python -m benchmarks TASK`: how well model files do through the runtime, how fast, and in how much memory."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from edge_runtime.system.extras import demand

demand("bench", "tqdm")  # first, as what is imported next needs it

from benchmarks.tasks import (  # noqa: E402
    accuracy,
    compare,
    files,
    folds,
    gru,
    hours,
    instructions,
    latency,
    metrics,
    options,
    report,
    robustness,
    score,
    shortcuts,
    soak,
    streaming,
)
from benchmarks.tasks.common import write_text  # noqa: E402
from edge_runtime.errors import EdgeDetectError, OutputError  # noqa: E402
from edge_runtime.run.stop import leaving_in_order  # noqa: E402

TASKS = (
    report,
    compare,
    accuracy,
    metrics,
    score,
    robustness,
    shortcuts,
    latency,
    instructions,
    streaming,
    soak,
    hours,
    files,
    folds,
    options,
    gru,
)
"""Each has `declare`, and gives its report as the text that its `run` returns."""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    command = argparse.ArgumentParser(
        prog="python -m benchmarks",
        epilog="Exit codes: 0 done, 2 usage, 3 data, 4 model, 5 output, 11 a requirement is not met.",
    )
    tasks = command.add_subparsers(dest="task", required=True)
    for task in TASKS:
        task.declare(tasks)
    return command


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code."""
    arguments = parser().parse_args(argv)
    try:
        with leaving_in_order():
            text = arguments.run(arguments)
            if arguments.output:
                write_text(arguments.output, text)
        if not arguments.output:
            try:
                print(text, end="", flush=True)
            except OSError as reason:
                raise OutputError(f"cannot print the report: {reason.strerror}") from None
    except EdgeDetectError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
