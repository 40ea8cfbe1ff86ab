"""The ledger: every minute of listening in one SQLite file, through kill -9, full disks and clocks that are set."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_runtime.capture.block import CLOCK, DROPPED, HOP, LOST, OVERFLOW, STATE, Event
from edge_runtime.decision.alarm import ON, Alarm
from edge_runtime.decision.verdict import Reason, Verdict, Window
from edge_runtime.errors import OutputError
from edge_runtime.report import Report
from edge_runtime.report.ledger_file import LedgerFile, Lock, Minute, Noted, State

ALARM_ON, ALARM_OFF = "alarm-on", "alarm-off"
"""Kinds of events beside those of `capture.block`. Their time is that of the sound, not of the decision."""

_ROWS_IN_MEMORY = 2_000
_JUMP_SECONDS = 2.0
_CLOSE_SECONDS = 8.0
_OF_HEARD = ("silent", "clipped", "speech", "scored", "spoof")


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
    ) -> None:
        """`about` has device, model, model_sha256 and version, and may change; `complain` takes lines for people.
        Lengths are told by `clock`, labels by `wall`; `asleep` is how long the machine has slept since it was started.

        A ledger that is damaged or of another version is moved aside. A full disk, or one that fails for a while, is
        waited for. Raises OutputError for a folder that is not there or not writable, for a file that is no ledger,
        and while another program writes this one.
        """
        self.clock, self.wall, self.asleep = clock, wall, asleep
        self._path = Path(os.path.abspath(path))
        self._complain = complain
        self._news = threading.Condition()
        self._minutes: list[Minute] = []
        self._events: deque[Noted] = deque(maxlen=_ROWS_IN_MEMORY)
        self._due = self._closing = self._working = self._troubled = False
        self._last = wall()
        self._file = LedgerFile(self._path, about, self._last, complain)
        self._duration = 0.0
        self._number = 0
        try:
            no_folder, folder = not self._path.parent.is_dir(), self._path.is_dir()
        except (OSError, ValueError) as reason:
            raise OutputError(f"cannot keep a ledger at {path}: {getattr(reason, 'strerror', 0) or reason}") from None
        if no_folder or folder:
            wrong = "it is a folder" if folder else f"there is no folder {self._path.parent}"
            raise OutputError(f"cannot keep a ledger at {path}: {wrong}")
        try:
            self._lock = Lock(self._path)
        except BlockingIOError:
            raise OutputError(f"another edge-detect writes the ledger {path}") from None
        except OSError as reason:
            raise OutputError(f"cannot keep a ledger at {path}: {reason}") from None
        try:
            self._begin(path)
        except BaseException:
            self._file.close()
            self._lock.release()
            raise

    def _begin(self, path: str | os.PathLike[str]) -> None:
        try:
            self._file.write([], [], State(self._last, 0.0))
        except (sqlite3.Error, OSError) as reason:
            if not self._file.passing(reason):
                raise OutputError(f"cannot keep a ledger at {path}: {reason}") from None
            self._trouble(reason)
        self._thread = threading.Thread(target=self._work, name="ledger", daemon=True)
        self._thread.start()

    def add(self, minute: Minute) -> None:
        """Takes a finished row; it reaches the disk with the next commit."""
        with self._news:
            self._number += 1
            self._minutes.append(replace(minute, number=self._number))
            self._duration += minute.elapsed
            self._last = minute.until
            self._shrink()

    def note(self, wall: float, kind: str, seconds: float, text: str) -> None:
        """Takes an event, likewise."""
        with self._news:
            self._events.append((wall, kind, seconds, text))

    def commit(self) -> None:
        """Has all that was taken written, soon and in one transaction."""
        with self._news:
            self._due = True
            self._news.notify_all()

    def settled(self, seconds: float) -> bool:
        """Waits until the thread has tried to write all it was told to; False when it takes longer than `seconds`."""
        with self._news:
            return self._news.wait_for(lambda: not (self._due or self._working), seconds)

    def close(self) -> None:
        """Writes the rest and ends the run; gives up, and says so, when the disk takes too long."""
        with self._news:
            self._closing = self._due = True
            self._news.notify_all()
        self._thread.join(_CLOSE_SECONDS)
        if self._thread.is_alive():
            self._complain(f"the ledger {self._path} takes too long to write: its last minutes may be missing")
        self._lock.release()

    def _shrink(self) -> None:
        # The oldest lose resolution, never seconds.
        if len(self._minutes) > _ROWS_IN_MEMORY:
            old, young = self._minutes[: _ROWS_IN_MEMORY // 2], self._minutes[_ROWS_IN_MEMORY // 2 :]
            self._minutes = [first.plus(second) for first, second in zip(old[::2], old[1::2], strict=True)] + young

    def _work(self) -> None:
        closing = False
        while not closing:
            with self._news:
                self._news.wait_for(lambda: self._due)
                closing, self._due, self._working = self._closing, False, True
                minutes, self._minutes = self._minutes, []
                events = list(self._events)
                self._events.clear()
                state = State(self._last, self._duration, ended=closing)
            try:
                self._file.write(minutes, events, state)
            except Exception as reason:  # whatever it is, this thread goes on
                self._trouble(reason)
                if closing:
                    seconds = sum(minute.elapsed for minute in minutes)
                    self._complain(f"the ledger {self._path} lacks the last {seconds:.0f} s")
                with self._news:
                    self._minutes[:0] = minutes
                    self._events.extendleft(reversed(events[: _ROWS_IN_MEMORY - len(self._events)]))
                    self._shrink()
            else:
                if self._troubled:
                    self._troubled = False
                    self._complain(f"the ledger {self._path} is written again, with all that was counted meanwhile")
            with self._news:
                self._working = False
                self._news.notify_all()
        self._file.close()

    def _trouble(self, reason: Exception) -> None:
        if not self._troubled:
            self._troubled = True
            why = "there is no room on its disk" if self._file.no_room(reason) else str(reason)
            self._complain(f"the ledger {self._path} cannot be written, {why}: what is counted waits in memory")


class LedgerReport(Report):
    """Counts what becomes of the time of one run, for its ledger."""

    def __init__(self, ledger: Ledger, tell: Callable[[float, Event], object], began_seconds_ago: float = 0.0) -> None:
        """`tell` is called with the seconds of sound and an event CLOCK when the wall clock has jumped.

        The time that is accounted for began `began_seconds_ago`: what the microphone did until now is still to come.
        """
        self._ledger = ledger
        self._tell = tell
        self._heard_until = self._judged_until = 0.0  # seconds of sound
        self._alarmed = False
        self._losses: dict[str, tuple[float, int]] = {}  # kind: seconds and count, of the row
        self._committed = self._until = ledger.clock() - began_seconds_ago
        wall = ledger.wall() - began_seconds_ago
        self._minute = Minute(wall, wall)
        self._asleep = ledger.asleep()

    def sound(self, at_seconds: float, samples: NDArray[np.float32]) -> None:
        """Counts as heard."""
        seconds = max(0.0, at_seconds - self._heard_until)
        self._heard_until = at_seconds
        self._minute.heard += seconds
        self._minute.spoof += seconds if self._alarmed else 0.0

    def window(self, window: Window) -> None:
        """Only what no window before it has covered counts."""
        seconds = max(0.0, window.end - max(self._judged_until, window.start))
        self._judged_until = max(self._judged_until, window.end)
        minute = self._minute
        minute.scored += seconds if window.score is not None else 0.0
        minute.silent += seconds if window.verdict is Verdict.SILENT else 0.0
        minute.clipped += seconds if window.reason is Reason.CLIPPED else 0.0
        minute.speech += seconds * (window.speech or 0.0)

    def event(self, at_seconds: float, event: Event) -> None:
        """Losses are counted, and noted once a minute, for they may come in storms; others are noted as they come."""
        if event.kind in (LOST, DROPPED):
            self._minute.lost += event.seconds
        if event.kind in (LOST, DROPPED, OVERFLOW):
            seconds, count = self._losses.get(event.kind, (0.0, 0))
            self._losses[event.kind] = (seconds + event.seconds, count + max(event.count, 1))
        elif event.kind != HOP:
            text = ": ".join(part for part in (event.state if event.kind == STATE else "", event.reason) if part)
            self._ledger.note(self._ledger.wall(), event.kind, event.seconds, text)

    def alarm(self, alarm: Alarm) -> None:
        """Noted with the time at which its sound was heard, and on the disk at once, with all that was counted."""
        self._alarmed = alarm.kind == ON
        self._minute.alarms += alarm.kind == ON
        heard = alarm.start if alarm.kind == ON else alarm.at
        wall = self._ledger.wall() - max(0.0, self._heard_until - heard)
        kind = ALARM_ON if alarm.kind == ON else ALARM_OFF
        self._ledger.note(wall, kind, alarm.at - alarm.start, f"alarm {alarm.number}, score {alarm.score:+.2f}")
        self._pass(cut=True)

    def moment(self, absent_seconds: float) -> None:
        """Lets the time pass."""
        self._minute.lost += absent_seconds
        self._pass()

    def close(self) -> None:
        """Writes all that was counted."""
        self._pass()
        self._finish(self._minute.until)
        self._ledger.close()

    def _pass(self, cut: bool = False) -> None:
        """Ends the row with the minute, where the clock jumps, and where it is to be `cut` and written."""
        wall, now = self._ledger.wall(), self._ledger.clock()
        self._minute.elapsed += now - self._until
        self._minute.until = self._minute.start + self._minute.elapsed
        self._until = now
        jump = wall - self._minute.until
        jumped = abs(jump) > _JUMP_SECONDS
        over = wall // 60 != self._minute.start // 60
        if not (jumped or over or cut):
            return
        self._finish(wall if jumped or over else self._minute.until)
        before, self._asleep = self._asleep, self._ledger.asleep()
        asleep = self._asleep - before
        event = Event(CLOCK, seconds=jump, reason=f"the machine slept for {asleep:.0f} s" if asleep > 1 else "")
        if jumped:
            ahead = "ahead" if jump > 0 else "back"
            text = event.reason or f"the clock was set {ahead} by {abs(jump):.1f} s"
            self._ledger.note(wall, CLOCK, jump, text)
        # A clock that jumps all the time makes many rows, but no more commits.
        if cut or not jumped or now - self._committed >= 60:
            self._committed = now
            self._ledger.commit()
        if jumped:
            self._tell(self._heard_until, event)

    def _finish(self, following: float) -> None:
        """Ends the row; the next starts at `following`."""
        row, self._minute = self._minute, Minute(following, following)
        for kind, (seconds, count) in self._losses.items():
            self._ledger.note(row.until, kind, seconds, f"{count} times")
        self._losses.clear()
        # A window is counted when it ends: what of it does not fit into this row goes to the next.
        for name in _OF_HEARD:
            rest = max(0.0, getattr(row, name) - row.heard)
            setattr(row, name, getattr(row, name) - rest)
            setattr(self._minute, name, rest)
        self._ledger.add(row)
