"""Reads a ledger: beside the service, without the right to write, and whatever is in the file."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import urllib.parse
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edge_runtime.errors import InputError
from edge_runtime.report.ledger import schema
from edge_runtime.report.ledger.backlog import LEFT_OUT
from edge_runtime.report.ledger.gaps import NEAR_SECONDS, Gaps, Happened, LedgerRun
from edge_runtime.report.ledger.guard import (
    COMPANIONS,
    LARGEST_BYTES,
    at_most,
    connect,
    size_of,
    words_of,
    wrong_kind,
)
from edge_runtime.report.ledger.keeping import FORGOTTEN, forgotten_kinds
from edge_runtime.report.ledger.schema import SUMS, Foreign, Unfit
from edge_runtime.report.ledger.totals import Coverage, CoveredTime, added

_UNWRITTEN_SECONDS = 75.0
"""A run that is going on may have so much that is not in its ledger yet."""
_BUSY_SECONDS = 5.0
_WORK_SECONDS = 120.0
"""Of processor time."""
_WHOLE_SECONDS = 7200.0
_MOST_ROWS = 500_000
"""More than any ledger has; reading them takes some 200 MB."""


def read(path: str, since: float, until: float) -> Coverage:
    """What the ledger at `path` has from `since` to `until`, seconds since 1970, and of the rows that reach over them.

    Rows that no run can have written count nowhere, and are counted (`Coverage.damaged`). Raises InputError for a file
    that is missing, damaged, may not be read or is no ledger.
    """
    try:
        real = os.path.realpath(path)
        if not os.path.lexists(real):
            raise InputError(f"there is no ledger at {path}")
        _refuse_strange(path, real)
        with _opened(real) as connection, at_most(connection, _WORK_SECONDS):
            try:
                connection.execute("BEGIN")  # one state of the file for all that follows
                return _covered(_found(connection, since, until), since, until)
            except Unfit as reason:
                again = "the service moves it aside when it starts"
                raise InputError(f"the ledger {path} {reason} and cannot be read; {again}") from None
            except Foreign:
                raise InputError(f"{path} is no ledger of edge-detect") from None
    except PermissionError as reason:
        raise InputError(f"cannot read the ledger {path}: {reason.strerror} (the service's is for root)") from None
    except (sqlite3.Error, MemoryError, OSError, ValueError) as reason:
        raise InputError(f"cannot read the ledger {path}: {words_of(reason)}") from None


@dataclass(frozen=True)
class _Found:
    """What is in the file of a time; each row is of the right types and within what can be."""

    rows: tuple[CoveredTime, ...]
    events: list[Happened]
    runs: dict[int, LedgerRun]
    begins: float | None
    forgotten: list[tuple[float, str]]
    damaged: int


def _refuse_strange(path: str, real: str) -> None:
    if kind := wrong_kind(real):
        raise InputError(f"cannot read the ledger {path}: it is {kind}")
    for tail in COMPANIONS:
        if kind := wrong_kind(real + tail):
            raise InputError(f"cannot read the ledger {path}: {real}{tail} beside it is {kind}")
    if size_of(real) > LARGEST_BYTES:
        raise InputError(f"{path} is no ledger of edge-detect: it is larger than {LARGEST_BYTES >> 20} MB")
    if not os.access(real, os.R_OK):
        raise PermissionError(0, "Permission denied")


@contextlib.contextmanager
def _opened(path: str) -> Iterator[sqlite3.Connection]:
    name = "file:" + urllib.parse.quote(os.fsencode(path))
    connection = connect(f"{name}?mode=ro", _BUSY_SECONDS, uri=True)
    try:
        try:
            connection.execute("PRAGMA application_id").fetchone()
        except sqlite3.OperationalError:
            # Whoever may not write there cannot make the files beside it that reading needs. Where they are, somebody
            # writes, and what is in them would be missed.
            if any(Path(path + tail).exists() for tail in ("-wal", "-journal")):
                raise
            connection.close()
            connection = connect(f"{name}?immutable=1", _BUSY_SECONDS, uri=True)
        connection.execute("PRAGMA query_only = ON")
        yield connection
    finally:
        connection.close()


def _found(connection: sqlite3.Connection, since: float, until: float) -> _Found:
    """Raises Foreign, Unfit or another OSError, or sqlite3.Error."""
    version = schema.version_of(connection)
    if version == 0:
        raise Foreign("it is empty")
    schema.check(connection)
    sound = schema.sound(version)
    names = ", ".join(name if version >= 2 or name not in ("judged", "unjudged") else "0.0" for name in SUMS)
    overlap = "start < ? AND (until > ? OR start >= ?)"
    rows = []
    for table in ("hours", "minutes"):
        query = f"SELECT run, start, until, {names} FROM {table} WHERE ({sound[table]}) AND {overlap}"
        rows += [
            CoveredTime(run, start, end, tuple(sums))
            for run, start, end, *sums in _all(connection, query, until, since, since)
        ]
    rows.sort(key=lambda row: row.start)
    begin, end = _widened(rows, since, until)
    kept = f"SELECT wall, run, kind, seconds, text FROM events WHERE ({sound['events']})"
    events = _all(connection, f"{kept} AND wall BETWEEN ? AND ? ORDER BY id", begin - NEAR_SECONDS, end + NEAR_SECONDS)
    runs = _all(connection, f"SELECT id, start, last, ended FROM runs WHERE ({sound['runs']})")
    starts = [run[1] for run in runs]
    starts += [
        start for (start,) in _all(connection, f"SELECT start FROM hours WHERE ({sound['hours']}) ORDER BY start")
    ]
    return _Found(
        tuple(rows),
        sorted(dict.fromkeys(events), key=lambda event: event[0]),  # the same twice is one that was written twice
        {run: LedgerRun(start, last, bool(ended)) for run, start, last, ended in runs},
        min(starts, default=None),
        [(event[0], event[4]) for event in _all(connection, f"{kept} AND kind = ?", FORGOTTEN)],
        schema.unsound_rows(connection, version),
    )


def _all(connection: sqlite3.Connection, query: str, *values: Any) -> list[tuple[Any, ...]]:
    rows = connection.execute(f"{query} LIMIT {_MOST_ROWS + 1}", values).fetchall()
    if len(rows) > _MOST_ROWS:
        raise Unfit(f"has more than {_MOST_ROWS} rows of this time")
    return rows


def _widened(rows: Sequence[CoveredTime], since: float, until: float) -> tuple[float, float]:
    """The time that was asked for, and the rest of the minutes and hours that reach over its ends.

    Longer rows, which were put together in memory, count with a share of theirs.
    """
    rows = [row for row in rows if row.until - row.start <= _WHOLE_SECONDS]
    return min([since, *(row.start for row in rows)]), max([until, *(row.until for row in rows)])


def _covered(found: _Found, since: float, until: float) -> Coverage:
    asked = (since, until)
    since, until = _widened(found.rows, since, until)
    newest = found.runs[max(found.runs)] if found.runs else LedgerRun(0.0, 0.0, True)
    late = until - max(newest.last, since)
    unwritten = late if not newest.ended and 0 < late < _UNWRITTEN_SECONDS else 0.0
    gaps = Gaps(found.events, found.runs, found.begins, since, until)
    alarms = gaps.alarms()
    total = added(found.rows, since, until, unwritten)
    left_out: Counter[str] = Counter()
    for wall, _, kind, _, text in found.events:
        if kind == LEFT_OUT and since <= wall <= until and " left out: " in text:
            left_out += forgotten_kinds(text)
    forgotten = [(wall, text) for wall, text in found.forgotten if wall >= since]
    return Coverage(
        since=since,
        until=until,
        begins=found.begins,
        # An alarm is counted when it is certain and listed when its sound began, which may be in another row.
        total=replace(total, alarms=max(total.alarms, len(alarms))),
        gaps=gaps.found(found.rows, until - unwritten),
        alarms=alarms,
        rows=found.rows,
        longest=max((row.until - row.start for row in found.rows), default=0.0),
        widened=(since, until) != asked,
        left_out=left_out,
        forgotten=sum((forgotten_kinds(text) for _, text in forgotten), Counter()),
        forgotten_until=max((wall for wall, _ in forgotten), default=None),
        damaged=found.damaged,
    )
