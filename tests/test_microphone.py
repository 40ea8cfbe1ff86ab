"""The real program on a microphone that needs no hardware; and the parts between card and analysis."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge_runtime.capture.device.ring import Ring
from edge_runtime.capture.loss import LossMeter
from tests.rigs.jack import JackMicrophone
from tests.rigs.pulse import PulseMicrophone

PROGRAM = [sys.executable, "-m", "edge_runtime"]


@pytest.fixture
def microphone() -> Iterator[PulseMicrophone]:
    with PulseMicrophone() as rig:
        yield rig


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> NDArray[np.int16]:
    """Speech, int16 at 16 kHz."""
    path = tmp_path_factory.mktemp("speech") / "clip.wav"
    subprocess.run(["flite", "-t", "A microphone that nobody can touch hears this.", "-o", str(path)], check=True)
    sound, rate = soundfile.read(path, dtype="float32")
    return (soxr.resample(sound, rate, 16000) * 32767).clip(-32768, 32767).astype(np.int16)


def start(rig: PulseMicrophone | JackMicrophone, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*PROGRAM, *arguments], env=rig.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def first_window(program: subprocess.Popen[str]) -> dict[str, Any]:
    assert program.stdout
    while True:
        line: dict[str, Any] = json.loads(program.stdout.readline())
        if line["type"] == "window":
            return line


def end(program: subprocess.Popen[str]) -> tuple[int, list[dict[str, Any]], str]:
    out, err = program.communicate(timeout=60)
    return program.returncode, [json.loads(line) for line in out.splitlines()], err


def test_the_microphone_is_listed_without_noise(microphone: PulseMicrophone) -> None:
    code, devices, err = end(start(microphone, "--list-devices"))
    assert (code, err) == (0, "")
    assert "hw:1" in [device["name"] for device in devices]


def test_speech_at_the_microphone_is_heard_and_a_duration_ends_it(
    microphone: PulseMicrophone, exported: Callable[[str], Path], speech: NDArray[np.int16]
) -> None:
    program = start(microphone, "--model", str(exported("streaming")), "--device", "hw:1", "--duration", "6")
    assert first_window(program)["verdict"] == "silent"
    microphone.feed.play(speech)
    code, [*lines, summary], err = end(program)
    assert (code, err) == (0, "")
    assert summary["type"] == "summary" and summary["seconds"] == 6
    windows = [line for line in lines if line["type"] == "window"]
    loudest = max(line["peak_dbfs"] for line in windows)
    expected = 20 * np.log10(np.abs(speech.astype(float)).max() / 32768)
    assert loudest == pytest.approx(expected, abs=0.01), "not bit-exact"
    assert (summary["overflows"], summary["dropped_seconds"], summary["lost_seconds"]) == (0, 0, 0)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_listening_with_the_summary(
    microphone: PulseMicrophone, exported: Callable[[str], Path], number: int
) -> None:
    program = start(microphone, "--model", str(exported("streaming")), "--device", "hw:1")
    first_window(program)
    program.send_signal(number)
    code, lines, err = end(program)
    assert (code, err) == (0, "")
    assert lines[-1]["type"] == "summary" and lines[-1]["seconds"] >= 1


def test_without_patience_a_stalled_and_an_unplugged_microphone_end_with_what_was_heard(
    microphone: PulseMicrophone, exported: Callable[[str], Path]
) -> None:
    arguments = ["--model", str(exported("streaming")), "--device", "hw:1", "--recover-timeout", "0"]
    stalled = start(microphone, *arguments)
    first_window(stalled)
    microphone.feed.pause()
    code, lines, err = end(stalled)
    assert code == 3 and "no sound for" in err and err.count("\n") == 1
    assert lines[-1]["type"] == "summary" and lines[-1]["error"] and lines[-1]["seconds"] >= 1

    microphone.feed.resume()
    unplugged = start(microphone, *arguments)
    first_window(unplugged)
    microphone.kill()
    code, lines, err = end(unplugged)
    assert code == 3 and "hw:1" in err and err.count("\n") == 1, err
    assert lines[-1]["type"] == "summary" and lines[-1]["seconds"] >= 1


def test_an_unknown_microphone_lists_those_that_there_are(
    microphone: PulseMicrophone, exported: Callable[[str], Path]
) -> None:
    code, lines, err = end(start(microphone, "--model", str(exported("streaming")), "--device", "gramophone"))
    assert (code, lines) == (3, []) and "hw:1" in err and err.count("\n") == 1


def test_a_microphone_that_knows_48_khz_only_is_heard_and_its_dying_server_hangs_nothing(
    exported: Callable[[str], Path], tmp_path: Path
) -> None:
    tone = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(48000) / 48000)
    soundfile.write(tmp_path / "tone.wav", tone, 48000)
    with JackMicrophone(tmp_path / "tone.wav", 48000) as rig:
        arguments = ["--model", str(exported("streaming")), "--device", "hw:1"]
        code, lines, err = end(start(rig, *arguments, "--duration", "2"))
        assert (code, err) == (0, "")
        assert lines[-1]["seconds"] == 2
        levels = [line["level_dbfs"] for line in lines if line["type"] == "window"]
        print("RMS of a tone of -9 dBFS:", levels)  # a busy machine starves JACK, which tears the tone
        assert max(levels) == pytest.approx(-9.03, abs=0.5)

        dying = start(rig, *arguments, "--recover-timeout", "0")
        first_window(dying)
        rig.kill()
        code, lines, err = end(dying)
        assert code == 3 and err.count("\n") == 1, err
        assert lines[-1]["type"] == "summary"


@given(steps=st.lists(st.tuples(st.booleans(), st.integers(0, 25)), max_size=40), capacity=st.integers(1, 30))
def test_the_ring_gives_everything_once_in_order_and_counts_what_it_dropped(
    steps: list[tuple[bool, int]], capacity: int
) -> None:
    ring = Ring(capacity, 1)
    pushed = 0
    position = 0
    for push, count in [*steps, (False, capacity)]:
        if push:
            ring.push(np.arange(pushed, pushed + count, dtype=np.float32)[:, None])
            pushed += count
        else:
            frames, dropped = ring.take(count, 0.0)
            position += dropped
            assert frames[:, 0].tolist() == list(range(position, position + len(frames)))
            position += len(frames)
    assert position == pushed


@given(st.floats(-300e-6, 300e-6), st.lists(st.floats(0, 0.2), min_size=400, max_size=400))
def test_a_drifting_clock_and_late_bursts_are_no_loss(drift: float, delays: list[float]) -> None:
    meter = LossMeter(16000)
    found = [meter.add(100 + (index * 0.1 + delay) * (1 + drift), 1600) for index, delay in enumerate(delays)]
    assert sum(found) == 0


@given(st.floats(0.5, 10), st.integers(60, 200))
def test_a_gap_is_found_whatever_its_length(gap: float, when: int) -> None:
    meter = LossMeter(16000)
    found = [meter.add(index * 0.1 + (gap if index >= when else 0), 1600) for index in range(400)]
    assert sum(found) == pytest.approx(gap, abs=0.15)
