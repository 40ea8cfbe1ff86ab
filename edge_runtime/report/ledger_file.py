"""The ledger's file: SQLite tables that are made, mended, written and kept small. It knows no threads."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import math
import os
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_runtime.report.output import printable

SCHEMA = 1
"""`user_version` of the file."""
APPLICATION = 0x65644C67
"""`application_id` of the file: what lacks it, and is not empty, is not ours."""
SUMS = ("elapsed", "heard", "lost", "silent", "clipped", "speech", "scored", "spoof", "alarms")
"""What a row adds up: seconds, and the number of alarms that began."""

_EVENTS_KEPT = 10_000
_RUNS_KEPT = 20_000
_MINUTES_SECONDS = 31 * 86_400
_HOURS_SECONDS = 2 * 366 * 86_400
_TIDY_SECONDS = 3600
_BUSY_SECONDS = 5.0
_LITTLE_ROOM_BYTES = 128 * 1024
_PAGE_BYTES = 4096
_LOCKLESS = (errno.ENOSPC, errno.EDQUOT, errno.ENOLCK, errno.EOPNOTSUPP)

_COLUMNS = "run INTEGER, number INTEGER, start REAL, until REAL, " + ", ".join(f"{name} REAL" for name in SUMS)
_TABLES = (
    "CREATE TABLE runs (id INTEGER PRIMARY KEY, start REAL, last REAL, duration REAL, device TEXT, model TEXT, "
    "model_sha256 TEXT, version TEXT, ended INTEGER)",
    f"CREATE TABLE minutes ({_COLUMNS}, PRIMARY KEY (run, number)) WITHOUT ROWID",
    f"CREATE TABLE hours (id INTEGER PRIMARY KEY, {_COLUMNS})",
    "CREATE TABLE events (id INTEGER PRIMARY KEY, wall REAL, run INTEGER, kind TEXT, seconds REAL, text TEXT)",
    f"PRAGMA application_id = {APPLICATION}",
    f"PRAGMA user_version = {SCHEMA}",
)

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
    spoof: float = 0.0
    alarms: int = 0
    number: int = 0  # within its run: a row that is written twice still counts once

    def plus(self, other: Minute) -> Minute:
        """Both in one row."""
        sums = {name: getattr(self, name) + getattr(other, name) for name in SUMS}
        start, until = min(self.start, other.start), max(self.until, other.until)
        return Minute(start, until, number=min(self.number, other.number), **sums)


@dataclass(frozen=True)
class State:
    """What a run has come to."""

    wall: float  # when it was last known to run
    duration: float  # seconds of the monotonic clock
    ended: bool = False  # in good order


class Foreign(OSError):
    """The file is somebody else's: it is left alone."""


class Lock:
    """Held by who writes the ledger at `path`, in `<path>.lock`, which goes when it is released. Not in the database's
    own file: to close that would drop the locks that SQLite has on it."""

    def __init__(self, path: Path) -> None:
        """Does without where there is no room for the file, or locks are unknown. Raises BlockingIOError when another
        has it, OSError when it cannot be had."""
        self._path = f"{os.path.realpath(path)}.lock"
        self._file: int | None = None
        try:
            while not self._named():  # its last holder may remove the file between the two calls
                self._drop()
                self._file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as reason:
            self._drop()
            if reason.errno not in _LOCKLESS:
                raise

    def release(self) -> None:
        """Lets another have it."""
        with contextlib.suppress(OSError):
            if self._named():
                os.unlink(self._path)
        self._drop()

    def _drop(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _named(self) -> bool:
        with contextlib.suppress(FileNotFoundError):
            return self._file is not None and os.path.samestat(os.fstat(self._file), os.stat(self._path))
        return False


class LedgerFile:
    """One run's rows and events in the file at `path`; opened when first written, and anew after a failure."""

    def __init__(self, path: Path, about: Mapping[str, str], started: float, complain: Callable[[str], object]) -> None:
        """`started` is the wall clock's time; `about` has device, model, model_sha256 and version, and may change."""
        self._path = path
        self._about = about
        self._started = started
        self._complain = complain
        self._connection: sqlite3.Connection | None = None
        self._inode = -1
        self._run: int | None = None
        self._tidied = -math.inf

    def write(self, minutes: Sequence[Minute], events: Sequence[Noted], state: State) -> None:
        """Writes all or nothing, and has it on the disk. Raises sqlite3.Error or OSError."""
        for attempt in (1, 2):
            try:
                self._transact(self._opened(), minutes, events, state)
                return
            except sqlite3.Error as reason:
                self.close()
                # Damage that shows only now: opening finds it as well, and moves the file aside.
                if attempt == 2 or not _damaged(reason):
                    raise

    def close(self) -> None:
        """Lets the file go; another write opens it again."""
        if self._connection:
            with contextlib.suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None

    def _transact(
        self, connection: sqlite3.Connection, minutes: Sequence[Minute], events: Sequence[Noted], state: State
    ) -> None:
        connection.execute("BEGIN IMMEDIATE")
        about = tuple(printable(self._about.get(name, "")) for name in ("device", "model", "model_sha256", "version"))
        known = (self._run, self._started)
        if not connection.execute("SELECT 1 FROM runs WHERE id = ? AND start = ?", known).fetchone():
            added = "INSERT INTO runs (start, device, model, model_sha256, version) VALUES (?, ?, ?, ?, ?)"
            self._run = connection.execute(added, (self._started, *about)).lastrowid
        connection.execute(
            "UPDATE runs SET last = ?, duration = ?, device = ?, ended = ? WHERE id = ?",
            (state.wall, state.duration, about[0], state.ended, self._run),
        )
        marks = ", ".join("?" * (4 + len(SUMS)))
        connection.executemany(
            f"INSERT OR REPLACE INTO minutes VALUES ({marks})",
            [(self._run, m.number, m.start, m.until, *(getattr(m, name) for name in SUMS)) for m in minutes],
        )
        connection.executemany(
            "INSERT INTO events (run, wall, kind, seconds, text) VALUES (?, ?, ?, ?, ?)",
            [(self._run, wall, kind, seconds, printable(text)) for wall, kind, seconds, text in events],
        )
        connection.execute("DELETE FROM events WHERE id <= (SELECT max(id) FROM events) - ?", (_EVENTS_KEPT,))
        tidy = state.duration - self._tidied >= _TIDY_SECONDS
        if tidy:
            _tidy(connection, state.wall)
        connection.execute("COMMIT")
        if tidy:
            self._tidied = state.duration

    def _opened(self) -> sqlite3.Connection:
        if self._connection:
            with contextlib.suppress(OSError):
                if self._path.stat().st_ino == self._inode:
                    return self._connection
            self._complain(f"somebody has removed the ledger {self._path}: a new one begins")
            self.close()
        for _ in range(2):
            journal = os.path.lexists(f"{self._path}-wal")  # asked before SQLite removes it
            connection = sqlite3.connect(
                self._path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
            try:
                wrong = _prepare(connection)
                self._inode = self._path.stat().st_ino
            except (sqlite3.Error, Foreign) as reason:
                connection.close()
                if not _damaged(reason):
                    raise
                if not journal and self._strange():
                    raise Foreign("it is no ledger, but another file, and is left alone") from None
                wrong = "is damaged"
            if not wrong:
                self._connection = connection
                return connection
            connection.close()
            self._move_aside(wrong)
        raise sqlite3.OperationalError("another program puts a file there that is no ledger")

    def _strange(self) -> bool:
        """Whether a file that SQLite cannot read was never a ledger, as far as that can be told."""
        with contextlib.suppress(OSError), self._path.open("rb") as file:
            about = os.fstat(file.fileno())
            ours = about.st_ino == self._inode or about.st_size % _PAGE_BYTES == 0
            return not ours and file.read(16) != b"SQLite format 3\0"
        return False

    def _move_aside(self, wrong: str) -> None:
        number = 1
        while os.path.lexists(f"{self._path}.damaged-{number}"):
            number += 1
        aside = f"{self._path}.damaged-{number}"
        for tail in ("-wal", "-shm", ""):
            with contextlib.suppress(FileNotFoundError):
                os.rename(f"{self._path}{tail}", f"{aside}{tail}")
        self._complain(f"the ledger {self._path} {wrong}: it is now {aside}, and a new one begins")

    def no_room(self, reason: Exception) -> bool:
        """Whether a write failed since the disk is full."""
        if _code(reason) == sqlite3.SQLITE_FULL:
            return True
        with contextlib.suppress(OSError):
            space = os.statvfs(self._path.parent)
            # Files that SQLite needs beside its own fail with other words when there is no room for them.
            return space.f_bavail * space.f_frsize < _LITTLE_ROOM_BYTES and not space.f_flag & os.ST_RDONLY
        return False

    def passing(self, reason: Exception) -> bool:
        """Whether it may mend by itself, so that it is no reason not to start."""
        if isinstance(reason, Foreign):
            return False
        return _code(reason) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_IOERR) or self.no_room(reason)


def _prepare(connection: sqlite3.Connection) -> str | None:
    """Makes the tables where there are none. Gives what is wrong with the file, in words that follow its name."""

    def value(pragma: str) -> object:
        return connection.execute(f"PRAGMA {pragma}").fetchone()[0]

    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if tables and value("application_id") != APPLICATION:
        raise Foreign("it is a database of another program")
    if tables and value("user_version") != SCHEMA:
        return "was written by another version of edge-detect"
    if tables and value("quick_check(1)") != "ok":
        return "is damaged"
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA wal_autocheckpoint = 64")  # pages: it fits on small disks
    if not tables:
        connection.execute("BEGIN IMMEDIATE")
        if not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            for statement in _TABLES:
                connection.execute(statement)
        connection.execute("COMMIT")
    return None


def _tidy(connection: sqlite3.Connection, wall: float) -> None:
    """Old minutes become hours. The oldest hours go when they are old by the clock and by their number.

    The number is for a clock that is years ahead: it must not empty the ledger.
    """
    before = (wall - _MINUTES_SECONDS) // 3600 * 3600
    sums = ", ".join(f"sum({name})" for name in SUMS)
    connection.execute(
        f"INSERT INTO hours (run, number, start, until, {', '.join(SUMS)}) SELECT max(run), min(number), min(start), "
        f"max(until), {sums} FROM minutes WHERE start < ? GROUP BY CAST(start / 3600 AS INTEGER)",
        (before,),
    )
    connection.execute("DELETE FROM minutes WHERE start < ?", (before,))
    kept = _HOURS_SECONDS // 3600
    connection.execute(
        "DELETE FROM hours WHERE start < ? AND id <= (SELECT max(id) FROM hours) - ?", (wall - _HOURS_SECONDS, kept)
    )
    connection.execute("DELETE FROM runs WHERE id <= (SELECT max(id) FROM runs) - ?", (_RUNS_KEPT,))


def _code(reason: Exception) -> int:
    """SQLite's primary result code; 255, which it does not use, without one."""
    return int(getattr(reason, "sqlite_errorcode", -1)) & 0xFF


def _damaged(reason: Exception) -> bool:
    return _code(reason) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
