"""Intervals of figures: the one bootstrap (Efron and Tibshirani, "An Introduction to the Bootstrap", 1993).

Clips of one source are alike, so sources are drawn and not clips, wherever there are enough of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evaluation.progress import silently

FEWEST_CLUSTERS = 5
"""Sources of a label from which on a bootstrap over them says something; with fewer of either, clips are drawn."""

Indices = NDArray[np.int64]
_T = TypeVar("_T")


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % interval from a bootstrap, all as fractions: low <= value <= high.

    `over` says what was drawn: `sources`, or `clips` within each label.
    """

    value: float
    low: float
    high: float
    bonafide: int
    spoof: int
    over: str = "sources"

    def __str__(self) -> str:
        return f"{self.value:.1%} [{self.low:.1%}, {self.high:.1%}]"


@dataclass(frozen=True)
class Units:
    """Clips [n] with their labels, and what of them is drawn as one: their source, [n] names."""

    is_bonafide: NDArray[np.bool_]
    sources: Sequence[str]

    @property
    def over(self) -> str:
        """What is drawn: `sources`, or `clips` within each label where either label has too few sources.

        Both labels need FEWEST_CLUSTERS: all human clips of one source would come and go as one block, unchanged, and
        the interval would leave out that they are a sample too.
        """
        names = np.asarray(self.sources)
        fewest = min(len(np.unique(names[side])) for side in (self.is_bonafide, ~self.is_bonafide))
        return "sources" if fewest >= FEWEST_CLUSTERS else "clips"

    def draws(self, rounds: int, seed: int) -> Iterator[Indices]:
        """Indices into the clips, a round each, of those rounds that have both labels."""
        names, member = np.unique(np.asarray(self.sources), return_inverse=True)
        rng = np.random.default_rng(seed)
        by_source = [np.flatnonzero(member == index) for index in range(len(names))]
        by_label = [np.flatnonzero(self.is_bonafide), np.flatnonzero(~self.is_bonafide)]
        over = self.over
        for _ in range(rounds):
            if over == "sources":
                sample = np.concatenate([by_source[i] for i in rng.integers(0, len(names), len(names))])
            else:
                sample = np.concatenate([rng.choice(side, len(side)) for side in by_label])
            chosen = self.is_bonafide[sample]
            if chosen.any() and not chosen.all():
                yield sample


def units(is_bonafide: ArrayLike, sources: Sequence[str]) -> Units:
    """Clips to draw from: their labels [n] and what each is alike to [n]."""
    return Units(np.asarray(is_bonafide, bool), sources)


def resample(
    of: Units,
    statistic: Callable[[Indices], _T],
    rounds: int,
    seed: int = 0,
    progress: Callable[..., Any] = silently,
    description: str = "interval",
) -> list[_T]:
    """`statistic` of each draw, which it gets as indices into the clips, with those drawn twice standing there twice.

    What is to be compared is taken in one statistic, of the same draw: what makes clips easy or hard for both then
    falls out of the difference.
    """
    drawn = progress(of.draws(rounds, seed), desc=description, unit="round", total=rounds)
    return [statistic(sample) for sample in drawn]


def interval(value: float, drawn: ArrayLike) -> tuple[float, float]:
    """The 2.5th and 97.5th percentile of a figure's draws [m], m at least 1, widened to the figure itself.

    Rates that are only near each other are biased in small draws, and percentiles may leave out the figure.
    """
    low, high = np.percentile(np.asarray(drawn, np.float64), [2.5, 97.5])
    return min(float(low), value), max(float(high), value)


def drawn_sums(columns: Sequence[ArrayLike], rounds: int, seed: int = 0) -> list[NDArray[np.float64]]:
    """Sums of drawn groups, [rounds] for each of `columns` [groups]: a share is one sum over another."""
    groups = len(np.asarray(columns[0]))
    drawn = np.random.default_rng(seed).integers(0, groups, (rounds, groups))
    return [np.asarray(column, np.float64)[drawn].sum(axis=1) for column in columns]
