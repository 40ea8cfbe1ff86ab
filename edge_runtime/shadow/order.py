"""What a trial shall try, and beside what: the order that the running program gives the process of the trial."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edge_runtime.errors import ModelError
from edge_runtime.settings.schema import AUTO, Settings
from edge_runtime.shadow.statefile import Models

if TYPE_CHECKING:
    from edge_runtime.detector import Detector


@dataclass(frozen=True)
class TrialRequest:
    """The user's settings, and what of the running model the process needs to know."""

    settings: Settings
    running: str
    running_sha256: str
    sample_rate: int
    window_samples: int
    hop_seconds: float
    thresholds: tuple[float, float]  # of spoof and of bona fide

    @staticmethod
    def of(settings: Settings, running: Detector) -> TrialRequest | None:
        """The order for what the settings ask for beside the `running` detector, or None when they ask for nothing."""
        if not settings.shadow:
            return None
        return TrialRequest(
            settings,
            running.network.contract.name,
            running.network.sha256,
            running.sample_rate,
            running.window_samples,
            running.hop_seconds,
            (running.thresholds.spoof, running.thresholds.bonafide),
        )

    @property
    def model(self) -> str:
        """The candidate's file."""
        return self.settings.shadow or ""

    @property
    def report(self) -> str:
        """The state file."""
        return self.settings.shadow_report or ""

    @property
    def windows(self) -> int:
        """How many are to be scored by both."""
        return self.settings.shadow_windows

    def models(self, candidate_sha256: str, name: str = "") -> Models:
        """Which model is tried beside which."""
        return Models(name, candidate_sha256, self.running, self.running_sha256)

    def detector(self) -> Detector:
        """What would run if the candidate took over.

        Raises ModelError or UsageError when it could not, or when it looks at sound in another way than the running
        model, so that their windows cannot be compared.
        """
        from edge_runtime.detector import Detector

        settings = self.settings
        hop_seconds = None if settings.hop in (None, AUTO) else self.hop_seconds
        found = Detector(
            self.model, hop_seconds=hop_seconds, window_seconds=settings.window, threshold=settings.threshold
        )
        for what, unit, theirs, ours in (
            ("takes sound of", "Hz", found.sample_rate, self.sample_rate),
            ("scores windows of", "samples", found.window_samples, self.window_samples),
        ):
            if theirs != ours:
                raise ModelError(
                    f"it {what} {theirs} {unit}, the running model of {ours}: the two cannot be compared window by "
                    "window, so it cannot be tried in shadow"
                )
        return found

    def to_json(self) -> str:
        """The order as the process is given it."""
        return json.dumps(dataclasses.asdict(self))

    @staticmethod
    def from_json(text: str) -> TrialRequest:
        """The same again."""
        told = json.loads(text)
        settings = Settings(**told["settings"] | {"file": tuple(told["settings"]["file"])})
        return TrialRequest(**told | {"settings": settings, "thresholds": tuple(told["thresholds"])})
