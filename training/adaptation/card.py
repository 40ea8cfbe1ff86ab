"""The card of an adapted network: what was used, what it does before and after, and what to beware of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edge_runtime.decision.verdict import Verdict
from edge_runtime.system.markdown import table
from evaluation.bootstrap import Estimate
from export.checkpoint import Calibration
from training.adaptation.trial import BLIND_SHARE, MOST_RISE, Column
from training.report import CalibrationReport, thresholds_line

ROWS = (
    ("held-out recordings called spoof (false alarms)", "room", "human", Verdict.SPOOF),
    ("held-out recordings unsure", "room", "human", Verdict.UNSURE),
    ("held-out recordings called bona fide", "room", "human", Verdict.BONAFIDE),
    ("spoofed clips of the room called spoof", "room", "spoofed", Verdict.SPOOF),
    ("spoofed clips of the room called bona fide", "room", "spoofed", Verdict.BONAFIDE),
    ("human dev clips called spoof", "dev", "human", Verdict.SPOOF),
    ("spoofed dev clips called spoof", "dev", "spoofed", Verdict.SPOOF),
    ("spoofed dev clips called bona fide", "dev", "spoofed", Verdict.BONAFIDE),
)


@dataclass(frozen=True)
class AdaptationCard:
    """All that is said of an adaptation."""

    name: str
    used: Mapping[str, str]  # what was used, in words
    columns: Sequence[Column]
    share: float  # of the way from the old weights to the new ones
    verdicts: CalibrationReport
    calibration: Calibration
    has_dev: bool

    def warning(self) -> list[str]:
        """What the user must know first; nothing where all went well."""
        points = 100 * MOST_RISE
        if not self.has_dev:
            return [
                f"**WARNING: without --dev nobody knows what was forgotten.** The weights are {BLIND_SHARE:.0%} of the "
                "way from the old to the new ones, and there is no dev EER."
            ]
        if self.share == 1:
            return []
        if self.share == 0:
            return [
                f"**WARNING: the EER on dev rose by more than {points:g} point at every point of the way to the new "
                "weights: these are the OLD weights with new thresholds.**"
            ]
        return [
            f"**WARNING: the EER on dev rose by more than {points:g} point: the weights are {self.share:.0%} of the "
            "way from the old to the new ones.**"
        ]

    def table(self) -> list[str]:
        """Before and after, in Markdown."""
        rows = [
            ["dev EER", *(_percent(column.dev_eer) for column in self.columns)],
            ["EER in the room", *(_percent(column.room_eer) for column in self.columns)],
        ]
        for name, where, label, verdict in ROWS:
            found = [(c.dev if where == "dev" else c.room).get((label, verdict)) for c in self.columns]
            if where == "room" or self.has_dev:
                rows.append([name, *(_percent(value) for value in found)])
        return table(("", *(column.name for column in self.columns)), rows)

    def lines(self) -> list[str]:
        """The card in Markdown."""
        return [
            f"# {self.name}, adapted to a room",
            "",
            *([*self.warning(), ""] if self.warning() else []),
            "## Before and after",
            "",
            *self.table(),
            "",
            "Held-out recordings were not trained on; the spoofed clips of the room are vocoder copies of them and, "
            "with --spoof, every fifth of the user's own: how other synthesizers fare in the room they do not tell. "
            "Thresholds fitted again were fitted on dev and the held-out clips, except for the source that is judged; "
            "intervals are 95 %.",
            "",
            "## Thresholds",
            "",
            thresholds_line(self.calibration),
            "",
            *self.verdicts.lines(),
            "",
            "## What was used",
            "",
            *table(("", ""), [(what, str(value)) for what, value in self.used.items()]),
        ]


def _percent(value: float | Estimate | None) -> str:
    if value is None:
        return "not known"
    return str(value) if isinstance(value, Estimate) else f"{value:.1%}"
