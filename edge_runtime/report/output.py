"""Standard output that fails with a clear word: OutputError for a full disk, ReaderGone for a closed pipe."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import time
from collections.abc import Callable
from typing import NoReturn, TextIO

from edge_runtime.errors import OutputError
from edge_runtime.system.queued import Rank, ready

_LOOK_SECONDS = 0.2
_PATIENCE_SECONDS = 2.0
_PIECE_BYTES = 4096  # PIPE_BUF: a pipe that is ready takes so much at once


class ReaderGone(Exception):
    """The program that read our output has ended (`| head`): no error, but nothing more to do."""


class Output:
    """Writes text at once, without a buffer that could fail later, and waits for a slow reader."""

    def __init__(self, stream: TextIO | None, stopped: Callable[[], bool] = lambda: False) -> None:
        """`stream` is sys.stdout, which is None when the program was started with it closed.

        Once `stopped()`, a reader that does not read is waited for no longer.
        """
        self._stream = stream
        self._stopped = stopped
        self.gap: Callable[[int], str] = lambda count: f"({count} lines were not read in time)\n"
        """Gives the text that stands where so many lines are missing; whoever writes may set its own."""

    @property
    def lost(self) -> int | None:
        """Lines that were lost until now; None where none can be."""
        return None

    def write(self, text: str, rank: Rank = Rank.LASTING) -> None:
        """Writes and flushes. Raises OutputError or ReaderGone. Nothing is lost here, so the rank does not matter."""
        if self._stream is None:
            raise OutputError("standard output is closed")
        try:
            descriptor = _descriptor(self._stream)
            if descriptor is None:
                self._stream.write(text)
            else:
                self._put(descriptor, self._bytes(text))
            self._stream.flush()
        except OSError as reason:
            self._fail(reason)

    def _put(self, descriptor: int, data: bytes) -> None:
        asked: float | None = None
        while data:
            if ready(descriptor, _LOOK_SECONDS):
                with contextlib.suppress(BlockingIOError):  # somebody else has made it so
                    data = data[os.write(descriptor, data[:_PIECE_BYTES]) :]
            elif self._stopped():
                asked = asked or time.monotonic()
                if time.monotonic() - asked > _PATIENCE_SECONDS:
                    self._abandon()
                    raise OutputError("standard output is not read: it lacks what came last")

    def _bytes(self, text: str) -> bytes:
        assert self._stream is not None
        return text.encode(self._stream.encoding or "utf-8", "backslashreplace")

    def _fail(self, reason: OSError) -> NoReturn:
        self._abandon()
        if reason.errno == errno.EPIPE:
            raise ReaderGone from None
        raise OutputError(f"cannot write to standard output: {reason.strerror}") from None

    def _abandon(self) -> None:
        """Lets what is still buffered go nowhere, or Python would complain once more when it ends."""
        if self._stream is None:
            return
        with contextlib.suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)


def _descriptor(stream: TextIO) -> int | None:
    """Where a stream leads; None for one that has no descriptor. What it holds back is written first."""
    try:
        number = stream.fileno()
    except (OSError, ValueError, io.UnsupportedOperation):
        return None
    stream.flush()
    return number
