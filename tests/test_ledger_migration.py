"""Ledgers that the program wrote before it told judged from unjudged seconds: opened, read and brought up."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import pytest

from edge_runtime.decision.verdict import Reason, Verdict
from edge_runtime.report.coverage.report import read
from tests.booked import NOON, Listening, rows
from tests.program import lines, run

_SUMS = (
    "elapsed REAL, heard REAL, lost REAL, silent REAL, clipped REAL, speech REAL, scored REAL, spoof REAL, alarms REAL"
)
_FIRST = (
    "CREATE TABLE runs (id INTEGER PRIMARY KEY, start REAL, last REAL, duration REAL, device TEXT, model TEXT, "
    "model_sha256 TEXT, version TEXT, ended INTEGER)",
    f"CREATE TABLE minutes (run INTEGER, number INTEGER, start REAL, until REAL, {_SUMS}, PRIMARY KEY (run, number)) "
    "WITHOUT ROWID",
    f"CREATE TABLE hours (id INTEGER PRIMARY KEY, run INTEGER, number INTEGER, start REAL, until REAL, {_SUMS})",
    "CREATE TABLE events (id INTEGER PRIMARY KEY, wall REAL, run INTEGER, kind TEXT, seconds REAL, text TEXT)",
    f"PRAGMA application_id = {0x65644C67}",
    "PRAGMA user_version = 1",
)
"""As commit 3b3d9a6 made them."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A ledger of schema 1: three hours, and three minutes of one run, with an alarm."""
    made = tmp_path / "ledger.sqlite"
    with contextlib.closing(sqlite3.connect(made, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        for statement in _FIRST:
            connection.execute(statement)
        connection.execute(
            "INSERT INTO runs VALUES (1, ?, ?, 10980, 'hw:1', 'tiny', '', '0', 1)", (NOON, NOON + 10_980)
        )
        hour = "INSERT INTO hours VALUES (NULL, 1, ?, ?, ?, 3600, 3600, 0, 0, 0, 1800, 1800, 0, 0)"
        connection.executemany(hour, [(60 * n, NOON + 3600 * n, NOON + 3600 * n + 3600) for n in range(3)])
        minute = "INSERT INTO minutes VALUES (1, ?, ?, ?, 60, 59, 1, 0, 30, 30, 40, 0, 0)"
        connection.executemany(minute, [(n, NOON + 60 * n, NOON + 60 * n + 60) for n in range(180, 183)])
        connection.execute("INSERT INTO events VALUES (1, ?, 1, 'alarm-on', 2, 'alarm 1, score -3.00')", (NOON + 9,))
        connection.execute("INSERT INTO events VALUES (2, ?, 1, 'dropped', 2, '3 times')", (NOON + 60,))
    made.chmod(0o644)
    return made


def test_it_is_read_as_it_is_and_says_what_it_does_not_know(path: Path) -> None:
    found = read(str(path), NOON, NOON + 10_980)
    total = found.total
    assert (total.heard, total.scored, total.judged, total.unjudged) == (10_977, 5520, 0, 0)
    assert total.unsorted == 5520 and found.left_out == {} and len(found.alarms) == 1
    done = run("coverage", "--ledger", path, "--since", "2026-11-24", "--until", "2026-11-27", "--per", "day")
    assert done.returncode == 0 and "judged or not" in done.stdout, done.stderr
    assert "Of 1 h 32 min, written by an older version, it is not known whether they could be judged" in done.stdout
    assert rows(path, "PRAGMA user_version") == [(1,)]


def test_it_is_brought_up_and_goes_on(path: Path) -> None:
    going_on = Listening(path, wall=NOON + 10_980)
    going_on.hear(30, 1.0)
    going_on.window(0, 4)
    going_on.window(4, 8, reason=Reason.NOISY, verdict=Verdict.UNSURE)
    going_on.window(8, 20, score=None, verdict=Verdict.NO_SPEECH, reason=Reason.NO_SPEECH)
    going_on.window(20, 21, score=None, verdict=Verdict.UNSURE)  # the model gave no number
    going_on.report.close()
    assert going_on.complaints == [] and list(path.parent.iterdir()) == [path]
    assert path.stat().st_mode & 0o777 == 0o640
    total = read(str(path), NOON, NOON + 11_010).total
    assert (total.heard, total.judged, total.unjudged) == (11_007, 4, 5)
    assert total.scored == 5520 + 8 and total.unsorted == pytest.approx(5520, abs=1.1)
    assert rows(path, "PRAGMA user_version") == [(2,)]
    assert rows(path, "SELECT count(*), sum(heard), sum(scored) FROM hours") == [(3, 10_800.0, 5400.0)]
    # A ledger that was brought up and a new one are alike.
    new = Listening(path.with_name("new"))
    new.report.close()
    schema = "SELECT name, sql FROM sqlite_master ORDER BY name"
    assert rows(path, schema) == rows(path.with_name("new"), schema)


def test_no_alarm_speaks_of_what_was_judged(tmp_path: Path) -> None:
    """A hum under a voice makes every window noisy: none of them could have raised an alarm."""
    path = tmp_path / "ledger"
    humming = Listening(path)
    humming.hear(50)
    for start in range(0, 46, 2):
        humming.window(start, start + 4, reason=Reason.NOISY, verdict=Verdict.UNSURE, speech=1.0)
    humming.report.close()
    times = ("--since", "2026-11-25", "--until", "2026-11-26", "--ledger", path)
    said = run("coverage", *times).stdout
    assert "\njudged                     0.0 s" in said and "\nnot judged                48.0 s" in said
    assert (
        "It cannot be said whether there was a synthetic voice: nothing could be judged in 50.0 s of listening" in said
    )
    assert " 48.0 s could not be judged" in said and "No alarm" not in said
    (line,) = lines(run("coverage", *times, "--json", "--per", "hour").stdout)
    assert (line["total"]["judged"], line["total"]["unjudged"], line["total"]["scored"]) == (0, 48, 48)
    assert sum(part["unjudged"] for part in line["per"]) == pytest.approx(48)
