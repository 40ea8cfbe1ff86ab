"""Timing in turns: what is compared is run by turns in one process, and a ratio is taken within a round."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluation.progress import silently

WARM_UP_ROUNDS = 3
"""Rounds that are not counted: the first calls of a session still find memory and fill caches."""

Seconds = NDArray[np.float64]


@dataclass(frozen=True)
class Spread:
    """A median with its quartiles."""

    median: float
    low: float
    high: float

    @staticmethod
    def of(values: Seconds, factor: float = 1.0) -> Spread:
        """The spread of `values` [n], each times `factor`."""
        low, median, high = (factor * np.percentile(values, [25, 50, 75])).tolist()
        return Spread(median, low, high)


@dataclass(frozen=True)
class InterleavedTimes:
    """What each call took in each round, both [rounds, calls] in seconds."""

    wall: Seconds
    cpu: Seconds  # of all threads of this process

    @staticmethod
    def speedups(seconds: Seconds) -> list[Spread]:
        """For each call the first call's time divided by its own, within each round: above 1 is faster than it."""
        return [Spread.of(column) for column in (seconds[:, :1] / seconds).T]


def interleave(
    calls: Sequence[Callable[[], object]],
    rounds: int,
    progress: Callable[..., Any] = silently,
    description: str = "timing",
    warm_up: int = WARM_UP_ROUNDS,
) -> InterleavedTimes:
    """Times each of `calls` once a round, in an order that turns, after `warm_up` rounds that do not count.

    What else the machine does slows all of a round, and leaves the ratios within it. So each call also finds the caches
    as another one left them, which is how it goes on a box where a hop's time lies between two windows.
    """
    wall, cpu = np.empty((rounds, len(calls))), np.empty((rounds, len(calls)))
    for number in progress(range(-warm_up, rounds), desc=description, unit="round"):
        for place in range(len(calls)):
            index = (place + number) % len(calls)
            cpu_start, start = time.process_time(), time.perf_counter()
            calls[index]()
            elapsed, cpu_elapsed = time.perf_counter() - start, time.process_time() - cpu_start
            if number >= 0:
                wall[number, index], cpu[number, index] = elapsed, cpu_elapsed
    return InterleavedTimes(wall, cpu)
