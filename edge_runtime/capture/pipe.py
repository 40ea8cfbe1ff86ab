"""A pipe that is listened to: standard input or a FIFO, held open as long as the run, so that nothing in it is lost."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import sys

from edge_runtime.capture.wanted import STDIN
from edge_runtime.errors import InputError

_PIPE_BYTES = 1 << 20
"""What the kernel holds of the sound while we are held up, where it grants so much."""


class Pipe:
    """Gives its file descriptor to whoever reads it. A FIFO outlives those who write into it."""

    def __init__(self, name: str) -> None:
        """`name` is a FIFO's path, or STDIN."""
        self._name = name
        self._handle: int | None = None

    def open(self) -> int:
        """The descriptor to read, of the FIFO that has the name now. Raises InputError when there is none."""
        if self._name == STDIN:
            if self._handle is None:
                self._handle = _standard_input()
        elif self._handle is None or self.replaced or not os.path.exists(self._name):
            self.close()
            self._handle = self._fifo()
        with contextlib.suppress(OSError):
            fcntl.fcntl(self._handle, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        return self._handle

    def close(self) -> None:
        """Lets it go."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    @property
    def replaced(self) -> bool:
        """Whether another FIFO has the name now: nobody writes into the open one any more."""
        if self._name == STDIN or self._handle is None:
            return False
        try:
            return not os.path.samestat(os.stat(self._name), os.fstat(self._handle))
        except OSError:
            return False

    def _fifo(self) -> int:
        try:
            if stat.S_ISFIFO(os.stat(self._name).st_mode):
                return os.open(self._name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except (OSError, ValueError) as reason:
            raise InputError(f"{self._name}: {getattr(reason, 'strerror', None) or reason}") from None
        raise InputError(
            f"{self._name}: is no FIFO (`mkfifo` makes one), which --live needs: leave --live out, or pipe sound in "
            "with --file - --live"
        )


def _standard_input() -> int:
    if sys.stdin is None:  # file 0 may be anything then
        raise InputError("standard input is closed")
    if os.isatty(0):
        raise InputError(
            "standard input is a terminal: pipe sound into it, as in "
            "`arecord -f S16_LE -r 16000 | edge-detect --file - --live`"
        )
    return os.dup(0)
