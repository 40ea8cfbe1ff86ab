"""What a microphone, a room and a channel do to a voice, done at random and alike to both labels.

A detector learns whatever tells the two folders apart, and that is first of all the band limit, the level, the
codec and the silence of the recordings. Everything here blurs those and leaves the trace of synthesis.
There is no pitch shift by phase vocoder: it would put a vocoder's trace into human speech. The pitch is moved by
resampling (speed), which leaves none. The convolutive, impulsive and stationary noises follow RawBoost (Tak et
al., ICASSP 2022) in spirit; codecs are those of libsndfile.
"""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray
from scipy import signal

Samples = NDArray[np.float32]
Augmentation = Callable[[Samples, np.random.Generator, int], Samples]


def speed(samples: Samples, rng: np.random.Generator, rate: int) -> Samples:
    """Faster and higher or slower and lower by up to 10 %."""
    factor = rng.uniform(0.9, 1.1)
    return soxr.resample(samples, rate, rate / factor, quality="MQ").astype(np.float32)


def room(samples: Samples, rng: np.random.Generator, rate: int) -> Samples:
    """A room as a direct path, a few reflections and a tail that decays (T60 0.1 to 0.7 s)."""
    t60_s = rng.uniform(0.1, 0.7)
    length = int(min(t60_s, 0.4) * rate)
    time = np.arange(length) / rate
    tail = rng.standard_normal(length) * np.exp(-6.9 * time / t60_s)
    tail[: int(rng.uniform(0.001, 0.01) * rate)] = 0
    response = tail * rng.uniform(0.02, 0.35) / np.sqrt(np.sum(tail**2) + 1e-9) * 1.5
    for _ in range(rng.integers(2, 8)):
        response[rng.integers(8, max(9, int(0.03 * rate)))] += rng.uniform(-0.5, 0.5)
    response[0] = 1.0
    return signal.fftconvolve(samples, response)[: len(samples)].astype(np.float32)


def equalizer(samples: Samples, rng: np.random.Generator, rate: int) -> Samples:
    """The frequency response of some microphone or loudspeaker: smooth, up to 15 dB up or down."""
    points = rng.integers(4, 12)
    gains_db = rng.uniform(-1, 1, points) * rng.uniform(2, 15)
    frequencies = np.concatenate([[0], np.sort(rng.uniform(0.02, 0.98, points - 2)), [1]])
    taps = signal.firwin2(129, frequencies, 10 ** (gains_db / 20))
    return signal.fftconvolve(samples, taps, mode="same").astype(np.float32)


def low_pass(samples: Samples, rng: np.random.Generator, rate: int) -> Samples:
    """A band limit between telephone and nearly nothing, as steep or as soft as channels are."""
    cutoff = rng.uniform(3200, 5000) if rng.random() < 0.2 else rng.uniform(5000, 0.49 * rate)
    sections = signal.butter(int(rng.integers(2, 13)), cutoff, fs=rate, output="sos")
    return signal.sosfilt(sections, samples).astype(np.float32)


def high_pass(samples: Samples, rng: np.random.Generator, rate: int) -> Samples:
    """What small loudspeakers and telephones lack at the bottom."""
    sections = signal.butter(int(rng.integers(1, 5)), rng.uniform(40, 350), "high", fs=rate, output="sos")
    return signal.sosfilt(sections, samples).astype(np.float32)


def noise(samples: Samples, rng: np.random.Generator, rate: int) -> Samples:
    """Stationary noise of a random slope (white to brown), 5 to 45 dB below the speech."""
    white = np.fft.rfft(rng.standard_normal(len(samples)).astype(np.float32))
    frequency = np.fft.rfftfreq(len(samples), 1 / rate)
    colour = (np.maximum(frequency, 30) / 1000) ** (-rng.uniform(0, 1.5))
    if rng.random() < 0.3:  # hum of the mains and of fans
        colour *= 1 + rng.uniform(0, 20) * np.exp(-(((frequency - rng.uniform(50, 2000)) / 30) ** 2))
    hiss = np.fft.irfft(white * colour, len(samples))
    snr_db = rng.uniform(5, 45)
    power = np.mean(samples**2) + 1e-9
    hiss *= np.sqrt(power / (np.mean(hiss**2) + 1e-12)) * 10 ** (-snr_db / 20)
    return (samples + hiss).astype(np.float32)


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


def codec(samples: Samples, rng: np.random.Generator, rate: int) -> Samples:
    """Through a lossy codec and back: MP3, Vorbis, Opus, G.711 or GSM 06.10; unchanged when the library lacks it."""
    container, subtype, coded_rate = _CODECS[rng.integers(len(_CODECS))]
    peak = np.max(np.abs(samples)) + 1e-9
    coded = samples / peak * 0.9
    if coded_rate != rate:
        coded = soxr.resample(coded, rate, coded_rate)
    options = {} if coded_rate == 8000 else {"compression_level": float(rng.uniform(0.1, 0.95))}
    buffer = io.BytesIO()
    try:
        soundfile.write(buffer, coded, coded_rate, format=container, subtype=subtype, **options)
        buffer.seek(0)
        decoded, decoded_rate = soundfile.read(buffer, dtype="float32")
    except (RuntimeError, TypeError):
        return samples
    if decoded_rate != rate:
        decoded = soxr.resample(decoded, decoded_rate, rate)
    decoded = decoded[: len(samples)] * (peak / 0.9)
    return np.pad(decoded, (0, len(samples) - len(decoded))).astype(np.float32)


_CODECS = (
    ("MP3", "MPEG_LAYER_III", 16000),
    ("MP3", "MPEG_LAYER_III", 16000),
    ("OGG", "VORBIS", 16000),
    ("OGG", "OPUS", 16000),
    ("WAV", "ULAW", 8000),
    ("WAV", "GSM610", 8000),
)


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
"""Order of nature: the voice, the room, the microphone, the channel; each with its probability."""


def augment(samples: Samples, rng: np.random.Generator, rate: int, strength: float = 1.0) -> Samples:
    """A clip, float32 [n], as another microphone in another room might have heard it; the length may change a little.

    `strength` scales every probability; 0 returns the clip as it is.
    """
    for augmentation, probability in CHAIN:
        if rng.random() < probability * strength:
            samples = augmentation(samples, rng, rate)
    return np.nan_to_num(samples)
