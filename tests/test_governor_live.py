"""The real program on a machine that is too busy for the hop asked for: it says so, covers all sound and recovers."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_runtime.decision.pace import RECOVERED, SLOW
from tests.conftest import voice
from tests.rigs.pulse import PulseMicrophone

MOST_LINES = 20_000
"""Lines to wait for an event in: several minutes of them."""


@pytest.fixture
def microphone() -> Iterator[PulseMicrophone]:
    with PulseMicrophone() as rig:
        yield rig


@contextmanager
def busy(core: int, programs: int) -> Iterator[None]:
    """Other programs that want all of a processor core."""
    with ExitStack() as stack:
        for _ in range(programs):
            program = subprocess.Popen(["taskset", "-c", str(core), sys.executable, "-c", "while True: pass"])
            stack.callback(program.wait)
            stack.callback(program.kill)
        yield


def lines_until(program: subprocess.Popen[str], reason: str) -> list[dict[str, Any]]:
    """Lines up to the event that the hop changed for a reason."""
    assert program.stdout
    lines: list[dict[str, Any]] = []
    while not lines or (lines[-1].get("event"), lines[-1].get("reason")) != ("hop", reason):
        assert len(lines) < MOST_LINES, f"the hop never changed because the box was {reason}"
        lines.append(json.loads(program.stdout.readline()))
    return lines


@pytest.mark.nightly
def test_a_busy_box_widens_the_hop_loses_nothing_and_recovers(
    microphone: PulseMicrophone, exported: Callable[[str], Path]
) -> None:
    """With a model that a window costs: one of blocks is paid for by the sound, and a wider hop saves it little."""
    core = max(os.sched_getaffinity(0))
    sound = (32767 * np.clip(voice(90, seed=4), -1, 1)).astype(np.int16)
    command = ["taskset", "-c", str(core), sys.executable, "-m", "edge_runtime", "--device", "hw:1", "--hop", "0.01"]
    command += ["--model", str(exported("streaming"))]
    command += ["--connect-timeout", "forever"]  # a machine as busy as this takes its time to open one
    with subprocess.Popen(
        command, env=microphone.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as program:
        microphone.feed.play(sound)
        with busy(core, 12):
            lines = lines_until(program, SLOW)
        lines += lines_until(program, RECOVERED)
        program.send_signal(signal.SIGTERM)
        out, err = program.communicate(timeout=60)
    lines += [json.loads(line) for line in out.splitlines()]
    assert (program.returncode, err) == (0, "")
    summary = lines.pop()
    assert summary["dropped_seconds"] == 0
    assert summary["hop_changes"] == sum(line.get("event") == "hop" for line in lines) >= 2
    assert 0.01 == summary["hop_seconds"] < summary["widest_hop_seconds"] <= 4 and summary["coarse_seconds"] > 0
    windows = [line for line in lines if line["type"] == "window"]
    for one, other in itertools.pairwise(windows):
        assert one["start"] < other["start"] <= one["end"], "sound was left out between two windows"


def test_a_program_that_stood_still_catches_up(microphone: PulseMicrophone) -> None:
    """As when a laptop's lid was closed, or another program took the whole processor for some seconds."""
    sound = (32767 * np.clip(voice(30, seed=5), -1, 1)).astype(np.int16)
    command = [sys.executable, "-m", "edge_runtime", "--device", "hw:1", "--duration", "14"]
    command += ["--connect-timeout", "forever"]
    with subprocess.Popen(
        command, env=microphone.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as program:
        microphone.feed.play(sound)
        assert program.stdout
        lines = [json.loads(program.stdout.readline())]
        program.send_signal(signal.SIGSTOP)
        for _ in range(3):
            subprocess.run(["sleep", "1"], check=True)
        program.send_signal(signal.SIGCONT)
        out, err = program.communicate(timeout=90)
    lines += [json.loads(line) for line in out.splitlines()]
    assert (program.returncode, err) == (0, "")
    summary = lines.pop()
    assert (summary["seconds"], summary["dropped_seconds"]) == (14, 0)
    windows = [line for line in lines if line["type"] == "window"]
    assert windows[0]["start"] == 0 and windows[-1]["end"] > 13.9
    for one, other in itertools.pairwise(windows):
        assert one["start"] < other["start"] <= one["end"], "sound was left out between two windows"
