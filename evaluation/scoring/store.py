"""Scores on their way: a file in which each clip's outcome is recorded once, and which outlives kills and power cuts.

It is an SQLite database and not a text file of our own. That a half-written record vanishes whole, that no clip is in
it twice (the primary key), that a second writer is refused, and that what was said to be written is on the disk
(`synchronous=FULL`) are then promises of a library that is tested for them (https://www.sqlite.org/atomiccommit.html).
The write-ahead log makes one disk flush of each commit. One process writes; nobody reads meanwhile, so the lock is
exclusive, which also works without the shared memory that network file systems lack.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from edge_runtime.errors import InputError, OutputError, UsageError
from evaluation.protocols import Clip

_APPLICATION = 0x65646765  # "edge", in the database's header: what is no store of ours is left alone
_SCHEMA = """
CREATE TABLE about (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE outcome (
    clip TEXT PRIMARY KEY, score REAL, verdict TEXT NOT NULL, kind TEXT NOT NULL, reason TEXT NOT NULL,
    size_bytes INTEGER NOT NULL, CHECK ((score IS NULL) = (kind != ''))
) WITHOUT ROWID;
"""


@dataclass(frozen=True)
class StoredOutcome:
    """What became of a clip, known by its name in the list (`names`)."""

    clip: str
    score: float | None  # LLR; None when there is none
    verdict: str = ""  # empty where the clip could not be read
    kind: str = ""  # without a score: missing, unreadable, silent, unsure, crashed or failed
    reason: str = ""  # the same for a person, in one line
    size_bytes: int = 0  # of the file


@dataclass(frozen=True)
class Identity:
    """What all scores of a store have in common, beside the clips' names."""

    model_sha256: str
    hop: str
    versions: str


_CALLED = {"model_sha256": "another model", "hop": "another hop", "versions": "other versions"}


def names(clips: Sequence[Clip]) -> list[str]:
    """What a store calls clips: by their trials, or where two have the same, by their places below a common folder.

    So the clips may be moved, the command be called from elsewhere, and a list may grow.
    """
    trials = [clip.trial for clip in clips]
    if len(set(trials)) == len(trials):
        return trials
    paths = [os.path.abspath(clip.path) for clip in clips]  # and not resolved: that asks the disk about each part
    root = os.path.commonpath([os.path.dirname(path) for path in paths])
    places = [os.path.relpath(path, root) for path in paths]
    if len(set(places)) < len(places):
        raise InputError(f"{len(places) - len(set(places))} clips are in the list more than once")
    return places


class Store:
    """An open store. Make one with `open_store`."""

    def __init__(self, connection: sqlite3.Connection, place: str) -> None:
        self._connection, self.place = connection, place

    def add(self, outcomes: Iterable[StoredOutcome]) -> None:
        """Records outcomes, all or none of them. Raises OutputError when that fails, as for a clip recorded before."""
        rows = [(i.clip, i.score, i.verdict, i.kind, i.reason, i.size_bytes) for i in outcomes]
        with _said(self.place), self._connection:
            self._connection.executemany("INSERT INTO outcome VALUES (?, ?, ?, ?, ?, ?)", rows)

    def outcomes(self) -> dict[str, StoredOutcome]:
        """All of them, by the clips' names."""
        with _said(self.place):
            return {row[0]: StoredOutcome(*row) for row in self._connection.execute("SELECT * FROM outcome")}

    def forget_failures(self) -> None:
        """Takes out the clips that got no score, so that they are tried again."""
        with _said(self.place), self._connection:
            self._connection.execute("DELETE FROM outcome WHERE kind != ''")


@contextmanager
def open_store(path: Path | None, identity: Identity) -> Iterator[Store]:
    """The store at `path`, new or from an earlier run of the same; None keeps it in memory.

    Raises UsageError when it is of another model, hop or version, OutputError when it cannot be opened, is
    damaged, or is being written by another process.
    """
    place = ":memory:" if path is None else str(path)
    with _said(place):
        connection = sqlite3.connect(place, timeout=0.2)
    try:
        with _said(place):
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            (application,) = connection.execute("PRAGMA application_id").fetchone()
            if tables and application != _APPLICATION:
                raise OutputError(f"{place} is another program's database: name another file for the store")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            if not tables:
                _begin(connection, identity)
            connection.execute("BEGIN IMMEDIATE")  # takes the lock, which is then kept
            connection.rollback()
            begun = dict(connection.execute("SELECT name, value FROM about"))
        for name, value in asdict(identity).items():
            if begun.get(name) != value:
                raise UsageError(
                    f"{place} was begun with {_CALLED[name]} ({_short(begun.get(name, 'none'))}, now {_short(value)}): "
                    "go on with that one, or name another file"
                )
        yield Store(connection, place)
    finally:
        connection.close()


def _begin(connection: sqlite3.Connection, identity: Identity) -> None:
    """The tables and what the store is about, in one transaction: a kill leaves all or nothing."""
    connection.execute("BEGIN IMMEDIATE")
    for statement in _SCHEMA.split(";")[:-1]:
        connection.execute(statement)
    connection.executemany("INSERT INTO about VALUES (?, ?)", asdict(identity).items())
    connection.execute(f"PRAGMA application_id = {_APPLICATION}")
    connection.commit()


def _short(value: str) -> str:
    return value if len(value) < 60 else value[:12]


@contextmanager
def _said(place: str) -> Iterator[None]:
    """SQLite's errors as one line."""
    try:
        yield
    except sqlite3.Error as reason:
        said = str(reason)
        if "locked" in said:
            said = "another run is writing it: wait for that one, or end it"
        elif "not a database" in said or "malformed" in said:
            said = f"it is no store of scores, or damaged ({said}): name another file, or remove it"
        elif "full" in said:
            said += ": make room, then run the same command again to go on"
        raise OutputError(f"cannot use {place}: {said}") from None
