"""Parts of this program in a process of their own: how one is started, speaks, and ends."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

KILL_SECONDS = 0.2
"""Longer takes only a process that hangs in the kernel, with a driver; Python collects it later."""
_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG


def command(module: str, *arguments: str) -> tuple[list[str], dict[str, str]]:
    """The command that runs a module of ours in a process of its own, and its environment."""
    root = str(Path(__file__).resolve().parents[1])
    path = os.pathsep.join(part for part in (root, os.environ.get("PYTHONPATH", "")) if part)
    return [sys.executable, "-P", "-m", module, *arguments], {**os.environ, "PYTHONPATH": path}


def start(
    module: str, *arguments: str, more: Mapping[str, str] | None = None, handles: Sequence[int] = ()
) -> subprocess.Popen[bytes]:
    """Starts it with a pipe to its standard input and one from its output; `more` goes into its environment.

    `handles` are open files that it gets as well, under the same numbers.

    Raises OSError when the machine cannot start processes.
    """
    words, environment = command(module, *arguments)
    return subprocess.Popen(
        words,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        bufsize=0,
        env={**environment, **(more or {})},
        pass_fds=handles,
        process_group=0,  # Ctrl-C at a terminal goes to the whole group: it is ours to heed, not the child's
    )


def kill(process: subprocess.Popen[bytes]) -> None:
    """Ends what `start` started, whatever state it is in, and closes both pipes."""
    process.kill()
    for pipe in (process.stdin, process.stdout):
        if pipe:
            pipe.close()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(KILL_SECONDS)


def own_output() -> int:
    """In the process: standard output under another number. 1 and 2 lead nowhere, since C libraries write on them."""
    handle = os.dup(1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    return handle


def die_with_parent() -> None:
    """In the process: the kernel kills it when whoever started it has died."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PARENT_DEATH_SIGNAL, signal.SIGKILL)
