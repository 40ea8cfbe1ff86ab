"""How a ledger's file is opened when anybody may have written it: plain files only, with bounds on memory and time."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
import time
from collections.abc import Iterator

COMPANIONS = ("-wal", "-shm", "-journal")
"""What SQLite keeps beside a file, and believes."""
LARGEST_BYTES = 1 << 30
"""Two years of hours, a month of minutes and all events that are kept take some 30 MB."""

_LIMITS = (
    (sqlite3.SQLITE_LIMIT_LENGTH, 1_000_000),  # bytes of a text, a blob or a row
    (sqlite3.SQLITE_LIMIT_SQL_LENGTH, 100_000),  # the file's own schema is such a text
    (sqlite3.SQLITE_LIMIT_COLUMN, 100),
    (sqlite3.SQLITE_LIMIT_EXPR_DEPTH, 100),
    (sqlite3.SQLITE_LIMIT_COMPOUND_SELECT, 10),
    (sqlite3.SQLITE_LIMIT_FUNCTION_ARG, 20),
    (sqlite3.SQLITE_LIMIT_ATTACHED, 0),
    (sqlite3.SQLITE_LIMIT_TRIGGER_DEPTH, 1),
    (sqlite3.SQLITE_LIMIT_WORKER_THREADS, 0),
)
_HEAP_BYTES = 64 << 20
"""Of SQLite as a whole; beyond it statements fail with MemoryError."""
_INSTRUCTIONS = 20_000
"""Of SQLite's machine between two looks at the clock."""


def wrong_kind(path: str) -> str:
    """What the file at `path` is, in words, where that is no plain file; empty for one, and for nothing at all.

    Raises OSError. A named pipe would be waited for, a device be written to.
    """
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return ""
    if stat.S_ISREG(mode):
        return ""
    kinds = (
        (stat.S_ISDIR, "a folder"),
        (stat.S_ISLNK, "a symbolic link"),
        (stat.S_ISFIFO, "a named pipe"),
        (stat.S_ISSOCK, "a socket"),
    )
    return next((words for is_kind, words in kinds if is_kind(mode)), "a device")


def size_of(path: str) -> int:
    """Bytes of the ledger and of what lies beside it."""
    total = 0
    for tail in ("", *COMPANIONS):
        with contextlib.suppress(FileNotFoundError):
            total += os.lstat(path + tail).st_size
    return total


def connect(name: str, busy_seconds: float, *, uri: bool = False) -> sqlite3.Connection:
    """A connection that no content can make raise UnicodeDecodeError, run code of the file's or take much memory.

    Raises sqlite3.Error.
    """
    connection = sqlite3.connect(name, timeout=busy_seconds, isolation_level=None, check_same_thread=False, uri=uri)
    try:
        connection.text_factory = _text
        for limit, most in _LIMITS:
            connection.setlimit(limit, most)
        for pragma in ("trusted_schema = OFF", "cell_size_check = ON", f"hard_heap_limit = {_HEAP_BYTES}"):
            connection.execute(f"PRAGMA {pragma}").fetchall()
    except BaseException:
        connection.close()
        raise
    return connection


@contextlib.contextmanager
def at_most(connection: sqlite3.Connection, seconds: float) -> Iterator[None]:
    """What SQLite does inside ends with an OperationalError of code SQLITE_INTERRUPT after so many seconds of work.

    They are those of this thread's processor time: a machine that is busy or suspended says nothing of the file.
    """
    ends = time.thread_time() + seconds
    connection.set_progress_handler(lambda: time.thread_time() > ends, _INSTRUCTIONS)
    try:
        yield
    finally:
        connection.set_progress_handler(None, 0)


def code_of(reason: BaseException) -> int:
    """SQLite's primary result code; 255, which it does not use, without one."""
    return int(getattr(reason, "sqlite_errorcode", -1)) & 0xFF


def words_of(reason: BaseException) -> str:
    """Why, on one line."""
    if isinstance(reason, MemoryError):
        return "it asks for more memory than a ledger needs"
    if code_of(reason) == sqlite3.SQLITE_INTERRUPT:
        return "it takes too long"
    return " ".join(str(getattr(reason, "strerror", None) or reason).split())[:300]


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")
