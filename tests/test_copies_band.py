"""A copy has no band that its original lacks: else that gives it away, and not by how it was made."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import signal

from training.synthesize.dsp import as_narrow

RATE = 16_000
NOISE = np.random.default_rng(0).normal(0, 0.05, 3 * RATE)


def above_db(wave: np.ndarray, edge_hz: float) -> float:
    """The share of the energy that lies above `edge_hz`, in dB."""
    hz, power = signal.welch(wave, RATE, nperseg=1024)
    return float(10 * np.log10(power[hz > edge_hz].sum() / power.sum() + 1e-12))


@pytest.mark.parametrize("edge_hz", [3400, 5500, 7500])
def test_a_copy_of_a_band_limited_recording_is_as_narrow(edge_hz: int) -> None:
    original = signal.oaconvolve(NOISE, signal.firwin(511, edge_hz, fs=RATE, window=("kaiser", 14)), mode="same")
    copy = np.random.default_rng(1).normal(0, 0.05, len(original))
    assert above_db(copy, edge_hz + 300) > -20
    assert above_db(as_narrow(copy, original, RATE), edge_hz + 300) < -40


def test_a_copy_of_a_recording_of_full_band_stays_as_it_is() -> None:
    copy = np.random.default_rng(1).normal(0, 0.05, len(NOISE))
    assert as_narrow(copy, NOISE, RATE) is copy
    assert as_narrow(copy, np.zeros(len(copy)), RATE) is copy
