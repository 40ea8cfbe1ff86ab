"""Two sounds to try a network on: the same in every run."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def voice_and_noise(samples: int, sample_rate: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """A gliding voice in syllables over faint noise, and noise alone, each float32 [samples], full scale 1."""
    seconds = np.arange(samples) / sample_rate
    phase = 2 * np.pi * (140 * seconds + 6 * np.sin(2 * np.pi * seconds))
    voice = sum(np.sin(k * phase) / k for k in range(1, 20)) * 0.1 * np.sin(2 * np.pi * 1.5 * seconds) ** 2
    noise = 0.05 * np.random.default_rng(0).standard_normal(samples)
    return (voice + noise / 20).astype(np.float32), noise.astype(np.float32)
