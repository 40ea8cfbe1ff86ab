"""The ledger: seconds add up whatever happens to the disk, the clock or the process."""

from __future__ import annotations

import contextlib
import signal
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.capture.block import CLOCK, LOST, Event
from edge_runtime.decision.alarm import ON, Alarm
from edge_runtime.errors import OutputError
from edge_runtime.report.coverage.report import read
from edge_runtime.report.ledger.file import LedgerFile, Minute, RunState
from edge_runtime.report.ledger.writer import Ledger
from tests.booked import ABOUT, ALARMED, NOON, Listening, rows, writer
from tests.small_disk import small_disk


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite"


@given(
    st.lists(
        st.tuples(st.sampled_from(["hear", "miss", "jump", "sleep"]), st.integers(1, 800), st.floats(-1e5, 1e5)),
        min_size=1,
        max_size=12,
    )
)
def test_whatever_the_clock_does_every_second_is_counted_once(steps: list[tuple[str, int, float]]) -> None:
    """Heard, lost and elapsed are what they were; the jumps that were told are those that were made."""
    with tempfile.TemporaryDirectory() as folder:
        run = Listening(Path(folder) / "ledger")
        heard = missed = drift = 0.0
        jumps = []
        for kind, quarters, jump in steps:
            if kind == "hear":
                run.hear(quarters / 4)
                heard += quarters / 4
            elif kind == "miss":
                run.miss(quarters / 4)
                missed += quarters / 4
            else:
                by = abs(jump) if kind == "sleep" else jump
                run.wall += by
                run.asleep += by if kind == "sleep" else 0.0
                run.report.moment(0.0)
                jumps += [by] if abs(by) > 2.0 else []
                drift += abs(by) if abs(by) <= 2.0 else 0.0
        run.report.close()
        total = read(str(run.path), 0, 4e9).total
        assert (total.elapsed, total.heard, total.lost) == pytest.approx((heard + missed, heard, missed), abs=1e-3)
        if not drift:  # small steps may add up to one that is told
            assert [event.seconds for event in run.told if event.kind == CLOCK] == pytest.approx(jumps, abs=1e-3)
        assert run.complaints == []


def test_a_slow_correction_of_the_clock_is_no_jump(path: Path) -> None:
    run = Listening(path)
    for _ in range(600):
        run.hear(1)
        run.wall += 0.01
    run.report.close()
    assert run.told == []
    assert run.coverage().total.elapsed == pytest.approx(600, abs=0.1)


def test_a_storm_of_losses_is_one_event_a_minute(path: Path) -> None:
    run = Listening(path)
    for _ in range(1000):
        run.hear(0.25)
        run.report.event(run.at, Event(LOST, seconds=0.01))
    run.report.close()
    assert run.coverage().total.lost == pytest.approx(10)
    assert len(rows(path, "SELECT 1 FROM events")) == 5


def test_kill_9_in_the_middle_of_writing_costs_a_minute_at_most(path: Path) -> None:
    """A real process that commits as fast as it can; each goes on in the same file, and is read meanwhile."""
    start, told = NOON, 0
    for number in range(5):
        process = writer(path, start)
        assert process.stdout
        lines = [process.stdout.readline() for _ in range(3 + 7 * number)]
        assert read(str(path), start, start + 1e6).total.heard > 0
        process.kill()
        lines += [line for line in process.stdout.readlines() if line.endswith("\n")]
        assert process.wait() == -signal.SIGKILL
        told += len(lines)
        last = float(lines[-1])
        assert rows(path, "SELECT max(until) FROM minutes")[0][0] >= last - 61
        assert rows(path, "PRAGMA integrity_check") == [("ok",)]
        start = last + 600.0
    found = read(str(path), NOON, start)
    assert found.total.heard == pytest.approx(found.total.elapsed)
    assert found.total.heard >= 60 * (told - 5)
    assert found.total.heard + found.total.not_running == pytest.approx(start - NOON, abs=0.1)
    assert [ended for (ended,) in rows(path, "SELECT ended FROM runs")] == [0] * 5
    assert all("without a word" in gap.reason for gap in found.gaps)


def test_a_full_disk_costs_nothing_but_two_lines(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 400) as disk:
        run = Listening(disk.folder / "ledger")
        run.hear(120)
        run.settle()
        disk.fill()
        for _ in range(40):
            run.hear(3600, 1.0)
            run.settle()
        assert len(run.complaints) == 1
        assert disk.words in run.complaints[0]
        disk.free()
        run.hear(130, 1.0)
        run.settle()
        assert len(run.complaints) == 2
        assert "again" in run.complaints[1]
        run.report.close()
        found = run.coverage()
        assert found.total.heard == pytest.approx(120 + 40 * 3600 + 130)
        assert found.total.not_running == pytest.approx(0, abs=1)


def test_a_disk_that_is_full_from_the_start_and_to_the_end(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 64) as disk:
        disk.fill()
        run = Listening(disk.folder / "ledger")
        run.hear(300, 1.0)
        run.report.close()
        assert len(run.complaints) == 2
        assert disk.words in run.complaints[0]
        assert "lacks the last 300 s" in run.complaints[1]


@pytest.mark.parametrize("damage", ["text", "header", "page"])
def test_what_is_no_ledger_is_moved_aside_whole(path: Path, damage: str) -> None:
    if damage == "text":
        path.write_bytes(b"my note\n" * 1024)
    else:
        Listening(path).report.close()
    content = bytearray(path.read_bytes())
    if damage in ("header", "page"):
        first = 0 if damage == "header" else 4096
        content[first : first + 3000] = bytes(range(250)) * 12
        path.write_bytes(content)
    Path(f"{path}.damaged-1").write_text("an older one")
    run = Listening(path)
    run.hear(70)
    run.report.close()
    assert len(run.complaints) == 1
    assert "damaged-2" in run.complaints[0]
    assert Path(f"{path}.damaged-2").read_bytes() == bytes(content)
    assert run.coverage().total.heard == pytest.approx(70)


def test_a_database_of_another_program_is_left_alone(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE places (x)")
    content = path.read_bytes()
    with pytest.raises(OutputError, match="another program"):
        Listening(path)
    assert path.read_bytes() == content and list(path.parent.iterdir()) == [path]


def test_a_ledger_overwritten_in_use_is_moved_aside_whatever_its_size(path: Path) -> None:
    run = Listening(path)
    run.hear(120)
    run.settle()
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("UPDATE runs SET device = ''")
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        path.write_bytes(b"x" * 5000)
    run.hear(120)
    run.report.close()
    assert len(run.complaints) == 1 and "damaged" in run.complaints[0]


@pytest.mark.parametrize("last", ["on", "off"])
def test_kill_9_right_after_an_alarm_leaves_it(path: Path, last: str) -> None:
    command = [sys.executable, "-c", ALARMED, str(path), last]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        wall = float(process.stdout.readline())
        process.kill()
    found = read(str(path), NOON, NOON + 3600)
    assert found.total.alarms == 1 and found.total.heard == wall - NOON
    assert [(alarm.begin, alarm.end) for alarm in found.alarms] == [(NOON + 58, NOON + 75 if last == "off" else None)]
    assert found.total.spoof == (5.0 if last == "off" else 0.0)


def test_a_window_that_ends_in_a_minute_fits_into_it(path: Path) -> None:
    run = Listening(path)
    run.hear(61)
    run.window(0, 61, speech=1.0)
    run.report.alarm(Alarm(ON, 1, 60.0, 61.0, -3.0))
    run.hear(1)
    run.window(40, 62)
    run.report.close()
    assert rows(path, "SELECT count(*) FROM minutes WHERE max(scored, speech, silent, clipped, spoof) > heard") == [
        (0,)
    ]
    assert rows(path, "SELECT scored, speech FROM minutes WHERE heard = 1 ORDER BY start DESC LIMIT 1") == [(1.0, 1.0)]


def test_time_off_is_not_running_also_when_the_clock_was_set_back(path: Path) -> None:
    run = Listening(path)
    run.hear(1200, 1.0)
    run.wall -= 1200
    run.hear(1200, 1.0)
    run.report.close()
    total = read(str(path), NOON, NOON + 2400).total
    assert total.heard == pytest.approx(2400) and total.not_running == pytest.approx(1200, abs=5)


def test_damage_while_it_is_in_use_is_met_too(path: Path) -> None:
    run = Listening(path)
    run.hear(600, 1.0)
    run.settle()
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("UPDATE runs SET device = ''")  # so that what the writer has in memory counts no more
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        path.write_bytes(b"x" * path.stat().st_size)
    run.hear(600, 1.0)
    run.report.close()
    assert len(run.complaints) == 1
    assert "damaged" in run.complaints[0]
    assert run.coverage().total.heard == pytest.approx(600, abs=1)


def test_a_file_that_was_removed_is_begun_again(path: Path) -> None:
    run = Listening(path)
    run.hear(120)
    run.settle()
    for file in path.parent.iterdir():
        file.unlink()
    run.hear(120)
    run.report.close()
    assert run.coverage().total.heard == pytest.approx(120, abs=61)
    assert rows(path, "SELECT count(*) FROM runs") == [(1,)]


def test_a_database_that_is_locked_costs_nothing(path: Path) -> None:
    run = Listening(path)
    run.hear(300)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        run.hear(60)
        assert not run.ledger.settled(0.1)
    run.report.close()
    assert run.coverage().total.heard == pytest.approx(360)
    assert run.complaints == []


@pytest.mark.parametrize("where", ["missing/ledger", "."])
def test_a_place_that_cannot_be_is_one_line(tmp_path: Path, where: str) -> None:
    with pytest.raises(OutputError, match="cannot keep a ledger") as refused:
        Ledger(tmp_path / where, ABOUT, print)
    assert "\n" not in str(refused.value)


def test_old_minutes_become_hours_and_old_hours_go(path: Path) -> None:
    file = LedgerFile(path, ABOUT, NOON, print)
    day, count = 86_400.0, 60 * 24 * 2
    minutes = [Minute(NOON + 60 * n, NOON + 60 * n + 60, 60, 59, 1, alarms=n % 60 == 0, number=n) for n in range(count)]
    file.write(minutes, [(NOON + n, "identity", 0.0, str(n)) for n in range(10_500)], RunState(NOON, 0.0))
    file.write([], [], RunState(NOON + 32 * day, 32 * day))
    assert rows(path, "SELECT count(*), max(elapsed) FROM hours") == [(24, 3600.0)]
    assert rows(path, "SELECT count(*) FROM minutes") == [(24 * 60,)]
    assert rows(path, "SELECT count(*), max(text) FROM events WHERE kind = 'identity'") == [(10_000, "9999")]
    assert rows(path, "SELECT wall, text FROM events WHERE kind = 'forgotten'") == [(NOON + 499, "500 identity")]
    total = read(str(path), NOON, NOON + 2 * day).total
    assert (total.elapsed, total.heard, total.alarms) == (2 * day, 59.0 * count, 48)
    # A clock that is years ahead makes hours of all, and forgets none.
    file.write([], [], RunState(NOON + 4000 * day, 4000 * day))
    file.close()
    assert rows(path, "SELECT count(*), sum(heard) FROM hours") == [(48, 59.0 * count)]
