"""Rooms, and loudspeakers and microphones in them.

A room is a shoebox: its early reflections are exact (image method of Allen and Berkley, 1979), its late ones noise
that decays as Eyring's formula has it and starts at the level that the density of images gives, where the images end.
Walls take more of the treble than of the rest. The bank of `ROOMS` rooms is the same in every process, and each is
computed when it is first drawn.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import fft, signal

Samples = NDArray[np.float32]
Response = NDArray[np.float64]

ROOMS = 192
T60_S = (0.1, 1.2)
LONGEST_S = 0.7
"""Later reflections are cut off: 35 dB down in the most reverberant room."""
_SOUND_M_S = 343.0
_WALL_M = 0.3  # nobody and nothing is nearer to a wall
_REACH = 2  # rooms of images to each side
_TAPS = np.arange(-4, 5)  # of the fractional delays


@lru_cache(maxsize=ROOMS)
def room_response(number: int, rate: int) -> Response:
    """Room `number` of the bank, of energy 1: the direct sound is sample 0, so nothing is delayed."""
    rng = np.random.default_rng((0x0F00D, number))
    t60_s = float(np.exp(rng.uniform(*np.log(T60_S))))
    size = rng.uniform([2, 2, 2.2], [6, 5, 3.2]) * (1 + t60_s / 2)
    source, ear = rng.uniform(_WALL_M, size - _WALL_M, (2, 3))
    apart = ear - source
    distance = float(np.exp(rng.uniform(np.log(0.15), np.log(3))))
    ear = np.clip(source + apart / np.linalg.norm(apart) * distance, 0.1, size - 0.1)
    treble_s = t60_s * rng.uniform(0.35, 0.9)
    return _shoebox(size, source, ear, t60_s, treble_s, rate, rng)


def _shoebox(
    size: Response, source: Response, ear: Response, t60_s: float, treble_s: float, rate: int, rng: np.random.Generator
) -> Response:
    volume = float(np.prod(size))
    surface = 2 * volume * float(np.sum(1 / size))
    grid = np.arange(-_REACH, _REACH + 1)
    squares, bounces = [], []
    for length, there, here in zip(size, source, ear, strict=True):
        places = np.concatenate([2 * grid * length + there, 2 * grid * length - there])
        squares.append((places - here) ** 2)
        bounces.append(np.concatenate([2 * np.abs(grid), np.abs(grid - 1) + np.abs(grid)]))
    distance = np.sqrt(np.add.outer(np.add.outer(squares[0], squares[1]), squares[2])).ravel()
    bounce = np.add.outer(np.add.outer(bounces[0], bounces[1]), bounces[2]).ravel()
    direct = float(np.linalg.norm(source - ear))
    complete = max((2 * _REACH - 1) * float(np.min(size)), 1.5 * direct)  # all images nearer than this are here
    near = distance < complete
    distance, bounce = distance[near], bounce[near]

    count = int(min(t60_s, LONGEST_S) * rate)
    delay = (distance - direct) / _SOUND_M_S * rate
    whole = np.round(delay).astype(np.int64)
    taps = np.sinc(_TAPS - (delay - whole)[:, None]) * np.hanning(len(_TAPS) + 2)[1:-1]
    at = whole[:, None] + _TAPS
    inside = (at >= 0) & (at < count)

    time = np.arange(count) / rate + direct / _SOUND_M_S  # since the sound was made
    late = rng.standard_normal(count) * np.sqrt(4 * np.pi * _SOUND_M_S / volume / rate)
    late[time < complete / _SOUND_M_S] = 0

    def band(decay_s: float) -> Response:
        reflected = np.exp(-0.161 * volume / (surface * decay_s) / 2)  # Eyring: of the pressure, at each wall
        strength = reflected**bounce / distance
        early = np.bincount(at[inside], (taps * strength[:, None])[inside], count)[:count]
        return early + late * np.exp(-6.908 * time / decay_s)

    bass, treble = band(t60_s), band(treble_s)
    points = fft.next_fast_len(count + 256, real=True)
    share = 1 / (1 + (fft.rfftfreq(points, 1 / rate) / rng.uniform(1000, 3000)) ** 2)
    response = treble + fft.irfft(fft.rfft(bass - treble, points) * share, points)[:count]
    return response / np.sqrt(np.sum(response**2))


def draw_room(rng: np.random.Generator, rate: int) -> Response:
    """A room of the bank, at times with more furniture in it: the same reflections, but decaying faster."""
    response = room_response(int(rng.integers(ROOMS)), rate)
    damping = max(0.0, rng.uniform(-10, 10))
    if damping:
        response = response * np.exp(-damping * np.arange(len(response)) / rate)
        response /= np.sqrt(np.sum(response**2))
    return response


def convolve(samples: Samples, response: Response) -> Samples:
    """Causal and as long as the samples."""
    points = fft.next_fast_len(len(samples) + len(response) - 1, real=True)
    spectrum = fft.rfft(samples, points)
    spectrum *= fft.rfft(response.astype(np.float32), points)
    return fft.irfft(spectrum, points)[: len(samples)].astype(np.float32)


def room(samples: Samples, rng: np.random.Generator, rate: int) -> Samples:
    """A room (T60 0.1 to 1.2 s) and 0.15 to 3 m of air between mouth and microphone."""
    return convolve(samples, draw_room(rng, rate))


def replay(samples: Samples, rng: np.random.Generator, rate: int) -> Samples:
    """A loudspeaker, a room, its noise, a microphone and at times its automatic gain; as loud as before."""
    power = float(np.mean(samples**2))
    driven = _driver(samples, rng)
    response = np.concatenate([draw_room(rng, rate), np.zeros(rate // 50)])
    sound = convolve(driven, signal.sosfilt(_devices(rng, rate), response))
    sound *= np.float32(np.sqrt(power / (float(np.mean(sound**2)) + 1e-12)))
    sound += _room_noise(len(sound), power, rng, rate)
    if rng.random() < 0.3:
        sound = _automatic_gain(sound, rng, rate)
    return sound


def _driver(samples: Samples, rng: np.random.Generator) -> Samples:
    """A cone that is not quite linear: even and odd harmonics of up to a few per cent, and at times its end stop."""
    top = np.float32(np.max(np.abs(samples)) + 1e-9)
    even, odd = rng.uniform(-0.15, 0.15), rng.uniform(-0.15, 0.05)
    stop = rng.uniform(0.5, 1.2)
    level = samples / top
    level = level * (1 + level * (np.float32(even) + np.float32(odd) * level))
    return np.clip(level, -np.float32(stop), np.float32(stop)) * top


def _devices(rng: np.random.Generator, rate: int) -> Response:
    """Second-order sections of a loudspeaker and a microphone, drawn at random."""
    low, nyquist = rng.uniform(80, 400), 0.49 * rate
    sections = [
        _section("high", low, rng.uniform(0.5, 1.4), 0, rate),
        _section("low", rng.uniform(0.45, 1) * nyquist, rng.uniform(0.5, 1), 0, rate),  # the driver's own top
        _section("high", rng.uniform(30, 120), 0.7, 0, rate),  # the microphone's bottom
    ]
    if rng.random() < 0.5:  # small drivers fall off more steeply
        sections.append(_section("high", low * rng.uniform(0.7, 1), rng.uniform(0.5, 1), 0, rate))
    for _ in range(rng.integers(3, 7)):
        centre = np.exp(rng.uniform(np.log(150), np.log(0.9 * nyquist)))
        sections.append(_section("peak", centre, np.exp(rng.uniform(-0.5, 2)), rng.uniform(-8, 8), rate))
    return np.array(sections)


def _section(kind: str, frequency: float, quality: float, gain_db: float, rate: int) -> list[float]:
    """A second-order section by Bristow-Johnson's cookbook."""
    turn = 2 * np.pi * frequency / rate
    cosine, alpha = float(np.cos(turn)), float(np.sin(turn)) / (2 * quality)
    if kind == "peak":
        gain = 10 ** (gain_db / 40)
        top = [1 + alpha * gain, -2 * cosine, 1 - alpha * gain]
        bottom = [1 + alpha / gain, -2 * cosine, 1 - alpha / gain]
    else:
        sign = 1 if kind == "high" else -1
        top = [(1 + sign * cosine) / 2, -sign * (1 + sign * cosine), (1 + sign * cosine) / 2]
        bottom = [1 + alpha, -2 * cosine, 1 - alpha]
    return [*(value / bottom[0] for value in top), 1.0, bottom[1] / bottom[0], bottom[2] / bottom[0]]


def coloured_noise(count: int, slope: float, rng: np.random.Generator, rate: int) -> tuple[NDArray[np.complex64], int]:
    """The spectrum of Gaussian noise that falls as frequency ** -slope from 30 Hz on, and its number of points."""
    points = fft.next_fast_len(count, real=True)
    white = rng.standard_normal((points // 2 + 1) * 2, np.float32).view(np.complex64)
    return white * _slope(points, slope, rate), points


def _slope(points: int, slope: float, rate: int) -> Samples:
    return np.exp(np.float32(-slope) * _log_frequency(points, rate))


@lru_cache(maxsize=64)
def _log_frequency(points: int, rate: int) -> Samples:
    return np.log(np.maximum(fft.rfftfreq(points, 1 / rate), 30) / 1000).astype(np.float32)


def as_noise(spectrum: NDArray[np.complex64], points: int, count: int, power: float) -> Samples:
    """`count` samples of the spectrum's sound, of the given power."""
    sound = fft.irfft(spectrum, points)[:count].astype(np.float32)
    sound *= np.float32(np.sqrt(power / (float(np.mean(sound**2)) + 1e-12)))
    return sound


def _room_noise(count: int, power: float, rng: np.random.Generator, rate: int) -> Samples:
    """Pink to brown noise, at times with the hum of the mains, 10 to 40 dB below `power`."""
    spectrum, points = coloured_noise(count, rng.uniform(0.5, 1.0), rng, rate)
    if rng.random() < 0.4:
        mains, strength = (50, 60)[rng.integers(2)], rng.uniform(2, 20)
        for harmonic in (1, 2, 3, 4, 6):
            bin_ = round(mains * harmonic * points / rate)
            if bin_ < len(spectrum):
                spectrum[bin_] *= np.float32(strength * np.sqrt(points / rate * 8) / harmonic)
    return as_noise(spectrum, points, count, (power + 1e-9) * 10 ** (-rng.uniform(10, 40) / 10))


def _automatic_gain(samples: Samples, rng: np.random.Generator, rate: int) -> Samples:
    """Quiet stretches are raised by up to 15 dB: fast when the sound gets loud, slowly when it gets quiet."""
    block = rate // 100
    strength, release_s, most = rng.uniform(0.2, 0.8), rng.uniform(0.1, 1.0), 10 ** (15 / 20)
    edges = np.arange(0, len(samples), block)
    levels = np.sqrt(np.add.reduceat(samples**2, edges) / np.diff(np.append(edges, len(samples)))) + 1e-6
    fall = np.exp(-0.01 / release_s)
    heard, level = np.empty(len(levels)), float(levels[0])
    for index, now in enumerate(levels.tolist()):
        level = now + (level - now) * (fall if now < level else 0.3)
        heard[index] = level
    gains = np.clip((np.max(heard) / heard) ** strength, 1, most)
    return samples * np.interp(np.arange(len(samples)), edges, gains).astype(np.float32)
