"""A ledger that cannot be written for a while, from the start or in the middle: what is kept, and what is counted."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from edge_runtime.capture.block import STATE, Event
from edge_runtime.decision.alarm import OFF, ON, Alarm
from edge_runtime.errors import OutputError
from edge_runtime.report.coverage.report import read
from edge_runtime.report.ledger.backlog import ALARMS_WAITING, Backlog, Minute
from edge_runtime.report.ledger.file import LedgerFile, RunState
from edge_runtime.report.ledger.keeping import EVENTS_KEPT, forgotten_kinds
from tests.booked import ABOUT, NOON, Listening, rows
from tests.planted import sound_ledger
from tests.program import run as program
from tests.small_disk import small_disk


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite"


def alarms(run: Listening, count: int) -> None:
    """So many alarms, one each four seconds, and three other events beside each."""
    for number in range(1, count + 1):
        run.hear(2, 1.0)
        run.report.alarm(Alarm(ON, number, run.at - 1, run.at, -3.0))
        for state in ("stalled", "recovering", "listening"):
            run.report.event(run.at, Event(STATE, state=state, reason="a test"))
        run.hear(2, 1.0)
        run.report.alarm(Alarm(OFF, number, run.at - 3, run.at, -2.0))


def test_5000_alarms_on_a_failing_disk_are_all_kept_and_the_rest_is_counted(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 6000) as disk:
        run = Listening(disk.folder / "ledger")
        run.hear(120, 1.0)
        run.settle()
        disk.fill()
        alarms(run, 5000)
        run.settle()
        disk.free()
        run.hear(70, 1.0)
        run.settle()
        told = run.complaints[1]
        run.report.close()
        assert len(run.complaints) == 2 and disk.words in run.complaints[0]
        path = run.path
        (text,) = (text for (text,) in rows(path, "SELECT text FROM events WHERE kind = 'dropped'"))
        kept = dict(rows(path, "SELECT kind, count(*) FROM events GROUP BY kind"))
        found = run.coverage()
        shown = program("coverage", "--ledger", path, "--since", "2026-11-01", "--until", "2027-01-01").stdout
    assert kept["alarm-on"] == kept["alarm-off"] == 5000
    assert text == "13000 events left out: 13000 state" and kept["state"] == 2000
    assert f"with every second, but {text}; it says so itself" in told
    assert (found.total.alarms, len(found.alarms)) == (5000, 5000)
    assert found.total.heard == pytest.approx(120 + 20_000 + 70)
    assert found.left_out == {"state": 13_000}
    assert "13000 events (13000 state) of this time had to be left out" in shown


def test_more_alarms_than_fit_are_counted_too() -> None:
    backlog = Backlog()
    for number in range(ALARMS_WAITING + 5):
        backlog.note((NOON + number, "alarm-on" if number % 2 else "alarm-off", 0.0, ""))
    backlog.note((NOON, "identity", 0.0, ""))
    waited = backlog.take()
    backlog.give_back(waited)
    backlog.note((NOON, "alarm-on", 0.0, ""))
    events = backlog.take().events
    assert len(events) == ALARMS_WAITING + 2
    assert events[-1] == (NOON + 5, "dropped", 0.0, "6 events left out: 3 alarm-off, 3 alarm-on")
    assert forgotten_kinds(events[-1][3]) == {"alarm-off": 3, "alarm-on": 3}
    assert backlog.take().events == []


def test_old_events_are_counted_when_they_go_and_alarms_stay(path: Path) -> None:
    file = LedgerFile(path, ABOUT, NOON, print)
    file.write([], [(NOON, "alarm-on", 1.0, "alarm 1, score -3.00")], RunState(NOON, 0.0))
    for hour in (1, 2):
        storm = [(NOON + 3600 * hour, "identity", 0.0, str(number)) for number in range(EVENTS_KEPT)]
        file.write([], [(NOON + 1, "state", 0.0, "stalled")], RunState(NOON, 3599.0 * hour))
        file.write([], storm, RunState(NOON, 3601.0 * hour))
    file.end()
    assert dict(rows(path, "SELECT kind, count(*) FROM events GROUP BY kind")) == {
        "alarm-on": 1,
        "forgotten": 1,
        "identity": EVENTS_KEPT,
    }
    found = read(str(path), NOON - 60, NOON + 9000)
    assert found.forgotten == {"identity": EVENTS_KEPT, "state": 2} and found.forgotten_until == NOON + 3600
    assert len(found.alarms) == 1


def test_rows_that_reached_the_disk_twice_and_once_put_together_count_once(path: Path) -> None:
    """A commit may fail after all of it was written."""
    backlog = Backlog()
    for number in range(3000):
        backlog.add(Minute(NOON + number, NOON + number + 1, elapsed=1.0, heard=1.0))
        if number == 1499:
            first = backlog.take()
            backlog.give_back(first)
    file = LedgerFile(path, ABOUT, NOON, print)
    file.write(first.minutes, first.events, RunState(NOON, 1500.0))
    batch = backlog.take()
    assert len(batch.minutes) < 2500
    file.write(batch.minutes, batch.events, RunState(NOON, 3000.0))
    file.end()
    assert read(str(path), NOON, NOON + 4000).total.heard == 3000


def test_a_disk_that_is_read_only_at_the_start_is_waited_for(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 400) as disk:
        disk.refuse()
        run = Listening(disk.folder / "ledger")
        assert len(run.complaints) == 1 and re.search("read-only|cannot be written", run.complaints[0])
        run.hear(130, 1.0)
        run.settle()
        disk.allow()
        run.hear(70, 1.0)
        run.report.close()
        assert run.complaints[1].endswith("is written again, with all that was counted meanwhile")
        assert len(run.complaints) == 2
        assert run.coverage().total.heard == 200 and not Path(f"{run.path}.lock").exists()


def test_a_run_that_still_writes_when_it_was_ended_keeps_the_lock(path: Path) -> None:
    """Its thread hangs, here in telling that the file is gone; the next run begins without the ledger, and gets it."""
    held = threading.Event()
    run = Listening(path, complain=lambda line: "removed" not in line or held.wait(60), close_seconds=0.2)
    run.hear(70, 1.0)
    run.settle()
    path.unlink()
    run.hear(70, 1.0)
    run.report.close()
    assert "takes too long to write: its last minutes may be missing" in run.complaints[-1]
    command = [sys.executable, "-c", f"from tests.booked import *; Listening(Path({str(path)!r}))"]
    other = subprocess.run(command, capture_output=True, text=True, cwd=Path.cwd())
    assert "another edge-detect writes the ledger" in other.stderr
    following = Listening(path, wall=NOON + 600)
    assert "its last run still writes it" in following.complaints[0]
    following.hear(70, 1.0)
    following.settle()
    held.set()
    run.ledger.ended(60)
    following.hear(70, 1.0)
    following.report.close()
    assert "is written again, with all that was counted meanwhile" in following.complaints[1]
    found = read(str(path), NOON, NOON + 1000)
    assert found.total.heard == pytest.approx(70 + 140, abs=15), "the first run's last, and all of the second"
    with pytest.raises(OutputError, match="cannot keep a ledger"):
        Listening(path / "below")
    sound_ledger(path, NOON + 9000)


def test_without_a_single_good_write_the_end_says_what_is_lacking(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 64) as disk:
        disk.fill()
        run = Listening(disk.folder / "ledger")
        alarms(run, 3)
        run.report.close()
        assert run.complaints[-1].endswith("lacks the last 12 s and 15 events (3 alarm-off, 3 alarm-on, 9 state)")
