"""How long a ledger keeps what: old minutes become hours, old events are counted and go."""

from __future__ import annotations

import re
import sqlite3
from collections import Counter

from edge_runtime.report.ledger.backlog import ALARM_OFF, ALARM_ON, ALARMS_WAITING, LEFT_OUT, listed
from edge_runtime.report.ledger.schema import SUMS, TEXT_CHARACTERS

FORGOTTEN = "forgotten"
"""Kind of the one event that says which older ones are no longer kept, up to its time."""
ALARMS_KEPT = ALARMS_WAITING
EVENTS_KEPT = 10_000
_RUNS_KEPT = 20_000
_MINUTES_SECONDS = 31 * 86_400
_HOURS_SECONDS = 2 * 366 * 86_400
_LASTING = (ALARM_ON, ALARM_OFF, LEFT_OUT)


def tidy(connection: sqlite3.Connection, wall: float) -> None:
    """Keeps what `wall` and the numbers of rows allow, in one transaction. Raises sqlite3.Error.

    The oldest hours go when they are old by the clock and by their number: a clock that is years ahead must not empty
    the ledger. Which rows are old is said by their order and never by how high their number is.
    """
    connection.execute("BEGIN IMMEDIATE")
    before = (wall - _MINUTES_SECONDS) // 3600 * 3600
    sums = ", ".join(f"sum({name})" for name in SUMS)
    connection.execute(
        f"INSERT INTO hours (run, number, start, until, {', '.join(SUMS)}) SELECT max(run), min(number), min(start), "
        f"max(until), {sums} FROM minutes WHERE start < ? GROUP BY CAST(start / 3600 AS INTEGER)",
        (before,),
    )
    connection.execute("DELETE FROM minutes WHERE start < ?", (before,))
    connection.execute(
        "DELETE FROM hours WHERE start < ? AND id IN (SELECT id FROM hours ORDER BY id DESC LIMIT -1 OFFSET ?)",
        (wall - _HOURS_SECONDS, _HOURS_SECONDS // 3600),
    )
    connection.execute(
        "DELETE FROM runs WHERE id IN (SELECT id FROM runs ORDER BY id DESC LIMIT -1 OFFSET ?)", (_RUNS_KEPT,)
    )
    _forget(connection)
    connection.execute("COMMIT")


def forgotten_kinds(text: str) -> Counter[str]:
    """How many events of which kind are gone, of an event FORGOTTEN; or left out, of one LEFT_OUT."""
    found = re.fullmatch(r"\d+ events? left out: (.*)|(\d+ .*)", text)
    pairs = re.findall(r"(\d{1,15}) ([a-z-]{1,40})(?:, |$)", (found[1] or found[2]) if found else "")
    return Counter({kind: int(count) for count, kind in pairs})


def _forget(connection: sqlite3.Connection) -> None:
    gone: Counter[str] = Counter()
    latest = 0.0
    marks = ", ".join("?" * len(_LASTING))
    for which, kept in (("IN", ALARMS_KEPT), ("NOT IN", EVENTS_KEPT)):
        old = f"kind {which} ({marks}) AND kind != ? ORDER BY id DESC LIMIT -1 OFFSET ?"
        chosen = f"id IN (SELECT id FROM events WHERE {old})"
        values = (*_LASTING, FORGOTTEN, kept)
        counted = f"SELECT kind, count(*), max(wall) FROM events WHERE {chosen} GROUP BY kind"
        for kind, count, wall in connection.execute(counted, values).fetchall():
            gone[kind] += count
            latest = max(latest, wall)
        connection.execute(f"DELETE FROM events WHERE {chosen}", values)
    if not gone:
        return
    last = connection.execute("SELECT text, wall, run FROM events WHERE kind = ?", (FORGOTTEN,)).fetchall()
    for text, wall, _ in last:
        gone += forgotten_kinds(text)
        latest = max(latest, wall)
    connection.execute("DELETE FROM events WHERE kind = ?", (FORGOTTEN,))
    run = connection.execute("SELECT max(id) FROM runs").fetchone()[0] or 0
    added = "INSERT INTO events (run, wall, kind, seconds, text) VALUES (?, ?, ?, 0, ?)"
    connection.execute(added, (run, latest, FORGOTTEN, listed(gone)[:TEXT_CHARACTERS]))
