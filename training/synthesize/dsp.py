"""Signal processing shared by the vocoders: STFT, mel scale, Griffin-Lim, excitation, loudness.

Waves are float64 arrays of shape [samples] in [-1, 1]. Spectra have shape [frames, bins].
"""

from __future__ import annotations

from functools import cache

import numpy as np
import soxr
from numpy.typing import NDArray
from scipy import signal
from scipy.signal import get_window

Wave = NDArray[np.float64]
Spectrum = NDArray[np.float64]

PEAK = 0.98
"""Highest absolute sample a finished clip may have."""
BAND_FLOOR = 1e-7
"""Power density, as a share of the largest, below which a recording has nothing: 16-bit rounding lies there."""


def resample(wave: Wave, rate: int, new_rate: int) -> Wave:
    """`wave` [samples] at `rate` Hz as [samples * new_rate / rate] at `new_rate` Hz."""
    return wave if rate == new_rate else soxr.resample(wave, rate, new_rate, quality="VHQ")


def fit_length(wave: Wave, samples: int) -> Wave:
    """The first `samples` of `wave`, with zeros behind where it is shorter."""
    return np.pad(wave[:samples], (0, max(0, samples - len(wave))))


def as_narrow(wave: Wave, original: Wave, rate: int) -> Wave:
    """`wave` without what lies above the band of `original`, where that ends below half of `rate`.

    A vocoder fills bands that its original has not, which tells copies by their band and not by how they were made.
    """
    hz, power = signal.welch(original, rate, nperseg=min(1024, len(original)))
    heard = np.flatnonzero(power > BAND_FLOOR * power.max(initial=0.0))
    edge = float(hz[heard[-1]]) if len(heard) else 0.0
    if not 500 <= edge < 0.485 * rate:
        return wave
    return np.asarray(signal.oaconvolve(wave, signal.firwin(255, edge, fs=rate), mode="same"), np.float64)


def rms(wave: Wave) -> float:
    """Root mean square of `wave`, 0 for an empty one."""
    return float(np.sqrt(np.mean(wave**2))) if len(wave) else 0.0


def set_level(wave: Wave, level: float) -> Wave:
    """`wave` scaled to RMS `level`, or lower where a peak would pass PEAK."""
    wave = wave * (level / max(rms(wave), 1e-9))
    return wave * min(1.0, PEAK / max(float(np.max(np.abs(wave), initial=0.0)), 1e-9))


@cache
def hann(size: int) -> Wave:
    """Periodic Hann window [size]."""
    return np.asarray(get_window("hann", size), dtype=np.float64)


def stft(wave: Wave, size: int, hop: int) -> NDArray[np.complex128]:
    """Centred short-time Fourier transform [1 + samples // hop, size // 2 + 1], reflected at the ends."""
    padded = np.pad(wave, size // 2, mode="reflect" if len(wave) > size // 2 else "constant")
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[::hop]
    return np.fft.rfft(frames * hann(size), axis=1)


def istft(spectrum: NDArray[np.complex128], size: int, hop: int, samples: int) -> Wave:
    """Inverse of `stft` by weighted overlap-add; `size` has to be a multiple of `hop`."""
    frames = np.fft.irfft(spectrum, size, axis=1) * hann(size)
    count, parts = len(frames), size // hop
    wave = np.zeros((count + parts, hop))
    weight = np.zeros((count + parts, hop))
    for part in range(parts):
        at = slice(part * hop, (part + 1) * hop)
        wave[part : part + count] += frames[:, at]
        weight[part : part + count] += hann(size)[at] ** 2
    whole = wave.ravel() / np.maximum(weight.ravel(), 1e-3)
    return fit_length(whole[size // 2 :], samples)


@cache
def mel_filters(rate: int, size: int, bands: int, low: float, high: float) -> Spectrum:
    """Triangular filters [bands, size // 2 + 1] on Slaney's mel scale with unit area, as librosa's default.

    Linear below 1 kHz (200/3 Hz a mel), logarithmic above (27 mels to a factor of 6.4).
    """

    def to_mel(hertz: Wave) -> Wave:
        bent = 15.0 + 27.0 * np.log(np.maximum(hertz, 1e-9) / 1000.0) / np.log(6.4)
        return np.where(hertz < 1000.0, hertz * 3.0 / 200.0, bent)

    def to_hertz(mel: Wave) -> Wave:
        return np.where(mel < 15.0, mel * 200.0 / 3.0, 1000.0 * np.exp((mel - 15.0) * np.log(6.4) / 27.0))

    ends = to_mel(np.array([low, high]))
    edges = to_hertz(np.linspace(ends[0], ends[1], bands + 2))
    bins = np.fft.rfftfreq(size, 1.0 / rate)
    rise = (bins - edges[:-2, None]) / np.diff(edges)[:-1, None]
    fall = (edges[2:, None] - bins) / np.diff(edges)[1:, None]
    return np.maximum(0.0, np.minimum(rise, fall)) * (2.0 / (edges[2:] - edges[:-2]))[:, None]


@cache
def mel_inverse(rate: int, size: int, bands: int, low: float, high: float) -> Spectrum:
    """Pseudo-inverse [size // 2 + 1, bands] of `mel_filters`: what a decoder without a network would use."""
    return np.asarray(np.linalg.pinv(mel_filters(rate, size, bands, low, high)), dtype=np.float64)


def mel_smoothed(magnitude: Spectrum, rate: int, bands: int) -> Spectrum:
    """`magnitude` [frames, bins] after a trip through `bands` mel bands: its fine structure is gone."""
    key = (rate, 2 * (magnitude.shape[1] - 1), bands, 0.0, rate / 2)
    mel = magnitude @ mel_filters(*key).T
    floor = 1e-3 * mel.max(axis=1, keepdims=True) + 1e-7
    return np.asarray(np.maximum(mel @ mel_inverse(*key).T, floor))


def griffin_lim(
    magnitude: Spectrum, phase: Spectrum, hop: int, samples: int, rounds: int, momentum: float = 0.99
) -> Wave:
    """Wave [samples] whose STFT magnitude approaches `magnitude`, from a first guess of its `phase`.

    Griffin and Lim 1984, in the fast form of Perraudin, Balazs and Søndergaard 2013 (`momentum` > 0).
    """
    size = 2 * (magnitude.shape[1] - 1)
    turn = np.exp(1j * phase)
    previous = np.zeros_like(turn)
    for _ in range(rounds):
        rebuilt = stft(istft(magnitude * turn, size, hop, samples), size, hop)[: len(magnitude)]
        ahead = rebuilt + momentum * (rebuilt - previous)
        turn = ahead / np.maximum(np.abs(ahead), 1e-12)
        previous = rebuilt
    return istft(magnitude * turn, size, hop, samples)


def minimum_phase(magnitude: Spectrum) -> NDArray[np.complex128]:
    """Minimum-phase spectrum [frames, bins] of a magnitude, by folding its real cepstrum."""
    size = 2 * (magnitude.shape[1] - 1)
    cepstrum = np.fft.irfft(np.log(np.maximum(magnitude, 1e-9)), size, axis=1)
    cepstrum[:, 1 : size // 2] *= 2.0
    cepstrum[:, size // 2 + 1 :] = 0.0
    return np.exp(np.fft.rfft(cepstrum, axis=1))


def pulses_and_noise(pitch: Wave, rate: int, generator: np.random.Generator, breath: float) -> Wave:
    """Excitation [samples] with unit power: pulses where `pitch` (Hz a sample, 0 unvoiced) is above 0.

    `breath` in [0, 1] is the share of noise power in the voiced parts.
    """
    noise = generator.standard_normal(len(pitch))
    cycles = np.floor(np.cumsum(pitch / rate))
    voiced = pitch > 0
    pulse = np.zeros(len(pitch))
    starts = np.flatnonzero(np.diff(cycles, prepend=0.0) > 0)
    pulse[starts] = np.sqrt(rate / np.maximum(pitch[starts], 40.0))
    return np.where(voiced, np.sqrt(1.0 - breath) * pulse + np.sqrt(breath) * noise, noise)


def warp_axis(values: Spectrum, factor: float) -> Spectrum:
    """`values` [frames, bins] stretched along the bins: bin b of the result is bin b / `factor`."""
    bins = np.arange(values.shape[1])
    place = np.minimum(bins / factor, bins[-1])
    left = np.minimum(place.astype(int), bins[-1] - 1)
    part = place - left
    return np.asarray(values[:, left] * (1.0 - part) + values[:, left + 1] * part)
