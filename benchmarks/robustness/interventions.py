"""What is done to clips to see what a model listens to: each changes what may betray a label without being its trace.

They are conditions as in `conditions`, some of them the same; here what counts is how far each label's scores move.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from evaluation.acoustics.conditions import CONDITIONS, Condition
from evaluation.acoustics.effects import RATE, Random, Samples, filtered, fit, louder, noisy, white

_FRAME = RATE // 50
_FADE = RATE // 100
_SPEECH_DB = 30.0  # a frame this far below the loudest is a pause
_KEPT_FRAMES = 2  # before and after speech


def offset(samples: Samples, _: Random, below_db: float) -> Samples:
    """With a constant added, [n], that far below the clip's mean power, as cheap sound cards do."""
    sound = samples.astype(np.float64)
    return fit(sound + np.sqrt(np.mean(sound**2)) * 10 ** (-below_db / 20))


def humming(samples: Samples, random: Random, snr_db: float) -> Samples:
    """With the hum of 50 Hz mains and its harmonics, [n], that far below the clip's mean power."""
    return noisy(samples, random, _mains, snr_db)


def _mains(samples: Samples, random: Random) -> Samples:
    time = np.arange(samples.size) / RATE
    parts = [np.sin(2 * np.pi * 50 * k * time + random.uniform(0, 2 * np.pi)) / k for k in (1, 2, 3, 4, 6)]
    return np.asarray(np.sum(parts, axis=0), np.float32)


def upside_down(samples: Samples, _: Random) -> Samples:
    """With the other polarity, [n]: no ear hears a difference."""
    return -samples


def backwards(samples: Samples, _: Random) -> Samples:
    """From its end to its beginning, [n]: the same long-term spectrum, level and pauses, and no speech."""
    return samples[::-1].copy()


def speech_only(samples: Samples, _: Random) -> Samples:
    """Without its pauses, float32 [m <= n]: what is louder than `_SPEECH_DB` below the loudest frame of 20 ms, joined.

    What is joined is faded over 10 ms, so that no click tells where.
    """
    power = np.mean(np.pad(samples, (0, -samples.size % _FRAME)).astype(np.float64).reshape(-1, _FRAME) ** 2, axis=1)
    loud = power >= power.max() / 10 ** (_SPEECH_DB / 10)
    kept = np.convolve(loud, np.ones(2 * _KEPT_FRAMES + 1), "same")[: loud.size] > 0
    edges = np.flatnonzero(np.diff(np.concatenate([[False], kept, [False]]).astype(np.int8)))
    joined = np.zeros(0, np.float64)
    for begin, end in edges.reshape(-1, 2) * _FRAME:
        stretch = samples[begin:end].astype(np.float64)
        over = min(_FADE, joined.size, stretch.size)
        ramp = np.arange(1, over + 1) / (over + 1)
        mixed = joined[joined.size - over :] * (1 - ramp) + stretch[:over] * ramp
        joined = np.concatenate([joined[: joined.size - over], mixed, stretch[over:]])
    return np.asarray(joined, np.float32)


def _all() -> list[Condition]:
    def known(*names: str) -> list[Condition]:
        return [CONDITIONS[name] for name in names]

    def own(axis: str, name: str, apply: Callable[[Samples, Random], Samples]) -> Condition:
        return Condition(axis, name, apply)

    return [
        *known("clean", "trimmed", "padded-1s"),
        own("silence", "speech-only", speech_only),
        *known("length-2s", "lowpass-4khz"),
        own("band", "lowpass-7khz", partial(filtered, kind="lowpass", edges_hz=7000.0)),
        own("band", "highpass-300hz", partial(filtered, kind="highpass", edges_hz=300.0)),
        *known("level-20db-down"),
        own("level", "level-10db-up", partial(louder, gain_db=10)),
        own("noise floor", "white-30db", partial(noisy, kind=white, snr_db=30)),
        *known("mp3-24k", "opus-28k"),
        own("offset", "dc-14db", partial(offset, below_db=14)),
        own("offset", "hum-20db", partial(humming, snr_db=20)),
        own("control", "polarity", upside_down),
        own("control", "reversed", backwards),
    ]


INTERVENTIONS = {item.name: item for item in _all()}
"""By name, in the order of reports; the first is no change, which all else is compared with."""
