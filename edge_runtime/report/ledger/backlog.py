"""What waits in memory to be written to the ledger: bounded, and what no longer fits is counted."""

from __future__ import annotations

import heapq
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from edge_runtime.capture.block import DROPPED
from edge_runtime.report.ledger.schema import SUMS

ALARM_ON, ALARM_OFF = "alarm-on", "alarm-off"
"""Kinds of events beside those of `capture.block`. Their time is that of the sound, not of the decision."""
LEFT_OUT = DROPPED
"""Kind of the event that says how many others were left out; its text begins with their number."""

ROWS_WAITING = 2_000
ALARMS_WAITING = 50_000
"""Events of alarms: 25,000 alarms with their ends, some 15 MB; with the default time of rest eight days or more."""
EVENTS_WAITING = 2_000
"""Other events."""

Noted = tuple[float, str, float, str]
"""An event as it is stored: wall time, kind, seconds, text."""


@dataclass
class Minute:
    """One row: at most a minute of one run, with the wall clock's times and the monotonic clock's lengths."""

    start: float
    until: float
    elapsed: float = 0.0
    heard: float = 0.0
    lost: float = 0.0
    silent: float = 0.0
    clipped: float = 0.0
    speech: float = 0.0
    scored: float = 0.0
    judged: float = 0.0  # scored, and nothing in the sound stood against an alarm
    unjudged: float = 0.0  # there was something to judge, and the sound or the score was not fit for it
    spoof: float = 0.0
    alarms: int = 0
    number: int = 0  # within its run: a row that is written twice still counts once
    through: int = 0  # the last number that it holds; 0: its own

    def plus(self, other: Minute) -> Minute:
        """Both in one row."""
        sums = {name: getattr(self, name) + getattr(other, name) for name in SUMS}
        start, until = min(self.start, other.start), max(self.until, other.until)
        numbers = (self.number, other.number, self.through, other.through)
        return Minute(start, until, number=min(self.number, other.number), through=max(numbers), **sums)


@dataclass
class LeftOut:
    """Events that were not kept: how many of which kind, and the time of the last one."""

    kinds: Counter[str] = field(default_factory=Counter)
    wall: float = 0.0

    def add(self, noted: Noted) -> None:
        """One more."""
        self.kinds[noted[1]] += 1
        self.wall = max(self.wall, noted[0])

    def plus(self, other: LeftOut) -> LeftOut:
        """Both."""
        return LeftOut(self.kinds + other.kinds, max(self.wall, other.wall))

    def __str__(self) -> str:
        return f"{_events(self.kinds.total())} left out: {listed(self.kinds)}"

    def noted(self) -> list[Noted]:
        """The event that tells of them, or none."""
        return [(self.wall, LEFT_OUT, 0.0, str(self))] if self.kinds else []


@dataclass(frozen=True)
class Batch:
    """All that was waiting at one moment."""

    minutes: list[Minute]
    alarms: list[tuple[int, Noted]]  # in the order in which they came, as the number says
    others: list[tuple[int, Noted]]
    left_out: LeftOut

    @property
    def events(self) -> list[Noted]:
        """What is to be written, in the order in which it came, and what was left out."""
        return [noted for _, noted in heapq.merge(self.alarms, self.others)] + self.left_out.noted()

    def __str__(self) -> str:
        """What would be missing without it."""
        seconds = sum(minute.elapsed for minute in self.minutes)
        kinds = Counter(noted[1] for _, noted in [*self.alarms, *self.others]) + self.left_out.kinds
        return f"{seconds:.0f} s" + (f" and {_events(kinds.total())} ({listed(kinds)})" if kinds else "")


class Backlog:
    """Rows lose resolution, never seconds; alarms are kept, and of other events the last ones. It knows no locks."""

    def __init__(self) -> None:
        self._minutes: list[Minute] = []
        self._alarms: deque[tuple[int, Noted]] = deque()
        self._others: deque[tuple[int, Noted]] = deque()
        self._left_out = LeftOut()
        self._rows = self._events = 0

    def add(self, minute: Minute) -> None:
        """Takes a finished row, and numbers it."""
        self._rows += 1
        self._minutes.append(replace(minute, number=self._rows))
        self._bound()

    def note(self, noted: Noted) -> None:
        """Takes an event."""
        self._events += 1
        (self._alarms if noted[1] in (ALARM_ON, ALARM_OFF) else self._others).append((self._events, noted))
        self._bound()

    def take(self) -> Batch:
        """All of it; nothing waits then."""
        batch = Batch(self._minutes, list(self._alarms), list(self._others), self._left_out)
        self._minutes, self._left_out = [], LeftOut()
        self._alarms.clear()
        self._others.clear()
        return batch

    def give_back(self, batch: Batch) -> None:
        """What could not be written waits on, before all that came meanwhile."""
        self._minutes[:0] = batch.minutes
        self._alarms.extendleft(reversed(batch.alarms))
        self._others.extendleft(reversed(batch.others))
        self._left_out = batch.left_out.plus(self._left_out)
        self._bound()

    def _bound(self) -> None:
        for waiting, most in ((self._alarms, ALARMS_WAITING), (self._others, EVENTS_WAITING)):
            while len(waiting) > most:
                self._left_out.add(waiting.popleft()[1])
        while len(self._minutes) > ROWS_WAITING:
            half = ROWS_WAITING // 2
            old, young = self._minutes[:half], self._minutes[half:]
            self._minutes = [first.plus(second) for first, second in zip(old[::2], old[1::2], strict=True)] + young


def listed(kinds: Mapping[str, int]) -> str:
    """How many of which kind, in words."""
    return ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))


def _events(count: int) -> str:
    return "1 event" if count == 1 else f"{count} events"
