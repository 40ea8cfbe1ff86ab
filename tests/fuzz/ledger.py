"""Ledgers of every version: `coverage` reads or refuses them, and a run goes on in them or in another."""

from __future__ import annotations

import contextlib
import io
import sqlite3
import zlib
from pathlib import Path

from edge_runtime.errors import EdgeDetectError, InputError
from edge_runtime.report.coverage.report import read, show
from edge_runtime.report.output import Output
from tests.booked import NOON, Listening
from tests.fuzz.harness import Target
from tests.planted import sound_ledger

_LEDGER = "fuzzed"


def _seeds(folder: Path) -> list[bytes]:
    path = folder / "seed"
    sound_ledger(path)
    new = path.read_bytes()
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("INSERT INTO hours SELECT NULL, * FROM minutes")
        # As the program wrote them before there were `judged` and `unjudged`.
        for table in ("minutes", "hours"):
            for name in ("judged", "unjudged"):
                connection.execute(f"ALTER TABLE {table} DROP COLUMN {name}")
        connection.execute("PRAGMA user_version = 1")
        connection.execute("PRAGMA journal_mode = DELETE")
        old = path.read_bytes()
        connection.execute("PRAGMA page_size = 512")
        connection.execute("VACUUM")
    return [new, old, path.read_bytes()]


def _run(sample: bytes, folder: Path) -> None:
    for file in folder.glob(f"{_LEDGER}*"):
        file.unlink()
    path = folder / _LEDGER
    path.write_bytes(sample)
    refused: EdgeDetectError | None = None
    try:
        show(str(path), "2026-11-01", "2027-01-01", "day", len(sample) % 2 == 0, Output(io.StringIO()))
    except InputError as reason:
        refused = reason
    if refused and zlib.crc32(sample) % 4:  # writing takes twenty times as long as reading
        raise refused
    run = Listening(path, wall=NOON + 9000)  # may refuse what is no ledger, in one line
    run.hear(70, 5.0)
    run.report.close()
    assert not any("\n" in line or len(line) > 1000 for line in run.complaints), run.complaints
    if not any("newer version" in line for line in run.complaints):
        assert read(str(path), NOON + 9000, run.wall).total.heard > 68, run.complaints  # with what damaged rows claim
    if refused:
        raise refused


TARGET = Target(
    seeds=_seeds,
    run=_run,
    tokens=(b"CREATE TRIGGER", b"CREATE VIEW", b"\x7f\xf8" + bytes(6), b"\x7f\xf0" + bytes(6), b"\xff" * 9, b"\x0d"),
)
