"""When nothing was heard, and why; when there was an alarm: from a ledger's rows, runs and events, in one pass each."""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from edge_runtime.capture.block import CLOCK, OUTAGE, STATE
from edge_runtime.capture.liveness import State as Microphone
from edge_runtime.report.ledger.backlog import ALARM_OFF, ALARM_ON
from edge_runtime.report.ledger.schema import SUMS
from edge_runtime.report.ledger.totals import NO_SOUND, NOT_RUNNING, Alarmed, CoveredTime, Gap

BEFORE = "before the ledger begins"
KILLED_EARLY = "it ended without a word in its first minute: killed, or without power"
GAP_SECONDS = 10.0
"""Shorter gaps are in the totals only."""
NEAR_SECONDS = 60.0
"""So long before a silence its reason may have been noted."""
_WELL = (Microphone.LISTENING, Microphone.CONNECTING)

Happened = tuple[float, int, str, float, str]
"""An event as it is read: wall time, run, kind, seconds, text."""


@dataclass(frozen=True)
class LedgerRun:
    """A run, which is noted at its start, before it has a row."""

    start: float
    last: float  # when it was last known to run
    ended: bool  # in good order


class Gaps:
    """The gaps and alarms of one time."""

    def __init__(
        self,
        events: Sequence[Happened],
        runs: Mapping[int, LedgerRun],
        begins: float | None,
        since: float,
        until: float,
    ) -> None:
        """`events` are those from NEAR_SECONDS before `since` to as long after `until`, by their time; `begins`: where
        the ledger begins."""
        self._events = events
        self._runs = runs
        self._begins = begins
        self._since, self._until = since, until
        self._started = sorted(runs.values(), key=lambda run: run.start)
        self._killed = [run.start for run in self._started if not run.ended]
        self._ahead = [(event[0], event[4]) for event in events if event[2] == CLOCK and event[3] > 0]
        self._bad = [(event[0], reason) for event in events if (reason := _reason(event))]

    def alarms(self) -> tuple[Alarmed, ...]:
        """Those that began in the time."""
        found: list[Alarmed] = []
        ends: dict[tuple[int, str], float] = {}
        for wall, run, kind, _, text in reversed(self._events):
            alarm = (run, text.split(",")[0])
            if kind == ALARM_OFF:
                ends[alarm] = wall
            elif kind == ALARM_ON and self._since <= wall < self._until:
                found.append(Alarmed(wall, ends.get(alarm), text))
        return tuple(reversed(found))

    def found(self, rows: Sequence[CoveredTime], written_until: float) -> tuple[Gap, ...]:
        """All gaps, by their begin. What is after `written_until` may only not be in the ledger yet."""
        return tuple(sorted([*self._pauses(rows, written_until), *self._silences(rows)], key=lambda gap: gap.begin))

    def _pauses(self, rows: Sequence[CoveredTime], until: float) -> Iterator[Gap]:
        """Times between rows, and in them those after a run that came to no row."""
        last: CoveredTime | None = None
        at = self._since
        for row in [*rows, None]:
            start = row.start if row else until
            if start - at > GAP_SECONDS:
                yield from self._divided(Gap(NOT_RUNNING, at, start, start - at, self._why(last, row, at, start)))
            if row:
                # The row that reaches furthest is the one that a pause follows.
                last = row if row.until >= at else last
                at = max(at, row.until)

    def _divided(self, gap: Gap) -> Iterator[Gap]:
        """The parts of a pause: from where runs began in it that were gone before their first minute was written."""
        place = bisect.bisect_left(self._killed, gap.begin)
        early = self._killed[place : place + 1]
        if not early or early[0] >= gap.end - GAP_SECONDS or gap.reason == BEFORE:
            yield gap
            return
        # What follows the first of them is one time, as they may have come every two seconds.
        first = early[0]
        if first - gap.begin > GAP_SECONDS:
            yield replace(gap, end=first, seconds=first - gap.begin, reason=gap.reason or BEFORE)
        else:
            first = gap.begin
        yield Gap(NOT_RUNNING, first, gap.end, gap.end - first, KILLED_EARLY)

    def _why(self, last: CoveredTime | None, following: CoveredTime | None, begin: float, end: float) -> str:
        if following:
            place = bisect.bisect_right(self._ahead, end - 1, key=lambda clock: clock[0])
            if place < len(self._ahead) and self._ahead[place][0] < end + 1:
                return self._ahead[place][1]
        if self._begins is None or self._begins >= end - GAP_SECONDS:
            return BEFORE
        if following and last and last.run == following.run:
            return "no row of this time"
        # Where no row is before it in the time that was asked for, the run that began last before it.
        place = bisect.bisect_right(self._started, begin, key=lambda run: run.start)
        earlier = self._started[place - 1] if place else None
        known = self._runs.get(last.run) if last else earlier
        if known is None and last is None:
            return ""
        return "it was ended" if known and known.ended else "it ended without a word: killed, or without power"

    def _silences(self, rows: Sequence[CoveredTime]) -> list[Gap]:
        """Times without sound in a run: as outages tell them, else the minutes that lost much."""
        since, until = self._since, self._until
        told = [
            Gap(NO_SOUND, max(since, wall - seconds), min(until, wall), min(seconds, until - since), text)
            for wall, _, kind, seconds, text in self._events
            if kind == OUTAGE and seconds > GAP_SECONDS and wall > since and wall - seconds < until
        ]
        known = _joined(told)
        gaps: list[Gap] = []
        lost = SUMS.index("lost")
        for row in rows:
            seconds = row.sums[lost] * row.share(since, until)
            begin, end = max(row.start, since), min(row.until, until)
            if seconds <= GAP_SECONDS:
                continue
            place = bisect.bisect_left(known, end, key=lambda gap: gap[0])
            if place and known[place - 1][1] > begin:
                continue
            before = gaps[-1] if gaps else None
            if before and begin - before.end < 1.0:
                gaps[-1] = replace(before, end=end, seconds=before.seconds + seconds)
            else:
                gaps.append(Gap(NO_SOUND, begin, end, seconds, self._trouble(begin, end)))
        return told + gaps

    def _trouble(self, begin: float, end: float) -> str:
        """What was said of the microphone around a time, the first that is bad."""
        place = bisect.bisect_left(self._bad, begin - NEAR_SECONDS, key=lambda bad: bad[0])
        return self._bad[place][1] if place < len(self._bad) and self._bad[place][0] <= end else ""


def _reason(event: Happened) -> str:
    """What an event says against the microphone."""
    if event[2] != STATE or ": " not in event[4]:
        return ""
    state, reason = event[4].split(": ", 1)
    return reason if state not in _WELL or reason else ""


def _joined(gaps: Sequence[Gap]) -> list[tuple[float, float]]:
    """Begin and end of the times that gaps cover, in order, without overlaps."""
    joined: list[tuple[float, float]] = []
    for gap in sorted(gaps, key=lambda gap: gap.begin):
        if joined and gap.begin <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(joined[-1][1], gap.end))
        else:
            joined.append((gap.begin, gap.end))
    return joined
