"""Equal and near-equal recordings on different pages: by the course of their bands' levels, whatever codec or rate.

A human clip that lies on two pages, or a synthesizer's on its page and on another's, would count twice, and one in two
splits would be learnt and judged. Copies of one utterance by different synthesizers have much the same course and are
not one recording: spoofed clips are compared within their system only.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy import signal

BANDS, SLICES = 12, 32
EDGES_HZ = np.geomspace(100, 3_600, BANDS + 1)
ALIKE = {"bonafide": 0.995, "spoof": 0.999}
"""Correlation of two prints from which they are of one recording, by label.

Variants of one system speak a sentence with much the same course: from 0.995 on, half of the spoofed pairs of the list
were of two waves, from 0.999 on 3 of 61 were. Of human pairs from 0.995 on, 51 of 55 were of one wave.
"""
LENGTHS = 0.02
"""By which their lengths may differ."""

Print = NDArray[np.int8]


def print_of(samples: NDArray[np.float32], rate: int) -> Print:
    """The course of a recording, int8 [BANDS * SLICES]: its bands' levels in dB in equal slices of its length."""
    _, _, spectrum = signal.stft(samples, rate, nperseg=512, noverlap=256)
    power = np.abs(spectrum) ** 2
    hz = np.linspace(0, rate / 2, len(power))
    bands = [power[(hz >= low) & (hz < high)].sum(axis=0) for low, high in pairwise(EDGES_HZ.tolist())]
    slices = np.array_split(np.array(bands), SLICES, axis=1)
    levels = np.array([part.mean(axis=1) if part.shape[1] else np.zeros(BANDS) for part in slices])
    floor = max(float(levels.max()) * 1e-5, 1e-20)  # 50 dB down, so that a codec's noise floor does not count
    found = 10 * np.log10(levels + floor)
    found -= found.mean()
    return np.clip(np.round(found * 2), -127, 127).astype(np.int8).ravel()


def groups(prints: Sequence[Print], samples: Sequence[int], kinds: Sequence[tuple[str, str]]) -> list[int]:
    """For each recording the index of the first that it is alike to, itself where there is none before it.

    `samples` are their lengths; only recordings of one of `kinds`, label and system, are compared.
    """
    first = list(range(len(prints)))
    members: dict[tuple[str, str], list[int]] = defaultdict(list)
    for index, kind in enumerate(kinds):
        members[kind].append(index)
    for (label, _), indices in members.items():
        order = sorted(indices, key=lambda index: samples[index])
        vectors = np.array([prints[index] for index in order], np.float32)
        vectors -= vectors.mean(axis=1, keepdims=True)
        vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
        lengths = np.array([samples[index] for index in order])
        for place, index in enumerate(order):
            end = int(np.searchsorted(lengths, lengths[place] * (1 + LENGTHS), side="right"))
            near = np.flatnonzero(vectors[place + 1 : end] @ vectors[place] >= ALIKE[label]) + place + 1
            for other in near.tolist():
                _join(first, index, order[other])
    return [_root(first, index) for index in range(len(first))]


def _root(first: list[int], index: int) -> int:
    while first[index] != index:
        index = first[index]
    return index


def _join(first: list[int], one: int, other: int) -> None:
    low, high = sorted((_root(first, one), _root(first, other)))
    first[high] = low
