"""The measures of spoofing detection: the one place that knows what an EER is.

Scores are higher for bona fide. Definitions agree with the ASVspoof evaluation packages: scores are sorted
stably, miss and false-alarm rates are taken at every threshold with the point (0, 1) before the first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


def det_curve(bonafide: ArrayLike, spoof: ArrayLike) -> tuple[Floats, Floats, Floats]:
    """Miss rates of bona fide, false-alarm rates of spoof and thresholds, each float64 [n + 1]."""
    target, nontarget = np.asarray(bonafide, np.float64), np.asarray(spoof, np.float64)
    if not len(target) or not len(nontarget):
        raise ValueError("an error rate needs at least one bona fide and one spoofed score")
    scores = np.concatenate([target, nontarget])
    labels = np.concatenate([np.ones(len(target)), np.zeros(len(nontarget))])
    order = np.argsort(scores, kind="mergesort")
    labels = labels[order]
    misses = np.cumsum(labels)
    alarms = len(nontarget) - (np.arange(1, len(scores) + 1) - misses)
    miss_rate = np.concatenate([[0.0], misses / len(target)])
    alarm_rate = np.concatenate([[1.0], alarms / len(nontarget)])
    thresholds = np.concatenate([[scores[order[0]] - 0.001], scores[order]])
    return miss_rate, alarm_rate, thresholds


def eer(bonafide: ArrayLike, spoof: ArrayLike) -> tuple[float, float]:
    """Equal error rate (0 to 1) and its threshold: the mean of both rates where they are nearest."""
    miss_rate, alarm_rate, thresholds = det_curve(bonafide, spoof)
    nearest = int(np.argmin(np.abs(miss_rate - alarm_rate)))
    return float((miss_rate[nearest] + alarm_rate[nearest]) / 2), float(thresholds[nearest])


def cllr(bonafide: ArrayLike, spoof: ArrayLike) -> float:
    """Cost of log-likelihood ratios in bits (Brümmer and du Preez, 2006); 1 for a system that says nothing."""
    target, nontarget = np.asarray(bonafide, np.float64), np.asarray(spoof, np.float64)
    return float(np.mean(np.logaddexp(0, -target)) + np.mean(np.logaddexp(0, nontarget))) / (2 * float(np.log(2)))


FEWEST_CLUSTERS = 5
"""Sources from which on a bootstrap over them says something; with fewer, clips are drawn."""


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % interval from a bootstrap, all as fractions; `over` says what was drawn."""

    value: float
    low: float
    high: float
    bonafide: int
    spoof: int
    over: str = "sources"

    def __str__(self) -> str:
        return f"{self.value:.1%} [{self.low:.1%}, {self.high:.1%}]"


def drawn_over(sources: Sequence[str]) -> str:
    """What a bootstrap draws: `sources`, or with fewer than FEWEST_CLUSTERS of them, which say too little, `clips`."""
    return "sources" if len(set(sources)) >= FEWEST_CLUSTERS else "clips"


def draws(
    is_bonafide: NDArray[np.bool_], sources: Sequence[str], rounds: int, seed: int
) -> Iterator[NDArray[np.int64]]:
    """Indices into the clips, a round each, of those rounds that have both labels.

    Sources are drawn with replacement, since clips of one source are alike, or clips within each label (`drawn_over`).
    """
    names, member = np.unique(np.asarray(sources), return_inverse=True)
    rng = np.random.default_rng(seed)
    by_source = [np.flatnonzero(member == index) for index in range(len(names))]
    by_label = [np.flatnonzero(is_bonafide), np.flatnonzero(~is_bonafide)]
    over = drawn_over(sources)
    for _ in range(rounds):
        if over == "sources":
            sample = np.concatenate([by_source[i] for i in rng.integers(0, len(names), len(names))])
        else:
            sample = np.concatenate([rng.choice(side, len(side)) for side in by_label])
        chosen = is_bonafide[sample]
        if chosen.any() and not chosen.all():
            yield sample


def eer_clustered(
    scores: ArrayLike, is_bonafide: ArrayLike, sources: Sequence[str], rounds: int = 1000, seed: int = 0
) -> Estimate:
    """EER with a percentile interval over sources, or over clips where there are too few sources.

    The interval over clips is too narrow for speech of other sources, and `over` says which it is.
    """
    values, labels = np.asarray(scores, np.float64), np.asarray(is_bonafide, bool)
    value, _ = eer(values[labels], values[~labels])
    drawn = [
        eer(values[sample][labels[sample]], values[sample][~labels[sample]])[0]
        for sample in draws(labels, sources, rounds, seed)
    ]
    low, high = np.percentile(drawn, [2.5, 97.5]) if drawn else (0.0, 1.0)
    over = drawn_over(sources)
    return Estimate(value, float(low), float(high), int(labels.sum()), int((~labels).sum()), over)
