"""From scores to verdicts: one window's, and a whole recording's or stream's in constant memory."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from edge_runtime.errors import UsageError

STRETCHES_KEPT = 100
"""Spoofed stretches that a summary names, the most recent ones; it counts them all."""
SPOOFED_SHARE = 0.5
"""Share of the judged windows from which a recording is spoof, whatever its mean score."""


class Verdict(StrEnum):
    """What is said of a window or a recording."""

    BONAFIDE = "bonafide"
    SPOOF = "spoof"
    UNSURE = "unsure"
    SILENT = "silent"
    NO_SPEECH = "no-speech"


class Reason(StrEnum):
    """What stands against a plain verdict, in the sound except for the last; empty where nothing does."""

    NONE = ""
    SILENT = "silent"
    NO_SPEECH = "no-speech"
    INVALID = "invalid"
    CLIPPED = "clipped"
    NOISY = "noisy"
    SHORT = "short"
    MODEL = "model"  # not the sound: the model gave no number for it


@dataclass(frozen=True)
class Thresholds:
    """Scores below `spoof` are spoof, at or above `bonafide` bona fide, between the two unsure."""

    spoof: float
    bonafide: float

    def __post_init__(self) -> None:
        """Raises UsageError when a threshold is not a number or the two are in the wrong order."""
        if not (math.isfinite(self.spoof) and math.isfinite(self.bonafide)):
            raise UsageError("the threshold is not a number: give a log-likelihood ratio such as 0")
        if self.bonafide < self.spoof:
            raise UsageError("the threshold for bona fide lies below the one for spoof")


@dataclass(frozen=True)
class Window:
    """One judged window of the input. Times are seconds from the input's start."""

    start: float
    end: float
    score: float | None  # log-likelihood ratio, natural logarithm, higher is more bona fide; None: not scored
    verdict: Verdict
    level_dbfs: float
    peak_dbfs: float
    clipped: float  # share of samples at full scale, 0 to 1
    invalid: int  # samples that were not numbers, and were replaced by 0
    reason: Reason = Reason.NONE
    speech: float | None = None  # share of it in which somebody speaks, 0 to 1; None where nobody looked


@dataclass(frozen=True)
class Stretch:
    """A time in which windows called spoof follow or overlap each other; `score` is their mean."""

    start: float
    end: float
    score: float


@dataclass(frozen=True)
class Summary:
    """What was heard, from the first window to the last one so far."""

    verdict: Verdict
    score: float | None  # mean log-likelihood ratio of the windows fit to be judged, else of all scored ones
    windows: Mapping[Verdict, int]  # how many had which verdict
    seconds: float  # end of the last window
    stretches: tuple[Stretch, ...]  # the most recent spoofed ones
    stretch_count: int  # all of them


def decide(score: float | None, thresholds: Thresholds, reason: Reason = Reason.NONE) -> Verdict:
    """The verdict for a score, unless the sound itself gives a `reason` against one."""
    if reason is Reason.SILENT:
        return Verdict.SILENT
    if reason is Reason.NO_SPEECH:
        return Verdict.NO_SPEECH
    if score is None or reason is not Reason.NONE:
        return Verdict.UNSURE
    if score < thresholds.spoof:
        return Verdict.SPOOF
    return Verdict.BONAFIDE if score >= thresholds.bonafide else Verdict.UNSURE


@dataclass
class _Mean:
    count: int = 0
    total: float = 0.0

    def add(self, value: float) -> None:
        self.count += 1
        self.total += value

    @property
    def value(self) -> float | None:
        return self.total / self.count if self.count else None


class Summarizer:
    """Adds windows, in the order of their time, up to a summary; memory does not grow with the stream.

    The verdict follows the mean score, for a recording of one origin gives one kind of evidence. Two rules
    guard against a spoofed part inside a human recording: the whole is spoof when at least half of its judged
    windows are; and it is unsure, never bona fide, when spoofed windows without a break reach over two window
    lengths, for then there is a moment that every window which heard it called spoof. The stretches say where
    that was. A stretch reaches from the start of its first window to the end of its last, so it may exceed
    the spoofed sound by up to a window at either end.
    """

    def __init__(self, thresholds: Thresholds) -> None:
        self._thresholds = thresholds
        self._counts = dict.fromkeys(Verdict, 0)
        self._fit = _Mean()
        self._doubtful = _Mean()
        self._seconds = 0.0
        self._past: deque[Stretch] = deque(maxlen=STRETCHES_KEPT)
        self._stretch_count = 0
        self._open: tuple[float, float, _Mean] | None = None  # start, end and scores of the current stretch
        self._run_start: float | None = None
        self._solid = False

    def add(self, window: Window) -> None:
        """Takes the next window in."""
        self._counts[window.verdict] += 1
        self._seconds = max(self._seconds, window.end)
        if window.score is not None:
            (self._doubtful if window.reason else self._fit).add(window.score)
        if window.verdict is not Verdict.SPOOF or window.score is None:
            self._run_start = None
            return
        self._run_start = window.start if self._run_start is None else self._run_start
        self._solid |= window.end - self._run_start >= 2 * (window.end - window.start)
        if self._open is not None and window.start <= self._open[1]:
            start, _, scores = self._open
        else:
            self._close()
            start, scores = window.start, _Mean()
            self._stretch_count += 1
        scores.add(window.score)
        self._open = (start, window.end, scores)

    def summary(self) -> Summary:
        """The summary so far; more windows may follow."""
        score = self._fit.value if self._fit.count else self._doubtful.value
        current = self._current()
        return Summary(
            verdict=self._verdict(),
            score=score,
            windows=dict(self._counts),
            seconds=self._seconds,
            stretches=(*self._past, *([current] if current else []))[-STRETCHES_KEPT:],
            stretch_count=self._stretch_count,
        )

    def _verdict(self) -> Verdict:
        if not self._fit.count:
            if self._counts[Verdict.UNSURE]:
                return Verdict.UNSURE
            return Verdict.NO_SPEECH if self._counts[Verdict.NO_SPEECH] else Verdict.SILENT
        if self._counts[Verdict.SPOOF] >= SPOOFED_SHARE * self._fit.count:
            return Verdict.SPOOF
        verdict = decide(self._fit.value, self._thresholds)
        return Verdict.UNSURE if verdict is Verdict.BONAFIDE and self._solid else verdict

    def _current(self) -> Stretch | None:
        if self._open is None:
            return None
        start, end, scores = self._open
        return Stretch(start, end, scores.value or 0.0)

    def _close(self) -> None:
        current = self._current()
        if current is not None:
            self._past.append(current)
