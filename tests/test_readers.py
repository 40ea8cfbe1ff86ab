"""Whoever does not read what the program says, and whatever hangs, keeps it neither from listening nor from head."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import signal
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from tests.program import PROGRAM
from tests.rigs.pulse import PulseMicrophone
from tests.running import coverage

_ENDS_SECONDS = 40.0
"""Generous: on a quiet machine it takes three."""


@pytest.fixture
def microphone() -> Iterator[PulseMicrophone]:
    """Hears syllables of noise, of which every window is an alarm's."""
    with PulseMicrophone() as rig:
        syllables = np.abs(np.sin(np.arange(120 * 16000) / 1600)) ** 4
        noise = 3000 * syllables * np.random.default_rng(0).standard_normal(len(syllables))
        rig.feed.play(noise.clip(-32768, 32767).astype("<i2"))
        yield rig


class Unread:
    """The program on a microphone, with everything that it has beside standard output."""

    def __init__(self, rig: PulseMicrophone, folder: Path, model: Path, more: str = "") -> None:
        self.ledger, self.told, self.clips = folder / "ledger", folder / "told", folder / "clips"
        self._configuration = folder / "edge-detect.toml"
        self._configuration.write_text(
            f'model = "{model}"\ngate = false\nledger = "{self.ledger}"\nexec = "tee -a {self.told}"\n'
            f'save_clips = "{self.clips}"\nalarm_on = 1e5\nalarm_off = 1e5\nsmoothing = 0\nalarm_duration = 0\n{more}'
        )
        self.environment = {**os.environ, **rig.environment, "TERM": "xterm"}

    def start(self, *arguments: str, **pipes: Any) -> subprocess.Popen[bytes]:
        words = [*PROGRAM, "--device", "hw:1", "--config", str(self._configuration), *arguments]
        return subprocess.Popen(words, env=self.environment, **pipes)

    def alarms(self) -> list[str]:
        """What the command for alarms has been given."""
        text = self.told.read_text() if self.told.exists() else ""
        return [json.loads(line)["alarm"] for line in text.splitlines()]


def wait_until(so: Callable[[], bool], seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not so():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def page_pipe() -> tuple[int, int]:
    """A pipe that holds as little as pipes can: some 16 lines."""
    heard, said = os.pipe()
    fcntl.fcntl(said, fcntl.F_SETPIPE_SZ, 4096)
    return heard, said


def waiting(descriptor: int) -> int:
    """Bytes that nobody has read yet."""
    return int.from_bytes(fcntl.ioctl(descriptor, termios.FIONREAD, bytes(4)), sys.byteorder)


def test_nobody_reads_and_all_else_goes_on_and_one_signal_ends_it(
    microphone: PulseMicrophone, exported: Callable[[str], Path], tmp_path: Path
) -> None:
    """Standard output and the log lead into one pipe, as with `2>&1 |`."""
    unread = Unread(microphone, tmp_path, exported("streaming"), "hop = 0.05\n")
    heard, said = page_pipe()
    process = unread.start("--json", stdout=said, stderr=said)
    try:
        wait_until(lambda: waiting(heard) > 3500)
        full = time.monotonic()
        wait_until(lambda: "on" in unread.alarms() and time.monotonic() - full > 4)
        process.send_signal(signal.SIGTERM)
        assert process.wait(_ENDS_SECONDS) == 0
    finally:
        process.kill()
        os.close(heard)
        os.close(said)
    assert unread.alarms() == ["on", "off"]
    assert len(list(unread.clips.glob("*.flac"))) == 1
    total = coverage(unread.ledger)["total"]
    assert total["alarms"] == 1 and total["heard"] > 4
    assert abs(total["elapsed"] - total["heard"] - total["lost"]) < 1.5


def test_a_reader_that_comes_back_learns_what_it_missed(
    microphone: PulseMicrophone, exported: Callable[[str], Path], tmp_path: Path
) -> None:
    unread = Unread(microphone, tmp_path, exported("streaming"), "hop = 0.01\n")
    heard, said = page_pipe()
    with open(tmp_path / "log", "wb") as log:
        process = unread.start("--json", stdout=said, stderr=log)
    os.close(said)
    lines: list[dict[str, Any]] = []
    try:
        wait_until(lambda: "standard output is not read" in (tmp_path / "log").read_text())
        with open(heard) as pipe:
            reader = threading.Thread(target=lambda: lines.extend(map(json.loads, pipe)))
            reader.start()
            wait_until(lambda: any(line.get("event") == "unread" for line in list(lines)))
            process.send_signal(signal.SIGTERM)
            assert process.wait(_ENDS_SECONDS) == 0
            reader.join()
    finally:
        process.kill()
    lost = [line["count"] for line in lines if line.get("event") == "unread"]
    assert lost and lines[-1]["type"] == "summary" and lines[-1]["unread_lines"] == sum(lost)
    windows = [line["end"] for line in lines if line["type"] == "window"]
    assert windows == sorted(windows)
    assert sum(lines[-1]["windows"].values()) == len(windows) + sum(lost)
    assert [line["alarm"] for line in lines if line["type"] == "alarm"] == ["on", "off"]
    assert f"is read again: {lost[0]} lines of it were lost" in (tmp_path / "log").read_text()


def test_a_stopped_terminal_keeps_nobody_from_ending(
    microphone: PulseMicrophone, exported: Callable[[str], Path], tmp_path: Path
) -> None:
    """Ctrl-S."""
    unread = Unread(microphone, tmp_path, exported("streaming"))
    screen, terminal = pty.openpty()
    process = unread.start("--no-json", stdin=terminal, stdout=terminal, stderr=terminal)
    try:
        os.read(screen, 1)
        termios.tcflow(terminal, termios.TCOOFF)
        wait_until(lambda: "on" in unread.alarms())
        process.send_signal(signal.SIGTERM)
        assert process.wait(_ENDS_SECONDS) == 0
    finally:
        process.kill()
        os.close(screen)
        os.close(terminal)
    assert unread.alarms() == ["on", "off"]


def test_what_it_has_started_does_not_outlive_it(
    microphone: PulseMicrophone, exported: Callable[[str], Path], tmp_path: Path
) -> None:
    """Killed, with a command for alarms that hangs, and its own child with it."""
    model = exported("streaming")
    unread = Unread(microphone, tmp_path, model, f'shadow = "{model}"\nexec_timeout = 3600\n')
    hang = tmp_path / "hang"
    hang.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid\nsleep 4321 &\nwait\n")
    hang.chmod(0o755)
    process = unread.start("--json", "--exec", str(hang), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text() != "")
        command = int((tmp_path / "pid").read_text())
        family = {command, *children(process.pid), *children(command)}
        assert len(family) >= 4  # the microphone, the trial, the command and what it has started
    finally:
        process.kill()
        process.wait()
    wait_until(lambda: not any(alive(number) for number in family))


def children(number: int) -> list[int]:
    listed = subprocess.run(["pgrep", "-P", str(number)], capture_output=True, text=True)
    return [int(line) for line in listed.stdout.split()]


def alive(number: int) -> bool:
    try:
        return Path(f"/proc/{number}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture
def long_file(tmp_path: Path) -> Path:
    path = tmp_path / "long.wav"
    soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, 60 * 16000), 16000)
    return path


def scoring(path: Path, model: Path, **pipes: Any) -> subprocess.Popen[bytes]:
    words = [*PROGRAM, "--file", str(path), "--model", str(model), "--hop", "0.05"]
    return subprocess.Popen(words, **pipes)


def test_a_file_waits_for_its_reader_until_it_is_asked_to_end(
    long_file: Path, exported: Callable[[str], Path], tmp_path: Path
) -> None:
    heard, said = page_pipe()
    process = scoring(long_file, exported("streaming"), stdout=said, stderr=subprocess.PIPE)
    try:
        wait_until(lambda: waiting(heard) > 0)
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=_ENDS_SECONDS)
    finally:
        process.kill()
        os.close(heard)
        os.close(said)
    assert process.returncode == 5
    assert errors == b"edge-detect: standard output is not read: it lacks what came last\n"


def test_a_file_loses_nothing_to_a_slow_reader(long_file: Path, exported: Callable[[str], Path]) -> None:
    heard, said = page_pipe()
    process = scoring(long_file, exported("streaming"), stdout=said)
    os.close(said)
    wait_until(lambda: waiting(heard) > 0)
    with open(heard) as pipe:
        lines = [json.loads(line) for line in pipe]
    assert process.wait(_ENDS_SECONDS) == 0
    windows = [line["end"] for line in lines if line["type"] == "window"]
    assert len(windows) == sum(lines[-1]["windows"].values()) and windows == sorted(windows)
    assert "unread_lines" not in lines[-1]


HANGS = """
import sys, threading
from edge_runtime.run.stop import Stop
stop = Stop()
stop.patience = float(sys.argv[1])
lock = threading.Lock()
lock.acquire()
with stop.heeded():
    print("hangs", flush=True)
    lock.acquire()
"""


@pytest.mark.parametrize(("patience", "code"), [(0.5, 0), (2.0, 5)], ids=["at the start", "in a run"])
def test_a_call_that_hangs_does_not_keep_it_from_ending(patience: float, code: int) -> None:
    words = [sys.executable, "-c", HANGS, str(patience)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout and process.stdout.readline() == "hangs\n"
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=_ENDS_SECONDS)
    assert process.returncode == code
    assert errors.count("\n") == (1 if code else 0)
