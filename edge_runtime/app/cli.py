"""The command `edge-detect`: finds the command that is meant, and hands the rest of the line to it.

Nothing heavy is imported here: on a small board Python's argparse alone takes a tenth of a second, and ONNX Runtime
takes seconds, in which `--help` should have answered.
"""

from __future__ import annotations

import os
import sys

from edge_runtime.app.screen import BOX, HOST, SCREEN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_HELP = ("-h", "--help", "help")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `edge-detect` with `argv` (default: the command line) and gives its exit code."""
    given = list(sys.argv[1:] if argv is None else argv)
    if len(given) == 1 and given[0] in _HELP:
        return _show(SCREEN)
    verb, rest = split(given)
    if verb in HOST:
        from edge_runtime.app.shell import host

        return host(verb, rest)
    from edge_runtime.app.program import main as run

    return run(verb, rest)


def split(given: Sequence[str]) -> tuple[str, list[str]]:
    """The command that a line means, "" where it names none, and the line without its name.

    Options may stand before the command: what follows an option that takes a value is no command.
    """
    words = list(given)
    if not words or (words[0].startswith("-") and not any(word in (*BOX, *HOST) for word in words)):
        return "", words
    place = 0
    while place < len(words) and words[place].startswith("-"):
        from edge_runtime.settings.schema import takes_value  # late: most lines begin with the command

        if words[place] in ("-", "--"):
            return "", words
        place += 2 if takes_value(words[place]) else 1
    if place < len(words) and words[place] in (*BOX, *HOST):
        return words[place], words[:place] + words[place + 1 :]
    return ("score", words) if place < len(words) and place == 0 else ("", words)


def _show(text: str) -> int:
    try:
        if sys.stdout is not None:
            sys.stdout.write(text)
            sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as reason:
        sys.stderr.write(f"edge-detect: cannot write to standard output: {reason.strerror}\n")
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 5
    return 0
