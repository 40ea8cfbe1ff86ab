"""The shell under every command of a clone: one line for an error, its exit code, and an orderly end."""

from __future__ import annotations

import functools
import importlib.util
import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path

from edge_runtime.app.screen import HOST
from edge_runtime.errors import EdgeDetectError, OutputError, UsageError
from edge_runtime.report.output import ReaderGone
from edge_runtime.run.stop import leaving_in_order
from edge_runtime.system.extras import how_to_get
from edge_runtime.system.text import printable

Main = Callable[[Sequence[str] | None], int]
INTERRUPTED = 130
"""The exit code after Ctrl-C, as a shell has it."""


def entry(stopped: str = "") -> Callable[[Main], Callable[..., int]]:
    """Makes a `main` that raises EdgeDetectError, and else gives an exit code, a command without tracebacks.

    SIGTERM and SIGHUP end it in order, and Ctrl-C does with the line `stopped`. A reader of its output that has gone is
    no error: the exit code is 0 then.
    """

    def made(main: Main) -> Callable[..., int]:
        @functools.wraps(main)
        def run(argv: Sequence[str] | None = None) -> int:
            try:
                with leaving_in_order():
                    code = main(argv)
                    _flush()
                return code
            except EdgeDetectError as reason:
                say(str(reason))
                return reason.exit_code
            except (BrokenPipeError, ReaderGone):
                _abandon()
                return 0
            except KeyboardInterrupt:
                if stopped:
                    say(f"stopped: {stopped}")
                return INTERRUPTED

        return run

    return made


def say(text: str) -> None:
    """A line on standard error, as every error is one."""
    print(f"edge-detect: {printable(text)}", file=sys.stderr)


def note(text: str) -> None:
    """A line on standard error that is no error."""
    print(f"note: {printable(text)}", file=sys.stderr)


def put(text: str, end: str = "\n") -> None:
    """Prints a result. Raises OutputError, or BrokenPipeError where nobody reads any more."""
    try:
        print(text, end=end, flush=True)
    except BrokenPipeError:
        raise
    except OSError as reason:
        _abandon()
        raise OutputError(f"cannot print the result: {reason.strerror}") from None


def host(verb: str, arguments: Sequence[str]) -> int:
    """Runs a command of a clone, such as `export`, and gives its exit code; 2 where it is not installed here."""
    module, extra = HOST[verb]
    try:
        if not _of_this_clone(module.partition(".")[0]):
            raise UsageError(
                f"{verb} comes with a clone of edge-detect, not with this package: in the clone run "
                f"`.venv/bin/pip install -e '.[{extra}]'`, then `.venv/bin/edge-detect {verb}`"
            )
        try:
            run: Callable[[Sequence[str]], int] = import_module(module).main
        except ModuleNotFoundError as missing:
            raise UsageError(how_to_get(str(missing.name), extra)) from None
        return run(arguments)
    except UsageError as reason:
        say(str(reason))
        return reason.exit_code
    except SystemExit as done:  # argparse, after --help or with its own line
        return done.code if isinstance(done.code, int) else 0


def _of_this_clone(package: str) -> bool:
    """Whether a package lies beside ours: others of such common names may be installed, and none of them is run."""
    spec = importlib.util.find_spec(package)
    root = Path(__file__).resolve().parents[2]
    return spec is not None and spec.origin is not None and Path(spec.origin).resolve().parents[1] == root


def _flush() -> None:
    if sys.stdout is not None:
        try:
            sys.stdout.flush()
        except BrokenPipeError:
            raise
        except OSError as reason:
            _abandon()
            raise OutputError(f"cannot print the result: {reason.strerror}") from None


def _abandon() -> None:
    """Lets what is still buffered go nowhere, or Python would complain once more when it ends."""
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
    except (OSError, ValueError, AttributeError):
        pass
