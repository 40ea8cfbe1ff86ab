"""Clips of alarms: the right sound with the right words beside it, whole or not at all, and never over the budget."""

from __future__ import annotations

import hashlib
import json
import random
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from edge_runtime.capture.block import LOST, OUTAGE, STATE, Event
from edge_runtime.decision.alarm import OFF, ON, Alarm
from edge_runtime.decision.verdict import Verdict, Window
from edge_runtime.errors import OutputError
from edge_runtime.report.evidence import Evidence
from tests.small_disk import small_disk

RATE = 8000
ABOUT = {"device": "a microphone", "model": "tiny", "model_sha256": "0" * 64, "version": "9"}
NOON = 1_795_608_000.0


class Listening:
    """A run that hears a sound of which every second is known by its value."""

    def __init__(
        self, folder: Path, before: float = 2.0, after: float = 1.0, budget: int = 10_000_000, spare: int = 0
    ) -> None:
        self.complaints: list[str] = []
        self.evidence = Evidence(
            folder,
            before,
            after,
            budget,
            ABOUT,
            RATE,
            self.complaints.append,
            clock=lambda: 500.0 + self.at,
            wall=lambda: NOON + self.at,
            spare_bytes=spare,
        )
        self.at = 0.0

    def hear(self, seconds: float, noise: bool = False) -> None:
        for _ in range(round(seconds * 4)):
            sound = ramp(self.at, 0.25)
            if noise:
                sound = np.random.default_rng(round(4 * self.at)).uniform(-0.5, 0.5, sound.size).astype(np.float32)
            self.at += 0.25
            self.evidence.sound(self.at, sound)
            self.evidence.window(
                Window(self.at - 0.25, self.at, -1.0, Verdict.SPOOF, level_dbfs=-20, peak_dbfs=-3, clipped=0, invalid=0)
            )
            self.evidence.moment(0.0)

    def alarm(self, kind: str, number: int, start: float) -> None:
        self.evidence.alarm(Alarm(kind, number, start, self.at, -2.0))


def ramp(start: float, seconds: float) -> NDArray[np.float32]:
    """Sound whose samples tell when they were."""
    times = start + np.arange(round(seconds * RATE)) / RATE
    return (times / 1000).astype(np.float32)


def clips(folder: Path) -> list[tuple[NDArray[np.float64], dict[str, Any]]]:
    """All pairs, in the order of their names."""
    found = []
    for path in sorted(folder.glob("*.json")):
        told = json.loads(path.read_text())
        assert told["file"] == path.with_suffix(".flac").name
        assert soundfile.info(path.with_suffix(".flac")).subtype == "PCM_16"
        found.append((soundfile.read(path.with_suffix(".flac"))[0], told))
    return found


def test_a_clip_has_the_sound_around_the_alarm_and_says_what_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "clips"
    run = Listening(folder)
    run.hear(20)
    run.alarm(ON, 1, 15.0)
    run.hear(5)
    run.alarm(OFF, 1, 15.0)
    run.evidence.event(run.at, Event(LOST, seconds=0.5))
    run.hear(10)
    run.evidence.close()
    ((sound, told),) = clips(folder)
    assert sound == pytest.approx(ramp(13.0, 13.0), abs=1 / 32768)
    assert [line["alarm"] for line in told["alarms"]] == ["on", "off"]
    assert (told["start"], told["end"], told["cut"], told["interrupted"]) == (13.0, 26.0, False, False)
    assert told["time"].startswith("2026-") and told["monotonic"] == 515.0
    assert {name: told[name] for name in ABOUT} == ABOUT
    assert [window["end"] for window in told["windows"]] == [13.25 + 0.25 * n for n in range(52)]
    assert [event["event"] for event in told["events"]] == ["lost"]
    assert stat.S_IMODE(folder.stat().st_mode) == 0o750
    assert [stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()] == [0o640, 0o640]
    assert run.complaints == []


def test_a_long_alarm_is_cut_and_memory_is_not(tmp_path: Path) -> None:
    run = Listening(tmp_path)
    run.hear(10)
    run.alarm(ON, 1, 8.0)
    run.hear(300)
    run.alarm(OFF, 1, 8.0)
    run.hear(100)
    run.alarm(ON, 2, run.at - 90)  # longer ago than sound is held
    run.evidence.close()
    first, second = clips(tmp_path)
    assert (len(first[0]) / RATE, first[1]["cut"]) == (62.0, True)
    assert first[0] == pytest.approx(ramp(6.0, 62.0), abs=1 / 32768)
    assert second[1]["cut"]
    assert 0 < len(second[0]) / RATE <= 62.0
    held = sum(block.size for block in run.evidence._blocks)
    assert held <= (2 + 60 + 1 + 6) * RATE


def test_what_is_not_over_is_written_at_the_end_and_when_no_sound_comes(tmp_path: Path) -> None:
    run = Listening(tmp_path)
    run.hear(5)
    run.alarm(ON, 1, 4.0)
    run.evidence.event(run.at, Event(STATE, state="recovering", reason="gone"))
    run.alarm(OFF, 1, 4.0)
    for _ in range(60):
        run.evidence.moment(0.25)
    run.evidence.event(run.at, Event(OUTAGE, seconds=15.0))
    run.hear(5)
    run.alarm(ON, 2, 9.0)
    run.evidence.close()
    (first, told), (second, _) = clips(tmp_path)
    assert (len(first) / RATE, len(second) / RATE) == (3.0, 3.0)
    assert told["start"] == 2.0


def test_the_budget_holds_at_every_moment_and_the_oldest_go_first(tmp_path: Path) -> None:
    """On a disk that has little more room than the budget, so that a moment above it would be told."""
    budget = 600_000
    with small_disk(tmp_path / "disk", 680) as disk:
        folder = disk.folder
        (folder / "mine.flac").write_bytes(bytes(1000))
        (folder / "edge-detect-notes.txt").write_text("mine too")
        link = folder / "edge-detect-20200101T000000.000Z-0001.flac"
        link.symlink_to("mine.flac")
        most = 0
        for chance in (random.Random(1), random.Random(2)):
            run = Listening(folder, budget=budget)
            run.at = 5000.0 if most else 0.0
            for number in range(1, 13):
                run.hear(8, noise=True)
                run.alarm(ON, number, run.at - 2)
                run.hear(chance.choice([1, 4, 9]), noise=True)
                run.alarm(OFF, number, run.at - 3)
                run.hear(2, noise=True)
                run.evidence.settled()
                pairs = clips(folder)
                assert pairs[-1][1]["alarms"][0]["number"] == number, "the newest is kept"
                most = max(most, sum(path.stat().st_size for path in folder.glob("*edge-detect-2026*")))
            run.evidence.close()
            assert run.complaints == []
        assert budget / 2 < most <= budget
        assert (folder / "mine.flac").stat().st_size == 1000
        assert (folder / "edge-detect-notes.txt").exists()
        assert link.is_symlink()


def test_a_clip_that_is_larger_than_the_budget_is_told(tmp_path: Path) -> None:
    run = Listening(tmp_path, budget=10_000)
    run.hear(20, noise=True)
    run.alarm(ON, 1, 18.0)
    run.evidence.close()
    assert clips(tmp_path) == []
    assert "larger" in run.complaints[0]


def test_a_full_disk_is_told_once_and_listening_goes_on(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 400) as disk:
        run = Listening(disk.folder)
        disk.fill()
        for number in (1, 2, 3):
            run.hear(10, noise=True)
            run.alarm(ON, number, run.at - 2)
            run.alarm(OFF, number, run.at - 2)
            run.hear(2, noise=True)
        run.evidence.settled()
        assert len(set(run.complaints)) == 1
        assert disk.mounted == ("no room" in run.complaints[0])  # else the FLAC in memory may not grow either
        assert [path.name for path in disk.folder.iterdir() if path.name != "filler"] == []
        disk.free()
        run.alarm(ON, 4, run.at - 2)
        run.evidence.close()
        assert len(clips(disk.folder)) == 1
        assert len(set(run.complaints)) == 1 + disk.mounted


def test_on_a_full_disk_the_oldest_clips_go_for_new_ones_and_for_others(tmp_path: Path) -> None:
    """The ledger is such another."""
    with small_disk(tmp_path / "disk", 800) as disk:
        (disk.folder / "mine.flac").write_bytes(bytes(1000))
        run = Listening(disk.folder, spare=100_000)
        for number in range(1, 7):
            if number == 6:
                disk.fill()
            run.hear(10, noise=True)
            run.alarm(ON, number, run.at - 2)
            run.alarm(OFF, number, run.at - 2)
            run.hear(2, noise=True)
            run.evidence.settled()
        kept = [told["alarms"][0]["number"] for _, told in clips(disk.folder)]
        if disk.mounted:
            assert kept in ([3, 4, 5, 6], [4, 5, 6], [5, 6])
            assert len(run.complaints) == 1 and "the oldest clips are removed" in run.complaints[0]
        else:  # files that may not grow: nothing that is removed would help
            assert kept == [1, 2, 3, 4, 5]
            assert len(set(run.complaints)) == 1
        run.evidence.close()
        disk.fill()
        Listening(disk.folder, spare=100_000).evidence.close()
        if disk.mounted:
            (disk.folder / "ledger").write_bytes(bytes(80_000))
        assert (disk.folder / "mine.flac").stat().st_size == 1000


def test_room_for_others_is_made_of_clips_alone(tmp_path: Path) -> None:
    """On any disk, by asking for more room than there is."""
    (tmp_path / "mine.flac").write_bytes(bytes(1000))
    for spare in (0, 1 << 60):
        run = Listening(tmp_path, spare=spare)
        for number in (1, 2):
            run.at += 100
            run.hear(10)
            run.alarm(ON, number, run.at - 2)
            run.alarm(OFF, number, run.at - 2)
            run.hear(2)
            run.evidence.settled()
        run.evidence.close()
        assert len(clips(tmp_path)) == (1 if spare else 2)
    assert (tmp_path / "mine.flac").stat().st_size == 1000
    assert len(run.complaints) == 1


WRITER = """
import sys
from pathlib import Path
from tests.test_evidence import Listening
run = Listening(Path(sys.argv[1]), budget=2_000_000)
run.at = float(sys.argv[2])
number = 0
while True:
    number += 1
    run.hear(4, noise=True)
    run.alarm("on", number, run.at - 1)
    run.alarm("off", number, run.at - 1)
    run.hear(1.25, noise=True)
    run.evidence.settled()
    print(number, flush=True)
"""


def test_kill_9_leaves_whole_pairs_and_the_next_run_clears_up(tmp_path: Path) -> None:
    for attempt in range(4):
        command = [sys.executable, "-c", WRITER, str(tmp_path), str(10_000 * attempt)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path.cwd())
        assert process.stdout
        for _ in range(3 + attempt):
            process.stdout.readline()
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        assert len(clips(tmp_path)) >= 3
    half = tmp_path / ".edge-detect-20261124T100000.000Z-0001.flac.part"
    half.write_bytes(b"half")
    (tmp_path / ".other.part").write_bytes(b"not ours")
    Listening(tmp_path).evidence.close()
    assert [path.name for path in tmp_path.glob(".*")] == [".other.part"]


POWER_CUT = """
import os, signal, sys
from pathlib import Path
from tests.test_evidence import Listening
run = Listening(Path(sys.argv[1]))
run.hear(20)
run.alarm("on", 1, 15.0)
for second in range(25):
    run.hear(1)
    run.evidence.settled()
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_power_cut_in_an_alarm_leaves_its_clip_until_shortly_before(tmp_path: Path) -> None:
    for _ in ("a first time", "and when the pair is there already"):
        subprocess.run([sys.executable, "-c", POWER_CUT, str(tmp_path)], cwd=Path.cwd())
        (draft,) = tmp_path.glob(".*")
        assert stat.S_IMODE(draft.stat().st_mode) == 0o640
        half = tmp_path / f"{draft.name}.part"
        half.write_bytes(b"half")
        run = Listening(tmp_path)
        run.evidence.close()
        ((sound, told),) = clips(tmp_path)
        assert (told["start"], told["cut"], told["interrupted"]) == (13.0, True, True)
        assert 35.0 <= told["end"] <= 45.0
        assert sound == pytest.approx(ramp(13.0, told["end"] - 13.0), abs=1 / 32768)
        assert [line["alarm"] for line in told["alarms"]] == ["on"]
        assert told["windows"][-1]["end"] == told["end"]
        flac = tmp_path / told["file"]
        assert told["sha256"] == hashlib.sha256(flac.read_bytes()).hexdigest()
        assert len(list(tmp_path.iterdir())) == 2
        assert run.complaints == []


@pytest.mark.parametrize(("where", "why"), [("file/clips/x", "/file is no folder"), ("file", "/file: it is no folder")])
def test_a_folder_that_cannot_be_is_one_line(tmp_path: Path, where: str, why: str) -> None:
    (tmp_path / "file").write_text("a file")
    with pytest.raises(OutputError, match="cannot keep clips") as refused:
        Listening(tmp_path / where)
    assert "\n" not in str(refused.value) and str(refused.value).endswith(why)


def test_sound_that_is_none_is_kept_as_silence(tmp_path: Path) -> None:
    run = Listening(tmp_path)
    run.evidence.sound(1.0, np.array([np.nan, np.inf, 2.0, -2.0] * (RATE // 4), np.float32))
    run.at = 1.0
    run.alarm(ON, 1, 0.5)
    run.evidence.close()
    ((sound, _),) = clips(tmp_path)
    assert sound[:4] == pytest.approx([0, 0, 1, -1], abs=1e-4)
