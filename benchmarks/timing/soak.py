"""A day of sound in fast motion: whether a hop costs as much, and the process holds as much, at its end as before."""

from __future__ import annotations

import gc
import resource
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine.processes import resident_bytes
from benchmarks.timing.interleaved import Spread
from benchmarks.timing.pipelines import Loop
from edge_runtime.decision.summary import Summarizer
from edge_runtime.detector import Detector
from edge_runtime.errors import UsageError
from edge_runtime.model.network import Network
from edge_runtime.system import markdown
from evaluation.hop import at_hop
from evaluation.progress import silently

_SETTLING_HOPS = 20
"""Before the first hour: the first runs of a session still find memory."""


@dataclass(frozen=True)
class Hour:
    """What a part of the day took, an hour unless the day is shorter."""

    until_hours: float  # sound heard up to its end
    hops: int
    cpu_ms: Spread  # of a hop
    resident_mb: float | None  # at its end
    faults: float  # minor page faults of a hop, mean


def soak(
    path: Path, hours: float = 24, hop_seconds: float = 0.5, threads: int = 1, progress: Callable[..., Any] = silently
) -> list[Hour]:
    """Feeds so many hours of sound to a detector and a summary, a hop at a time, as a microphone would.

    The sound is a loop of a minute, out of step with the hop. Raises UsageError for hours or a hop that cannot be,
    ModelError for the file.
    """
    if not (0 < hours <= 24 * 366) or threads < 1:
        raise UsageError("a soak needs more than 0 hours, a year at most, and at least one thread")
    detector = at_hop(Detector(Network.load(path, threads), hop_seconds=hop_seconds), hop_seconds)
    summarizer = Summarizer(detector.thresholds)
    sound = Loop(detector.sample_rate)
    detector.push(sound.take(detector.window_samples))
    for _ in range(_SETTLING_HOPS):
        detector.push(sound.take(detector.hop_samples))
    hops = max(2, round(hours * 3600 / detector.hop_seconds))
    parts = max(2, ceil(hours))
    ends = [round(hops * (part + 1) / parts) for part in range(parts)]
    seconds = np.zeros(ends[0] + 1)  # of the hops of one part; written before the first, so that its pages are there
    gc.collect()
    found: list[Hour] = []
    faults = _faults()
    begin = 0
    for hop in progress(range(hops), desc=f"{hours:g} h of sound", unit="hop"):
        block = sound.take(detector.hop_samples)
        start = time.process_time()
        for window in detector.push(block):
            summarizer.add(window)
        seconds[hop - begin] = time.process_time() - start
        if hop + 1 == ends[len(found)]:
            taken, now, resident = hop + 1 - begin, _faults(), resident_bytes()
            found.append(
                Hour(
                    until_hours=(hop + 1) * detector.hop_seconds / 3600,
                    hops=taken,
                    cpu_ms=Spread.of(seconds[:taken], 1000),
                    resident_mb=None if resident is None else resident / 1e6,
                    faults=(now - faults) / taken,
                )
            )
            begin, faults = hop + 1, _faults()
    return found


def table(path: Path, hours: Sequence[Hour], top: Sequence[str]) -> str:
    """Markdown, the comparison of the first and the last part below it."""
    lines = [
        f"{hours[-1].until_hours:.3g} h of sound through {path.name}, a hop at a time, in fast motion.",
        *top,
        "",
    ]
    rows = []
    for hour in hours:
        cpu = f"{hour.cpu_ms.median:.2f} ms [{hour.cpu_ms.low:.2f}, {hour.cpu_ms.high:.2f}]"
        until = f"{hour.until_hours:.3g} h"
        rows.append((until, str(hour.hops), cpu, _mb(hour.resident_mb), f"{hour.faults:.2f}"))
    lines += markdown.table(("until", "hops", "CPU time of a hop", "resident", "page faults of a hop"), rows)
    first, last = hours[0], hours[-1]
    change = f"From the first to the last: CPU time {last.cpu_ms.median / first.cpu_ms.median - 1:+.1%}"
    if first.resident_mb is not None and last.resident_mb is not None:
        change += f", resident memory {last.resident_mb - first.resident_mb:+.2f} MB"
    return "\n".join([*lines, "", change + "."]) + "\n"


def _mb(value: float | None) -> str:
    return "not known" if value is None else f"{value:.1f} MB"


def _faults() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
