"""What a microphone, a room and a channel do to a voice, done at random and alike to both labels.

A detector learns whatever tells the two folders apart, and that is first of all the band limit, the level, the
codec and the silence of the recordings. Everything here blurs those and leaves the trace of synthesis.
There is no pitch shift by phase vocoder: it would put a vocoder's trace into human speech. The pitch is moved by
resampling (speed), which leaves none. The convolutive, impulsive and stationary noises follow RawBoost (Tak et
al., ICASSP 2022) in spirit. Rooms and replay are in `rooms`, codecs in `codecs`, beside this file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from types import MappingProxyType

import numpy as np
import soxr
from numpy.typing import NDArray
from scipy import fft, signal

from training.augmentation.codecs import codec
from training.augmentation.rooms import as_noise, coloured_noise, replay, room

Samples = NDArray[np.float32]
Augmentation = Callable[[Samples, np.random.Generator, int], Samples]


def speed(samples: Samples, rng: np.random.Generator, rate: int) -> Samples:
    """Faster and higher or slower and lower by up to 10 %."""
    factor = rng.uniform(0.9, 1.1)
    return soxr.resample(samples, rate, rate / factor, quality="MQ").astype(np.float32)


def equalizer(samples: Samples, rng: np.random.Generator, rate: int) -> Samples:
    """The frequency response of some microphone or loudspeaker: smooth, up to 15 dB up or down."""
    points = rng.integers(4, 12)
    gains_db = rng.uniform(-1, 1, points) * rng.uniform(2, 15)
    frequencies = np.concatenate([[0], np.sort(rng.uniform(0.02, 0.98, points - 2)), [1]])
    gains = np.interp(np.linspace(0, 1, 129), frequencies, 10 ** (gains_db / 20))
    taps = np.roll(fft.irfft(gains), 64)[:129] * _EQUALIZER_WINDOW  # linear in phase, as firwin2 makes them
    return signal.oaconvolve(samples, taps.astype(np.float32), mode="same").astype(np.float32)


_EQUALIZER_WINDOW = np.hamming(129)


def low_pass(samples: Samples, rng: np.random.Generator, rate: int) -> Samples:
    """A band limit between telephone and nearly nothing, as steep or as soft as channels are."""
    cutoff = rng.uniform(3200, 5000) if rng.random() < 0.2 else rng.uniform(5000, 0.49 * rate)
    sections = _butterworth(int(rng.integers(2, 13)), round(cutoff / 20) * 20, "low", rate)
    return signal.sosfilt(sections, samples).astype(np.float32)


def high_pass(samples: Samples, rng: np.random.Generator, rate: int) -> Samples:
    """What small loudspeakers and telephones lack at the bottom."""
    sections = _butterworth(int(rng.integers(1, 5)), round(rng.uniform(40, 350)), "high", rate)
    return signal.sosfilt(sections, samples).astype(np.float32)


@lru_cache(maxsize=8192)
def _butterworth(order: int, cutoff: int, kind: str, rate: int) -> NDArray[np.float64]:
    return signal.butter(order, cutoff, kind, fs=rate, output="sos")


def noise(samples: Samples, rng: np.random.Generator, rate: int) -> Samples:
    """Stationary noise of a random slope (white to brown), 5 to 45 dB below the speech."""
    spectrum, points = coloured_noise(len(samples), rng.uniform(0, 1.5), rng, rate)
    if rng.random() < 0.3:  # hum of the mains and of fans
        strength, centre = rng.uniform(0, 20), rng.uniform(50, 2000)
        first, last = (int(max(0, centre + side) * points / rate) for side in (-150, 150))
        frequency = np.arange(first, last + 1) * (rate / points)
        spectrum[first : last + 1] *= 1 + strength * np.exp(-(((frequency - centre) / 30) ** 2))
    power = float(np.mean(samples**2)) + 1e-9
    return samples + as_noise(spectrum, points, len(samples), power * 10 ** (-rng.uniform(5, 45) / 10))


def impulses(samples: Samples, rng: np.random.Generator, rate: int) -> Samples:
    """Clicks that follow the signal's own size, as RawBoost's signal-dependent noise."""
    hit = rng.random(len(samples)) < rng.uniform(0.0005, 0.01)
    return np.where(hit, samples * (1 + rng.uniform(-2, 2, len(samples))), samples).astype(np.float32)


def distort(samples: Samples, rng: np.random.Generator, rate: int) -> Samples:
    """An overdriven input: soft or hard clipping of the highest peaks."""
    top = np.max(np.abs(samples)) + 1e-9
    if rng.random() < 0.5:
        limit = top * rng.uniform(0.3, 0.9)
        return np.clip(samples, -limit, limit).astype(np.float32)
    drive = rng.uniform(0.5, 3)
    return (np.tanh(samples / top * drive) * top / np.tanh(drive)).astype(np.float32)


def mask_time(samples: Samples, rng: np.random.Generator, rate: int) -> Samples:
    """A gap of up to a quarter of a second, as dropped packets leave."""
    length = int(rng.uniform(0.02, 0.25) * rate)
    start = rng.integers(0, max(1, len(samples) - length))
    masked = samples.copy()
    masked[start : start + length] *= rng.uniform(0, 0.1)
    return masked


def quantize(samples: Samples, rng: np.random.Generator, rate: int) -> Samples:
    """A quiet recording: the level is low against the 16-bit steps (gain, then rounding)."""
    peak = np.max(np.abs(samples)) + 1e-9
    steps = 2 ** rng.uniform(8, 15)
    dither = rng.uniform(-0.5, 0.5, len(samples))
    return (np.round(samples / peak * steps + dither) / steps * peak).astype(np.float32)


def gain(samples: Samples, rng: np.random.Generator, rate: int) -> Samples:
    """The input level: 30 dB down to 12 dB up, clipped at full scale."""
    return np.clip(samples * np.float32(10 ** (rng.uniform(-30, 12) / 20)), -1, 1)


CHAIN: tuple[tuple[Augmentation, float], ...] = (
    (speed, 0.3),
    (distort, 0.08),
    (room, 0.3),
    (replay, 0.15),
    (equalizer, 0.4),
    (high_pass, 0.3),
    (low_pass, 0.55),
    (impulses, 0.05),
    (noise, 0.5),
    (codec, 0.15),
    (quantize, 0.5),
    (mask_time, 0.1),
    (gain, 0.5),
)
"""Order of nature: the voice, its room, a loudspeaker and microphone in another room, the recording device, the
channel; each with its probability."""

NAMES = tuple(augmentation.__name__ for augmentation, _ in CHAIN)
"""What a share of one's own can be given to."""


def augment(
    samples: Samples,
    rng: np.random.Generator,
    rate: int,
    strength: float = 1.0,
    shares: Mapping[str, float] = MappingProxyType({}),
) -> Samples:
    """A clip, float32 [n], as another microphone in another room might have heard it; the length may change a little.

    `strength` scales every probability; `shares`, 0 to 1 by name (`NAMES`), stand in place of the scaled ones. With
    strength 0 and nothing else the clip comes back as it is.
    """
    for augmentation, probability in CHAIN:
        if rng.random() < shares.get(augmentation.__name__, probability * strength):
            samples = augmentation(samples, rng, rate)
    return np.nan_to_num(samples)
