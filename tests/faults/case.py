"""One injected thing, run through the real program as a user would: exit code, what is seen, memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

_SHOWN = 300
"""Characters of what a user sees that fit a cell."""


@dataclass(frozen=True)
class Case:
    """Something hostile, damaged or missing.

    `arguments` writes what is needed into a folder, which is also the working folder, and gives the words after
    `python -m program`. `shows` is a part of `Outcome.shown`. `stdin` gives the bytes of standard input; without it
    that is empty. `before` are words before the command, as in ("sh", "-c", 'ulimit -v 140000; exec "$@"', "sh").
    """

    what: str
    arguments: Callable[[Path], Sequence[str | Path]]
    code: int
    shows: str
    program: str = "edge_runtime"
    stdin: Callable[[Path], bytes] | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    before: tuple[str, ...] = ()
    most_megabytes: float = 400.0
    most_seconds: float = 60.0


@dataclass(frozen=True)
class Outcome:
    """What one case came to."""

    code: int
    errors: str  # standard error, with the folder's path cut out
    verdicts: str  # of the summaries on standard output
    other: str  # standard output that is no JSON
    megabytes: float  # the largest resident memory of the program, or of a child that it waited for

    @property
    def shown(self) -> str:
        """What the user sees, on one line: verdicts and errors, and other output where there is neither."""
        errors = " / ".join(line for line in self.errors.strip().splitlines() if "%|" not in line)  # no progress bars
        return "; ".join(part for part in (self.verdicts, errors) if part) or self.other


def run(case: Case, folder: Path) -> Outcome:
    """Runs it in `folder`. Raises subprocess.TimeoutExpired when it takes longer than the case allows."""
    words = [sys.executable, "-m", case.program, *map(str, case.arguments(folder))]
    root = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(part for part in (root, os.environ.get("PYTHONPATH", "")) if part)
    sound = case.stdin(folder) if case.stdin else b""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as errors, tempfile.TemporaryFile() as memory:
        # A process of its own knows the memory of this case alone: RUSAGE_CHILDREN is the largest of all its children.
        process = subprocess.run(
            [sys.executable, "-c", _MEASURE, str(memory.fileno()), *case.before, *words],
            input=sound,
            stdout=out,
            stderr=errors,
            cwd=folder,
            env={**os.environ, "PYTHONPATH": path, **case.environment},
            timeout=case.most_seconds,
            pass_fds=(memory.fileno(),),
            check=False,
        )
        for stream in (out, errors, memory):
            stream.seek(0)
        said = errors.read().decode("utf-8", "backslashreplace").replace(f"{folder}/", "")
        shown = out.read().decode("utf-8", "backslashreplace").replace(f"{folder}/", "")
        megabytes = int(memory.read() or b"0") / 1024
        return Outcome(process.returncode, said, _verdicts(shown), _other(shown), megabytes)


def table(rows: Sequence[tuple[Case, Outcome]]) -> str:
    """A Markdown table: what was injected, the exit code, what the user sees, and the memory it took."""
    lines = ["| injected | exit code | what the user sees | memory |", "|---|---|---|---|"]
    for case, outcome in rows:
        shown = outcome.shown if len(outcome.shown) <= _SHOWN else outcome.shown[: _SHOWN - 3] + "..."
        cells = (case.what, str(outcome.code), shown, f"{outcome.megabytes:.0f} MB")
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


_MEASURE = """
import os, resource, subprocess, sys
code = subprocess.call(sys.argv[2:])
os.write(int(sys.argv[1]), str(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss).encode())
sys.exit(code if code >= 0 else 128 - code)
"""


def _verdicts(text: str) -> str:
    found = []
    for line in text.splitlines():
        if line.startswith('{"type": "summary"'):
            summary = json.loads(line)
            score = summary["score"]
            mean = "" if score is None else f" ({score:+.2f})"
            found.append(f"{summary['verdict'] or 'no verdict'}{mean}, {summary['seconds']:.1f} s")
    return "; ".join(found)


def _other(text: str) -> str:
    return " / ".join(line for line in text.strip().splitlines() if line and not line.startswith("{"))
