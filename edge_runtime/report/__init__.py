"""What becomes of verdicts: lines of JSON for programs, a live view for people. All take the same calls."""

from __future__ import annotations

from typing import Protocol

from edge_runtime.capture.block import Event, Losses
from edge_runtime.decision.verdict import Summary, Window
from edge_runtime.pace import Pace


class Report(Protocol):
    """One run's report. Every call raises OutputError or ReaderGone when the output cannot be written."""

    def level(self, at_seconds: float, level_dbfs: float, peak_dbfs: float) -> None:
        """A block of sound came in, up to `at_seconds` from the start."""

    def window(self, window: Window) -> None:
        """A verdict."""

    def event(self, at_seconds: float, event: Event) -> None:
        """Something was lost, or the hop changed, at `at_seconds` from the start."""

    def summary(self, summary: Summary, losses: Losses, pace: Pace, error: str | None) -> None:
        """The end; `error` says what broke the sound off, if something did."""
