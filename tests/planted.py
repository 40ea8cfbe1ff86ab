"""Ledgers as a stranger, a failing card or a flipped bit leaves them."""

from __future__ import annotations

import contextlib
import functools
import os
import socket
import sqlite3
import tempfile
from collections.abc import Callable
from pathlib import Path

from edge_runtime.capture.block import STATE, Event
from edge_runtime.decision.alarm import OFF, ON, Alarm
from tests.booked import NOON, Listening

HEARD = 150.0
"""Seconds in a sound one."""
_RECURSIVE = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n)"


def sound_ledger(path: Path, wall: float = NOON) -> None:
    """A short run with an alarm."""
    path.write_bytes(_sound(wall))
    path.chmod(0o640)


@functools.cache
def _sound(wall: float) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ledger"
        _run(path, wall)
        return path.read_bytes()


def _run(path: Path, wall: float) -> None:
    run = Listening(path, wall=wall)
    run.hear(60, 1.0)
    run.window(0, 60, speech=0.5)
    run.report.event(run.at, Event(STATE, state="recovering", reason="unplugged"))
    run.report.alarm(Alarm(ON, 1, 40.0, 60.0, -3.0))
    run.hear(30, 1.0)
    run.report.alarm(Alarm(OFF, 1, 40.0, 90.0, -3.0))
    run.hear(60, 1.0)
    run.report.close()
    assert run.complaints == []


def executed(*statements: str) -> Callable[[Path], None]:
    """A sound ledger in which a stranger has run statements; `writable_schema` is on."""

    def plant(path: Path) -> None:
        sound_ledger(path)
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("PRAGMA writable_schema = ON")
            for statement in statements:
                connection.execute(statement)

    return plant


def ids_alone(path: Path) -> None:
    """The right numbers in the header, and tables of somebody else."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE runs (x)")
        connection.execute(f"PRAGMA application_id = {0x65644C67}")
        connection.execute("PRAGMA user_version = 2")


def many_tables(path: Path) -> None:
    """A schema of thousands of tables."""
    sound_ledger(path)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN")
        for number in range(3000):
            connection.execute(f"CREATE TABLE t{number} (x)")
        connection.execute("COMMIT")


def vast(path: Path) -> None:
    """A ledger followed by two gigabytes of nothing."""
    sound_ledger(path)
    os.truncate(path, 2 << 30)


def flipped(path: Path) -> None:
    """A page in which bits were turned over."""
    sound_ledger(path)
    content = bytearray(path.read_bytes())
    content[4096:4200] = bytes(255 - byte for byte in content[4096:4200])
    path.write_bytes(content)


def beside(tail: str, make: Callable[[Path], object]) -> Callable[[Path], None]:
    """A sound ledger with something beside it under a name that SQLite believes in."""

    def plant(path: Path) -> None:
        sound_ledger(path)
        make(Path(f"{path}{tail}"))

    return plant


def listening_socket(path: Path) -> None:
    """A socket's name."""
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as made:
        made.bind(str(path))


DAMAGED_ROWS: dict[str, Callable[[Path], None]] = {
    "a time that is a text": executed("UPDATE minutes SET start = 'noon' WHERE number = 2"),
    "a time that is a blob": executed("UPDATE minutes SET until = x'00ff' WHERE number = 2"),
    "sums without a value": executed("UPDATE minutes SET heard = NULL WHERE number = 2"),
    "an infinite sum": executed("UPDATE minutes SET lost = 9e999 WHERE number = 2"),
    "a negative sum": executed("UPDATE minutes SET heard = -1e300 WHERE number = 2"),
    "an astronomic number of alarms": executed("UPDATE minutes SET alarms = 1e300 WHERE number = 2"),
    "a row in the year 30,000": executed("UPDATE minutes SET start = 9e11, until = 9e11 WHERE number = 2"),
    "a row that ends before it begins": executed("UPDATE minutes SET until = 5 WHERE number = 2"),
    "a row of no run": executed("UPDATE minutes SET run = 'mine' WHERE number = 2"),
    "a run without a time": executed("UPDATE runs SET last = NULL"),
    "a run whose end is a text": executed("UPDATE runs SET ended = 'never'"),
    "a device that is a blob": executed("UPDATE runs SET device = zeroblob(100)"),
    "an event's text that is a blob": executed("UPDATE events SET text = x'ff00' WHERE id = 1"),
    "an event at no time": executed("UPDATE events SET wall = 'now' WHERE id = 1"),
    "an event that lasts for ever": executed("UPDATE events SET seconds = -9e999 WHERE id = 1"),
    "an event with the highest number": executed(f"UPDATE events SET id = {2**63 - 1} WHERE id = 1"),
    "an hour with a number below zero": executed("INSERT INTO hours (id, start) VALUES (-5, 3)"),
}
"""Of each some rows make no sense: the others can be read."""

DAMAGED: dict[str, Callable[[Path], None]] = {
    "a trigger": executed("CREATE TRIGGER t AFTER INSERT ON minutes BEGIN DELETE FROM minutes; END"),
    "a view in the place of a table": executed(
        "DROP TABLE events", f"CREATE VIEW events AS {_RECURSIVE} SELECT x AS wall, x AS id FROM n"
    ),
    "a view beside the tables": executed(f"CREATE VIEW v AS {_RECURSIVE} SELECT x FROM n"),
    "an index on an expression": executed("CREATE INDEX i ON events (hex(zeroblob(9)))"),
    "a column that is computed": executed("ALTER TABLE events ADD COLUMN more AS (hex(zeroblob(900000000)))"),
    "a table without a column": executed("ALTER TABLE minutes DROP COLUMN heard"),
    "a schema that is no SQL": executed("UPDATE sqlite_master SET sql = 'CREATE TABLE (' WHERE name = 'hours'"),
    "a schema that is no UTF-8": executed("UPDATE sqlite_master SET sql = CAST(x'fffe00ff' AS TEXT)"),
    "two tables in one place": executed("UPDATE sqlite_master SET rootpage = 2"),
    "thousands of tables": many_tables,
    "the numbers of a ledger, and other tables": ids_alone,
    "an event's text of 3 MB": executed("UPDATE events SET text = hex(zeroblob(1500000)) WHERE id = 1"),
    "a version below zero": executed("PRAGMA user_version = -7"),
    "a version that no program has": executed("PRAGMA user_version = 1073741826"),
    "2 GB after the tables": vast,
    "a page of flipped bits": flipped,
}
"""These cannot be read at all."""
