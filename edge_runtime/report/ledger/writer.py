"""The ledger: every minute of listening in one SQLite file, through kill -9, full disks and clocks that are set."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from edge_runtime.errors import OutputError
from edge_runtime.report.ledger.backlog import Backlog, Batch, Minute
from edge_runtime.report.ledger.file import LedgerFile, RunState
from edge_runtime.report.ledger.lock import linger

_START_SECONDS = 10.0
_CLOSE_SECONDS = 8.0


def slept() -> float:
    """Seconds for which the machine was suspended since it was started; 0 where the system does not tell."""
    boottime = getattr(time, "CLOCK_BOOTTIME", None)
    return 0.0 if boottime is None else time.clock_gettime(boottime) - time.monotonic()


class Ledger:
    """One run in the file at `path`. A thread of its own writes, so that a slow disk does not hold up listening."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        about: Mapping[str, str],
        complain: Callable[[str], object],
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        asleep: Callable[[], float] = slept,
        close_seconds: float = _CLOSE_SECONDS,
    ) -> None:
        """`about` has device, model, model_sha256 and version, and may change; `complain` takes lines for people.
        Lengths are measured by `clock`, labels by `wall`; `asleep` is how long the machine has slept since its start.
        `close` waits for `close_seconds`.

        A ledger that is damaged is moved aside. A disk that is full, read-only, slow or fails is waited for, and so is
        a ledger that a newer version of the program wrote, which is left alone: `complain` hears of it, and what is
        counted waits in memory. Raises OutputError for a name that can never be a ledger: of a folder, a device or
        a file of another kind, in a folder that is not there or not writable; and while another program writes it.
        """
        self.clock, self.wall, self.asleep = clock, wall, asleep
        self._complain = complain
        self._name = path
        self._close_seconds = close_seconds
        self._news = threading.Condition()
        self._backlog = Backlog()
        self._due = self._closing = self._working = self._troubled = self._begun = self._ended = False
        self._refused = ""
        self._last = wall()
        self._duration = 0.0
        try:
            self._path = Path(os.path.realpath(path))
        except (OSError, ValueError) as reason:
            raise OutputError(f"cannot keep a ledger at {path}: {getattr(reason, 'strerror', 0) or reason}") from None
        self._file = LedgerFile(self._path, about, self._last, complain)
        self._thread = threading.Thread(target=self._live, name="ledger", daemon=True)
        self._thread.start()
        with self._news:
            late = not self._news.wait_for(lambda: self._begun or self._refused, _START_SECONDS)
            self._begun = self._begun or late
        if late:
            self._trouble("it takes long to open")
        if self._refused:
            self._thread.join()
            raise OutputError(self._refused)

    def add(self, minute: Minute) -> None:
        """Takes a finished row; it reaches the disk with the next commit."""
        with self._news:
            self._backlog.add(minute)
            self._duration += minute.elapsed
            self._last = minute.until

    def note(self, wall: float, kind: str, seconds: float, text: str) -> None:
        """Takes an event, likewise."""
        with self._news:
            self._backlog.note((wall, kind, seconds, text))

    def commit(self) -> None:
        """Has all that was taken written, soon and in one transaction."""
        with self._news:
            self._due = True
            self._news.notify_all()

    def settled(self, seconds: float) -> bool:
        """Waits until the thread has tried to write all that it was asked to; False when that takes longer."""
        with self._news:
            return self._news.wait_for(lambda: not (self._due or self._working), seconds)

    def close(self) -> None:
        """Writes the rest and ends the run; gives up, and says so, when the disk takes too long.

        The thread holds the lock for as long as it lives, so that no other run writes beside it.
        """
        with self._news:
            self._closing = self._due = True
            self._news.notify_all()
        self._thread.join(self._close_seconds)
        with self._news:
            late = not self._ended
            if late:
                linger(str(self._path), True)
        if late:
            self._complain(f"the ledger {self._path} takes too long to write: its last minutes may be missing")

    def ended(self, seconds: float) -> bool:
        """Waits until nothing is written any more, after `close`; False when that takes longer than `seconds`."""
        with self._news:
            return self._news.wait_for(lambda: self._ended, seconds)

    def _live(self) -> None:
        try:
            if self._begin():
                while not self._write_once():
                    pass
        finally:
            self._file.end()
            with self._news:
                self._ended = self._begun = True
                linger(str(self._path), False)
                self._news.notify_all()

    def _begin(self) -> bool:
        """Whether the run may go on: the file is open, or may be later."""
        try:
            self._file.write([], [], RunState(self._last, 0.0))
        except Exception as reason:  # whatever it is, a run may begin, unless the file was named wrongly
            why, refused = self._file.why(reason), self._file.refuses(reason)
            with self._news:
                refused = refused and not self._begun
                if refused:
                    taken = isinstance(reason, BlockingIOError)
                    ours = f"another edge-detect writes the ledger {self._name}"
                    self._refused = ours if taken else f"cannot keep a ledger at {self._name}: {why}"
                    self._news.notify_all()
            if refused:
                return False
            self._trouble(why)
        else:
            self._relieved(Backlog().take())
        with self._news:
            self._begun = True
            self._news.notify_all()
        return True

    def _write_once(self) -> bool:
        """Waits until something is due, and tries to write it; True when that was the last time."""
        with self._news:
            self._news.wait_for(lambda: self._due)
            closing, self._due, self._working = self._closing, False, True
            batch = self._backlog.take()
            state = RunState(self._last, self._duration, ended=closing)
        try:
            self._file.write(batch.minutes, batch.events, state)
        except Exception as reason:  # whatever it is, this thread goes on
            self._trouble(self._file.why(reason))
            if closing:
                self._complain(f"the ledger {self._path} lacks the last {batch}")
            with self._news:
                self._backlog.give_back(batch)
        else:
            self._relieved(batch)
        with self._news:
            self._working = False
            self._news.notify_all()
        return closing

    def _trouble(self, why: str) -> None:
        if not self._troubled:
            self._troubled = True
            self._complain(f"the ledger {self._path} cannot be written, {why}: what is counted waits in memory")

    def _relieved(self, batch: Batch) -> None:
        if not self._troubled:
            return
        self._troubled = False
        if batch.left_out.kinds:
            kept = f"with every second, but {batch.left_out}; it says so itself"
        else:
            kept = "with all that was counted meanwhile"
        self._complain(f"the ledger {self._path} is written again, {kept}")
