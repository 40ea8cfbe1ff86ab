"""Partial spoofs, and cuts that are none: stretches of one clip put into another with short crossfades.

A window that holds a synthetic stretch in a human sentence is spoofed (Zhang et al., "The PartialSpoof database",
2022). The joints must be no sign of it, so human clips get as many cuts, of their own sound.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]
FADE_SECONDS = 0.01
SHORTEST_SECONDS = 0.6
"""A spoofed stretch below this is hardly a word, and no window could be blamed for missing it."""


def insert(host: Samples, guest: Samples, at: int, rate: int) -> Samples:
    """`host` [n] with its samples from `at` on replaced by `guest` [m], crossfaded at both joints; `rate` in Hz."""
    fade = max(1, min(int(FADE_SECONDS * rate), len(guest) // 4))
    ramp = np.linspace(0, 1, fade, dtype=np.float32)
    weight = np.ones(len(guest), np.float32)
    weight[:fade], weight[-fade:] = ramp, ramp[::-1]
    made = host.copy()
    place = slice(at, at + len(guest))
    made[place] = host[place] * (1 - weight) + guest * weight
    return made


def partial_spoof(human: Samples, copy: Samples, rng: np.random.Generator, rate: int) -> Samples:
    """`human` [n] with a stretch of its `copy` [n], at least 0.6 s long and at most 80 % of the clip."""
    length = min(len(human), len(copy))
    shortest = int(SHORTEST_SECONDS * rate)
    if length < 2 * shortest:
        return copy
    stretch = int(rng.uniform(shortest, 0.8 * length))
    at = int(rng.integers(0, length - stretch + 1))
    return insert(human[:length], copy[at : at + stretch], at, rate)


def own_cut(clip: Samples, rng: np.random.Generator, rate: int) -> Samples:
    """`clip` [n] with a stretch of it put in another place: joints, and nothing foreign."""
    shortest = int(SHORTEST_SECONDS * rate)
    if len(clip) < 2 * shortest:
        return clip
    stretch = int(rng.uniform(shortest, 0.5 * len(clip)))
    source, at = rng.integers(0, len(clip) - stretch + 1, 2)
    return insert(clip, clip[source : source + stretch], int(at), rate)
