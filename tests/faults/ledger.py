"""Ledgers that strangers, failing cards and slips of the keyboard make."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

from tests.faults.case import Case
from tests.planted import DAMAGED, DAMAGED_ROWS, beside, executed

_WHEN = ("--since", "2026-11-01", "--until", "2027-01-01")


def _shown(plant: Callable[[Path], None]) -> Callable[[Path], Sequence[str]]:
    """What `coverage` says of a planted ledger."""

    def arguments(folder: Path) -> Sequence[str]:
        plant(folder / "ledger")
        return ["coverage", "--ledger", "ledger", *_WHEN]

    return arguments


def _kept(plant: Callable[[Path], object], name: str = "ledger") -> Callable[[Path], Sequence[str]]:
    """A run without a microphone that is to go on in a planted ledger."""

    def arguments(folder: Path) -> Sequence[str]:
        plant(folder / "ledger")
        return ["--device", "none", "--connect-timeout", "1", "--ledger", name]

    return arguments


def _nothing(path: Path) -> None:
    """There is no ledger yet."""


def _places(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE places (x)")


CASES = [
    Case("`--ledger /dev/null`", _kept(_nothing, "/dev/null"), 5, "/dev/null: it is a device"),
    Case("`--ledger` with a folder", _kept(os.mkdir), 5, "it is a folder"),
    Case("`--ledger` with a named pipe", _kept(os.mkfifo), 5, "it is a named pipe"),
    Case("`--ledger` in a folder that is not there", _kept(_nothing, "disk/ledger"), 5, "there is no folder"),
    Case("`--ledger` with a letter", _kept(lambda path: path.write_text("Dear Ada,\n")), 5, "is left alone"),
    Case("`--ledger` with the database of another program", _kept(_places), 5, "is left alone"),
    Case(
        "a ledger with a trigger, to be gone on with",
        _kept(DAMAGED["a trigger"]),
        3,
        "(its tables are not those of a ledger): it is now ledger.damaged-1, and a new one begins",
    ),
    Case(
        "a ledger of a newer version, to be gone on with",
        _kept(executed("PRAGMA user_version = 7")),
        3,
        "a newer version of edge-detect wrote it (schema 7; this one knows 2), and it is left alone",
    ),
    Case("a sum that is a blob, read", _shown(DAMAGED_ROWS["a time that is a blob"]), 3, "1 row is left out"),
    Case(
        "an event with the highest number that there is, read",
        _shown(DAMAGED_ROWS["an event with the highest number"]),
        3,
        "1 row is left out",
    ),
    Case(
        "a view that never ends in the place of a table, read",
        _shown(DAMAGED["a view in the place of a table"]),
        3,
        "its tables are not those of a ledger",
    ),
    Case("a ledger with a page of flipped bits, read", _shown(DAMAGED["a page of flipped bits"]), 3, "cannot be read"),
    Case("an event's text of 3 MB, read", _shown(DAMAGED["an event's text of 3 MB"]), 3, "cannot"),
    Case(
        "a write-ahead log that is a named pipe, read",
        _shown(beside("-wal", os.mkfifo)),
        3,
        "ledger-wal beside it is a named pipe",
    ),
]
