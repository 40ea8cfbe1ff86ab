"""Standard output of a live run: nothing waits for its reader, and what a reader does not take in time is counted."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TextIO

from edge_runtime.report.output import Output
from edge_runtime.system.bounded import abandon
from edge_runtime.system.queued import Queued, Rank


class Front(Output):
    """An Output with a queue and a thread. That writing failed is reported by the next write, or by `finish`."""

    def __init__(self, stream: TextIO | None, complain: Callable[..., object]) -> None:
        """`complain` takes a line (and perhaps its key, see `Log`): when lines are lost, when the reader reads again,
        and when some were left at the end."""
        super().__init__(stream)
        self._complain = complain
        self._finished = False
        self._queue: Queued | None = None
        if stream is not None:
            stream.flush()
            self._queue = Queued(stream.fileno(), gap=self._read_again, losing=self._not_read)

    @property
    def lost(self) -> int | None:
        """Lines that were lost until now."""
        return self._queue.lost if self._queue else 0

    def write(self, text: str, rank: Rank = Rank.LASTING) -> None:
        """Has it written soon. Raises OutputError or ReaderGone when what came before could not be."""
        if self._queue is None:
            super().write(text)  # raises what is wrong
            return
        if self._queue.failure:
            self._fail(self._queue.failure)
        self._queue.put(self._bytes(text), rank)

    def finish(self) -> None:
        """Waits for the reader, a few seconds at most. Raises OutputError or ReaderGone."""
        if self._queue is None or self._finished:
            return
        self._finished = True
        left = self._queue.finish()
        if self._queue.failure:
            self._fail(self._queue.failure)
        if left:
            abandon("standard output")
            self._complain(f"standard output is not read: {self._queue.lost} lines of it are lost, the last ones too")

    def _not_read(self) -> None:
        self._complain("standard output is not read: lines of it are lost, the oldest windows first", "unread")

    def _read_again(self, count: int) -> bytes:
        self._complain(f"standard output is read again: {count} lines of it were lost")
        return self._bytes(self.gap(count))


_fronts: list[Front] = []


def front(complain: Callable[..., object]) -> Front:
    """The one of this process: a run that follows another goes on with its queue."""
    if not _fronts:
        _fronts.append(Front(sys.stdout, complain))
    return _fronts[0]


def finish() -> None:
    """Ends the one of this process, if there is one (see `Front.finish`)."""
    for one in _fronts:
        one.finish()
