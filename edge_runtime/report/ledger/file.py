"""The ledger's file: opened with suspicion, written all or nothing, and kept small. It knows no threads."""

from __future__ import annotations

import contextlib
import errno
import math
import os
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_runtime.report.ledger import schema
from edge_runtime.report.ledger.backlog import Minute, Noted
from edge_runtime.report.ledger.guard import (
    COMPANIONS,
    LARGEST_BYTES,
    at_most,
    code_of,
    connect,
    size_of,
    words_of,
    wrong_kind,
)
from edge_runtime.report.ledger.keeping import tidy
from edge_runtime.report.ledger.lock import Lock, lingers
from edge_runtime.report.ledger.schema import SUMS, TEXT_CHARACTERS, Foreign, Newer, Unfit, unfit
from edge_runtime.report.pairs import FILE_MODE
from edge_runtime.system.text import printable

_TIDY_SECONDS = 3600
_BUSY_SECONDS = 5.0
_WORK_SECONDS = 60.0
"""Of processor time, for what takes milliseconds with a sound ledger."""
_LITTLE_ROOM_BYTES = 128 * 1024
_PAGE_BYTES = 4096
_LONGEST_PATH = 500
"""Bytes: SQLite takes 512, with what it appends."""
_MOST_ASIDE = 3
"""Files that one run moves aside: a disk that damages all that is written must not be filled with them."""
_NEVER = (errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG)
"""Errors of a name that was chosen wrongly. All others are of a disk, which may come back."""
_REFUSING = (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH)


@dataclass(frozen=True)
class RunState:
    """What a run has come to."""

    wall: float  # when it was last known to run
    duration: float  # seconds of the monotonic clock
    ended: bool = False  # in good order


class LedgerFile:
    """One run's rows and events in the file at `path`; opened when first written, and again after a failure."""

    def __init__(self, path: Path, about: Mapping[str, str], started: float, complain: Callable[[str], object]) -> None:
        """`started` is the wall clock's time; `about` has device, model, model_sha256 and version, and may change.
        `path` has no symbolic links."""
        self._path = path
        self._about = about
        self._started = started
        self._complain = complain
        self._connection: sqlite3.Connection | None = None
        self._lock: Lock | None = None
        self._inode = -1
        self._run: int | None = None
        self._tidied = -math.inf
        self._aside = 0

    def write(self, minutes: Sequence[Minute], events: Sequence[Noted], state: RunState) -> None:
        """Writes all or nothing, and has it on the disk. Raises sqlite3.Error, MemoryError or OSError.

        A file that turns out to be damaged is moved aside, and another begun.
        """
        for attempt in (1, 2, 3):
            try:
                connection = self._opened()
                with at_most(connection, _WORK_SECONDS):
                    self._transact(connection, minutes, events, state)
                break
            except (sqlite3.Error, MemoryError) as reason:
                self.close()
                # Damage that shows only now: opening looks for it, and what it does not find is damage all the same.
                if attempt == 3 or not unfit(reason):
                    raise
                if attempt == 2:
                    self._move_aside("is damaged")
        if state.duration - self._tidied >= _TIDY_SECONDS:
            self._tidied = state.duration
            with contextlib.suppress(sqlite3.Error, MemoryError), at_most(connection, _WORK_SECONDS):
                tidy(connection, state.wall)  # what was to be written is: this may wait for another hour
            if connection.in_transaction:
                self.close()

    def close(self) -> None:
        """Lets the file go, but not the lock; another write opens it again."""
        if self._connection:
            with contextlib.suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None

    def end(self) -> None:
        """Lets the file go, and another write it."""
        self.close()
        if self._lock:
            self._lock.release()
            self._lock = None

    def _transact(
        self, connection: sqlite3.Connection, minutes: Sequence[Minute], events: Sequence[Noted], state: RunState
    ) -> None:
        connection.execute("BEGIN IMMEDIATE")
        about = tuple(
            printable(self._about.get(name, ""))[:TEXT_CHARACTERS]
            for name in ("device", "model", "model_sha256", "version")
        )
        known = (self._run, self._started)
        if not connection.execute("SELECT 1 FROM runs WHERE id = ? AND start = ?", known).fetchone():
            added = "INSERT INTO runs (start, device, model, model_sha256, version) VALUES (?, ?, ?, ?, ?)"
            self._run = connection.execute(added, (self._started, *about)).lastrowid
        connection.execute(
            "UPDATE runs SET last = ?, duration = ?, device = ?, ended = ? WHERE id = ?",
            (state.wall, state.duration, about[0], state.ended, self._run),
        )
        # A commit that failed may have reached the disk after all: its rows may be in longer ones now.
        connection.executemany(
            "DELETE FROM minutes WHERE run = ? AND number BETWEEN ? AND ?",
            [(self._run, minute.number, minute.through) for minute in minutes if minute.through],
        )
        columns, marks = ", ".join(SUMS), ", ".join("?" * (4 + len(SUMS)))
        connection.executemany(
            f"INSERT OR REPLACE INTO minutes (run, number, start, until, {columns}) VALUES ({marks})",
            [(self._run, m.number, m.start, m.until, *(getattr(m, name) for name in SUMS)) for m in minutes],
        )
        connection.executemany(
            "INSERT INTO events (run, wall, kind, seconds, text) VALUES (?, ?, ?, ?, ?)",
            [
                (self._run, wall, kind, seconds, printable(text)[:TEXT_CHARACTERS])
                for wall, kind, seconds, text in events
            ],
        )
        connection.execute("COMMIT")

    def _opened(self) -> sqlite3.Connection:
        if self._connection:
            with contextlib.suppress(OSError):
                if self._path.stat().st_ino == self._inode:
                    return self._connection
            self._complain(f"somebody has removed the ledger {self._path}: a new one begins")
            self.close()
        self._claim()
        for _ in range(2):
            self._look()
            journal = os.path.lexists(f"{self._path}-wal")  # asked before SQLite removes it
            connection = connect(str(self._path), _BUSY_SECONDS)
            try:
                self._prepare(connection)
                self._inode = self._path.stat().st_ino
                self._connection = connection
                return connection
            except (sqlite3.Error, MemoryError, Unfit, OSError) as reason:
                connection.close()
                if not self._damaged(reason):
                    raise
                if not journal and self._strange():
                    raise Foreign("it is no ledger, but another file, and is left alone") from None
                wrong = str(reason) if isinstance(reason, Unfit) else "is damaged"
            self._move_aside(wrong)
        raise sqlite3.OperationalError("another program puts a file there that is no ledger")

    def _claim(self) -> None:
        """Has the lock. Raises BlockingIOError while another writes, or OSError."""
        if self._lock is None or not self._lock.held:
            if not self._path.parent.is_dir():
                raise FileNotFoundError(errno.ENOENT, f"there is no folder {self._path.parent}")
            self._lock = Lock(str(self._path))

    def _look(self) -> None:
        """Makes an empty file where there is none, and has plain files only. Raises OSError."""
        path = str(self._path)
        if kind := wrong_kind(path):
            raise Foreign(f"it is {kind}: name a file")
        if len(os.fsencode(path)) > _LONGEST_PATH:
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
        for tail in COMPANIONS:
            if kind := wrong_kind(path + tail):
                self._move_aside(f"has {kind} beside it, {path}{tail}", tails=(tail,))
        if size_of(path) > LARGEST_BYTES:
            self._move_aside(f"is larger than a ledger becomes, {LARGEST_BYTES >> 20} MB")
        # SQLite would make it readable by everybody; what it makes beside it has the same mode.
        with contextlib.suppress(FileExistsError):
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE))

    def _prepare(self, connection: sqlite3.Connection) -> None:
        """Finds what the file is, and makes or brings up its tables. Raises Foreign, Newer, Unfit, sqlite3.Error."""
        with at_most(connection, _WORK_SECONDS):
            version = schema.version_of(connection)
            try:
                if version:
                    schema.check(connection)
                    if schema.unsound_rows(connection, version, schema.HIGHEST_AT_START):
                        raise Unfit("is damaged (rows that no run can have written)")
            except sqlite3.OperationalError as reason:
                if code_of(reason) != sqlite3.SQLITE_INTERRUPT:
                    raise
        with at_most(connection, _WORK_SECONDS):
            connection.execute("PRAGMA journal_mode = WAL").fetchall()
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA wal_autocheckpoint = 64").fetchall()  # pages: it fits on small disks
            if version == 0:
                schema.make(connection)
            elif version < schema.SCHEMA:
                schema.migrate(connection)
            if version < schema.SCHEMA:
                self._hide()

    def _hide(self) -> None:
        """A ledger of version 1, or an empty file, may be readable by everybody."""
        for tail in ("", *COMPANIONS):
            with contextlib.suppress(OSError):
                os.chmod(f"{self._path}{tail}", os.stat(f"{self._path}{tail}").st_mode & FILE_MODE)

    def _strange(self) -> bool:
        """Whether a file that SQLite cannot read was never a ledger, as far as that can be told."""
        with contextlib.suppress(OSError), self._path.open("rb") as file:
            about = os.fstat(file.fileno())
            ours = about.st_ino == self._inode or about.st_size % _PAGE_BYTES == 0
            return not ours and file.read(16) != b"SQLite format 3\0"
        return False

    def _move_aside(self, wrong: str, tails: Sequence[str] = (*COMPANIONS, "")) -> None:
        """Raises OSError, also when this run has moved enough."""
        self._aside += 1
        if self._aside > _MOST_ASIDE:
            raise OSError(errno.EIO, f"it {wrong}, for the {self._aside}th time in this run")
        number = 1
        while any(os.path.lexists(f"{self._path}.damaged-{number}{tail}") for tail in ("", *COMPANIONS)):
            number += 1
        aside = f"{self._path}.damaged-{number}"
        for tail in tails:
            with contextlib.suppress(FileNotFoundError):
                os.rename(f"{self._path}{tail}", f"{aside}{tail}")
        if "" in tails:
            self._complain(f"the ledger {self._path} {wrong}: it is now {aside}, and a new one begins")
        else:
            self._complain(f"the ledger {self._path} {wrong}: that is now {aside}{tails[0]}")

    def why(self, reason: Exception) -> str:
        """In words for people."""
        if isinstance(reason, BlockingIOError):
            return "its last run still writes it" if lingers(str(self._path)) else "another edge-detect writes it"
        if self._no_room(reason):
            return "there is no room on its disk"
        if self._read_only(reason):
            return "its disk is read-only"
        forbidden = isinstance(reason, sqlite3.Error) and self.refuses(reason)
        return "this user may not write it" if forbidden else words_of(reason)

    def refuses(self, reason: Exception) -> bool:
        """Whether it is no matter of the disk or of time, but of a file that was named wrongly."""
        if isinstance(reason, BlockingIOError):
            return not lingers(str(self._path))
        if isinstance(reason, Newer) or self._no_room(reason) or self._read_only(reason):
            return False
        if isinstance(reason, sqlite3.Error):
            ours = all(os.access(path, os.R_OK | os.W_OK) for path in (self._path, self._path.parent))
            return code_of(reason) in _REFUSING and not ours
        return isinstance(reason, Foreign | ValueError) or getattr(reason, "errno", None) in _NEVER

    def _damaged(self, reason: Exception) -> bool:
        """Whether the file cannot be used as it is, and something else could be in its place."""
        if code_of(reason) == sqlite3.SQLITE_READONLY and not self._read_only(reason):
            return os.access(self._path, os.W_OK) and os.access(self._path.parent, os.W_OK)  # by its own header
        return unfit(reason) or code_of(reason) == sqlite3.SQLITE_INTERRUPT

    def _no_room(self, reason: Exception) -> bool:
        if code_of(reason) == sqlite3.SQLITE_FULL or getattr(reason, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
            return True
        if isinstance(reason, Foreign | Newer | Unfit):
            return False
        with contextlib.suppress(OSError):
            space = os.statvfs(self._path.parent)
            # Files that SQLite needs beside its own fail with other words when there is no room for them.
            return space.f_bavail * space.f_frsize < _LITTLE_ROOM_BYTES and not space.f_flag & os.ST_RDONLY
        return False

    def _read_only(self, reason: Exception) -> bool:
        if getattr(reason, "errno", None) == errno.EROFS:
            return True
        with contextlib.suppress(OSError):
            return code_of(reason) in _REFUSING and bool(os.statvfs(self._path.parent).f_flag & os.ST_RDONLY)
        return False
