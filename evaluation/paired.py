"""Whether a quantized model is as good as the float one: tests of the two on the same clips."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from edge_runtime.decision.verdict import Verdict
from evaluation.comparison import Comparison, compare_scores
from evaluation.metrics import eer
from evaluation.percentiles import needed
from evaluation.progress import silently

MARGIN_POINTS = 0.5
"""The rise of the EER, in percentage points, that a smaller model may have where no other margin was set."""


@dataclass(frozen=True)
class McNemar:
    """Clips that just one of two models decides rightly, and how likely so uneven a split is of models alike.

    Both p-values are two-sided. The exact one is the binomial test of `only_reference` of all such clips at 1/2: it
    errs on the side of no difference. The mid-p value counts half the probability of the split itself and is near the
    level that it claims (Fagerland, Lydersen and Laake, "The McNemar test for binary matched-pairs data", 2013).
    Both take clips for independent. Clips of one source are not: where there are few sources, p is too small.
    """

    only_reference: int
    only_other: int
    p_exact: float
    p_mid: float


@dataclass(frozen=True)
class Paired:
    """How another model does beside the reference. Differences of EER are percentage points, other minus reference."""

    comparison: Comparison
    threshold: float  # frozen: of the reference's EER on these clips, for both models
    mcnemar: McNemar
    p99_difference: float | None  # of the absolute differences of scores; None for fewer clips than `needed(99)`
    margin_points: float  # of the EER, set before anything was measured
    not_inferior: bool | None  # the upper bound (one-sided, 95 %) of the EER's rise is below the margin; None: unknown


def mcnemar(reference_right: ArrayLike, other_right: ArrayLike) -> McNemar:
    """McNemar's test of two rows of bool [n], whether each model decided each clip rightly. Needs SciPy."""
    from scipy.stats import binom, binomtest  # not all that compares models has SciPy

    first, second = np.asarray(reference_right, bool), np.asarray(other_right, bool)
    if first.shape != second.shape:
        raise ValueError(f"decisions on the same clips are needed, not {first.shape} and {second.shape}")
    only_first, only_second = int(np.sum(first & ~second)), int(np.sum(second & ~first))
    split = only_first + only_second
    if not split:
        return McNemar(0, 0, 1.0, 1.0)
    fewer = min(only_first, only_second)
    below, itself = binom.cdf(fewer - 1, split, 0.5), binom.pmf(fewer, split, 0.5)
    return McNemar(
        only_first,
        only_second,
        float(binomtest(fewer, split, 0.5).pvalue),
        float(min(1.0, 2 * below + itself)),
    )


def paired(
    reference: ArrayLike,
    other: ArrayLike,
    is_bonafide: ArrayLike,
    sources: Sequence[str],
    margin_points: float,
    rounds: int = 1000,
    seed: int = 0,
    *,
    verdicts: tuple[Sequence[Verdict], Sequence[Verdict]] | None = None,
    unmatched: int = 0,
    progress: Callable[..., Any] = silently,
) -> Paired:
    """Compares the scores (LLRs) [n] of two models on the same clips, with labels [n] and what is alike [n].

    The threshold is that of the reference's EER and is kept for the other: a box does not find its threshold again when
    its model is made smaller. A clip is taken for bona fide above it, so that the reference errs at its EER. The bound
    of the EER's rise is from `comparison.compare_scores`, by a paired bootstrap over sources; that function also says
    what `verdicts` and `unmatched` are.

    Raises ValueError for scores that are not finite, of different lengths, or of one label only.
    """
    first, second = np.asarray(reference, np.float64), np.asarray(other, np.float64)
    human = np.asarray(is_bonafide, bool)
    comparison = compare_scores(
        first,
        second,
        human,
        sources,
        verdicts=verdicts,
        unmatched=unmatched,
        rounds=rounds,
        seed=seed,
        progress=progress,
    )
    _, threshold = eer(first[human], first[~human])
    differences = np.abs(second - first)
    upper = comparison.eer_delta_upper_points
    return Paired(
        comparison=comparison,
        threshold=threshold,
        mcnemar=mcnemar((first > threshold) == human, (second > threshold) == human),
        p99_difference=float(np.percentile(differences, 99, method="higher")) if first.size >= needed(99) else None,
        margin_points=margin_points,
        not_inferior=None if upper is None else upper < margin_points,
    )
