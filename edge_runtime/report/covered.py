"""What a ledger says of a time: totals, gaps and alarms. Reads beside the service, and without the right to write."""

from __future__ import annotations

import bisect
import contextlib
import sqlite3
import urllib.parse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from edge_runtime.capture.block import CLOCK, OUTAGE, STATE
from edge_runtime.capture.liveness import State as Microphone
from edge_runtime.errors import InputError
from edge_runtime.report.ledger import ALARM_OFF, ALARM_ON
from edge_runtime.report.ledger_file import APPLICATION, SCHEMA, SUMS

NOT_RUNNING, NO_SOUND = "not running", "no sound"
"""Kinds of gaps: nobody listened; somebody did, and nothing came."""
BEFORE = "before the ledger begins"
KILLED_EARLY = "it ended without a word in its first minute: killed, or without power"
GAP_SECONDS = 10.0
"""Shorter gaps are in the totals only."""
_UNWRITTEN_SECONDS = 75.0
"""A run that is going on may have so much that is not in its ledger yet."""
_NEAR_SECONDS = 60.0
_WELL = (Microphone.LISTENING, Microphone.CONNECTING)


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


@dataclass(frozen=True)
class Row:
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
class Run:
    """A run, which is noted at its start, before it has a row."""

    start: float
    last: float  # when it was last known to run
    ended: bool  # in good order


@dataclass(frozen=True)
class Total:
    """Sums over a time. Seconds, but for the alarms that began in it."""

    asked: float
    elapsed: float  # of runs, by the monotonic clock
    heard: float
    lost: float
    silent: float
    clipped: float
    speech: float
    scored: float
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
    rows: tuple[Row, ...] = field(repr=False)  # sorted by their start
    longest: float = 0.0  # of them, on the wall clock
    widened: bool = False

    def between(self, since: float, until: float) -> Total:
        """The totals of a part of it. They add up: of rows at its edges a share counts, alarms where a row begins."""
        first = bisect.bisect_left(self.rows, since - self.longest, key=lambda row: row.start)
        last = bisect.bisect_left(self.rows, until, key=lambda row: row.start)
        unwritten = max(0.0, min(until, self.until) - max(since, self.until - self.total.unwritten))
        return _total(self.rows[first:last], since, until, unwritten)


def read(path: str, since: float, until: float) -> Coverage:
    """What the ledger at `path` has from `since` to `until`, seconds since 1970, and of the rows that reach over them.

    Raises InputError for a file that is missing, damaged, may not be read or is no ledger.
    """
    try:
        if not Path(path).exists():
            raise InputError(f"there is no ledger at {path}")
    except (OSError, ValueError) as reason:
        why = getattr(reason, "strerror", None) or reason
        raise InputError(f"cannot read the ledger {path}: {why} (the service's is for root)") from None
    try:
        with _opened(path) as connection:
            return _read(connection, path, since, until)
    except sqlite3.Error as reason:
        raise InputError(f"cannot read the ledger {path}: {reason}") from None


@contextlib.contextmanager
def _opened(path: str) -> Iterator[sqlite3.Connection]:
    name = "file:" + urllib.parse.quote(str(Path(path).absolute()))
    connection = sqlite3.connect(f"{name}?mode=ro", uri=True, timeout=5.0, isolation_level=None)
    try:
        try:
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        except sqlite3.OperationalError:
            # Whoever may not write there cannot make the files beside it that reading needs. Where they are, somebody
            # writes, and what is in them would be missed.
            if Path(f"{path}-wal").exists():
                raise
            connection.close()
            connection = sqlite3.connect(f"{name}?immutable=1", uri=True, isolation_level=None)
        yield connection
    finally:
        connection.close()


def _read(connection: sqlite3.Connection, path: str, since: float, until: float) -> Coverage:
    connection.execute("BEGIN")  # one state of the file for all that follows
    if connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION:
        raise InputError(f"{path} is no ledger of edge-detect")
    if connection.execute("PRAGMA user_version").fetchone()[0] != SCHEMA:
        raise InputError(f"the ledger {path} was written by another version of edge-detect")
    columns = f"run, start, until, {', '.join(SUMS)}"
    every = f"(SELECT {columns} FROM hours UNION ALL SELECT {columns} FROM minutes)"
    found = connection.execute(
        f"SELECT * FROM {every} WHERE start < ? AND (until > ? OR start >= ?) ORDER BY start", (until, since, since)
    )
    rows = tuple(Row(run, start, end, tuple(sums)) for run, start, end, *sums in found)
    asked = (since, until)
    since, until = min([since, *(row.start for row in rows)]), max([until, *(row.until for row in rows)])
    earliest = "SELECT min(start) FROM (SELECT start FROM hours UNION ALL SELECT start FROM runs)"
    begins = connection.execute(earliest).fetchone()[0]
    events = connection.execute(
        "SELECT DISTINCT wall, run, kind, seconds, text FROM events WHERE wall >= ? AND wall <= ? ORDER BY wall",
        (since - _NEAR_SECONDS, until + _NEAR_SECONDS),
    ).fetchall()
    written = connection.execute("SELECT id, start, last, ended FROM runs")
    runs = {run: Run(start, last, bool(ended)) for run, start, last, ended in written}
    newest = runs[max(runs)] if runs else Run(0.0, 0.0, True)
    late = until - max(newest.last, since)
    unwritten = late if not newest.ended and 0 < late < _UNWRITTEN_SECONDS else 0.0
    alarms = _alarms(events, since, until)
    total = _total(rows, since, until, unwritten)
    pauses = _pauses(rows, events, runs, since, until - unwritten, begins)
    gaps = sorted([*pauses, *_silences(rows, events, since, until)], key=lambda gap: gap.begin)
    return Coverage(
        since=since,
        until=until,
        begins=begins,
        # An alarm is counted when it is certain and listed when its sound began, which may be in another row.
        total=replace(total, alarms=max(total.alarms, len(alarms))),
        gaps=tuple(gaps),
        alarms=alarms,
        rows=rows,
        longest=max((row.until - row.start for row in rows), default=0.0),
        widened=(since, until) != asked,
    )


def _total(rows: Sequence[Row], since: float, until: float, unwritten: float) -> Total:
    """Sums; a row that reaches over an edge counts with the part inside, its alarms where it begins."""
    total = dict.fromkeys(SUMS, 0.0)
    for row in rows:
        share, begins = row.share(since, until), since <= row.start < until
        for name, value in zip(SUMS, row.sums, strict=True):
            total[name] += begins * value if name == "alarms" else share * value
    alarms = int(total.pop("alarms"))
    return Total(
        asked=until - since,
        **total,
        alarms=alarms,
        not_running=max(0.0, until - since - unwritten - _spanned(rows, since, until - unwritten)),
        unaccounted=total["elapsed"] - total["heard"] - total["lost"],
        unwritten=unwritten,
    )


def _spanned(rows: Sequence[Row], since: float, until: float) -> float:
    """Seconds of the wall clock that rows, sorted by their start, cover; where it was set back they overlap."""
    covered, at = 0.0, since
    for row in rows:
        begin, end = max(at, row.start), min(row.until, until)
        if end > begin:
            # An old hour reaches from the first to the last of its minutes, with the pauses between them.
            covered += min(end - begin, row.sums[SUMS.index("elapsed")] * row.share(begin, end))
            at = end
    return covered


Noted = tuple[float, int, str, float, str]


def _alarms(events: Sequence[Noted], since: float, until: float) -> tuple[Alarmed, ...]:
    found: list[Alarmed] = []
    for place, (wall, run, kind, _, text) in enumerate(events):
        if kind == ALARM_ON and since <= wall < until:
            number = text.split(",")[0]
            ends = [
                event[0]
                for event in events[place:]
                if event[1] == run and event[2] == ALARM_OFF and event[4].split(",")[0] == number
            ]
            found.append(Alarmed(wall, ends[0] if ends else None, text))
    return tuple(found)


def _pauses(
    rows: Sequence[Row],
    events: Sequence[Noted],
    runs: dict[int, Run],
    since: float,
    until: float,
    begins: float | None,
) -> Iterator[Gap]:
    """Times between rows, and in them those after a run that came to no row."""
    last: Row | None = None
    at = since
    for row in [*rows, None]:
        start = row.start if row else until
        if start - at > GAP_SECONDS:
            gap = Gap(NOT_RUNNING, at, start, start - at, _why(last, row, at, start, events, runs, begins))
            yield from _divided(gap, runs)
        if row:
            # The row that reaches furthest is the one that a pause follows.
            last = row if row.until >= at else last
            at = max(at, row.until)


def _divided(gap: Gap, runs: dict[int, Run]) -> Iterator[Gap]:
    """The parts of a pause: from where runs began in it that were gone before their first minute was written."""
    early = [run.start for run in runs.values() if gap.begin <= run.start < gap.end - GAP_SECONDS and not run.ended]
    if not early or gap.reason == BEFORE:
        yield gap
        return
    # What follows the first of them is one time, as they may have come every two seconds.
    first = min(early)
    if first - gap.begin > GAP_SECONDS:
        yield replace(gap, end=first, seconds=first - gap.begin, reason=gap.reason or BEFORE)
    else:
        first = gap.begin
    yield Gap(NOT_RUNNING, first, gap.end, gap.end - first, KILLED_EARLY)


def _why(
    last: Row | None,
    following: Row | None,
    begin: float,
    end: float,
    events: Sequence[Noted],
    runs: dict[int, Run],
    begins: float | None,
) -> str:
    clock = [event for event in events if event[2] == CLOCK and abs(event[0] - end) < 1 and event[3] > 0]
    if following and clock:
        return clock[0][4]
    if begins is None or begins >= end - GAP_SECONDS:
        return BEFORE
    if following and last and last.run == following.run:
        return "no row of this time"
    # Where no row is before it in the time that was asked for, the run that began last before it.
    earlier = [run for run in runs.values() if run.start <= begin]
    known = runs.get(last.run) if last else max(earlier, key=lambda run: run.start, default=None)
    if known is None and last is None:
        return ""
    return "it was ended" if known and known.ended else "it ended without a word: killed, or without power"


def _silences(rows: Sequence[Row], events: Sequence[Noted], since: float, until: float) -> list[Gap]:
    """Times without sound in a run: as outages tell them, else the minutes that lost much."""
    told = [
        Gap(NO_SOUND, max(since, wall - seconds), min(until, wall), min(seconds, until - since), text)
        for wall, _, kind, seconds, text in events
        if kind == OUTAGE and seconds > GAP_SECONDS and wall > since and wall - seconds < until
    ]
    gaps: list[Gap] = []
    lost = SUMS.index("lost")
    for row in rows:
        seconds = row.sums[lost] * row.share(since, until)
        begin, end = max(row.start, since), min(row.until, until)
        if seconds <= GAP_SECONDS or any(gap.begin < end and gap.end > begin for gap in told):
            continue
        before = gaps[-1] if gaps else None
        if before and begin - before.end < 1.0:
            gaps[-1] = Gap(NO_SOUND, before.begin, end, before.seconds + seconds, before.reason)
        else:
            gaps.append(Gap(NO_SOUND, begin, end, seconds, _trouble(events, begin, end)))
    return told + gaps


def _trouble(events: Sequence[Noted], begin: float, end: float) -> str:
    """What was said of the microphone around a time, the first that is bad."""
    for wall, _, kind, _, text in events:
        if kind == STATE and begin - _NEAR_SECONDS <= wall <= end and ": " in text:
            state, reason = text.split(": ", 1)
            if state not in _WELL or reason:
                return reason
    return ""
