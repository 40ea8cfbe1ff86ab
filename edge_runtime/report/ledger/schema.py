"""The ledger's tables: what they are in each version, how one becomes the next, and which rows make sense."""

from __future__ import annotations

import sqlite3

from edge_runtime.report.ledger.guard import code_of

SCHEMA = 2
"""`user_version` of the file. 1 had neither `judged` nor `unjudged`: its `scored` holds both."""
APPLICATION = 0x65644C67
"""`application_id` of the file: what lacks it, and is not empty, is not ours."""
SUMS = ("elapsed", "heard", "lost", "silent", "clipped", "speech", "scored", "spoof", "alarms", "judged", "unjudged")
"""What a row adds up: seconds, and the number of alarms that began; in the order of the columns."""
TEXT_CHARACTERS = 1_000
"""Of an event's text; more is cut."""

_SINCE_2 = ("judged", "unjudged")
_LAST_PLAUSIBLE = 99
"""A version beyond it was never written by a program, but is damage."""
_EARLIEST, _LATEST = -1e9, 2.5e11  # wall clock, years 1938 and 9892: what `datetime` and all time zones can show
_MOST = 1e9  # seconds in one row, and alarms
_LONGEST = 1e10  # seconds from a row's start to its end: rows that had to wait may have been put together
_HIGHEST = 1 << 53  # number of a row
HIGHEST_AT_START = 1 << 52
"""Likewise, where rows are still to follow."""


def _tables(version: int) -> dict[str, str]:
    """The statement that makes each table."""
    sums = ", ".join(f"{name} REAL" for name in SUMS if name not in _SINCE_2)
    # As ALTER TABLE leaves it, so that a ledger that was brought up looks like a new one.
    since = "".join(f", {name} REAL DEFAULT 0" for name in _SINCE_2) if version >= 2 else ""
    columns = f"run INTEGER, number INTEGER, start REAL, until REAL, {sums}{since}"
    return {
        "runs": "CREATE TABLE runs (id INTEGER PRIMARY KEY, start REAL, last REAL, duration REAL, device TEXT, "
        "model TEXT, model_sha256 TEXT, version TEXT, ended INTEGER)",
        "minutes": f"CREATE TABLE minutes ({columns}, PRIMARY KEY (run, number)) WITHOUT ROWID",
        "hours": f"CREATE TABLE hours (id INTEGER PRIMARY KEY, {columns})",
        "events": "CREATE TABLE events (id INTEGER PRIMARY KEY, wall REAL, run INTEGER, kind TEXT, seconds REAL, "
        "text TEXT)",
    }


class Foreign(OSError):
    """The file is somebody else's: it is left alone."""


class Newer(OSError):
    """The file was written by a later version of the program: it is left alone."""


class Unfit(Exception):
    """The file is no sound ledger; the text says why, and follows its name."""


def version_of(connection: sqlite3.Connection) -> int:
    """The version of an open file's tables, which are exactly those of that version; 0 for an empty file.

    Raises Foreign, Newer, Unfit or sqlite3.Error. Nothing of the file's own schema is run before it was compared.
    """
    application, version = (_value(connection, name) for name in ("application_id", "user_version"))
    if application != APPLICATION:
        if _value(connection, "page_count") > 1 or _schema(connection):
            raise Foreign("it is a database of another program, and is left alone")
        return 0
    if SCHEMA < version <= _LAST_PLAUSIBLE:
        raise Newer(
            f"a newer version of edge-detect wrote it (schema {version}; this one knows {SCHEMA}), and it is left "
            "alone: update edge-detect, or name another file"
        )
    if not 0 < version <= SCHEMA:
        raise Unfit("is damaged (its version)")
    found = _schema(connection)
    expected = {("table", name, name, _squeezed(made)) for name, made in _tables(version).items()}
    if len(found) != len(expected) or set(found) != expected:
        raise Unfit("is damaged (its tables are not those of a ledger)")
    return version


def check(connection: sqlite3.Connection) -> None:
    """Looks through all pages. Raises Unfit, or sqlite3.Error."""
    found = connection.execute("PRAGMA quick_check(1)").fetchone()
    if found is None or found[0] != "ok":
        raise Unfit("is damaged (its pages)")


def sound(version: int, highest: int = _HIGHEST) -> dict[str, str]:
    """For each table the SQL condition of rows that a program could have written; NULL for some of the others.

    It also fails for values of another type, which compare as larger than numbers, and for numbers of rows above
    `highest`, after which SQLite would have none left.
    """
    walls = f"BETWEEN {_EARLIEST} AND {_LATEST}"
    run = f"typeof(run) = 'integer' AND run BETWEEN 0 AND {highest}"
    identity = f"id BETWEEN 0 AND {highest}"
    names = [name for name in SUMS if version >= 2 or name not in _SINCE_2]
    sums = " AND ".join(f"{name} BETWEEN -1 AND {_MOST}" for name in names)
    row = f"{run} AND number BETWEEN 0 AND {highest} AND start {walls} AND until {walls} AND until >= start"
    row += f" AND until - start <= {_LONGEST} AND {sums}"
    about = ("device", "model", "model_sha256", "version")
    texts = " AND ".join(f"typeof({name}) = 'text'" for name in about)
    return {
        "runs": f"{identity} AND start {walls} AND last {walls} AND duration BETWEEN -1 AND {1e12} AND {texts} "
        "AND ended BETWEEN 0 AND 1",
        "minutes": row,
        "hours": f"{identity} AND {row}",
        "events": f"{identity} AND {run} AND wall {walls} AND seconds BETWEEN -1e12 AND 1e12 AND typeof(kind) = 'text' "
        "AND length(kind) <= 40 AND typeof(text) = 'text' AND length(text) <= 100000",
    }


def unsound_rows(connection: sqlite3.Connection, version: int, highest: int = _HIGHEST) -> int:
    """How many rows no program can have written. Raises sqlite3.Error."""
    return sum(
        int(connection.execute(f"SELECT count(*) FROM {table} WHERE ({condition}) IS NOT TRUE").fetchone()[0])
        for table, condition in sound(version, highest).items()
    )


def make(connection: sqlite3.Connection) -> None:
    """Makes the tables, unless another has done so meanwhile; in one transaction."""
    connection.execute("BEGIN IMMEDIATE")
    if not _schema(connection):
        for statement in _tables(SCHEMA).values():
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION}")
        connection.execute(f"PRAGMA user_version = {SCHEMA}")
    connection.execute("COMMIT")


def migrate(connection: sqlite3.Connection) -> None:
    """Brings the tables of an older version up, in one transaction, which takes no time however many rows there are."""
    connection.execute("BEGIN IMMEDIATE")
    if _value(connection, "user_version") == 1:
        for table in ("minutes", "hours"):
            for name in _SINCE_2:
                connection.execute(f"ALTER TABLE {table} ADD COLUMN {name} REAL DEFAULT 0")
        connection.execute(f"PRAGMA user_version = {SCHEMA}")
    connection.execute("COMMIT")


def unfit(reason: BaseException) -> bool:
    """Whether an error tells of the file's content, and not of its disk, its lock or the time."""
    if isinstance(reason, Unfit | MemoryError | UnicodeError | OverflowError):
        return True
    codes = ("CORRUPT", "NOTADB", "ERROR", "CONSTRAINT", "MISMATCH", "TOOBIG", "FORMAT", "RANGE", "SCHEMA")
    return code_of(reason) in {getattr(sqlite3, f"SQLITE_{name}") for name in codes}


def _value(connection: sqlite3.Connection, pragma: str) -> int:
    return int(connection.execute(f"PRAGMA {pragma}").fetchone()[0])


def _schema(connection: sqlite3.Connection) -> list[tuple[str, str, str, str]]:
    rows = connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_master LIMIT 20").fetchall()
    return [(str(kind), str(name), str(table), _squeezed(str(made))) for kind, name, table, made in rows]


def _squeezed(statement: str) -> str:
    """Versions of SQLite may differ in the blanks that ALTER TABLE leaves."""
    return "".join(statement.split())
