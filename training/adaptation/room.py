"""The room and microphone of some recordings, put upon other clips: spectral response and noise floor.

Were the recordings all that sounds like their room, the room would be a sign of their label. So clips of both labels
that were made elsewhere are made to sound like it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import signal
from scipy.ndimage import uniform_filter1d

Floats = NDArray[np.float64]

SIZE = 512
"""Samples of a frame; spectra have SIZE // 2 + 1 bins."""
SMOOTH_BINS = 9
"""Bins that the response is averaged over, 280 Hz: formants and pitch are the speakers', not the room's."""
MOST_DB = 20.0
"""The response is limited to this: where the other clips hold nothing, nothing can be made louder."""
QUIET_SHARE = 0.1
"""Share of the frames, the quietest, that are taken for pauses."""
TAPS = 257
PROBED = 300
"""Clips of a set that are listened to."""


@dataclass(frozen=True)
class Room:
    """What one set of recordings has and another lacks.

    `response_db` [bins]: level of its speech over that of the other set. `noise` [bins]: power of its pauses as a
    share of the mean power of its speech, in each bin.
    """

    response_db: Floats
    noise: Floats

    def put_on(self, samples: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
        """A clip, float32 [n], as if heard in the room, at its own level; how much of the room is random."""
        level = float(np.sqrt(np.mean(samples**2)))
        gains = 10 ** (self.response_db * rng.uniform(0.5, 1.0) / 20)
        taps = signal.firwin2(TAPS, np.linspace(0, 1, len(gains)), gains)
        heard = signal.fftconvolve(samples, taps, mode="same")
        heard *= level / max(float(np.sqrt(np.mean(heard**2))), 1e-9)
        white = np.fft.rfft(rng.standard_normal(len(samples)))
        places = np.linspace(0, 1, len(white))
        shape = np.sqrt(np.interp(places, np.linspace(0, 1, len(self.noise)), self.noise))
        hiss = np.fft.irfft(white * shape, len(samples))
        wanted = level * float(np.sqrt(self.noise.mean())) * 10 ** (rng.uniform(-3, 3) / 20)
        hiss *= wanted / max(float(np.sqrt(np.mean(hiss**2))), 1e-9)
        return np.clip(heard + hiss, -1, 1).astype(np.float32)


def listen(recordings: Sequence[NDArray[np.int16]], others: Sequence[NDArray[np.int16]]) -> Room:
    """The room of `recordings`, against the average of `others`; both int16 [n] each, of one rate."""
    speech, pauses = spectra(recordings)
    elsewhere, _ = spectra(others)
    response = 10 * np.log10((speech + 1e-9) / (elsewhere + 1e-9))
    response = uniform_filter1d(response, SMOOTH_BINS, mode="nearest")
    return Room(np.clip(response - np.median(response), -MOST_DB, MOST_DB), pauses)


def spectra(clips: Sequence[NDArray[np.int16]]) -> tuple[Floats, Floats]:
    """Mean power spectra of the loud frames and of the pauses, float64 [bins], of clips each brought to one level.

    The level is that of the loud half of the frames, whose spectrum has the mean 1 therefore.
    """
    step = max(1, len(clips) // PROBED)
    loud, quiet = [], []
    for clip in clips[::step]:
        if len(clip) < SIZE:
            continue
        samples = clip.astype(np.float64) / 32768
        frames = np.lib.stride_tricks.sliding_window_view(samples, SIZE)[:: SIZE // 2]
        power = np.abs(np.fft.rfft(frames * np.hanning(SIZE), axis=1)) ** 2
        order = np.argsort(power.sum(axis=1))
        speech = power[order[len(order) // 2 :]].mean(axis=0)
        level = max(float(speech.mean()), 1e-12)
        loud.append(speech / level)
        quiet.append(power[order[: max(1, int(QUIET_SHARE * len(order)))]].mean(axis=0) / level)
    return np.mean(loud, axis=0), np.mean(quiet, axis=0)
