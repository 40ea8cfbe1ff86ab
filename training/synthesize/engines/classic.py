"""Copy-synthesis by signal processing alone: Griffin-Lim, linear prediction, MLSA, and imitations of
what neural vocoders get wrong (lost harmonics' phase, over-smooth spectra, buzzing or hissing excitation)."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.linalg import solve_toeplitz
from scipy.signal import lfilter

from training.synthesize.dsp import (
    Spectrum,
    Wave,
    griffin_lim,
    hann,
    istft,
    mel_smoothed,
    minimum_phase,
    pulses_and_noise,
    stft,
)
from training.synthesize.engine import CopyEngine, Generator, Need, load
from training.synthesize.engines.world import NEED as PITCH
from training.synthesize.engines.world import pitch_of_samples

OURS = "this project's licence (own implementation)"
SIZES = ((512, 128), (1024, 256), (1024, 128), (2048, 256))
"""STFT sizes and hops in samples that the spectral vocoders draw from."""


def random_phase(shape: tuple[int, ...], generator: Generator) -> Spectrum:
    return generator.uniform(-np.pi, np.pi, shape)


def griffin_lim_linear(wave: Wave, rate: int, generator: Generator) -> Wave:
    """The original magnitude, all phase lost, 8 to 60 rounds of Griffin-Lim."""
    size, hop = SIZES[generator.integers(len(SIZES))]
    magnitude = np.abs(stft(wave, size, hop))
    rounds = int(generator.integers(8, 61))
    return griffin_lim(magnitude, random_phase(magnitude.shape, generator), hop, len(wave), rounds)


def griffin_lim_mel(wave: Wave, rate: int, generator: Generator) -> Wave:
    """As `griffin_lim_linear`, from a magnitude of 80 mel bands: the vocoder of the first neural voices."""
    size, hop = SIZES[generator.integers(1, len(SIZES))]
    magnitude = mel_smoothed(np.abs(stft(wave, size, hop)), rate, 80)
    rounds = int(generator.integers(8, 61))
    return griffin_lim(magnitude, random_phase(magnitude.shape, generator), hop, len(wave), rounds)


def phase_guess(wave: Wave, rate: int, generator: Generator) -> Wave:
    """The original magnitude with a guessed phase that a few rounds leave inconsistent.

    The guess is the true phase blurred by noise, all zero, or each bin's centre frequency run on.
    """
    size, hop = SIZES[generator.integers(len(SIZES))]
    spectrum = stft(wave, size, hop)
    kind = generator.integers(3)
    phase = np.zeros(spectrum.shape)
    if kind == 0:
        phase += np.angle(spectrum) + generator.uniform(0.5, 1.8) * generator.standard_normal(spectrum.shape)
    elif kind == 1:
        phase += 2 * np.pi * hop / size * np.outer(np.arange(spectrum.shape[0]), np.arange(spectrum.shape[1]))
    return griffin_lim(np.abs(spectrum), phase, hop, len(wave), int(generator.integers(0, 6)), momentum=0.0)


def mel_source(wave: Wave, rate: int, generator: Generator) -> Wave:
    """A mel envelope (40 to 80 bands) put upon pulses and noise, with minimum or zero phase."""
    size, hop = SIZES[generator.integers(1, len(SIZES))]
    bands = int(generator.integers(40, 81))
    envelope = mel_smoothed(np.abs(stft(wave, size, hop)), rate, bands)
    pitch = pitch_of_samples(wave, rate)
    source = pulses_and_noise(pitch, rate, generator, generator.uniform(0.02, 0.5))
    shape = minimum_phase(envelope) if generator.random() < 0.6 else envelope
    excited = stft(source, size, hop)
    if generator.random() < 0.5:
        level = np.abs(excited)
        excited = excited / np.maximum(level, 1e-9) * level ** generator.uniform(0.3, 1.0)
    return istft(excited * shape, size, hop, len(wave))


def linear_prediction(wave: Wave, rate: int, generator: Generator) -> Wave:
    """LPC-10 and its kin: an all-pole filter of order 12 to 32 each 10 ms, driven by pulses and noise.

    Autocorrelation method; half the time the excitation keeps a part of the true residual.
    """
    order = int(generator.integers(12, 33))
    hop = rate // 100
    size = 3 * hop
    source = pulses_and_noise(pitch_of_samples(wave, rate), rate, generator, generator.uniform(0.02, 0.4))
    kept = generator.uniform(0.2, 0.7) if generator.random() < 0.5 else 0.0
    padded = np.pad(wave, (hop, size))
    out = np.zeros(len(wave) + hop)
    state, memory = np.zeros(order), np.zeros(order)
    for start in range(0, len(wave), hop):
        frame = padded[start : start + size] * hann(size)
        lags = np.correlate(frame, frame, "full")[size - 1 : size + order]
        lags[0] = lags[0] * 1.0001 + 1e-9
        poles = np.concatenate([[1.0], -solve_toeplitz(lags[:order], lags[1:])])
        residual, memory = lfilter(poles, [1.0], padded[start + hop : start + 2 * hop], zi=memory)
        gain = np.sqrt(np.mean(residual**2))
        drive = (1 - kept) * gain * np.pad(source[start : start + hop], (0, hop))[:hop] + kept * residual
        out[start : start + hop], state = lfilter([1.0], poles, drive, zi=state)
    return out[: len(wave)]


def pysptk() -> Any:
    """The module, imported when first used."""
    return load("pysptk")


def mel_cepstrum(wave: Wave, rate: int, generator: Generator) -> Wave:
    """Mel-cepstrum of order 20 to 30 through the MLSA filter (Imai 1983), as HTS voices speak."""
    tools = pysptk()
    order, hop, alpha = int(generator.integers(20, 31)), 80, 0.42
    power = np.abs(stft(wave, 512, hop)) ** 2 / 128 + 1e-9
    filters = np.apply_along_axis(tools.mc2b, 1, tools.sp2mc(power, order, alpha), alpha)
    source = pulses_and_noise(pitch_of_samples(wave, rate), rate, generator, generator.uniform(0.0, 0.2))
    synthesis = tools.synthesis.Synthesizer(tools.synthesis.MLSADF(order=order, alpha=alpha), hop)
    return np.asarray(synthesis.synthesis(np.ascontiguousarray(source), np.ascontiguousarray(filters)))


NOTHING = Need("nothing")
ENGINES = [
    CopyEngine("griffin-lim", OURS, 1 / 6, NOTHING, griffin_lim_linear),
    CopyEngine("griffin-lim-mel", OURS, 1 / 6, NOTHING, griffin_lim_mel),
    CopyEngine("phase-guess", OURS, 0.2, NOTHING, phase_guess),
    CopyEngine("mel-source", OURS, 0.2, PITCH, mel_source),
    CopyEngine("lpc", OURS, 0.1, PITCH, linear_prediction),
    CopyEngine(
        "mlsa",
        "MIT (pysptk), BSD (SPTK)",
        0.1,
        Need(PITCH.install + " pysptk", (*PITCH.modules, "pysptk")),
        mel_cepstrum,
    ),
]
