"""Lines for a descriptor whose reader may stop reading: whoever writes never waits, and what is lost is counted."""

from __future__ import annotations

import enum
import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable

LINES = 1000
"""Lines that wait for their reader: some eight minutes of windows, 250 KB."""
STALL_SECONDS = 1.5
"""At the end, a reader that took nothing for so long is not waited for any longer."""
FINISH_SECONDS = 5.0
"""Nor is one that takes longer than this altogether."""


class Rank(enum.IntEnum):
    """What goes first when there is no room: the lowest."""

    FRAME = 0  # a state of the screen: only the newest waits, and the others are no loss
    WINDOW = 1
    EVENT = 2
    LASTING = 3


class Queued:
    """A bounded queue and a thread that writes it to a descriptor; the lines stay in their order.

    The oldest lines of the lowest rank go first: a reader that comes back finds what is new, and every alarm.
    """

    def __init__(
        self,
        descriptor: int,
        *,
        gap: Callable[[int], bytes],
        lines: int = LINES,
        losing: Callable[[], object] = lambda: None,
    ) -> None:
        """`gap` gives the line that stands where so many are missing. `losing` is called when the first one is lost.

        The thread calls `gap`, and `put` calls `losing`; both may put lines into another queue.
        """
        self._descriptor = descriptor
        self._gap = gap
        self._losing = losing
        self._most = lines
        self._waiting: dict[Rank, deque[tuple[int, bytes]]] = {rank: deque() for rank in Rank}
        self._number = 0
        self._missing = 0  # lines whose gap is not written yet
        self._busy = self._over = False
        self._moved = time.monotonic()
        self._news = threading.Condition()
        self._thread: threading.Thread | None = None
        self.lost = 0
        """Lines that were lost until now."""
        self.failure: OSError | None = None
        """Why nothing more can be written: EPIPE where the reader has gone."""

    def put(self, line: bytes, rank: Rank) -> None:
        """Takes a line, and drops others where there is no room."""
        with self._news:
            if self.failure or self._over:
                return
            lost_before = self._missing
            if self._make_room(rank):
                self._number += 1
                self._waiting[rank].append((self._number, line))
            first_loss = self._missing and not lost_before
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="output", daemon=True)
                self._thread.start()
            self._news.notify_all()
        if first_loss:
            self._losing()

    def finish(self) -> int:
        """Takes no more lines, and waits for a reader that reads. Gives how many lines are left, and lost."""
        began = time.monotonic()
        with self._news:
            self._over = True
            self._moved = began
            self._news.notify_all()
            while self._thread is not None and not self.failure and (self._busy or self._any()):
                now = time.monotonic()
                if now - self._moved >= STALL_SECONDS or now - began >= FINISH_SECONDS:
                    break
                self._news.wait(0.05)
            left = self._busy + sum(len(self._waiting[rank]) for rank in Rank if rank is not Rank.FRAME)
            self.lost += 0 if self.failure else left
        return 0 if self.failure else left

    def _make_room(self, rank: Rank) -> bool:
        """Whether there is room for a line of the rank, now at the latest."""
        self._waiting[Rank.FRAME].clear()  # what comes now is newer
        if sum(map(len, self._waiting.values())) < self._most:
            return True
        lowest = min(other for other in Rank if self._waiting[other])
        fits = lowest <= rank
        # Several windows at once: a reader that is merely slow would else find a gap after every line.
        several = max(1, len(self._waiting[lowest]) // 4) if lowest is Rank.WINDOW and fits else 1
        for _ in range(several if fits else 0):
            self._waiting[lowest].popleft()
        self._missing += several
        self.lost += several
        return fits

    def _any(self) -> bool:
        return bool(self._missing) or any(self._waiting.values())

    def _work(self) -> None:
        while True:
            with self._news:
                self._news.wait_for(lambda: self._over or self._any())
                if not self._any():
                    return
                self._busy = True
                missing, self._missing = self._missing, 0
                line = b"" if missing else self._next()
            try:
                self._write(self._gap(missing) if missing else line)
            except OSError as reason:
                with self._news:
                    self.failure, self._busy = reason, False
                    self._news.notify_all()
                return
            with self._news:
                self._busy = False
                self._news.notify_all()

    def _next(self) -> bytes:
        first = min((waiting for waiting in self._waiting.values() if waiting), key=lambda waiting: waiting[0][0])
        return first.popleft()[1]

    def _write(self, line: bytes) -> None:
        while line:
            try:
                line = line[os.write(self._descriptor, line) :]
                self._moved = time.monotonic()
            except BlockingIOError:  # somebody else has made it so
                ready(self._descriptor, 1.0)


def ready(descriptor: int, seconds: float) -> bool:
    """Whether so much as a line can be written without waiting, or can within `seconds`."""
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    return bool(poll.poll(seconds * 1000))
