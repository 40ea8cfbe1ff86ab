"""What a time in a ledger adds up to: rows, totals and gaps."""

from __future__ import annotations

import bisect
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from edge_runtime.report.ledger.schema import SUMS

NOT_RUNNING, NO_SOUND = "not running", "no sound"
"""Kinds of gaps: nobody listened; somebody did, and nothing came."""


@dataclass(frozen=True)
class Gap:
    """A time in which nothing was heard; `seconds` of it, for the ledger may not know better than to the minute."""

    kind: str
    begin: float  # wall clock, as all times here
    end: float
    seconds: float
    reason: str = ""


@dataclass(frozen=True)
class Alarmed:
    """An alarm; `end` is None while it lasts, or when the program was killed in it."""

    begin: float
    end: float | None
    text: str


@dataclass(frozen=True, slots=True)
class CoveredTime:
    """A minute, or an old hour, of one run."""

    run: int
    start: float
    until: float
    sums: tuple[float, ...]  # in the order of SUMS

    def share(self, since: float, until: float) -> float:
        """How much of it lies in a time, 0 to 1."""
        if self.until <= self.start:
            return float(since <= self.start < until)
        return max(0.0, min(until, self.until) - max(since, self.start)) / (self.until - self.start)


@dataclass(frozen=True)
class Total:
    """Sums over a time. Seconds, except for the alarms that began in it."""

    asked: float
    elapsed: float  # of runs, by the monotonic clock
    heard: float
    lost: float
    silent: float
    clipped: float
    speech: float
    scored: float  # judged or not
    judged: float  # scored, and fit to raise an alarm
    unjudged: float  # noisy, clipped, with invalid samples or without a usable score: no alarm was possible
    unsorted: float  # scored by a version of the program that did not tell the two apart
    spoof: float  # in an alarm
    alarms: int
    not_running: float
    unaccounted: float  # of runs, neither heard nor lost
    unwritten: float  # may follow: a run that goes on has not written it yet


@dataclass(frozen=True)
class Coverage:
    """All that the ledger has of the time from `since` to `until`: what was asked for, widened to whole rows."""

    since: float
    until: float
    begins: float | None  # of the ledger; None: it has nothing at all
    total: Total
    gaps: tuple[Gap, ...]
    alarms: tuple[Alarmed, ...]
    rows: tuple[CoveredTime, ...] = field(repr=False)  # sorted by their start
    longest: float = 0.0  # of them, on the wall clock
    widened: bool = False
    left_out: Counter[str] = field(default_factory=Counter)  # events that its disk had no room for, by kind
    forgotten: Counter[str] = field(default_factory=Counter)  # events that are too old to be kept, by kind
    forgotten_until: float | None = None
    damaged: int = 0  # rows of the whole ledger that no run can have written: they count nowhere

    def between(self, since: float, until: float) -> Total:
        """The totals of a part of it. They add up: of rows at its edges a share counts, alarms where a row begins."""
        first = bisect.bisect_left(self.rows, since - self.longest, key=lambda row: row.start)
        last = bisect.bisect_left(self.rows, until, key=lambda row: row.start)
        unwritten = max(0.0, min(until, self.until) - max(since, self.until - self.total.unwritten))
        return added(self.rows[first:last], since, until, unwritten)


def added(rows: Sequence[CoveredTime], since: float, until: float, unwritten: float) -> Total:
    """Sums; a row that reaches over an edge counts with the part inside, its alarms where it begins."""
    total = dict.fromkeys(SUMS, 0.0)
    for row in rows:
        share, begins = row.share(since, until), since <= row.start < until
        for name, value in zip(SUMS, row.sums, strict=True):
            total[name] += begins * value if name == "alarms" else share * value
    alarms = int(total.pop("alarms"))
    unsorted = total["scored"] - total["judged"] - total["unjudged"]
    return Total(
        asked=until - since,
        **total,
        alarms=alarms,
        unsorted=unsorted if unsorted > 1e-6 * total["scored"] else 0.0,
        not_running=max(0.0, until - since - unwritten - _spanned(rows, since, until - unwritten)),
        unaccounted=total["elapsed"] - total["heard"] - total["lost"],
        unwritten=unwritten,
    )


def _spanned(rows: Sequence[CoveredTime], since: float, until: float) -> float:
    """Seconds of the wall clock that rows, sorted by their start, cover; where it was set back they overlap."""
    covered, at = 0.0, since
    for row in rows:
        begin, end = max(at, row.start), min(row.until, until)
        if end > begin:
            # An old hour reaches from the first to the last of its minutes, with the pauses between them.
            covered += min(end - begin, row.sums[SUMS.index("elapsed")] * row.share(begin, end))
            at = end
    return covered
