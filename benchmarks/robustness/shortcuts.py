"""What a model listens to: its scores of clips before and after interventions, and what plain features alone tell."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.robustness.error_rates import subset
from benchmarks.robustness.features import FeatureAlone, alone, measured
from benchmarks.robustness.interventions import INTERVENTIONS
from edge_runtime.decision.verdict import Verdict
from edge_runtime.errors import InputError, UsageError
from evaluation import breakdown
from evaluation.acoustics.conditions import Condition
from evaluation.bootstrap import Estimate, Indices, interval, resample, units
from evaluation.comparison import Comparison, compare_scores
from evaluation.metrics import Floats, eer_clustered
from evaluation.progress import silently
from evaluation.protocols import Clip
from evaluation.scoring.perturbation import hear
from evaluation.within import within_sources


@dataclass(frozen=True)
class Shift:
    """How far scores move in the mean, in standard deviations, with a 95 % interval from a bootstrap over sources."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:+.2f} [{self.low:+.2f}, {self.high:+.2f}]"


@dataclass(frozen=True)
class InterventionLine:
    """An intervention against no change, on the clips that have a score under both."""

    axis: str
    name: str
    clips: int
    unscored: int  # clips with a score before and none after
    pooled: Estimate
    within: Estimate | None
    human_called_spoof: float  # after it
    change: Comparison  # of the pooled EER, with the verdicts that flipped
    change_within: Comparison | None  # of the EER within sources
    bonafide: Shift
    spoof: Shift
    gap: Shift  # of bona fide less that of spoof: below 0, the labels come nearer to each other


@dataclass(frozen=True)
class Shortcuts:
    """All that was found of a model."""

    model: str
    bonafide: int
    spoof: int
    sources: int
    hop_seconds: float
    seed: int
    deviation: float  # LLR: the pooled standard deviation, within labels, of scores without a change
    pooled: Estimate
    within: Estimate | None
    human_called_spoof: float
    lines: list[InterventionLine]
    features: list[FeatureAlone]
    unread: tuple[str, ...]
    left_out: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """Of JSON's types; rates are fractions, differences of EER percentage points."""
        told = asdict(self)
        for item, written in zip(self.lines, told["lines"], strict=True):
            written["change"] = item.change.as_figures()
            written["change_within"] = item.change_within.as_figures() if item.change_within else None
        return told


def drawn(clips: Sequence[Clip], limit: int | None, seed: int) -> list[Clip]:
    """At most `limit` clips, whole sources as they are drawn, in their old order: figures within sources need those.

    Of the first source that does not fit, and of none after it, a balanced part is taken (`robustness.subset`). Raises
    UsageError for fewer than 2.
    """
    if limit is None:
        return list(clips)
    if limit < 2:
        raise UsageError(f"at least 2 clips are needed, one of each label, not {limit}")
    groups = dict(breakdown.sources(clips))
    names = np.random.default_rng(seed).permutation(sorted(groups)).tolist()
    taken: list[int] = []
    for name in names:
        own = np.flatnonzero(groups[name]).tolist()
        left = limit - len(taken)
        if len(own) > left:
            if left >= 2:
                kept = {id(clip) for clip in subset([clips[i] for i in own], left, seed)}
                taken += [i for i in own if id(clips[i]) in kept]
            break
        taken += own
    return [clips[i] for i in sorted(taken)]


def shortcuts(
    model: Path,
    clips: Sequence[Clip],
    interventions: Sequence[Condition] = tuple(INTERVENTIONS.values()),
    seed: int = 0,
    hop_seconds: float = 0.5,
    jobs: int | None = None,
    cluster: str | None = None,
    progress: Callable[..., Any] = silently,
    rounds: int = 1000,
) -> Shortcuts:
    """Scores `clips` under `interventions`, of which the first is held to be no change, and measures features.

    All intervals are from bootstraps of `rounds` rounds over sources (`bootstrap.Units`), paired where two scores of
    the same clips are compared. What else is raised, `perturbation.hear` says.

    Raises InputError unless clips of both labels have a score.
    """
    _both({clip.is_bonafide for clip in clips})
    heard = hear([model], clips, interventions, seed, hop_seconds, jobs, cluster, progress)
    scores, verdicts = heard.scores[:, :, 0], heard.verdicts[:, :, 0]
    scored = np.isfinite(scores[:, 0])
    known = [clip for clip, fit in zip(heard.clips, scored.tolist(), strict=True) if fit]
    _both({clip.is_bonafide for clip in known})
    scores, verdicts = scores[scored], verdicts[scored]
    human = np.array([clip.is_bonafide for clip in known], bool)
    sources = [clip.source for clip in known]
    sides = (scores[human, 0], scores[~human, 0])
    freedom = max(1, len(known) - 2)
    deviation = float(np.sqrt(sum(float(np.sum((side - side.mean()) ** 2)) for side in sides) / freedom))
    lines = [
        line(item, known, scores[:, [0, index]], verdicts[:, [0, index]].tolist(), deviation or 1.0, rounds)
        for index, item in enumerate(heard.conditions)
        if index
    ]
    return Shortcuts(
        model=model.stem,
        bonafide=int(human.sum()),
        spoof=int((~human).sum()),
        sources=len(set(sources)),
        hop_seconds=heard.hop_seconds,
        seed=seed,
        deviation=deviation,
        pooled=eer_clustered(scores[:, 0], human, sources, rounds),
        within=within_sources(scores[:, 0], human, known, sources, rounds),
        human_called_spoof=float(np.mean(verdicts[human, 0] == Verdict.SPOOF)),
        lines=lines,
        features=alone(measured(known, progress), known, scores[:, 0]),
        unread=heard.unread,
        left_out=heard.left_out,
    )


def _both(labels: set[bool]) -> None:
    if len(labels) < 2:
        raise InputError("what a model listens to shows on clips of both labels only: bona fide and spoofed ones")


def line(
    item: Condition, clips: Sequence[Clip], scores: Floats, verdicts: list[list[str]], deviation: float, rounds: int
) -> InterventionLine:
    """What an intervention did: `scores` and `verdicts` [clips, 2] are before and after, NaN where there is none.

    `deviation` is the unit of shifts. Raises InputError when a label has no score after it.
    """
    fit = np.isfinite(scores[:, 1])
    known = [clip for clip, has in zip(clips, fit.tolist(), strict=True) if has]
    if len({clip.is_bonafide for clip in known}) < 2:
        raise InputError(f"{item.name} leaves no clip of one label with a score")
    said = [[Verdict(both[side]) for both, has in zip(verdicts, fit.tolist(), strict=True) if has] for side in (0, 1)]
    before, after = scores[fit].T
    human = np.array([clip.is_bonafide for clip in known], bool)
    sources = [clip.source for clip in known]
    bonafide, spoof, gap = _shifts((after - before) / deviation, human, sources, rounds)
    parts = list(breakdown.sources(known))
    (first, own), (second, _) = (breakdown.centred(side, human, iter(parts)) for side in (before, after))
    change_within = None
    if own.any():
        alike = [sources[i] for i in np.flatnonzero(own).tolist()]
        change_within = compare_scores(first[own], second[own], human[own], alike, rounds=rounds)
    return InterventionLine(
        axis=item.axis,
        name=item.name,
        clips=len(known),
        unscored=int((~fit).sum()),
        pooled=eer_clustered(after, human, sources, rounds),
        within=within_sources(after, human, known, sources, rounds),
        human_called_spoof=float(np.mean([said[1][i] == Verdict.SPOOF for i in np.flatnonzero(human).tolist()])),
        change=compare_scores(before, after, human, sources, verdicts=(said[0], said[1]), rounds=rounds),
        change_within=change_within,
        bonafide=bonafide,
        spoof=spoof,
        gap=gap,
    )


def _shifts(moved: Floats, human: breakdown.Members, sources: Sequence[str], rounds: int) -> list[Shift]:
    """Of bona fide, of spoof, and the first less the second, each from the same draws."""

    def means(sample: Indices) -> tuple[float, float, float]:
        some, label = moved[sample], human[sample]
        bonafide, spoof = float(some[label].mean()), float(some[~label].mean())
        return bonafide, spoof, bonafide - spoof

    values = means(np.arange(len(moved)))
    made = resample(units(human, sources), means, rounds) or [values]
    return [Shift(value, *interval(value, drawn)) for value, drawn in zip(values, zip(*made, strict=True), strict=True)]
