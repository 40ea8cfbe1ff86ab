"""The whole program on a microphone: alarms and what follows from them, new configurations, the service manager."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.rigs.pulse import PulseMicrophone
from tests.running import Line, Running, coverage, is_state

UNIT = Path(__file__).resolve().parent.parent / "deploy" / "systemd" / "edge-detect.service"
ALL_IS_AN_ALARM = (
    "alarm_on = 1e5\nalarm_off = 1e5\nsmoothing = 0\nalarm_duration = 0\nalarm_hold = 2\nrefractory = 600\n"
)


@pytest.fixture
def microphone(exported: Callable[[str], Path]) -> Iterator[PulseMicrophone]:
    """Hears syllables of noise, from when the model is there."""
    exported("streaming")
    with PulseMicrophone() as rig:
        generator = np.random.default_rng(0)
        syllables = np.abs(np.sin(np.arange(240 * 16000) / 1600)) ** 4
        rig.feed.play((3000 * syllables * generator.standard_normal(len(syllables))).clip(-32768, 32767).astype("<i2"))
        yield rig


class Configuration:
    """A file that is changed while the program runs."""

    def __init__(self, path: Path, model: Path) -> None:
        self.path = path
        self._always = f'gate = false\nmodel = "{model}"\n'

    def write(self, text: str) -> None:
        self.path.write_text(self._always + text)


@pytest.fixture
def configuration(tmp_path: Path, exported: Callable[[str], Path]) -> Configuration:
    return Configuration(tmp_path / "edge-detect.toml", exported("streaming"))


def is_alarm(kind: str) -> Callable[[Line], bool]:
    return lambda line: line["type"] == "alarm" and line["alarm"] == kind


@pytest.mark.parametrize("confined", [False, True], ids=["free", "as the service is confined"])
def test_an_alarm_is_told_kept_and_accounted_for(
    microphone: PulseMicrophone, configuration: Configuration, tmp_path: Path, confined: bool
) -> None:
    clips, ledger, told = tmp_path / "clips", tmp_path / "ledger", tmp_path / "told"
    led = tmp_path / "LED"
    led.mkdir()
    (led / "brightness").write_text("1")
    configuration.write(
        f'{ALL_IS_AN_ALARM}save_clips = "{clips}"\nledger = "{ledger}"\nexec = "tee -a {told}"\nclip_before = 1\n'
        f'light = "{led}"\n'
    )
    prefix = (sys.executable, str(UNIT.parent.parent.parent / "tests" / "confined.py"), str(UNIT)) if confined else ()
    with Running(microphone.environment, "--config", str(configuration.path), prefix=prefix) as program:
        program.wait_for(is_alarm("on"))
        seen = []
        for _ in range(100):
            time.sleep(0.02)
            seen.append((led / "brightness").read_text())
        code, _ = program.end()
    assert code == 0, program.complaints
    assert not program.complaints
    lit = [text.strip() == "255" for text in seen]
    assert np.count_nonzero(np.diff(lit)) > 5 and (led / "brightness").read_text() == "0\n"
    on, off = (line for line in program.lines if line["type"] == "alarm")
    assert (on["alarm"], off["alarm"], off["reason"]) == ("on", "off", "break")
    assert [json.loads(line)["alarm"] for line in told.read_text().splitlines()] == ["on", "off"]
    (sound,), (about,) = clips.glob("*.flac"), clips.glob("*.json")
    assert sound.stem == about.stem
    clip, rate = soundfile.read(sound)
    assert rate == 16000 and len(clip) >= 2 * rate and np.abs(clip).max() > 0.05
    assert len(json.loads(about.read_text())["model_sha256"]) == 64
    total = coverage(ledger)["total"]
    assert total["alarms"] == 1 and total["spoof"] > 0


def test_a_command_that_is_not_there_yet_keeps_nobody_from_listening(
    microphone: PulseMicrophone, configuration: Configuration
) -> None:
    configuration.write(ALL_IS_AN_ALARM + 'exec = "/nowhere/command"\n')
    with Running(microphone.environment, "--config", str(configuration.path)) as program:
        program.wait_for(is_alarm("on"))
        code, _ = program.end()
    assert code == 0, program.complaints
    told, alarm = program.complaints.splitlines()[:2]
    assert "there is no command /nowhere/command" in told and "listening goes on" in told
    assert "/nowhere/command cannot be run" in alarm


def test_a_new_configuration_is_used_and_a_wrong_one_is_not(
    microphone: PulseMicrophone, configuration: Configuration, tmp_path: Path
) -> None:
    ledger = tmp_path / "ledger"
    first = f'ledger = "{ledger}"\nhop = 0.5\n'
    configuration.write(first)
    with Running(microphone.environment, "--config", str(configuration.path)) as program:
        program.until_heard()
        wrongs = [
            "hop = 'fast'\n",
            "hop = 50\n",
            'exec = "/nowhere/command"\n',
            f'ledger = "{tmp_path / "absent" / "folder" / "ledger"}"\n',
            'save_clips = "/proc/clips"\n',
            'model = "/nowhere/model.onnx"\n',
        ]
        for number, wrong in enumerate(wrongs):
            if wrong.startswith("model"):
                configuration.path.write_text(wrong)
            else:
                configuration.write(wrong)
            program.send(signal.SIGHUP)
            deadline = time.monotonic() + 30
            while program.complaints.count("what was in force") <= number:
                assert time.monotonic() < deadline, (wrong, program.complaints)
                time.sleep(0.1)
            program.until_heard(len(program.lines))
        configuration.write(f'ledger = "{ledger}"\nthreshold = 77\nhop = 0.25\n')
        before = len(program.lines)
        program.send(signal.SIGHUP)
        summary = program.wait_for(lambda line: line["type"] == "summary" and line["hop_seconds"] == 0.5, before)
        heard = program.until_heard(summary)
        program.until_heard(heard + 1)
        code, _ = program.end()
    assert code == 0 and "Traceback" not in program.complaints
    states = [line["state"] for line in program.lines if line.get("event") == "state"]
    assert states == ["connecting", "listening"], "the microphone stayed open"
    assert program.lines[heard]["start"] == 0 and program.lines[heard]["verdict"] == "spoof"
    assert program.lines[heard + 1]["start"] == 0.25
    total = coverage(ledger)["total"]
    assert abs(total["unaccounted"]) < 1.5 and total["lost"] < 1.5, total


def test_another_microphone_is_opened_and_the_old_one_heard_to_its_end(
    microphone: PulseMicrophone, configuration: Configuration
) -> None:
    configuration.write("")
    with Running(microphone.environment, "--config", str(configuration.path)) as program:
        program.until_heard()
        configuration.write("channel = 1\n")
        program.send(signal.SIGHUP)
        summary = program.wait_for(lambda line: line["type"] == "summary")
        program.until_heard(summary)
        code, _ = program.end()
    assert code == 0, program.complaints
    states = [line["state"] for line in program.lines if line.get("event") == "state"]
    assert states == ["connecting", "listening"] * 2


def test_the_service_manager_hears_of_start_life_state_reload_and_end(
    microphone: PulseMicrophone, configuration: Configuration, tmp_path: Path
) -> None:
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(address)
        manager.settimeout(30)

        def until(wanted: str) -> list[str]:
            told: list[str] = []
            deadline = time.monotonic() + 60
            while not any(line.startswith(wanted) for line in told):
                assert time.monotonic() < deadline, (wanted, told)
                told += manager.recv(4096).decode().splitlines()
            return told

        configuration.write("")
        watched = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "2000000"}
        arguments = ("--config", str(configuration.path))
        with Running({**os.environ, **microphone.environment, **watched}, *arguments) as program:
            until("READY=1")
            until("STATUS=listening: hw:1")
            for _ in range(3):
                until("WATCHDOG=1")
            microphone.kill()
            until("STATUS=recovering")
            until("WATCHDOG=1")
            microphone.restart()
            until("STATUS=listening")
            program.send(signal.SIGHUP)
            until("RELOADING=1")
            until("READY=1")
            program.until_heard(program.wait_for(is_state("recovering")))
            code, _ = program.end()
            until("STOPPING=1")
    assert code == 0
