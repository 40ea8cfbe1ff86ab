"""What is measured on a window, and what in it stands against a verdict."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge_runtime.decision.quality import FRAME, LARGEST_DB, NOISY_DB, clean, measure, objection
from edge_runtime.decision.verdict import Reason, Verdict
from edge_runtime.detector import Detector
from tests.conftest import voice

Sound = NDArray[np.float32]
RATE = 16000


def noise(size: int, seed: int = 0) -> Sound:
    return np.random.default_rng(seed).standard_normal(size).astype(np.float32)


def noised(sound: Sound, snr_db: float) -> Sound:
    hiss = noise(sound.size)
    ratio = np.sqrt(np.mean(sound.astype(np.float64) ** 2) / np.mean(hiss.astype(np.float64) ** 2))
    return np.asarray(sound + hiss * ratio * 10 ** (-snr_db / 20), np.float32)


@pytest.mark.parametrize("seed", range(4))
def test_a_voice_is_noisy_when_noise_is_as_loud_and_not_before(seed: int) -> None:
    sound = 0.3 * voice(4.0, seed)
    said = {snr_db: objection(measure(noised(sound, snr_db)), 4.0) for snr_db in (40, 20, 0, -10)}
    assert said == {40: Reason.NONE, 20: Reason.NONE, 0: Reason.NOISY, -10: Reason.NOISY}


@pytest.mark.parametrize("seed", range(4))
def test_more_noise_means_less_contrast(seed: int) -> None:
    sound = 0.3 * voice(4.0, seed)
    contrasts = [measure(noised(sound, snr_db)).contrast_db for snr_db in (30, 20, 10, 0)]
    assert contrasts == sorted(contrasts, reverse=True)
    assert contrasts[-1] < NOISY_DB < contrasts[0]


def test_level_and_offset_do_not_change_the_contrast() -> None:
    sound = noised(0.3 * voice(4.0, 1), 20)
    usual = measure(sound).contrast_db
    assert measure(np.asarray(sound * 0.01, np.float32)).contrast_db == pytest.approx(usual, abs=0.01)
    assert measure(np.asarray(sound + 0.2, np.float32)).contrast_db == pytest.approx(usual, abs=0.1)


def test_loud_and_faint_halves_stand_apart_by_their_levels() -> None:
    steady = np.sign(noise(4 * RATE)) * 0.1
    steady[: 2 * RATE] *= 0.1
    assert measure(steady.astype(np.float32)).contrast_db == pytest.approx(20, abs=0.5)


def test_too_little_sound_and_digital_silence_are_not_called_noisy() -> None:
    assert measure(noise(49 * FRAME)).contrast_db == LARGEST_DB
    assert measure(np.zeros(0, np.float32)).contrast_db == LARGEST_DB
    assert measure(np.zeros(RATE, np.float32)).contrast_db == LARGEST_DB
    assert measure(np.concatenate([0.1 * noise(RATE), np.zeros(RATE, np.float32)])).contrast_db > 40


def test_graver_faults_are_named_first() -> None:
    hiss = 0.1 * noise(RATE)
    assert objection(measure(hiss), 1.0) is Reason.NOISY
    assert objection(measure(hiss, invalid=1), 1.0) is Reason.INVALID
    assert objection(measure(hiss), 0.4) is Reason.SHORT
    assert objection(measure(1e-4 * hiss), 1.0) is Reason.SILENT
    assert objection(measure(np.clip(20 * hiss, -1, 1)), 1.0) is Reason.CLIPPED


@given(size=st.integers(0, 20000), level=st.sampled_from([0.0, 1e-20, 1e-4, 0.5, 1e4]), seed=st.integers(0, 9))
def test_any_sound_can_be_measured(size: int, level: float, seed: int) -> None:
    sound, _ = clean(np.asarray(level * noise(size, seed).clip(-1, 1), np.float32))
    quality = measure(sound)
    assert 0 <= quality.contrast_db <= LARGEST_DB
    assert np.isfinite([quality.level_dbfs, quality.peak_dbfs, quality.clipped]).all()


def test_a_noisy_window_keeps_its_score_and_is_unsure(exported: Callable[[str], Path]) -> None:
    detector = Detector(str(exported("streaming")), threshold=-1e6)
    windows = detector.push(noised(0.3 * voice(2.0, 2), -5)) + detector.flush()
    assert windows and all(item.score is not None for item in windows)
    assert all(item.verdict is Verdict.UNSURE and item.reason is Reason.NOISY for item in windows)
