"""Percentiles of times, and how many of them a percentile takes before it may be reported.

The count is the least that MLPerf's early stopping allows: a p-th percentile is accepted when, with 99 % confidence,
no more than 1 - p of all queries are slower, although one of those seen was; 64, 130 and 662 for p90, p95 and p99.
Source: MLCommons, `inference_policies/inference_rules.adoc`, and `loadgen/early_stopping.cc` of `mlcommons/inference`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import count

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.99
TAILS = (90, 95, 99)
"""The percentiles that a table shows beside the median, in per cent."""


@cache
def needed(percent: int) -> int:
    """The least number of samples that carries this percentile, in per cent, 50 to 99; a median needs one.

    It is the smallest n for which one slow sample or none among n, of which each is slow with probability 1 - p, has a
    probability of at most 1 %: n = 64 for p = 90 %. Raises ValueError for another percentile.
    """
    if not 50 <= percent <= 99:
        raise ValueError(f"a percentile of times is between 50 and 99, not {percent}")
    if percent == 50:
        return 1
    p = percent / 100
    return next(n for n in count(1) if p**n + n * (1 - p) * p ** (n - 1) <= 1 - CONFIDENCE)


@dataclass(frozen=True)
class Percentiles:
    """Of times in ms. None is a percentile that so few samples cannot carry."""

    samples: int
    p50_ms: float
    p90_ms: float | None
    p95_ms: float | None
    p99_ms: float | None

    @staticmethod
    def of(times_ms: NDArray[np.float64]) -> Percentiles:
        """Of times [n] in ms, n at least 1. Each is a time that was measured: the next above, never interpolated."""
        found = [
            float(np.percentile(times_ms, percent, method="higher")) if len(times_ms) >= needed(percent) else None
            for percent in TAILS
        ]
        return Percentiles(len(times_ms), float(np.median(times_ms)), *found)

    def cells(self) -> list[str]:
        """p50, p90, p95 and p99 for a table, those that are missing with what they need."""
        tails = zip(TAILS, (self.p90_ms, self.p95_ms, self.p99_ms), strict=True)
        told = [f"needs {needed(percent)} samples" if time is None else f"{time:.2f} ms" for percent, time in tails]
        return [f"{self.p50_ms:.2f} ms", *told]
