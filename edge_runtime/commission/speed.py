"""How fast this machine scores, and how often it can: on sound of its own microphone, as far as there is any."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_runtime.commission.check import Check, fail, ok, warn
from edge_runtime.detector import Detector
from edge_runtime.errors import CHECK_FAILED
from edge_runtime.governor import COMFORTABLE, TOO_MUCH, hiss, shortest_sustained

WINDOWS = 20
"""Windows that are timed, at least, and"""
LONGEST_SECONDS = 20.0
"""the time after which a slow machine has enough of them."""
_FEWEST_WINDOWS = 3
_HISS = 0.003
"""RMS of what is added to the sound, -50 dBFS: silent windows would not be scored."""


@dataclass(frozen=True)
class Speed:
    """Wall times of this machine for one window, at the hop that is configured: new sound, gate and network."""

    windows: int  # that were timed
    median_ms: float
    p95_ms: float
    hop_seconds: float
    load: float  # the median over the hop
    sustained: bool  # a load below which the hop stays as it is
    shortest_hop_seconds: float  # what `--hop auto` would choose
    shortest_load: float
    sound: str  # "microphone", or "noise" where it gave none


def measure(
    detector: Detector, samples: NDArray[np.float32], auto: bool, stopped: Callable[[], bool] = lambda: False
) -> Speed:
    """Times `detector`, which must score all that is not silent, on `samples`, float32 [n]; they come round again.

    With `auto` at the shortest hop sustained, else at its own. Raises ModelError when the model fails.
    """
    own = detector.hop_seconds
    tape = np.resize(samples, max(samples.size, detector.window_samples)) if samples.size else samples
    sound = hiss(tape.size or 2 * detector.window_samples, _HISS)
    sound[: tape.size] += tape
    shortest = shortest_sustained(detector, time.perf_counter, stopped, sound=sound[: detector.window_samples])
    detector.set_hop(shortest.hop_seconds if auto else own)
    seconds = _times(detector, sound, stopped)
    median = float(np.median(seconds))
    load = median / detector.hop_seconds
    return Speed(
        windows=len(seconds),
        median_ms=1000 * median,
        p95_ms=1000 * float(np.percentile(seconds, 95)),
        hop_seconds=detector.hop_seconds,
        load=load,
        sustained=load <= TOO_MUCH,
        shortest_hop_seconds=shortest.hop_seconds,
        shortest_load=shortest.load,
        sound="microphone" if tape.size else "noise",
    )


def judge(speed: Speed) -> Check:
    """The check `speed`."""
    text = (
        f"a window takes {speed.median_ms:.0f} ms (95 % of {speed.windows}: {speed.p95_ms:.0f} ms), "
        f"{speed.load:.0%} of a hop of {speed.hop_seconds:.3g} s"
    )
    if speed.shortest_load > TOO_MUCH:
        return fail(
            "speed",
            f"{text}; too slow even for a hop as long as the window",
            "take a smaller model, or a faster machine: sound would be lost",
            CHECK_FAILED,
        )
    shortest = f"the shortest that is sustained is {speed.shortest_hop_seconds:.3g} s"
    if speed.load > COMFORTABLE:
        what = "leaves little room" if speed.sustained else "cannot be sustained, and will widen by itself"
        return warn(
            "speed",
            f"{text}: it {what}; {shortest}",
            f"set hop = {speed.shortest_hop_seconds:.3g} or more, take a smaller model, or cool the machine better",
        )
    return ok("speed", f"{text}; {shortest}")


def _times(detector: Detector, sound: NDArray[np.float32], stopped: Callable[[], bool]) -> list[float]:
    """Seconds that each of some windows took, from the hop that completes it."""
    detector.reset()
    place = detector.window_samples
    detector.push(sound[:place])
    seconds: list[float] = []
    began = time.monotonic()
    while len(seconds) < WINDOWS or place + detector.hop_samples <= sound.size:
        enough = time.monotonic() - began > LONGEST_SECONDS and len(seconds) >= _FEWEST_WINDOWS
        if seconds and (enough or stopped()):
            break
        block = sound[np.arange(place, place + detector.hop_samples) % sound.size]
        before = time.perf_counter()
        detector.push(block)
        seconds.append(time.perf_counter() - before)
        place += detector.hop_samples
    detector.reset()
    return seconds
