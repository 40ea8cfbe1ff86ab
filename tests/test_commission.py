"""The commissioning test: the real program on microphones that work, are dead or missing, and how it judges."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_runtime.app.cli import main
from edge_runtime.capture.block import Losses
from edge_runtime.commission import sound, speed
from edge_runtime.commission.check import Grade
from edge_runtime.commission.clips import ReferenceVerdict
from edge_runtime.commission.clips import judge as judge_clip
from edge_runtime.detector import Detector
from edge_runtime.system.machine import this_machine
from tests.rigs.pulse import PulseMicrophone

EXAMPLES = Path(__file__).parent.parent / "examples"
RATE = 16000
GOOD = speed.Speed(20, 20.0, 25.0, 0.5, 0.04, True, 0.1, 0.2, "microphone")


@pytest.fixture(scope="module")
def microphone() -> Iterator[PulseMicrophone]:
    with PulseMicrophone() as rig:
        yield rig


def run(environment: Mapping[str, str], *arguments: object) -> tuple[int, str, str]:
    command = [sys.executable, "-m", "edge_runtime", "commission", *map(str, arguments)]
    done = subprocess.run(command, env={**environment}, capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


def grades(told: dict[str, Any]) -> dict[str, str]:
    return {check["check"]: check["verdict"] for check in told["checks"]}


def test_a_box_with_a_quiet_microphone_is_fit(
    microphone: PulseMicrophone, exported: Callable[[str], Path], tmp_path: Path
) -> None:
    microphone.feed.hear(0, 100)
    (tmp_path / "edge-detect.toml").write_text(f'device = "hw:1"\nmodel = "{exported("streaming")}"\nhop = 0.25\n')
    arguments = ("--config", tmp_path / "edge-detect.toml", "--seconds", "1", "--json", "--output", tmp_path / "x/y")
    code, out, err = run(microphone.environment, *arguments)
    told = json.loads(out)
    assert (code, err, told["exit_code"], told["verdict"]) == (0, "", 0, "ok"), told["checks"]
    assert out == (tmp_path / "x/y").read_text()
    assert [path.name for path in (tmp_path / "x").iterdir()] == ["y"]
    assert set(grades(told)) == {
        *("configuration", "model", "microphone", "signal", "noise floor", "clipping", "losses", "channels", "speed")
    }
    (listed,) = (device for device in told["devices"] if device["name"] == "hw:1")
    assert RATE in listed["rates"]
    assert (told["device"]["asked"], told["device"]["rate"], told["device"]["channels"]) == ("hw:1", RATE, 2)
    level = 20 * np.log10(100 / np.sqrt(3) / 32768)  # of noise that is spread evenly
    assert told["sound"]["seconds"] == 1 and told["sound"]["level_dbfs"] == pytest.approx(level, abs=0.5)
    assert told["sound"]["floor_dbfs"] == pytest.approx(level, abs=1.5)
    assert told["sound"]["peak_dbfs"] == pytest.approx(20 * np.log10(100 / 32768), abs=0.5)
    assert told["speed"]["hop_seconds"] == pytest.approx(0.25, abs=0.01) and told["speed"]["sound"] == "microphone"
    assert told["speed"]["median_ms"] <= told["speed"]["p95_ms"]
    assert told["model"]["name"] == "tiny" and len(told["model"]["sha256"]) == 64


def test_a_dead_microphone_is_told_from_a_quiet_one(
    microphone: PulseMicrophone, exported: Callable[[str], Path]
) -> None:
    microphone.feed.hear(3000)
    environment = {**microphone.environment, "EDGE_DETECT_MODEL": str(exported("streaming"))}
    code, out, _ = run(environment, "--device", "hw:1", "--seconds", "1")
    assert code == 3
    (line,) = (line for line in out.splitlines() if line.startswith("fail"))
    assert "signal" in line and "+9.2% of full scale" in line
    assert "-> " in out and "not fit" in out


def test_without_a_microphone_there_is_a_report_and_the_rest_is_tested(tmp_path: Path) -> None:
    human, synthetic = EXAMPLES / "human.flac", EXAMPLES / "synthetic.flac"
    clips = (f"{human}:human", f"{human}:synthetic", f"{synthetic}:spoof", f"{tmp_path / 'none.wav'}:spoof")
    environment = {**os.environ, "HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)}
    code, out, err = run(environment, "--json", "--output", tmp_path / "report.json", "--clip", *clips)
    told = json.loads((tmp_path / "report.json").read_text())
    assert (code, err, out) == (3, "", (tmp_path / "report.json").read_text())
    assert (told["verdict"], told["exit_code"], told["device"], told["sound"]) == ("fail", 3, None, None)
    assert grades(told)["microphone"] == "fail" and grades(told)["speed"] != "fail"
    assert told["speed"]["windows"] >= 3 and told["speed"]["sound"] == "noise"
    assert [check["verdict"] for check in told["checks"] if check["check"] == "clip"] == ["ok", "fail", "ok", "fail"]
    assert all(check["todo"] for check in told["checks"] if check["verdict"] != "ok")


def test_a_wrong_configuration_or_model_is_in_the_report_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("EDGE_DETECT_CONFIG", str(tmp_path / "bad.toml"))
    (tmp_path / "bad.toml").write_text("hopp = 1\n")
    assert main(["commission", "--json"]) == 2
    told = json.loads(capsys.readouterr().out)
    assert grades(told) == {"configuration": "fail"} and "hop?" in told["checks"][0]["found"]
    assert told["configuration"] == str(tmp_path / "bad.toml") and told["machine"]["cores"] >= 1

    (tmp_path / "bad.toml").write_text(f'model = "{tmp_path / "none.onnx"}"\n')
    assert main(["commission", "--json"]) == 4
    told = json.loads(capsys.readouterr().out)
    assert grades(told) == {"configuration": "ok", "model": "fail", "microphone": "fail"}


def test_a_report_that_cannot_be_written_is_printed_all_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGE_DETECT_HOP", "soon")
    (tmp_path / "file").touch()
    assert main(["commission", "--json", "--output", str(tmp_path / "file" / "report.json")]) == 5
    said = capsys.readouterr()
    assert json.loads(said.out)["exit_code"] == 2 and said.err.count("\n") == 1 and "report.json" in said.err


@pytest.mark.parametrize(
    "arguments",
    [("--clip", "a.wav"), ("--clip", "a.wav:dog"), ("--clip", ":spoof"), ("--seconds", "0"), ("--seconds", "nan")],
)
def test_what_cannot_be_asked_for_is_refused_before_anything_is_tested(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["commission", *arguments]) == 2
    said = capsys.readouterr()
    assert said.out == "" and arguments[0] in said.err and said.err.count("\n") == 1


def judged(samples: np.ndarray, losses: Losses | None = None, constant: bool = False) -> dict[str, Grade]:
    measured = sound.measured(samples.astype(np.float32), RATE, constant, losses or Losses())
    return {check.name: check.grade for check in sound.judge(measured)}


def test_sound_is_judged_by_what_it_does_to_verdicts() -> None:
    noise = np.random.default_rng(0).standard_normal(2 * RATE)
    assert set(judged(0.001 * noise).values()) == {Grade.OK}
    assert judged(0.03 * noise)["noise floor"] == Grade.WARN
    assert judged(1e-6 * noise)["signal"] == Grade.WARN
    assert judged(np.zeros(RATE), constant=True) == {"signal": Grade.FAIL, "losses": Grade.OK}
    assert judged(0.001 * noise + 0.2)["signal"] == Grade.WARN
    pauses = np.where(np.arange(noise.size) % RATE < RATE / 3, 0.001, 0.1) * noise
    assert judged(pauses)["noise floor"] == Grade.OK, "the floor is that of the pauses"
    few, many = np.copy(0.001 * noise), np.copy(0.001 * noise)
    few[::1000], many[::50] = 1.0, 1.0
    assert (judged(few)["clipping"], judged(many)["clipping"]) == (Grade.WARN, Grade.FAIL)
    few[5] = np.nan
    assert judged(few)["signal"] == Grade.FAIL
    assert judged(noise / 1000, Losses(overflows=1))["losses"] == Grade.WARN
    assert judged(noise / 1000, Losses(lost_seconds=0.5))["losses"] == Grade.FAIL


def test_speed_is_judged_by_whether_the_hop_stays() -> None:
    assert speed.judge(GOOD).grade == Grade.OK
    tight = speed.judge(replace(GOOD, load=0.7))
    assert tight.grade == Grade.WARN and "0.1" in tight.todo
    widens = speed.judge(replace(GOOD, load=1.5, sustained=False, shortest_hop_seconds=1.7, shortest_load=0.45))
    assert widens.grade == Grade.WARN and "widen" in widens.found and "hop = 1.7" in widens.todo
    hopeless = replace(GOOD, load=9.0, sustained=False, shortest_hop_seconds=4.0, shortest_load=1.1)
    assert (speed.judge(hopeless).grade, speed.judge(hopeless).code) == (Grade.FAIL, 12)


@pytest.mark.parametrize("auto", [False, True])
def test_silence_is_timed_like_sound(exported: Callable[[str], Path], auto: bool) -> None:
    detector = Detector(exported("streaming"), hop_seconds=0.5, gate=True, least_speech_seconds=0)
    found = speed.measure(detector, np.zeros(3 * RATE, np.float32), auto)
    assert found.windows >= speed.WINDOWS and 0 < found.median_ms <= found.p95_ms
    assert found.hop_seconds == (found.shortest_hop_seconds if auto else pytest.approx(0.5, abs=0.01))


def test_an_unsure_verdict_on_a_clip_is_no_failure() -> None:
    clip = ReferenceVerdict("a.wav", "bonafide", "unsure", 0.2, 4.0, None)
    assert (judge_clip(clip).grade, judge_clip(clip).code) == (Grade.WARN, 0)
    wrong = judge_clip(replace(clip, verdict="spoof", score=-3.0))
    assert (wrong.grade, wrong.code) == (Grade.FAIL, 12)


def test_a_board_and_its_memory_are_read(tmp_path: Path) -> None:
    (tmp_path / "proc/device-tree").mkdir(parents=True)
    (tmp_path / "proc/device-tree/model").write_text("Raspberry Pi 4 Model B Rev 1.4\0")
    (tmp_path / "proc/meminfo").write_text("MemTotal:        3884360 kB\nMemFree:  1 kB\n")
    machine = this_machine(tmp_path)
    assert machine.board == machine.processor == "Raspberry Pi 4 Model B Rev 1.4"
    assert machine.memory_bytes == 3884360 * 1024
    assert this_machine(tmp_path / "nothing").memory_bytes is None
