"""The measures of spoofing detection: the one place that knows what an EER is.

Scores are higher for bona fide. Definitions agree with the ASVspoof evaluation packages: scores are sorted
stably, miss and false-alarm rates are taken at every threshold with the point (0, 1) before the first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evaluation.bootstrap import Estimate, Indices, interval, resample, units
from evaluation.progress import silently

Floats = NDArray[np.float64]

P_SPOOF, COST_MISS, COST_ALARM = 0.05, 1.0, 10.0
"""ASVspoof 5's prior of spoof, cost of a bona fide clip refused, and cost of a spoofed one let through."""
ODDS = COST_MISS * (1 - P_SPOOF) / (COST_ALARM * P_SPOOF)
"""Beta of the ASVspoof 5 plan, 1.9: what a refusal is expected to cost for each unit that letting through does."""
BAYES_THRESHOLD = -float(np.log(ODDS))
"""The LLR, -ln(1.9) = -0.642, from which on a clip is let through at these costs."""


def _two_sides(bonafide: ArrayLike, spoof: ArrayLike) -> tuple[Floats, Floats]:
    target, nontarget = np.asarray(bonafide, np.float64), np.asarray(spoof, np.float64)
    if not len(target) or not len(nontarget):
        raise ValueError("an error rate needs at least one bona fide and one spoofed score")
    return target, nontarget


def det_curve(bonafide: ArrayLike, spoof: ArrayLike) -> tuple[Floats, Floats, Floats]:
    """Miss rates of bona fide, false-alarm rates of spoof and thresholds, each float64 [n + 1]."""
    target, nontarget = _two_sides(bonafide, spoof)
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
    """Equal error rate (0 to 1) and its threshold: the mean of both rates where they are nearest.

    >>> eer([0.9, 2.1, 1.4, 3.0], [-1.2, 0.3, 1.5, -0.4])
    (0.25, 0.9)
    """
    miss_rate, alarm_rate, thresholds = det_curve(bonafide, spoof)
    nearest = int(np.argmin(np.abs(miss_rate - alarm_rate)))
    return float((miss_rate[nearest] + alarm_rate[nearest]) / 2), float(thresholds[nearest])


def auc(bonafide: ArrayLike, spoof: ArrayLike) -> float:
    """How likely a bona fide score is above a spoofed one, each drawn by itself; equal scores count half."""
    target, nontarget = _two_sides(bonafide, spoof)
    below = np.sort(nontarget)
    places = np.searchsorted(below, target, "left") + np.searchsorted(below, target, "right")
    return float(np.mean(places)) / (2 * len(below))


def cllr(bonafide: ArrayLike, spoof: ArrayLike) -> float:
    """Cost of log-likelihood ratios in bits (Brümmer and du Preez, 2006); 1 for a system that says nothing."""
    target, nontarget = np.asarray(bonafide, np.float64), np.asarray(spoof, np.float64)
    return float(np.mean(np.logaddexp(0, -target)) + np.mean(np.logaddexp(0, nontarget))) / (2 * float(np.log(2)))


def min_dcf(bonafide: ArrayLike, spoof: ArrayLike) -> tuple[float, float]:
    """Least detection cost over all thresholds, and the threshold where it is found.

    DCF = Cmiss (1 - Pspoof) Pmiss + Cfa Pspoof Pfa, divided by its value for the better of "let all through" and
    "let none through", min(0.95, 0.5) = 0.5: so 1 is a detector that is of no use. ASVspoof 5 ranks track 1 by it
    (evaluation plan, equations 3 and 4). The arithmetic goes in the order of its package: figures agree in all bits.
    """
    miss_rate, alarm_rate, thresholds = det_curve(bonafide, spoof)
    p_bonafide = 1 - P_SPOOF
    costs = COST_MISS * miss_rate * p_bonafide + COST_ALARM * alarm_rate * (1 - p_bonafide)
    least = int(np.argmin(costs))
    trivial = min(COST_MISS * p_bonafide, COST_ALARM * (1 - p_bonafide))
    return float(costs[least]) / trivial, float(thresholds[least])


def act_dcf(bonafide: ArrayLike, spoof: ArrayLike) -> float:
    """Detection cost of scores that are taken at their word, as LLRs: normalized as `min_dcf`, and never below it.

    Letting a clip of LLR s through is the cheaper choice when Cfa Pspoof <= Cmiss (1 - Pspoof) exp(s), which is
    s >= -ln(ODDS). What this costs more than `min_dcf` is the fault of the scores' scale. May be above 1.
    """
    target, nontarget = _two_sides(bonafide, spoof)
    miss_rate = float(np.mean(target < BAYES_THRESHOLD))
    alarm_rate = float(np.mean(nontarget >= BAYES_THRESHOLD))
    cost = COST_MISS * (1 - P_SPOOF) * miss_rate + COST_ALARM * P_SPOOF * alarm_rate
    return cost / min(COST_ALARM * P_SPOOF, COST_MISS * (1 - P_SPOOF))


def min_cllr(bonafide: ArrayLike, spoof: ArrayLike) -> float:
    """Cllr in bits that is left when the scores, in their order, are given the best scale there is: 0 to 1.

    The best scale is found by pool-adjacent-violators (Brümmer and du Preez, "Application-independent evaluation of
    speaker detection", 2006): the rising curve of the share of bona fide nearest to the labels. It knows the labels,
    so it is a bound on what calibration can reach. Equal scores get equal LLRs. Needs SciPy.
    """
    from scipy.optimize import isotonic_regression  # not all that measures an EER has SciPy

    target, nontarget = _two_sides(bonafide, spoof)
    _, place, clips = np.unique(np.concatenate([target, nontarget]), return_inverse=True, return_counts=True)
    human = np.bincount(place[: len(target)], minlength=len(clips))
    share = np.clip(isotonic_regression(human / clips, weights=clips).x, 0, 1)
    with np.errstate(divide="ignore"):  # a share of 0 or 1 is an infinite LLR, on the right side: it costs nothing
        odds = np.log(share) - np.log1p(-share)
    llr = (odds - np.log(len(target) / len(nontarget)))[place]
    return cllr(llr[: len(target)], llr[len(target) :])


@dataclass(frozen=True)
class Measures:
    """Every measure of one set of scores. Rates are fractions, costs are normalized as ASVspoof 5 does."""

    bonafide: int
    spoof: int
    eer: float
    eer_threshold: float  # bona fide scores up to it are missed, spoofed ones above it are false alarms
    min_dcf: float
    act_dcf: float  # this and Cllr mean something for LLRs only; the others need no more than an order
    cllr_bits: float
    min_cllr_bits: float


def measures(scores: ArrayLike, is_bonafide: ArrayLike) -> Measures:
    """All measures of `scores` [n], higher for bona fide, with labels [n]. Raises ValueError without both labels."""
    values, labels = np.asarray(scores, np.float64), np.asarray(is_bonafide, bool)
    bonafide, spoof = values[labels], values[~labels]
    value, threshold = eer(bonafide, spoof)
    return Measures(
        bonafide=len(bonafide),
        spoof=len(spoof),
        eer=value,
        eer_threshold=threshold,
        min_dcf=min_dcf(bonafide, spoof)[0],
        act_dcf=act_dcf(bonafide, spoof),
        cllr_bits=cllr(bonafide, spoof),
        min_cllr_bits=min_cllr(bonafide, spoof),
    )


def eer_clustered(
    scores: ArrayLike,
    is_bonafide: ArrayLike,
    sources: Sequence[str],
    rounds: int = 1000,
    seed: int = 0,
    progress: Callable[..., Any] = silently,
) -> Estimate:
    """EER with a percentile interval over sources, or over clips where a label has too few sources (`bootstrap.Units`).

    The interval over clips is too narrow for speech of other sources, and `over` says which it is.
    """
    values, labels = np.asarray(scores, np.float64), np.asarray(is_bonafide, bool)
    value, _ = eer(values[labels], values[~labels])
    clips = units(labels, sources)

    def statistic(sample: Indices) -> float:
        human = labels[sample]
        return eer(values[sample][human], values[sample][~human])[0]

    drawn = resample(clips, statistic, rounds, seed, progress)
    low, high = interval(value, drawn) if drawn else (0.0, 1.0)
    return Estimate(value, low, high, int(labels.sum()), int((~labels).sum()), clips.over)
