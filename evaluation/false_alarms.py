"""What a user meets first: human speech that is called spoof at the thresholds of the model file, source by source."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_runtime.decision.verdict import Verdict
from evaluation import breakdown
from evaluation.bootstrap import FEWEST_CLUSTERS, Estimate, drawn_sums, interval
from evaluation.protocols import Clip

Hits = NDArray[np.bool_]


@dataclass(frozen=True)
class SourceAlarms:
    """A source's human clips."""

    name: str
    human: int
    called_spoof: int
    unsure: int

    @property
    def share(self) -> float:
        return self.called_spoof / self.human


@dataclass(frozen=True)
class FalseAlarms:
    """Verdicts on human and on spoofed clips, as fractions; None where there are no such clips."""

    human_called_spoof: Estimate | None
    human_unsure: Estimate | None
    spoof_found: Estimate | None
    mean_of_sources: float | None  # of the share of human clips called spoof, all sources counting alike
    largest: SourceAlarms | None  # the source with the most human clips
    without_largest: float | None  # the share in all other sources
    sources: list[SourceAlarms]  # those with human clips, the most false alarms first


def alarms(clips: Sequence[Clip], verdicts: Sequence[Verdict]) -> FalseAlarms:
    """The verdicts [n] on clips, counted."""
    human = np.array([clip.is_bonafide for clip in clips], bool)
    said = np.array([verdict.value for verdict in verdicts])
    called, unsure = said == Verdict.SPOOF, said == Verdict.UNSURE
    rows = [
        SourceAlarms(name, int(own.sum()), int(called[own].sum()), int(unsure[own].sum()))
        for name, members in breakdown.sources(clips)
        if (own := members & human).any()
    ]
    rows.sort(key=lambda row: (-row.called_spoof, -row.share, -row.unsure, row.name))
    largest = max(rows, key=lambda row: row.human, default=None)
    rest = [row for row in rows if row is not largest]
    names = np.array([clip.source for clip in clips], str)
    return FalseAlarms(
        human_called_spoof=share(called[human], names[human].tolist()),
        human_unsure=share(unsure[human], names[human].tolist()),
        spoof_found=share(called[~human], names[~human].tolist(), bonafide=False),
        mean_of_sources=float(np.mean([row.share for row in rows])) if rows else None,
        largest=largest,
        without_largest=sum(row.called_spoof for row in rest) / sum(row.human for row in rest) if rest else None,
        sources=rows,
    )


def share(
    hits: Hits, sources: Sequence[str], rounds: int = 1000, seed: int = 0, *, bonafide: bool = True
) -> Estimate | None:
    """The share of clips of one label that are hit, [n], with an interval from a bootstrap that draws sources.

    With fewer than FEWEST_CLUSTERS sources it draws clips. None for no clips. An interval of no width, where no clip
    or every one is hit, is no certainty: of n clips, 3/n may still be otherwise (the rule of three), so it reaches
    that far.
    """
    if not hits.size:
        return None
    names, member = np.unique(np.asarray(sources), return_inverse=True)
    over = "sources" if len(names) >= FEWEST_CLUSTERS else "clips"
    groups = member if over == "sources" else np.arange(hits.size)
    size, hit = np.bincount(groups), np.bincount(groups, hits)
    drawn_hits, drawn_sizes = drawn_sums((hit, size), rounds, seed)
    value = float(hits.mean())
    low, high = interval(value, drawn_hits / drawn_sizes)
    margin = min(1.0, 3 / len(size))
    if value == 0:
        high = margin
    elif value == 1:
        low = 1 - margin
    counts = (hits.size, 0) if bonafide else (0, hits.size)
    return Estimate(value, low, high, *counts, over)
