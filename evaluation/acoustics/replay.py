"""Speech played by a loudspeaker into a room and picked up by a microphone: each clip by other ones, drawn for it."""

from __future__ import annotations

import numpy as np
import scipy.signal
from numpy.typing import NDArray

from evaluation.acoustics.effects import RATE, Random, Samples, as_loud, noisy, pink

T60_S = (0.3, 0.7)
"""Reverberation of the rooms: a furnished living room to a bare office."""
DISTANCE_M = (0.5, 2.0)
"""From the loudspeaker to the microphone."""
NOISE_DB = (20.0, 30.0)
"""The speech above what else the microphone hears."""
_SOUND_M_S = 343.0
_WALL_M = 0.4  # nobody stands nearer to a wall
_HEARD_DB = 45.0  # later reflections are under the noise
_CORRECTIONS = 3
_RIPPLE_POINTS = 10

Metres = NDArray[np.float64]


def replayed(samples: Samples, random: Random) -> Samples:
    """The clip after a loudspeaker, a room and a microphone, [n], as loud as before.

    What is drawn are small loudspeakers (no bass below 80 to 300 Hz, treble to 5.5 to 7.8 kHz, a response that ripples
    by some dB, a few per cent of distortion), shoebox rooms of `T60_S`, and microphones with pink noise of `NOISE_DB`.
    """
    if not np.any(samples):
        return samples
    sound = samples.astype(np.float64)
    sound = _band(sound, random, low_hz=(80.0, 300.0), high_hz=(5500.0, 7800.0))
    sound = _distorted(_rippled(sound, random, 4.0), random)
    sound = scipy.signal.fftconvolve(sound, drawn_room(random))[: samples.size]
    sound = _rippled(_band(sound, random, low_hz=(40.0, 120.0), high_hz=(6500.0, 7900.0)), random, 2.0)
    return as_loud(noisy(as_loud(sound, samples), random, pink, random.uniform(*NOISE_DB)).astype(np.float64), samples)


def drawn_room(random: Random) -> NDArray[np.float64]:
    """The impulse response of a room whose size, reverberation and places are drawn, as `impulse_response`."""
    t60_s = random.uniform(*T60_S)
    size = random.uniform([3.0, 2.5, 2.4], [8.0, 6.0, 3.2])
    while True:
        microphone = random.uniform(_WALL_M, size - _WALL_M)
        direction = random.standard_normal(3) * [1.0, 1.0, 0.3]
        source = microphone + random.uniform(*DISTANCE_M) * direction / np.linalg.norm(direction)
        if np.all(source > _WALL_M) and np.all(source < size - _WALL_M):
            return impulse_response(size, source, microphone, t60_s)


def impulse_response(size: Metres, source: Metres, microphone: Metres, t60_s: float) -> NDArray[np.float64]:
    """From a source to a microphone in a shoebox of `size`, all [3] in metres; it begins with the direct path, 1.

    The image method (Allen and Berkley, "Image method for efficiently simulating small-room acoustics", JASA 65, 1979)
    with walls that are all alike. Eyring's formula tells what they reflect in a diffuse field; long rooms ring longer,
    so that it is asked for as much less as the response was found to ring too long.
    """
    asked_s = t60_s
    for _ in range(_CORRECTIONS):
        asked_s *= t60_s / decay_s(_response(size, source, microphone, asked_s, t60_s))
    return _response(size, source, microphone, asked_s, t60_s)


def decay_s(response: NDArray[np.float64]) -> float:
    """The time in which a room's response falls by 60 dB: three times that from -5 to -25 dB, as ISO 3382 has it.

    Below 100 Hz all images add up, as they never do behind walls that are no mirrors: nothing of that is looked at.
    """
    heard = scipy.signal.sosfilt(scipy.signal.butter(2, 100, "high", fs=RATE, output="sos"), response)
    left = np.cumsum(heard[::-1] ** 2)[::-1]
    begin, end = (int(np.argmax(left < left[0] * 10 ** (level / 10))) for level in (-5, -25))
    return 3 * (end - begin) / RATE


def _response(size: Metres, source: Metres, microphone: Metres, eyring_s: float, t60_s: float) -> NDArray[np.float64]:
    """With walls that reflect what Eyring's formula says for `eyring_s`, as long as one of `t60_s` is heard."""
    volume = float(np.prod(size))
    surface = 2 * volume * float(np.sum(1 / size))
    reflection = np.exp(-12 * np.log(10) * volume / (_SOUND_M_S * surface * eyring_s))
    reach = t60_s * _HEARD_DB / 60 * _SOUND_M_S
    squares, bounces = zip(*(_images(*axis, reach) for axis in zip(size, source, microphone, strict=True)), strict=True)
    square = squares[0][:, None, None] + squares[1][:, None] + squares[2]
    bounce = bounces[0][:, None, None] + bounces[1][:, None] + bounces[2]
    heard = square < reach**2
    distance = np.sqrt(square[heard])
    nearest = distance.min()
    late = np.rint((distance - nearest) / _SOUND_M_S * RATE).astype(np.int64)
    return np.asarray(np.bincount(late, reflection ** bounce[heard] * nearest / distance), np.float64)


def _images(size: float, source: float, microphone: float, reach: float) -> tuple[Metres, NDArray[np.int64]]:
    """Squared distances along one axis of the source's images from the microphone, and how often walls made each."""
    turns = np.arange(-int(reach / size / 2) - 1, int(reach / size / 2) + 2)
    places = np.concatenate([2 * turns * size + source, 2 * turns * size - source]) - microphone
    return places**2, np.concatenate([2 * np.abs(turns), np.abs(turns) + np.abs(turns - 1)])


def _band(
    sound: NDArray[np.float64], random: Random, low_hz: tuple[float, float], high_hz: tuple[float, float]
) -> NDArray[np.float64]:
    low = scipy.signal.butter(int(random.integers(2, 5)), random.uniform(*low_hz), "high", fs=RATE, output="sos")
    high = scipy.signal.butter(int(random.integers(2, 5)), random.uniform(*high_hz), fs=RATE, output="sos")
    return np.asarray(scipy.signal.sosfilt(high, scipy.signal.sosfilt(low, sound)))


def _rippled(sound: NDArray[np.float64], random: Random, ripple_db: float) -> NDArray[np.float64]:
    """Through a smooth response that goes that far up and down."""
    frequencies = np.concatenate([[0.0], np.sort(random.uniform(0.02, 0.98, _RIPPLE_POINTS)), [1.0]])
    gains = 10 ** (random.uniform(-ripple_db, ripple_db, frequencies.size) / 20)
    return np.asarray(scipy.signal.fftconvolve(sound, scipy.signal.firwin2(129, frequencies, gains), mode="same"))


def _distorted(sound: NDArray[np.float64], random: Random) -> NDArray[np.float64]:
    """A cone that is driven: it stiffens towards its ends, and more so to one side."""
    peak = np.abs(sound).max()
    if not peak:
        return sound
    moved = sound / peak
    drive = random.uniform(0.3, 1.0)
    return peak * (np.tanh(drive * moved) / np.tanh(drive) + random.uniform(0.0, 0.05) * moved**2)
