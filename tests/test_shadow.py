"""A candidate beside the running model: what is counted, and that nothing which befalls it reaches the verdicts."""

from __future__ import annotations

import dataclasses
import fcntl
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import termios
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from edge_runtime.decision.verdict import Verdict, Window
from edge_runtime.detector import Detector
from edge_runtime.settings.schema import Settings
from edge_runtime.shadow.order import TrialRequest
from edge_runtime.shadow.report import Shadow
from edge_runtime.shadow.trial import FAILED, PASSED, TRYING, TrialCounts, judge
from edge_runtime.system.log import Log
from tests import hostile_models as hostile
from tests.confined import allowed
from tests.conftest import voice
from tests.waiting import until

SECONDS = 20
HUMAN = ("--threshold", "-30")  # with it the tiny models call all that they hear bona fide
Exported = Callable[[str], Path]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sound") / "voice.wav"
    soundfile.write(path, voice(SECONDS), 16000)
    return path


def listen(model: Path, sound: Path, *options: str) -> tuple[str, str]:
    """What the real program prints of a file, and its complaints."""
    command = [
        sys.executable,
        "-m",
        "edge_runtime",
        "--model",
        str(model),
        "--file",
        str(sound),
        "--no-gate",
        "--json",
        "--hop",
        "0.25",
    ]
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=True)
    return done.stdout, done.stderr


def tried(model: Path, sound: Path, candidate: Path, report: Path, *options: str) -> tuple[str, str, dict[str, Any]]:
    """The same with a candidate beside it, and the trial's report."""
    shadow = ("--shadow", str(candidate), "--shadow-report", str(report), "--shadow-windows", "15")
    printed, complaints = listen(model, sound, *shadow, *options)
    return printed, complaints, json.loads(report.read_text())


def test_every_window_is_scored_by_both_and_the_verdicts_stay_as_they_were(
    exported: Exported, sound: Path, tmp_path: Path
) -> None:
    alone, _ = listen(exported("streaming"), sound)
    # The same network in another form: it computes in its own way, and must come to the same verdicts.
    printed, _, report = tried(exported("streaming"), sound, exported("waveform"), tmp_path / "report")
    windows = [json.loads(line) for line in printed.splitlines()][:-1]
    assert printed == alone
    tally = report["tally"]
    assert tally["offered"] == tally["both"] == tally["agree"] == len(windows) > 4 * SECONDS - 8
    assert tally["heard_seconds"] == pytest.approx(SECONDS) and tally["dropped_seconds"] == 0
    assert sum(tally["loads"].values()) == len(windows)
    assert (report["state"], tally["bonafide"]) == (TRYING, 0), "nothing was called bona fide, and it was decided"

    again = tried(exported("streaming"), sound, exported("waveform"), tmp_path / "report")[2]
    assert again["tally"]["both"] == 2 * len(windows), "the trial was not carried on"


def test_a_candidate_that_does_as_well_passes(exported: Exported, sound: Path, tmp_path: Path) -> None:
    _, complaints, report = tried(exported("streaming"), sound, exported("waveform"), tmp_path / "report", *HUMAN)
    assert report["state"] == PASSED
    assert report["agree_percent"] == 100 and report["bonafide_called_spoof_percent"] == 0
    assert 0 < report["score_time_hops"]["p50"] <= report["score_time_hops"]["p95"] < 1
    assert "has passed" in complaints


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda path, model: None, "no such model file"),
        (lambda path, model: path.write_bytes(model.read_bytes()[:5000]), "cannot open the model"),
        (lambda path, model: path.write_text("no model at all"), "cannot open the model"),
        (lambda path, model: path.write_bytes(hostile.expanded()), "MB of memory"),
    ],
    ids=["missing", "cut short", "something else", "too large"],
)
def test_a_candidate_that_cannot_be_costs_one_line(
    exported: Exported, sound: Path, tmp_path: Path, make: Callable[[Path, Path], object], why: str
) -> None:
    candidate = tmp_path / "candidate.onnx"
    make(candidate, exported("streaming"))
    printed, complaints, report = tried(exported("streaming"), sound, candidate, tmp_path / "report")
    assert printed == listen(exported("streaming"), sound)[0]
    assert len(complaints.splitlines()) == 1 and why in complaints
    assert report["state"] == FAILED and why in report["reason"]


def test_a_report_that_cannot_be_written_costs_one_line(exported: Exported, sound: Path, tmp_path: Path) -> None:
    report = str(tmp_path / "nowhere" / "report")
    options = ("--shadow", str(exported("waveform")), "--shadow-report", report, "--log-level", "warning")
    printed, complaints = listen(exported("streaming"), sound, *options)
    assert printed == listen(exported("streaming"), sound)[0]
    assert len(complaints.splitlines()) == 1 and report in complaints


def shadow(exported: Exported, report: Path) -> tuple[Shadow, Detector, io.StringIO]:
    """A live trial that has begun."""
    detector = Detector(exported("streaming"), hop_seconds=0.25)
    settings = Settings(device="hw:1", shadow=str(exported("waveform")), shadow_report=str(report))
    order = TrialRequest.of(settings, detector)
    assert order
    said = io.StringIO()
    made = Shadow(order, Log(stream=said, journal=False))

    def tried() -> bool:
        made.moment(0.0)
        assert "failed" not in said.getvalue()
        return "is tried" in said.getvalue()

    until(tried, said.getvalue)
    return made, detector, said


def process_of(made: Shadow) -> int:
    assert made._process
    return made._process.pid


def drained(made: Shadow) -> None:
    """Waits until the process has read all that it was handed."""
    until(lambda: not int.from_bytes(fcntl.ioctl(made._in, termios.FIONREAD, bytes(4)), sys.byteorder))


def hear(made: Shadow, detector: Detector, seconds: int, begin: int = 0) -> None:
    """A second after the other, as fast as they can be handed on."""
    samples = voice(1.0)
    for second in range(begin, begin + seconds):
        made.sound(second + 1.0, samples)
        for window in detector.push(samples):
            made.window(window)
        made.moment(0.0)


def test_one_that_stands_still_misses_sound_and_nobody_waits_for_it(exported: Exported, tmp_path: Path) -> None:
    made, detector, said = shadow(exported, tmp_path / "report")
    hear(made, detector, 1)
    os.kill(process_of(made), signal.SIGSTOP)
    hear(made, detector, 59, begin=1)  # the pipe holds 16 s
    os.kill(process_of(made), signal.SIGCONT)

    def sent() -> bool:
        made.window(Window(0, 1, None, Verdict.SILENT, 0, 0, 0, 0))
        made.moment(0.0)
        return not made._rest

    until(sent, said.getvalue)
    drained(made)
    hear(made, detector, 5, begin=60)
    drained(made)
    made.close()
    tally = json.loads((tmp_path / "report").read_text())["tally"]
    assert tally["dropped_seconds"] > 30
    assert 60 < tally["heard_seconds"] + tally["dropped_seconds"] <= 65, "the end may be too late for it"
    assert 0 < tally["both"] <= 4 * tally["heard_seconds"]


@pytest.mark.parametrize(("number", "why"), [(signal.SIGKILL, "signal 9"), (signal.SIGSTOP, "hangs")])
def test_one_that_dies_or_hangs_has_failed_and_the_report_says_so(
    exported: Exported, tmp_path: Path, number: signal.Signals, why: str
) -> None:
    made, detector, said = shadow(exported, tmp_path / "report")
    process = process_of(made)
    if number == signal.SIGSTOP:
        made._patience = 0.3
    hear(made, detector, 3)
    os.kill(process, number)
    begin = 3

    def failed() -> bool:
        nonlocal begin
        hear(made, detector, 10, begin)
        begin += 10
        return "failed" in said.getvalue()

    until(failed, said.getvalue)
    hear(made, detector, 3, begin)
    made.close()
    assert said.getvalue().count("failed") == 1 and why in said.getvalue()
    report = json.loads((tmp_path / "report").read_text())
    assert report["state"] == FAILED and why in report["reason"]
    assert not Path(f"/proc/{process}").exists()


def test_its_process_has_the_lowest_priority_and_is_the_first_to_go_without_memory(
    exported: Exported, tmp_path: Path
) -> None:
    made, _, _ = shadow(exported, tmp_path / "report")
    process = process_of(made)
    assert os.getpriority(os.PRIO_PROCESS, process) == 19
    assert Path(f"/proc/{process}/oom_score_adj").read_text().strip() == "1000"
    made.close()


def test_the_service_leaves_it_the_calls_for_that() -> None:
    left, _ = allowed(Path(__file__).parent.parent / "deploy/systemd/edge-detect.service")
    assert {"setpriority", "prctl", "prlimit64", "kill"} <= left and "sched_setscheduler" not in left


GOOD = TrialCounts(
    heard_seconds=700,
    offered=600,
    both=600,
    agree=590,
    bonafide=300,
    bonafide_spoof=3,
    alarms_running=2,
    loads={-20: 600},
)


@pytest.mark.parametrize(
    ("changes", "state", "why"),
    [
        ({}, PASSED, "98.3% alike"),
        ({"both": 599}, TRYING, "599 of 600"),
        ({"heard_seconds": 599.0}, TRYING, "599 s"),
        ({"bonafide": 59}, TRYING, "59 of 60"),
        ({"loads": {-20: 569, 1: 31}}, FAILED, "too slow"),
        ({"loads": {-20: 571, 1: 29}}, PASSED, ""),
        ({"dropped_seconds": 80.0}, FAILED, "passed it by"),
        ({"both": 10, "offered": 1200}, FAILED, "does not keep up"),
        ({"bonafide_spoof": 16}, FAILED, "calls spoof 5.3%"),
        ({"alarms_candidate": 5}, PASSED, ""),
        ({"alarms_candidate": 6}, FAILED, "6 alarms"),
    ],
)
def test_what_decides(changes: dict[str, Any], state: str, why: str) -> None:
    judged = judge(dataclasses.replace(GOOD, **changes), 600)
    assert judged.state == state and why in judged.reason


def test_a_full_disk_leaves_the_old_report(exported: Exported, tmp_path: Path) -> None:
    from edge_runtime.shadow import statefile

    path = str(tmp_path / "report")
    models = statefile.Models("new", "1" * 64, "old", "2" * 64)
    statefile.write(path, statefile.TrialRecord(models, 600, tally=GOOD))
    before = Path(path).read_bytes()
    shutil.copy(path, tmp_path / ".report.part")  # what a power cut left
    assert statefile.read(path) and statefile.resumed(path, models)
    assert statefile.resumed(path, dataclasses.replace(models, running_sha256="3" * 64)) is None
    statefile.write(path, statefile.TrialRecord(models, 600, tally=dataclasses.replace(GOOD, both=1)))
    assert Path(path).read_bytes() != before and not (tmp_path / ".report.part").exists()
    for text in ("", "{", "[]", '{"schema": 1}', before.decode().replace('"both": 600', '"both": "x"')):
        Path(path).write_text(text)
        assert statefile.read(path) is None


def test_sound_that_is_no_number_is_no_trouble(exported: Exported, tmp_path: Path) -> None:
    made, detector, _ = shadow(exported, tmp_path / "report")
    samples = voice(3.0)
    samples[::7] = np.nan
    made.sound(3.0, samples)
    for window in detector.push(samples):
        made.window(window)
    made.close()
    report = json.loads((tmp_path / "report").read_text())
    assert report["state"] == TRYING and report["tally"]["both"] == 0
