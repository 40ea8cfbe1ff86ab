"""What becomes of verdicts: lines for programs, a live view, evidence, the ledger. All take the same calls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from edge_runtime.capture.block import Event, Losses
from edge_runtime.decision.alarm import Alarm
from edge_runtime.decision.pace import Pace
from edge_runtime.decision.summary import Summary
from edge_runtime.decision.verdict import Window

if TYPE_CHECKING:  # `--help` loads no NumPy
    import numpy as np
    from numpy.typing import NDArray


class Report:
    """One run's report: what it does not care for passes. Times are seconds of sound from the run's start.

    Calls raise OutputError or ReaderGone when standard output cannot be written; what is written elsewhere never ends a
    run.
    """

    def sound(self, at_seconds: float, samples: NDArray[np.float32]) -> None:
        """Sound came in, mono float32 [n] at the model's rate; `at_seconds` is where it ends."""

    def level(self, at_seconds: float, level_dbfs: float, peak_dbfs: float) -> None:
        """The level of that sound."""

    def window(self, window: Window) -> None:
        """A verdict."""

    def event(self, at_seconds: float, event: Event) -> None:
        """Something was lost, the hop or the state of the source changed."""

    def alarm(self, alarm: Alarm) -> None:
        """An alarm begins or ends."""

    def moment(self, absent_seconds: float) -> None:
        """Called at least once a second of a live run, with the time in which there was no microphone at all."""

    def summary(self, summary: Summary, losses: Losses, pace: Pace, error: str | None) -> None:
        """The end; `error` says what broke the sound off, if something did."""

    def close(self) -> None:
        """Nothing comes any more: what is held back is written now."""


class Several(Report):
    """Hands every call on to several reports, in their order."""

    def __init__(self, reports: Sequence[Report]) -> None:
        self._reports = tuple(reports)

    def sound(self, at_seconds: float, samples: NDArray[np.float32]) -> None:
        for report in self._reports:
            report.sound(at_seconds, samples)

    def level(self, at_seconds: float, level_dbfs: float, peak_dbfs: float) -> None:
        for report in self._reports:
            report.level(at_seconds, level_dbfs, peak_dbfs)

    def window(self, window: Window) -> None:
        for report in self._reports:
            report.window(window)

    def event(self, at_seconds: float, event: Event) -> None:
        for report in self._reports:
            report.event(at_seconds, event)

    def alarm(self, alarm: Alarm) -> None:
        for report in self._reports:
            report.alarm(alarm)

    def moment(self, absent_seconds: float) -> None:
        for report in self._reports:
            report.moment(absent_seconds)

    def summary(self, summary: Summary, losses: Losses, pace: Pace, error: str | None) -> None:
        for report in self._reports:
            report.summary(summary, losses, pace, error)

    def close(self) -> None:
        for report in self._reports:
            report.close()
