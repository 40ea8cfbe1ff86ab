"""What is read from a ledger: sums, gaps with their reasons, alarms; also beside its writer and without rights."""

from __future__ import annotations

import datetime
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from edge_runtime.capture.block import DROPPED, HOP, IDENTITY, OUTAGE, STATE, Event
from edge_runtime.decision.alarm import OFF, ON, Alarm
from edge_runtime.decision.verdict import Reason, Verdict
from edge_runtime.errors import InputError, UsageError
from edge_runtime.report.coverage.report import moment, read, show
from edge_runtime.report.output import Output
from tests.booked import ABOUT, NOON, Listening, killed, rows, writer


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite"


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
    assert (total.judged, total.unjudged, total.unsorted) == pytest.approx((4 + 3, 0.5, 0))


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
    assert (found.total.alarms, found.total.spoof) == (2, 5.0)
    later = run.coverage(NOON + 30)  # within a row, which begins with the end of the first alarm
    assert (later.since, later.total.alarms, later.total.heard) == (NOON + 15, 1, 60)
    whole = [found.between(NOON + start, NOON + start + 60).alarms for start in (0, 60)]
    assert sum(whole) == 2


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


def test_the_minute_in_progress_is_no_gap(path: Path) -> None:
    run = Listening(path)
    run.hear(200)
    run.settle()
    found = run.coverage()
    assert found.total.unwritten == pytest.approx(20, abs=1)
    assert found.total.not_running == pytest.approx(0, abs=1)
    assert found.gaps == ()
    later = read(str(path), NOON, NOON + 1000)
    assert "without a word" in later.gaps[0].reason
    assert later.total.not_running == pytest.approx(820, abs=1)
    run.report.close()


def test_a_run_that_is_killed_in_its_first_minute_is_no_run_that_was_ended(path: Path) -> None:
    first = Listening(path)
    first.hear(70)
    first.report.close()
    for start in (300, 302, 1000):  # nothing but its start reaches the disk
        killed(path, NOON + start, 10)
    last = Listening(path, wall=NOON + 2000)
    last.hear(70)
    last.report.close()
    ended, gone = last.coverage().gaps
    assert (ended.begin, ended.end, ended.reason) == (NOON + 70, NOON + 300, "it was ended")
    assert (gone.begin, gone.end) == (NOON + 300, NOON + 2000)
    assert "killed" in gone.reason and "first minute" in gone.reason
    within = [gap.reason for gap in read(str(path), NOON + 400, NOON + 1990).gaps]
    assert len(within) == 2 and all("killed" in reason for reason in within)


def test_a_ledger_may_begin_with_a_run_that_is_killed(path: Path) -> None:
    killed(path, NOON + 300, 0)
    run = Listening(path, wall=NOON + 600)
    run.hear(70)
    run.report.close()
    before, gone = run.coverage().gaps
    assert (before.end, before.reason) == (NOON + 300, "before the ledger begins")
    assert (gone.begin, gone.end) == (NOON + 300, NOON + 600) and "killed" in gone.reason


READER = """
import os, sys
from edge_runtime.report.coverage.report import read
if os.getuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
print(round(read(sys.argv[1], {noon}, {noon} + 3000).total.heard))
"""


@pytest.mark.parametrize("state", ["running", "stopped", "killed"])
def test_who_may_only_read_can_read(state: str) -> None:
    """As nobody, whose group the folder's files belong to, and in a folder that only its owner may write to."""
    with tempfile.TemporaryDirectory() as name:  # pytest's own folders are closed to other users
        folder = Path(name)
        if os.getuid() == 0:
            os.chown(folder, 0, 65534)
        folder.chmod(0o2755)
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
        folder.chmod(0o2555)
        try:
            command = [sys.executable, "-c", READER.format(noon=NOON), str(path)]
            said = subprocess.run(command, capture_output=True, text=True, cwd=Path.cwd())
        finally:
            folder.chmod(0o2755)
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
    assert said.splitlines()[-1] == (
        "No alarm in 16 min 40 s that were judged, in 59 min 0 s of listening, 98.3 % of the time asked for."
    )
    assert "unplugged" in said
    line = json.loads(shown(path, "1h", per="minute", json=True))
    assert line["type"] == "coverage"
    assert set(line["total"]) >= {
        "elapsed",
        "heard",
        "lost",
        "silent",
        "clipped",
        "speech",
        "scored",
        "judged",
        "spoof",
    }
    assert (line["total"]["heard"], line["total"]["lost"]) == pytest.approx((3540, 60), abs=1)
    assert line["total"]["not_running"] == pytest.approx(0, abs=2)
    assert [gap["kind"] for gap in line["gaps"]] == ["no-sound"]
    assert sum(part["heard"] for part in line["per"]) == pytest.approx(line["total"]["heard"], abs=0.01)
    assert "Nothing was heard" in shown(path, "7d", "2h")
    assert "only" in shown(path, "24h").splitlines()[-1]
    assert "ledger begins at" in shown(path, "24h")


def test_a_cut_minute_is_told_whole_and_so_are_its_parts(path: Path) -> None:
    run = Listening(path)
    run.hear(30)
    run.miss(30)
    run.hear(300)
    run.report.close()
    found = read(str(path), NOON + 20, NOON + 200)
    assert found.widened and found.since == NOON and found.until == pytest.approx(NOON + 240, abs=0.5)
    total = found.total
    assert (total.heard, total.lost, total.asked) == pytest.approx((210, 30, 240), abs=0.6)
    assert total.heard + total.lost == pytest.approx(total.asked)
    parts = [found.between(found.since + 50 * n, min(found.since + 50 * n + 50, found.until)) for n in range(5)]
    for name in ("heard", "lost", "elapsed", "asked"):
        assert sum(getattr(part, name) for part in parts) == pytest.approx(getattr(total, name))
    local = [datetime.datetime.fromtimestamp(NOON + at).strftime("%Y-%m-%d %H:%M:%S") for at in (0, 20, 200)]
    said = shown(path, local[1], local[2])
    assert said.startswith(local[0]) and said.splitlines()[0].endswith(", to the minute")
    line = json.loads(shown(path, local[1], local[2], "minute", json=True))
    assert sum(part["heard"] for part in line["per"]) == pytest.approx(line["total"]["heard"])


def test_an_alarm_that_only_reaches_into_the_time_is_not_passed_over(path: Path) -> None:
    run = Listening(path, wall=time.time() // 60 * 60 - 600)  # rows end with minutes: none within the alarm
    run.hear(30)
    run.report.alarm(Alarm(ON, 1, 20.0, 30.0, -3.0))
    run.hear(5)
    run.report.alarm(Alarm(OFF, 1, 20.0, 35.0, -2.5))
    run.hear(565)
    run.report.close()
    assert "1 alarm in" in shown(path, "24h")
    since = datetime.datetime.fromtimestamp(run.wall - 568).strftime("%Y-%m-%d %H:%M:%S")
    said = shown(path, since).splitlines()[-1]
    assert said.startswith("No alarm began, but 5.0 s of an alarm"), said


def test_the_end_says_up_to_when_it_holds_and_clocks_may_differ_a_little(path: Path) -> None:
    run = Listening(path, wall=time.time() - 1200)
    for _ in range(3):  # the card is slow
        run.hear(390, 1.0)
        run.pass_(1.0)
    run.hear(20, 1.0)
    run.settle()
    said = shown(path, "24h")
    covered = read(str(path), run.wall - 86_400, time.time())
    assert covered.total.unwritten > 0
    if covered.total.unwritten >= 1:
        assert "may not be in the ledger yet (it is written once a minute), or are lost where" in said
    assert "This holds up to" in said.splitlines()[-1]
    assert "unaccounted for            0.0 s     0.0 %" in said
    run.report.close()
    said = shown(path, "24h")
    assert "unaccounted for            0.0 s     0.0 %" in said
    line = json.loads(shown(path, "24h", json=True))
    assert line["total"]["unaccounted"] == pytest.approx(3, abs=0.5)
    assert "This holds" not in said


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


def test_a_time_alone_is_the_last_one() -> None:
    now = moment("2026-11-24 18:50:00", NOON)
    assert moment("18:49", now) == moment("18:49:00", now) == now - 60
    assert moment("18:50", now) == now
    assert moment("18:51", now) == moment("2026-11-23 18:51", NOON)
    with pytest.raises(UsageError):
        moment("24:00", now)
