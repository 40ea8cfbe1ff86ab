"""Sound to time with: something like speech, made here, the same on every machine."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_runtime.model.contract import Contract
from edge_runtime.model.frontend import FilterBank


def window_input(contract: Contract) -> NDArray[np.float32]:
    """What the network takes for one window of something like speech: [1, filters, frames] or [1, samples].

    Not silence or noise: quantized activations and the logarithm of the envelope should see what they are for.
    """
    sound = speech_like(contract.window_samples, contract.sample_rate)
    if contract.form == "waveform":
        return sound[None]
    return FilterBank(contract.filters, contract.pool, contract.leading_zeros).whole(sound)[None]


def speech_like(samples: int, sample_rate: int) -> NDArray[np.float32]:
    """Gliding harmonics below 4 kHz in syllables, over faint noise: float32 [samples], the same at each call."""
    generator = np.random.default_rng(0)
    times = np.arange(samples) / sample_rate
    pitch_hz = 130 + 25 * np.sin(2 * np.pi * 0.7 * times)
    phase = 2 * np.pi * np.cumsum(pitch_hz) / sample_rate
    sound = np.zeros(samples)
    for harmonic in range(1, 25):
        sound += np.sin(harmonic * phase + generator.uniform(0, 2 * np.pi)) / harmonic
    syllables = np.maximum(0.0, np.sin(2 * np.pi * 2.5 * times)) ** 2
    return (0.1 * sound * syllables + 0.002 * generator.standard_normal(samples)).astype(np.float32)
