"""What noise, codecs, rooms, filters and hands do to samples: each a function from samples and what is random."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.signal
import soundfile
import soxr
from numpy.typing import NDArray

from edge_runtime.errors import InputError

Samples = NDArray[np.float32]
Random = np.random.Generator

RATE = 16000
"""Samples a second that conditions take and give."""
PEAK = 0.98
"""Where a sum goes beyond it, the whole is turned down to it, as a recorder would have been: only `clipped` clips."""
_FRAME = RATE // 50
_SILENCE_DB = 40.0  # below the loudest frame
_CHUNK = RATE  # libsndfile's Vorbis encoder overruns its stack on long writes


def unchanged(samples: Samples, _: Random) -> Samples:
    """What all else is compared with."""
    return samples


def white(samples: Samples, random: Random) -> Samples:
    """Gaussian noise of equal power at all frequencies, float32 [n]."""
    return random.standard_normal(samples.size, np.float32)


def pink(samples: Samples, random: Random) -> Samples:
    """Gaussian noise whose power falls by 3 dB an octave from 20 Hz on, float32 [n]: fans, streets, rooms."""
    frequencies = np.fft.rfftfreq(samples.size, 1 / RATE)
    return _shaped(1 / np.sqrt(np.maximum(frequencies, 20.0)), samples.size, random)


def speech_shaped(samples: Samples, random: Random) -> Samples:
    """Noise with the clip's own long-term spectrum, float32 [n]: its phases are drawn again, as of many voices at once.

    Noise of the target's spectrum masks it at all frequencies alike: Festen and Plomp, "Effects of fluctuating noise
    and interfering speech on the speech-reception threshold", JASA 88, 1990.
    """
    return _shaped(np.abs(np.fft.rfft(samples)), samples.size, random)


def _shaped(magnitudes: NDArray[np.float64], size: int, random: Random) -> Samples:
    spectrum = magnitudes * np.fft.rfft(random.standard_normal(size))
    return np.asarray(np.fft.irfft(spectrum, size), np.float32)


def noisy(samples: Samples, random: Random, kind: Callable[[Samples, Random], Samples], snr_db: float) -> Samples:
    """Adds noise, [n]. The ratio is of mean powers over the whole clip, pauses included; silence stays silent."""
    noise = kind(samples, random).astype(np.float64)
    power, noise_power = float(np.var(samples, dtype=np.float64)), float(np.mean(noise**2))
    if not noise_power:
        return samples
    return fit(samples + noise * np.sqrt(power / noise_power / 10 ** (snr_db / 10)))


def reverberant(samples: Samples, random: Random, rt60_s: float) -> Samples:
    """The clip in a made room, [n], as loud as before: a direct path, and as much power in all that follows it.

    The rest of the impulse response is Gaussian noise that decays by 60 dB in `rt60_s` seconds: Polack's model of a
    diffuse field ("La transmission de l'énergie sonore dans les salles", thesis, Le Mans, 1988).
    """
    time = np.arange(1, round(rt60_s * RATE)) / RATE
    tail = random.standard_normal(time.size) * 10 ** (-3 * time / rt60_s)
    response = np.concatenate([[1.0], tail / np.linalg.norm(tail)])
    wet = scipy.signal.fftconvolve(samples.astype(np.float64), response)[: samples.size]
    return as_loud(wet, samples)


def coded(
    samples: Samples, _: Random, container: str, codec: str, rate: int = RATE, compression: float | None = None
) -> Samples:
    """Through one of libsndfile's codecs and back, [n], with sampling at `rate` Hz on the way.

    Raises InputError where this machine's libsndfile has no such encoder.
    """
    sent = samples if rate == RATE else soxr.resample(samples, RATE, rate)
    settings: dict[str, Any] = {} if compression is None else {"compression_level": compression}
    if compression is not None and container == "MP3":
        settings["bitrate_mode"] = "CONSTANT"
    buffer = io.BytesIO()
    try:
        with soundfile.SoundFile(buffer, "w", rate, 1, codec, format=container, **settings) as file:
            for start in range(0, sent.size, _CHUNK):
                file.write(np.clip(sent[start : start + _CHUNK], -1, 1))
        buffer.seek(0)
        received, _rate = soundfile.read(buffer, dtype="float32")
    except (RuntimeError, ValueError, TypeError) as reason:  # TypeError: a soundfile before 0.13
        raise InputError(f"libsndfile cannot write {container} with {codec}: {reason}") from None
    back = received if rate == RATE else soxr.resample(received, rate, RATE)
    # Codecs of whole frames give more than they got.
    return np.asarray(np.pad(back, (0, max(0, samples.size - back.size)))[: samples.size], np.float32)


def shortened(samples: Samples, _: Random, seconds: float) -> Samples:
    """The loudest stretch of that length, so that it holds speech; a shorter clip as it is."""
    size = round(seconds * RATE)
    if samples.size <= size:
        return samples
    energy = np.concatenate([[0.0], np.cumsum(samples.astype(np.float64) ** 2)])
    start = int(np.argmax(energy[size:] - energy[:-size]))
    return samples[start : start + size]


def filtered(samples: Samples, _: Random, kind: str, edges_hz: float | tuple[float, float]) -> Samples:
    """Through a Butterworth filter of order 8, [n], such as a lowpass of a narrow channel."""
    sections = scipy.signal.butter(8, edges_hz, kind, fs=RATE, output="sos")
    return fit(scipy.signal.sosfilt(sections, samples.astype(np.float64)))


def trimmed(samples: Samples, _: Random) -> Samples:
    """Without the quiet before the first and after the last frame of 20 ms less than 40 dB below the loudest."""
    whole = np.pad(samples, (0, -samples.size % _FRAME)).astype(np.float64)
    frames = whole.reshape(-1, _FRAME)
    power = np.mean(frames**2, axis=1)
    loud = np.flatnonzero(power >= power.max() / 10 ** (_SILENCE_DB / 10))
    return samples[loud[0] * _FRAME : (loud[-1] + 1) * _FRAME]


def padded(samples: Samples, _: Random, seconds: float) -> Samples:
    """After that much digital silence, [n + seconds * RATE]."""
    return np.concatenate([np.zeros(round(seconds * RATE), np.float32), samples])


def louder(samples: Samples, _: Random, gain_db: float) -> Samples:
    """[n], times a factor; may go beyond full scale."""
    return samples * np.float32(10 ** (gain_db / 20))


def clipped(samples: Samples, _: Random, over_db: float) -> Samples:
    """[n], turned up until the peak is that far over full scale, where it is cut off."""
    peak = float(np.abs(samples).max())
    return np.clip(samples * np.float32(10 ** (over_db / 20) / peak), -1, 1) if peak else samples


def fit(samples: NDArray[np.float64]) -> Samples:
    """Turned down where the peak is beyond PEAK."""
    peak = float(np.abs(samples).max())
    return np.asarray(samples * (PEAK / peak) if peak > PEAK else samples, np.float32)


def as_loud(samples: NDArray[np.float64], original: Samples) -> Samples:
    power, wanted = float(np.mean(samples**2)), float(np.mean(original.astype(np.float64) ** 2))
    return fit(samples * np.sqrt(wanted / power)) if power else original
