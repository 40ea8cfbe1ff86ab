"""A steady offset under the sound, or one that drifts, changes no verdict."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge_runtime.capture.resample import Resampler
from edge_runtime.decision.quality import clean
from edge_runtime.decision.verdict import Window
from edge_runtime.detector import Detector
from edge_runtime.errors import ModelError
from edge_runtime.model.contract import HIGH_PASS_HZ, PREFIX, Contract
from edge_runtime.model.highpass import HighPass, filtered
from edge_runtime.shadow.candidate import Candidate
from tests.conftest import voice

RATE = 16000
CORNERS = st.sampled_from([0.0, 0.5, HIGH_PASS_HZ, 90.0, 1000.0])
SOUND = voice(3, seed=8)


def in_pieces(samples: NDArray[np.float32], cuts: list[int], corner_hz: float) -> NDArray[np.float32]:
    high_pass = HighPass(corner_hz, RATE)
    return np.concatenate([high_pass.push(*clean(piece)) for piece in np.split(samples, sorted(cuts))])


@given(
    cuts=st.lists(st.integers(0, SOUND.size), max_size=20),
    damaged=st.lists(st.tuples(st.integers(0, SOUND.size - 1), st.sampled_from([np.nan, np.inf, -np.inf, 1e30]))),
    begins=st.integers(0, 50),
    corner_hz=CORNERS,
)
def test_every_split_gives_the_same_bits(
    cuts: list[int], damaged: list[tuple[int, float]], begins: int, corner_hz: float
) -> None:
    samples = SOUND.copy()
    samples[:begins] = np.nan
    for place, value in damaged:
        samples[place] = value
    found = in_pieces(samples, cuts, corner_hz)
    assert found.tobytes() == in_pieces(samples, [], corner_hz).tobytes()
    assert np.isfinite(found).all()


@pytest.mark.parametrize("corner_hz", [0.5, 5, 20, 90, 1000])
def test_it_is_the_high_pass_that_it_says(corner_hz: float) -> None:
    turn = math.tan(math.pi * corner_hz / RATE)
    pole = (1 - turn) / (1 + turn)
    expected = SOUND[:20000].tolist()
    for before in (expected[0], 0.0):
        state, last, output = 0.0, before, []
        for value in expected:
            state, last = pole * state + (1 + pole) / 2 * (value - last), value
            output.append(state)
        expected = output
    np.testing.assert_allclose(filtered(SOUND[:20000], corner_hz, RATE), expected, atol=1e-7)
    tone = np.sin(2 * np.pi * corner_hz * np.arange(20 * RATE) / RATE).astype(np.float32)
    rest = filtered(tone, corner_hz, RATE)[10 * RATE :]
    assert np.sqrt(np.mean(rest.astype(np.float64) ** 2)) == pytest.approx(math.sqrt(1 / 2) / 2, rel=1e-3)


@given(value=st.floats(-1, 1, width=32), corner_hz=CORNERS.filter(bool))
def test_a_constant_is_nothing_from_its_first_sample_on(value: float, corner_hz: float) -> None:
    assert not filtered(np.full(5000, value, np.float32), corner_hz, RATE).any()


def test_without_a_corner_sound_passes_as_it_is() -> None:
    assert np.array_equal(filtered(SOUND, 0.0, RATE), SOUND)


def test_damaged_samples_leave_no_trace_behind_them() -> None:
    damaged = SOUND + np.float32(0.25)
    damaged[20000:20010] = [np.nan, np.inf, -np.inf, 1e30, -1e30, 3e4, np.nan, 1e38, -3e4, np.inf]
    mended = SOUND + np.float32(0.25)
    mended[20000:20010] = mended[19999]
    assert np.array_equal(in_pieces(damaged, [], HIGH_PASS_HZ), in_pieces(mended, [], HIGH_PASS_HZ))


def test_digital_silence_after_sound_ends_in_zeros_and_never_in_denormal_numbers() -> None:
    high_pass = HighPass(HIGH_PASS_HZ, RATE)
    high_pass.push(SOUND)
    rest = high_pass.push(np.zeros(5 * RATE, np.float32))
    assert not rest[-RATE:].any()
    assert np.abs(rest[rest != 0]).min() > np.finfo(np.float32).tiny


def test_nothing_grows_with_time() -> None:
    high_pass = HighPass(HIGH_PASS_HZ, RATE)
    minutes = np.resize(SOUND + np.float32(0.5), 120 * RATE)
    first = high_pass.push(minutes)
    for _ in range(5):
        last = high_pass.push(minutes)
    assert np.abs(last[RATE:] - first[RATE:]).max() < 1e-6


@pytest.mark.parametrize("text", ["-1", "0.01", "1001", "nan", "inf", "1e400", "twenty"])
def test_a_corner_that_cannot_be_is_refused(text: str) -> None:
    good = Contract("streaming", "edge", RATE, RATE, 9, np.ones((2, 65), np.float32)).to_metadata()
    with pytest.raises(ModelError):
        Contract.from_metadata({**good, f"{PREFIX}high_pass_hz": text})


def test_a_file_says_its_corner_and_an_older_one_has_the_usual() -> None:
    contract = Contract("streaming", "edge", RATE, RATE, 9, np.ones((2, 65), np.float32), high_pass_hz=42.5)
    metadata = contract.to_metadata()
    assert Contract.from_metadata(metadata).high_pass_hz == 42.5
    del metadata[f"{PREFIX}high_pass_hz"]
    assert Contract.from_metadata(metadata).high_pass_hz == HIGH_PASS_HZ


# The detector


def windows_of(detector: Detector, samples: NDArray[np.float32]) -> list[Window]:
    return detector.push(samples) + detector.flush()


@pytest.fixture(scope="module")
def detector(exported: Callable[[str], Path]) -> Detector:
    return Detector(exported("streaming"), gate=True, least_speech_seconds=0)


STRETCH = np.concatenate([voice(2, seed=4), np.zeros(RATE, np.float32), voice(1.5, seed=5)])
TIMES = np.arange(STRETCH.size) / RATE


@given(offset=st.one_of(st.floats(-0.3, 0.3), st.sampled_from([0.01, 0.03, 0.1])))
def test_a_constant_changes_neither_score_nor_verdict_nor_reason(detector: Detector, offset: float) -> None:
    found = windows_of(detector, STRETCH + np.float32(offset))
    for one, other in zip(found, windows_of(detector, STRETCH), strict=True):
        assert (one.verdict, one.reason, one.speech) == (other.verdict, other.reason, other.speech)
        assert one.level_dbfs == pytest.approx(other.level_dbfs, abs=0.01)
        assert (one.score is None) == (other.score is None)
        assert one.score is None or one.score == pytest.approx(other.score, abs=2e-3)


@pytest.mark.parametrize("offset", [0.1 * TIMES / 4, 0.1 * np.sin(2 * np.pi * 0.1 * TIMES)], ids=["ramp", "slow wave"])
def test_a_drift_changes_no_verdict(detector: Detector, offset: NDArray[np.float64]) -> None:
    found = windows_of(detector, (STRETCH + offset).astype(np.float32))
    for one, other in zip(found, windows_of(detector, STRETCH), strict=True):
        assert (one.verdict, one.reason) == (other.verdict, other.reason)
        assert one.score is None or other.score is None or one.score == pytest.approx(other.score, abs=0.02)


def test_a_drift_alone_is_silence(detector: Detector) -> None:
    drift = (0.2 * np.sin(2 * np.pi * 0.05 * np.arange(4 * RATE) / RATE)).astype(np.float32)
    assert {window.verdict for window in windows_of(detector, drift)} == {"silent"}


def test_after_a_step_only_the_windows_that_hold_it_have_other_scores(detector: Detector) -> None:
    place = round(1.2 * RATE)
    stepped = STRETCH.copy()
    stepped[place:] += np.float32(0.1)
    found = windows_of(detector, stepped)
    for one, other in zip(found, windows_of(detector, STRETCH), strict=True):
        holds = one.start * RATE - 0.5 * RATE <= place < one.end * RATE  # what rings is gone after half a second
        assert (one.verdict, one.reason) == (other.verdict, other.reason) or holds
        if not holds and one.score is not None and other.score is not None:
            assert one.score == pytest.approx(other.score, abs=2e-3)


def test_clipping_and_peak_are_those_of_the_sound_as_it_came(detector: Detector) -> None:
    (window, *_) = windows_of(detector, np.clip(STRETCH + np.float32(0.9), -1, 1))
    assert window.peak_dbfs == pytest.approx(0, abs=0.01) and window.clipped > 0.01 and window.reason == "clipped"


def test_another_model_on_trial_hears_what_it_would_hear_alone(exported: Callable[[str], Path]) -> None:
    detector = Detector(exported("streaming"), hop_seconds=0.5)
    candidate = Candidate(detector)
    offset = STRETCH + np.float32(0.2)
    candidate.hear(0, offset)
    for window in detector.push(offset):
        if window.score is not None:
            score, _ = candidate.score(round(window.start * RATE), round(window.end * RATE), True)
            assert score == pytest.approx(window.score, abs=1e-5)


# The resampler


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000])
def test_a_constant_neither_rings_at_the_start_nor_at_the_end_of_a_resampled_sound(rate: int) -> None:
    resampler = Resampler(rate, RATE)
    constant = np.full(rate, 0.3, np.float32)
    found = np.concatenate([resampler.push(constant[:1000]), resampler.push(constant[1000:]), resampler.flush()])
    assert len(found) == RATE and np.abs(found - 0.3).max() < 1e-6


def test_a_contract_with_another_corner_is_obeyed(exported: Callable[[str], Path]) -> None:
    network = Detector(exported("streaming")).network
    contract = network.contract
    network.contract = replace(contract, high_pass_hz=0.0)
    plain, offset = (windows_of(Detector(network), sound) for sound in (SOUND, SOUND + np.float32(0.3)))
    assert max(abs((a.score or 0) - (b.score or 0)) for a, b in zip(plain, offset, strict=True)) > 0.01
