"""The ledger and what is read from it: seconds add up whatever happens to the disk, the clock or the process."""

from __future__ import annotations

import contextlib
import io
import json
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.capture.block import CLOCK, DROPPED, HOP, IDENTITY, LOST, OUTAGE, STATE, Event
from edge_runtime.decision.alarm import OFF, ON, Alarm
from edge_runtime.decision.verdict import Reason, Verdict, Window
from edge_runtime.errors import InputError, OutputError, UsageError
from edge_runtime.report.coverage import Coverage, moment, read, show
from edge_runtime.report.ledger import Ledger, LedgerReport
from edge_runtime.report.ledger_file import LedgerFile, Minute, State
from edge_runtime.report.output import Output
from tests.small_disk import small_disk

ABOUT = {"device": "USB PnP, 48000 Hz, 1 ch", "model": "tiny", "model_sha256": "0" * 64, "version": "9"}
NOON = 1_795_608_000.0  # a whole hour, UTC
NOTHING = np.zeros(0, np.float32)


@dataclass
class Listening:
    """A run with clocks moved by hand: what the loop would call, as fast as it can be called."""

    path: Path
    wall: float = NOON
    clock: float = 1000.0
    asleep: float = 0.0
    at: float = 0.0
    complaints: list[str] = field(default_factory=list)
    told: list[Event] = field(default_factory=list)

    def __post_init__(self) -> None:
        clocks = {"clock": lambda: self.clock, "wall": lambda: self.wall, "asleep": lambda: self.asleep}
        self.ledger = Ledger(self.path, ABOUT, self.complaints.append, **clocks)
        self.report = LedgerReport(self.ledger, lambda at, event: self.told.append(event))

    def hear(self, seconds: float, step: float = 0.25) -> None:
        for _ in range(round(seconds / step)):
            self.pass_(step)
            self.at += step
            self.report.sound(self.at, NOTHING)
            self.report.moment(0.0)

    def miss(self, seconds: float, step: float = 0.25) -> None:
        for _ in range(round(seconds / step)):
            self.pass_(step)
            self.report.moment(step)

    def pass_(self, seconds: float) -> None:
        self.wall += seconds
        self.clock += seconds

    def window(self, start: float, end: float, score: float | None = 1.0, **more: Any) -> None:
        about: dict[str, Any] = {"verdict": Verdict.BONAFIDE, "clipped": 0.0, **more}
        self.report.window(
            Window(start=start, end=end, score=score, level_dbfs=-20.0, peak_dbfs=-3.0, invalid=0, **about)
        )

    def settle(self) -> None:
        assert self.ledger.settled(60)

    def coverage(self, since: float = NOON) -> Coverage:
        return read(str(self.path), since, self.wall)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite"


def rows(path: Path, query: str) -> list[tuple[Any, ...]]:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return connection.execute(query).fetchall()


def shown(path: Path, since: str, until: str | None = None, per: str | None = None, json: bool = False) -> str:
    text = io.StringIO()
    assert show(str(path), since, until, per, json, Output(text)) == 0
    return text.getvalue()


def test_a_row_a_minute_and_all_of_it_adds_up(path: Path) -> None:
    run = Listening(path)
    run.hear(150)
    run.report.event(run.at, Event(DROPPED, seconds=0.5))
    run.miss(30)
    run.hear(20)
    run.report.close()
    found = run.coverage()
    assert (found.total.elapsed, found.total.heard, found.total.lost) == pytest.approx((200, 170, 30.5))
    assert (found.total.not_running, found.total.unwritten) == (0, 0)
    assert found.total.unaccounted == pytest.approx(-0.5)
    parts = [found.between(NOON + start, NOON + start + 60).heard for start in (0, 60, 120, 180)]
    assert parts == pytest.approx([60, 60, 30, 20], abs=0.3)
    assert rows(path, "SELECT count(*) FROM minutes")[0][0] == 4
    assert rows(path, "SELECT duration, ended, device FROM runs") == [(200.0, 1, ABOUT["device"])]
    assert run.complaints == []


def test_overlapping_windows_count_with_what_they_add(path: Path) -> None:
    run = Listening(path)
    run.hear(10)
    run.window(0, 4, speech=0.5)
    run.window(0.5, 4.5, speech=1.0, clipped=0.5, reason=Reason.CLIPPED)
    run.window(1.0, 5.0, score=None, verdict=Verdict.SILENT)
    run.window(7.0, 10.0)  # after a gap in the windows
    run.report.close()
    total = run.coverage().total
    assert (total.scored, total.speech) == pytest.approx((4 + 0.5 + 3, 2 + 0.5))
    assert (total.silent, total.clipped) == pytest.approx((0.5, 0.5))


def test_alarms_have_a_time_of_day_and_seconds(path: Path) -> None:
    run = Listening(path)
    run.hear(10)
    run.report.alarm(Alarm(ON, 1, 4.0, 9.0, -3.0))
    run.hear(5)
    run.report.alarm(Alarm(OFF, 1, 4.0, 15.0, -2.5))
    run.hear(60)
    run.report.alarm(Alarm(ON, 2, 70.0, 75.0, -4.0))
    run.report.close()
    found = run.coverage()
    first, second = found.alarms
    assert (first.begin, first.end, second.begin, second.end) == (NOON + 4, NOON + 15, NOON + 70, None)
    assert (found.total.alarms, found.total.spoof) == (2, pytest.approx(5))
    assert run.coverage(NOON + 30).total.alarms == 1


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


def test_a_clock_set_ahead_leaves_a_gap_with_its_reason_and_sleep_too(path: Path) -> None:
    run = Listening(path)
    run.hear(90)
    run.wall += 3600
    run.hear(90)
    run.wall += 600
    run.asleep += 600
    run.hear(90)
    run.wall -= 9000
    run.hear(90)
    run.report.close()
    found = read(str(path), NOON - 7200, NOON + 7200)
    assert (found.total.elapsed, found.total.heard) == pytest.approx((360, 360))
    within = [gap for gap in found.gaps if gap.begin > NOON and gap.end < NOON + 7200]
    assert [round(gap.seconds, 1) for gap in within] == pytest.approx([3600, 600], abs=0.5)
    assert "set ahead by 3600" in within[0].reason
    assert "slept for 600 s" in within[1].reason
    assert [round(event.seconds) for event in run.told] == [3600, 600, -9000]


def test_a_slow_correction_of_the_clock_is_no_jump(path: Path) -> None:
    run = Listening(path)
    for _ in range(600):
        run.hear(1)
        run.wall += 0.01
    run.report.close()
    assert run.told == []
    assert run.coverage().total.elapsed == pytest.approx(600, abs=0.1)


def test_gaps_tell_when_and_why(path: Path) -> None:
    run = Listening(path)
    run.hear(20)
    run.report.event(run.at, Event(STATE, state="recovering", reason="unplugged"))
    run.miss(60)
    run.report.event(run.at, Event(OUTAGE, seconds=60.0, reason="unplugged"))
    run.report.event(run.at, Event(STATE, state="listening"))
    run.report.event(run.at, Event(IDENTITY, reason="card 2 now"))
    run.report.event(run.at, Event(HOP, seconds=1.0, reason="slow"))
    run.hear(20)
    run.miss(5)  # short: in the sums only
    run.hear(200)
    run.report.event(run.at, Event(STATE, state="stalled", reason="no sound"))
    run.miss(40)
    run.report.close()
    outage, stall = run.coverage().gaps
    assert (outage.begin, outage.end, outage.reason) == (NOON + 20, NOON + 80, "unplugged")
    assert (stall.kind, stall.reason) == ("no sound", "no sound")
    assert stall.seconds == pytest.approx(40, abs=6)
    kinds = [kind for (kind,) in rows(path, "SELECT kind FROM events ORDER BY id")]
    assert kinds.count("identity") == 1
    assert "hop" not in kinds


def test_a_storm_of_losses_is_one_event_a_minute(path: Path) -> None:
    run = Listening(path)
    for _ in range(1000):
        run.hear(0.25)
        run.report.event(run.at, Event(LOST, seconds=0.01))
    run.report.close()
    assert run.coverage().total.lost == pytest.approx(10)
    assert len(rows(path, "SELECT 1 FROM events")) == 5


WRITER = """
import sys
from pathlib import Path
from tests.test_ledger import Listening
run = Listening(Path(sys.argv[1]), wall=float(sys.argv[2]))
while True:
    run.hear(60, 1.0)
    run.settle()
    print(int(run.wall), flush=True)
"""


def writer(path: Path, start: float) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), str(start)], stdout=subprocess.PIPE, text=True, cwd=Path.cwd()
    )


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


@pytest.mark.parametrize("damage", ["text", "header", "page", "foreign", "newer"])
def test_what_is_no_ledger_is_moved_aside_whole(path: Path, damage: str) -> None:
    if damage == "text":
        path.write_bytes(b"my notes\n" * 1000)
    elif damage == "foreign":
        with contextlib.closing(sqlite3.connect(path)) as connection:
            connection.execute("CREATE TABLE places (x)")
    else:
        Listening(path).report.close()
    if damage == "newer":
        with contextlib.closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA user_version = 7")
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


def test_two_writers_wait_for_each_other_and_a_lock_costs_nothing(path: Path) -> None:
    one, two = Listening(path), Listening(path)
    for _ in range(5):
        one.hear(60)
        two.hear(60)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        one.hear(60)
        assert not one.ledger.settled(0.1)
    one.report.close()
    two.report.close()
    assert read(str(path), NOON, NOON + 400).total.heard == pytest.approx(660)
    assert two.complaints == []


@pytest.mark.parametrize("where", ["missing/ledger", "."])
def test_a_place_that_cannot_be_is_one_line(tmp_path: Path, where: str) -> None:
    with pytest.raises(OutputError, match="cannot keep a ledger") as refused:
        Ledger(tmp_path / where, ABOUT, print)
    assert "\n" not in str(refused.value)


def test_old_minutes_become_hours_and_old_hours_go(path: Path) -> None:
    file = LedgerFile(path, ABOUT, NOON, print)
    day, count = 86_400.0, 60 * 24 * 2
    minutes = [Minute(NOON + 60 * n, NOON + 60 * n + 60, 60, 59, 1, alarms=n % 60 == 0, number=n) for n in range(count)]
    file.write(minutes, [(NOON + n, "identity", 0.0, str(n)) for n in range(10_500)], State(NOON, 0.0))
    file.write([], [], State(NOON + 32 * day, 32 * day))
    assert rows(path, "SELECT count(*), max(elapsed) FROM hours") == [(24, 3600.0)]
    assert rows(path, "SELECT count(*) FROM minutes") == [(24 * 60,)]
    assert rows(path, "SELECT count(*), max(text) FROM events WHERE wall >= 500") == [(10_000, "9999")]
    total = read(str(path), NOON, NOON + 2 * day).total
    assert (total.elapsed, total.heard, total.alarms) == (2 * day, pytest.approx(59 * count), 48)
    # A clock that is years ahead makes hours of all, and forgets none.
    file.write([], [], State(NOON + 4000 * day, 4000 * day))
    file.close()
    assert rows(path, "SELECT count(*), sum(heard) FROM hours") == [(48, 59.0 * count)]


def test_the_minute_in_progress_is_no_gap(path: Path) -> None:
    run = Listening(path)
    run.hear(200)
    run.settle()
    found = run.coverage()
    assert found.total.unwritten == pytest.approx(20, abs=1)
    assert (found.total.not_running, found.gaps) == (pytest.approx(0, abs=1), ())
    later = read(str(path), NOON, NOON + 1000)
    assert "without a word" in later.gaps[0].reason
    assert later.total.not_running == pytest.approx(820, abs=1)
    run.report.close()


READER = """
import os, sys
from edge_runtime.report.coverage import read
if os.getuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
print(round(read(sys.argv[1], {noon}, {noon} + 3000).total.heard))
"""


@pytest.mark.parametrize("state", ["running", "stopped", "killed"])
def test_who_may_only_read_can_read(state: str) -> None:
    """As nobody, in a folder that only its owner may write to."""
    with tempfile.TemporaryDirectory() as name:  # pytest's own folders are closed to other users
        folder = Path(name)
        path = folder / "ledger.sqlite"
        if state == "killed":
            process = writer(path, NOON)
            assert process.stdout
            for _ in range(6):
                process.stdout.readline()
            process.kill()
            process.communicate()
        else:
            run = Listening(path)
            run.hear(310)
            run.settle()
            if state == "stopped":
                run.report.close()
        folder.chmod(0o555)
        try:
            command = [sys.executable, "-c", READER.format(noon=NOON), str(path)]
            said = subprocess.run(command, capture_output=True, text=True, cwd=Path.cwd())
        finally:
            folder.chmod(0o755)
        assert said.returncode == 0, said.stderr
        assert int(said.stdout) >= 300
        if state == "running":
            run.report.close()


def test_shown_as_text_and_as_json(path: Path) -> None:
    run = Listening(path, wall=time.time() - 3600)
    run.hear(1800, 1.0)
    run.window(0, 1000, speech=0.5)
    run.report.event(run.at, Event(STATE, state="recovering", reason="unplugged"))
    run.miss(60)
    run.report.event(run.at, Event(OUTAGE, seconds=60, reason="unplugged"))
    run.hear(1740, 1.0)
    run.report.close()
    said = shown(path, "1h", per="hour")
    assert said.splitlines()[-1] == "No alarm in 59 min 0 s of listening, 98.3 % of the time asked for."
    assert "unplugged" in said
    line = json.loads(shown(path, "1h", per="minute", json=True))
    assert line["type"] == "coverage"
    assert set(line["total"]) >= {"elapsed", "heard", "lost", "silent", "clipped", "speech", "scored", "spoof"}
    assert (line["total"]["heard"], line["total"]["lost"]) == pytest.approx((3540, 60), abs=1)
    assert line["total"]["not_running"] == pytest.approx(0, abs=2)
    assert [gap["kind"] for gap in line["gaps"]] == ["no-sound"]
    assert sum(part["heard"] for part in line["per"]) == pytest.approx(line["total"]["heard"], abs=0.01)
    assert "Nothing was heard" in shown(path, "7d", "2h")
    assert "only" in shown(path, "24h").splitlines()[-1]
    assert "ledger begins at" in shown(path, "24h")


def test_refusals_are_one_line(path: Path) -> None:
    with pytest.raises(InputError, match="there is no ledger"):
        read(str(path), 0, 1)
    path.write_text("notes " * 1000)
    with pytest.raises(InputError, match="cannot read the ledger"):
        read(str(path), 0, 1)
    for since, until in (("yesterday", None), ("-3h", None), ("1h", "2h"), ("2026-13-01", None)):
        with pytest.raises(UsageError) as refused:
            shown(path, since, until)
        assert "\n" not in str(refused.value)


def test_moments() -> None:
    assert moment("90m", NOON) == moment("1.5h", NOON) == NOON - 5400
    assert moment("30s", NOON) == NOON - 30
    assert moment("7d", NOON) == NOON - 7 * 86400
    assert moment("2026-11-24 10:00:30", NOON) - moment("2026-11-24", NOON) == 36030
    assert moment("2026-11-24 10:00", NOON) == moment("2026-11-24 10:00:00", NOON)
    assert moment("now", NOON) == NOON
