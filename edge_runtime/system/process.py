"""Parts of this program in a process of their own: how one is started, speaks, and ends."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
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
    root = str(Path(__file__).resolve().parents[2])
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


class Leash:
    """Ends a process group when this program is killed: a shell waits beside it for its standard input to end.

    The group is a command of the user's, which may have started others, so that no signal of the kernel's to one
    process at its parent's death would do.
    """

    def __init__(self, group: int) -> None:
        """Where no shell can be started, the group is left to itself."""
        self._shell: subprocess.Popen[bytes] | None = None
        with contextlib.suppress(OSError):
            self._shell = subprocess.Popen(
                ["/bin/sh", "-c", 'read over || kill -s KILL -- "-$1"', "sh", str(group)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )

    def release(self) -> None:
        """The group has ended."""
        if self._shell is None:
            return
        assert self._shell.stdin
        with contextlib.suppress(OSError):
            self._shell.stdin.write(b"over\n")
        with contextlib.suppress(OSError):
            self._shell.stdin.close()
        self._shell.wait()


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


def limit_memory(size: int) -> None:
    """In the process: it may have `size` bytes of address space, and leaves no core behind when it dies of that."""
    for kind, limit in ((resource.RLIMIT_AS, size), (resource.RLIMIT_CORE, 0)):
        _, most = resource.getrlimit(kind)
        limit = limit if most == resource.RLIM_INFINITY else min(limit, most)
        resource.setrlimit(kind, (limit, limit))
