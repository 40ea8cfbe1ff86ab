"""What a score means: verdicts of windows, by two thresholds and the quality of the sound."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from edge_runtime.errors import UsageError


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
