"""Wires one run: blocks from a source through the detector to a report. It knows no files and no screens."""

from __future__ import annotations

import dataclasses
import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from edge_runtime.capture.block import HOP, Block, Event, Losses
from edge_runtime.decision.alarm import Alarm, Alarms
from edge_runtime.decision.pace import Pace
from edge_runtime.decision.summary import Summarizer, Summary
from edge_runtime.decision.verdict import Window
from edge_runtime.detector import Detector
from edge_runtime.errors import InputError
from edge_runtime.governor import Governor
from edge_runtime.report import Report

_LOG = logging.getLogger(__name__)


def run(
    source: Iterator[Block],
    detector: Detector,
    report: Report,
    *,
    duration_seconds: float | None = None,
    stopped: Callable[[], bool] = lambda: False,
    governor: Governor | None = None,
    alarms: Alarms | None = None,
    report_alarms: bool = True,
    clock: Callable[[], float] = time.monotonic,
) -> tuple[Summary, InputError | None]:
    """Scores and reports all that `source` gives, until it ends, breaks off, `stopped()` or the time is over.

    Every way leads to the same end: the last windows, then the summary. Gives the summary and what broke the
    sound off, if something did; InputError does not come out as an exception, as the sound before it counts.

    No window reaches across a time without a microphone (`absent_seconds`): the sound before it is scored to its end,
    and the windows after it begin again. All times are seconds of sound, in which such a time takes none.

    `alarms` makes alarms of the windows, of a file as of a microphone, and the summary's verdict follows them; one that
    is on when the run ends is ended. Without `report_alarms` the summary alone says how many there were, and where:
    that is for files, of which nobody waits for an alarm. Where nothing was heard at all the summary has no verdict.

    A `governor` is for sources that do not wait: it sets the hop by what scoring costs, in seconds of `clock`.
    """
    detector.reset()
    summarizer = Summarizer(detector.thresholds, alarms)
    losses = Losses()
    trouble: InputError | None = None
    heard = 0
    offset_seconds = 0.0  # where the detector's stream begins in the run
    limit = math.inf if duration_seconds is None else max(1, round(duration_seconds * detector.sample_rate))

    def announce(rung: Iterable[Alarm]) -> None:
        for alarm in rung if report_alarms else ():
            report.alarm(alarm)

    def take(windows: Iterable[Window]) -> int:
        """How many of them have a score."""
        scored = 0
        for window in windows:
            if offset_seconds:
                start, end = window.start + offset_seconds, window.end + offset_seconds
                window = dataclasses.replace(window, start=start, end=end)
            rung = summarizer.add(window)
            report.window(window)
            scored += window.score is not None
            announce(rung)
        return scored

    try:
        for block in source:
            for event in block.events:
                losses = losses.plus(event)
                report.event(heard / detector.sample_rate, event)
            if block.absent_seconds and heard / detector.sample_rate > offset_seconds:
                take(detector.flush())
                offset_seconds = heard / detector.sample_rate
                announce(summarizer.end(offset_seconds))
            samples = block.samples[: int(min(len(block.samples), limit - heard))]
            heard += len(samples)
            if len(samples):
                began = clock()
                report.sound(heard / detector.sample_rate, samples)
                report.level(heard / detector.sample_rate, *_levels(samples))
                scored = take(detector.push(samples))
                seconds, busy_seconds = len(samples) / detector.sample_rate, clock() - began
                if scored:
                    _LOG.debug(
                        "%.2f s: %d windows took %.1f ms", heard / detector.sample_rate, scored, 1e3 * busy_seconds
                    )
                change = governor.heard(seconds, busy_seconds, block.waiting_seconds, scored) if governor else None
                if change:
                    detector.set_hop(change.hop_seconds)
                    event = Event(HOP, seconds=detector.hop_seconds, reason=change.reason)
                    report.event(heard / detector.sample_rate, event)
            report.moment(block.absent_seconds)
            if heard >= limit or stopped():
                break
    except InputError as reason:
        trouble = reason
    take(detector.flush())
    announce(summarizer.end(heard / detector.sample_rate))
    summary = summarizer.summary()
    if not heard:
        summary = dataclasses.replace(summary, verdict=None)
    pace = governor.pace if governor else Pace(detector.hop_seconds, widest_hop_seconds=detector.hop_seconds)
    report.summary(summary, losses, pace, str(trouble) if trouble else None)
    return summary, trouble


def _levels(samples: NDArray[np.float32]) -> tuple[float, float]:
    """RMS and peak in dBFS, not under -120; what is no number counts as zero."""
    clean = np.nan_to_num(samples.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    return _dbfs(math.sqrt(float(np.mean(clean * clean)))), _dbfs(float(np.abs(clean).max()))


def _dbfs(value: float) -> float:
    return 20 * math.log10(max(value, 1e-6))
