"""Figures of out-of-fold scores: the mean over folds of each, with its interval over sources.

The scores of two folds come from two heads, so a threshold belongs to one fold. The rule is therefore: each figure is
taken within each fold, and the mean over folds, all counting alike, is the figure. What all scores give as one set is
kept beside it. All figures are taken of the same draws of sources, so that two tables can be compared in pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluation import breakdown
from evaluation.bootstrap import FEWEST_CLUSTERS, interval, resample, units
from evaluation.breakdown import FEWEST
from evaluation.folds.slices import Slices
from evaluation.folds.table import FoldScores
from evaluation.metrics import Floats, cllr, eer, min_cllr
from evaluation.progress import silently

Ints = NDArray[np.int64]
Key = tuple[str, str, str]
"""Group of slices and slice, both "" for all clips, and the figure's name."""

RATES = (0.01, 0.02, 0.03)
"""Shares of human clips called spoof at which found spoof is counted."""
NAMES = {
    "eer": "EER, pooled",
    "eer_within": "EER within sources",
    "eer_macro": "EER, mean of sources",
    **{f"found_at_{rate:.0%}".replace("%", "_percent"): f"spoof found at {rate:.0%} false alarms" for rate in RATES},
    "cllr": "Cllr, bits",
    "min_cllr": "Cllr, least",
}
"""The figures of all clips, by the names that JSON has for them."""
FOUND = tuple(name for name in NAMES if name.startswith("found"))
OF_SLICES = ("eer", *FOUND)
HIGHER_IS_BETTER = frozenset(FOUND)


def threshold_at(human: Floats, rate: float) -> float:
    """The highest threshold below which at most `rate` of the human scores [n] lie; what is below it is spoof."""
    ordered = np.sort(human)
    return float(ordered[int(rate * len(ordered) + 1e-9)])


@dataclass(frozen=True)
class Figure:
    """One figure: the mean over folds, its 95 % interval, and what it is of. Rates are fractions; None is unknown."""

    value: float | None
    low: float | None  # None where there are too few sources for an interval
    high: float | None
    by_fold: dict[str, float | None]
    as_one: float | None  # of the scores of all folds as one set
    bonafide: int
    spoof: int
    spoof_sources: int
    over: str  # what the interval's draws were of: sources, or clips

    @property
    def folds(self) -> int:
        """How many folds the mean is of."""
        return sum(value is not None for value in self.by_fold.values())


class Sheet:
    """The scores of one table, with what does not change from draw to draw."""

    def __init__(self, of: FoldScores, cuts: Slices, *, llr: bool) -> None:
        self.of, self.cuts, self.llr = of, cuts, llr
        self.scores = of.scores
        order = np.argsort(of.scores, kind="mergesort")
        self.rank, self.order = np.argsort(order), order
        self.centred, self.known = breakdown.centred(of.scores, of.human, breakdown.sources(of.clips))
        names, self.source = np.unique(np.array(of.sources, str), return_inverse=True)
        self.sizes = np.bincount(self.source)
        self.source_eer = np.full(len(names), np.nan)
        for index, (_, members) in enumerate(breakdown.sources(of.clips)):  # in the order of `names` too
            if breakdown.enough(of.human[members]):
                side = members & of.human, members & ~of.human
                self.source_eer[index] = eer(of.scores[side[0]], of.scores[side[1]])[0]

    def figures(self, human: Ints, spoof: Ints) -> Iterator[tuple[Key, float]]:
        """Each figure of clips by their indices, which may be there many times over; NaN where they are too few."""
        scores = self.scores
        few = min(len(human), len(spoof)) < FEWEST
        known = human[self.known[human]], spoof[self.known[spoof]]
        lacking = min(map(len, known)) < FEWEST
        yield ("", "", "eer_within"), np.nan if lacking else _eer(self.centred[known[0]], self.centred[known[1]])
        yield ("", "", "eer_macro"), self._macro(human, spoof)
        if self.llr:
            sides = scores[human], scores[spoof]
            yield ("", "", "cllr"), np.nan if few else cllr(*sides)
            yield ("", "", "min_cllr"), np.nan if few else min_cllr(*sides)
        own = scores[human]
        thresholds = [np.nan if few else threshold_at(own, rate) for rate in RATES]
        everything = {"": {"": ~self.of.human}}
        for group, members in (everything | self.cuts).items():
            for name, chosen in members.items():
                theirs = scores[spoof[chosen[spoof]]]
                enough = min(len(own), len(theirs)) >= FEWEST
                yield (group, name, "eer"), _eer(own, theirs) if enough else np.nan
                for figure, threshold in zip(FOUND, thresholds, strict=True):
                    found = np.count_nonzero(theirs < threshold) / len(theirs) if enough else np.nan
                    yield (group, name, figure), found

    def _macro(self, human: Ints, spoof: Ints) -> float:
        """A source counts as often as it was drawn; where clips were drawn, by the share of its clips that were."""
        drawn = np.bincount(self.source[np.concatenate([human, spoof])], minlength=len(self.sizes)) / self.sizes
        drawn[np.isnan(self.source_eer)] = 0
        return float(np.nansum(drawn * self.source_eer) / drawn.sum()) if drawn.sum() else np.nan


def _eer(human: Floats, spoof: Floats) -> float:
    return eer(human, spoof)[0]


@dataclass(frozen=True)
class JudgedFolds:
    """The figures of a table and, where there is another, of that one and of the difference: this minus the other."""

    figures: dict[Key, Figure]
    other: dict[Key, Figure] | None = None
    difference: dict[Key, Figure] | None = None


def judge(
    sheet: Sheet,
    other: Sheet | None = None,
    rounds: int = 1000,
    seed: int = 0,
    progress: Callable[..., Any] = silently,
) -> JudgedFolds:
    """All figures with intervals from `bootstrap.resample`; `other` has the same clips in the same order.

    A fold with fewer than FEWEST clips of a label, in all or in a draw, is left out of that mean. An interval needs
    FEWEST_CLUSTERS sources of spoof in the slice.
    """
    of = sheet.of
    names = sorted(set(of.folds))
    fold = np.searchsorted(names, np.array(of.folds, str))
    sheets = [sheet] if other is None else [sheet, other]
    everything = np.arange(len(of.clips))
    whole = [_by_fold(item, everything, fold, len(names)) for item in sheets]

    def means_of(sample: Ints) -> list[dict[Key, float]]:
        found = (_by_fold(item, sample, fold, len(names)) for item in sheets)
        return [{key: _mean(values) for key, values in one.items()} for one in found]

    clips = units(of.human, of.sources)
    made = resample(clips, means_of, rounds, seed, progress, "intervals")
    drawn = [[means[number] for means in made] for number in range(len(sheets))]
    one = [dict(item.figures(everything[of.human], everything[~of.human])) for item in sheets]
    counts = {key: _counts(sheet, key) for key in whole[0]}

    def figure(key: Key, values: list[float], samples: list[float], as_one: float) -> Figure:
        value = _mean(values)
        kept = [sample for sample in samples if not np.isnan(sample)]
        bonafide, spoof, sources = counts[key]
        low = high = None
        if kept and not np.isnan(value) and (clips.over == "clips" or sources >= FEWEST_CLUSTERS):
            low, high = interval(value, kept)
        by_fold = {name: _known(one) for name, one in zip(names, values, strict=True)}
        return Figure(_known(value), low, high, by_fold, _known(as_one), bonafide, spoof, sources, clips.over)

    tables = [
        {key: figure(key, whole[i][key], [means[key] for means in drawn[i]], one[i][key]) for key in counts}
        for i in range(len(sheets))
    ]
    if other is None:
        return JudgedFolds(tables[0])
    difference = {
        key: figure(
            key,
            [mine - theirs for mine, theirs in zip(whole[0][key], whole[1][key], strict=True)],
            [mine[key] - theirs[key] for mine, theirs in zip(*drawn, strict=True)],
            one[0][key] - one[1][key],
        )
        for key in counts
    }
    return JudgedFolds(tables[0], tables[1], difference)


def _by_fold(sheet: Sheet, sample: Ints, fold: Ints, folds: int) -> dict[Key, list[float]]:
    found: dict[Key, list[float]] = {}
    sample = sheet.order[np.sort(sheet.rank[sample])]  # scores that rise already are sorted in no time, slice by slice
    label, place = sheet.of.human[sample], fold[sample]
    for number in range(folds):
        own = place == number
        for key, value in sheet.figures(sample[own & label], sample[own & ~label]):
            found.setdefault(key, []).append(value)
    return found


def _counts(sheet: Sheet, key: Key) -> tuple[int, int, int]:
    """Human clips, spoofed clips and sources of spoof that a figure is of."""
    group, name, figure = key
    human = sheet.of.human
    spoof = sheet.cuts[group][name] if group else ~human
    if figure in ("eer_within", "eer_macro"):
        whole = sheet.known
        human, spoof = human & whole, spoof & whole
    return int(human.sum()), int(spoof.sum()), len(np.unique(sheet.source[spoof]))


def _mean(values: list[float]) -> float:
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else np.nan


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
