"""Silence, noise and music are not scored as speech; a voice is."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge_runtime.decision.speech import CHUNK, RATE, SpeechGate
from edge_runtime.decision.verdict import Reason, Verdict, Window
from edge_runtime.detector import Detector
from edge_runtime.errors import UsageError

Sound = NDArray[np.float32]


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Sound:
    """Six seconds that a synthesizer speaks."""
    path = tmp_path_factory.mktemp("speech") / "clip.wav"
    text = "Somebody is speaking here, and goes on to speak for some time, so that windows are full of it."
    subprocess.run(["flite", "-voice", "slt", "-t", text, "-o", str(path)], check=True)
    sound, rate = soundfile.read(path, dtype="float32")
    return np.asarray(soxr.resample(sound, rate, RATE)[: 6 * RATE] * 0.5, np.float32)


def noise(seconds: float, level: float) -> Sound:
    generator = np.random.default_rng(0)
    return (level * generator.standard_normal(round(seconds * RATE))).astype(np.float32)


def chords(seconds: float) -> Sound:
    """Four chords with a decay, as of a piano."""
    time = np.arange(round(seconds * RATE)) / RATE
    envelope = np.exp(-3 * (time % 1.0))
    notes = [(220.0, 277.2, 329.6), (196.0, 246.9, 293.7), (174.6, 220.0, 261.6), (164.8, 207.7, 246.9)]
    sound = np.zeros_like(time)
    for index, chord in enumerate(notes):
        part = (time // 1.0).astype(int) % len(notes) == index
        sound += part * sum(np.sin(2 * np.pi * k * note * time) / k for note in chord for k in (1, 2, 3))
    return (0.08 * sound * envelope).astype(np.float32)


def gated(exported: Callable[[str], Path]) -> Detector:
    return Detector(str(exported("streaming")), gate=True)


def score(detector: Detector, sound: Sound) -> list[Window]:
    return detector.push(sound) + detector.flush()


def test_a_voice_is_scored_as_without_a_gate(exported: Callable[[str], Path], speech: Sound) -> None:
    free = score(Detector(str(exported("streaming"))), speech)
    windows = score(gated(exported), speech)
    spoken = [(mine, other) for mine, other in zip(windows, free, strict=True) if mine.score is not None]
    assert len(spoken) >= 0.8 * len(windows)
    assert all(mine.score == other.score and mine.verdict == other.verdict for mine, other in spoken)
    assert all(mine.speech is not None and mine.speech > 0.4 and other.speech is None for mine, other in spoken)


@pytest.mark.parametrize("sound", [noise(6, 0.05), noise(6, 0.002), chords(6)], ids=["noise", "hiss", "chords"])
def test_what_is_no_speech_is_not_scored(exported: Callable[[str], Path], sound: Sound) -> None:
    windows = score(gated(exported), sound)
    assert {window.verdict for window in windows} == {Verdict.NO_SPEECH}
    assert all(window.score is None and window.reason is Reason.NO_SPEECH for window in windows)


def test_silence_stays_silent(exported: Callable[[str], Path]) -> None:
    assert {window.verdict for window in score(gated(exported), np.zeros(3 * RATE, np.float32))} == {Verdict.SILENT}


def test_a_stream_shorter_than_a_window_is_judged_too(exported: Callable[[str], Path], speech: Sound) -> None:
    (window,) = score(gated(exported), speech[RATE : RATE + 12000])
    assert window.score is not None and window.speech is not None


@settings(max_examples=10)
@given(cuts=st.lists(st.integers(1, 6 * RATE), max_size=12))
def test_neither_the_split_nor_what_was_heard_before_matters(
    exported: Callable[[str], Path], speech: Sound, cuts: list[int]
) -> None:
    detector = gated(exported)
    score(detector, noise(1.3, 0.1))
    pushed = [window for part in np.split(speech, sorted(cuts)) for window in detector.push(part)] + detector.flush()
    assert pushed == score(gated(exported), speech)


def test_memory_does_not_grow_with_the_stream() -> None:
    gate = SpeechGate(RATE)
    for index in range(200):
        gate.push(noise(1.0, 0.1))
        gate.drop((index - 4) * RATE)
    assert len(gate._speech) <= 6 * RATE // CHUNK


def test_a_gate_at_another_rate_is_refused() -> None:
    with pytest.raises(UsageError, match="--no-gate"):
        SpeechGate(24000)
