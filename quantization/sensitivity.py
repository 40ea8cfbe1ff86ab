"""The level `auto`: each weight gets the fewest bits while the scores stay within a margin of the float model's.

Every weight is put into each scheme alone, and the scores of calibration windows say what that costs: the variance
of their difference to the float scores, in units of the float scores' own variance. Differences from several weights
are nearly independent, so their variances add. Hence the search: take the step that saves the most bytes for its
variance until the sum reaches the margin's square, then with what is left compute, rather than only store,
convolutions in 8 bits, which is faster; measure the whole model, and where the sum was too kind, take less. (The
additive model with a check of the whole is that of HAWQ, Dong et al., 2019, with measured differences in the place
of a Hessian.)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.system import markdown
from quantization.levels import BITS, FP16, INT4, INT8, STATIC8, STORED8, Weight

MARGIN = 0.03
"""Largest deviation of scores by default: root mean square of the difference over the float scores' deviation."""
_CANDIDATES = {"conv": (STATIC8, STORED8)}
_DENSE = (INT4, INT8)
_TRIES = 12


@dataclass(frozen=True)
class SensitivityTrial:
    """What one weight in one scheme alone does to the scores."""

    weight: str
    kind: str
    values: int
    scheme: str
    deviation: float  # of the scores, relative


@dataclass(frozen=True)
class Decision:
    """The plan, and all that it was decided from."""

    plan: dict[str, str]
    trials: tuple[SensitivityTrial, ...]
    margin: float
    predicted: float  # deviation that the sum of variances promised
    measured: float  # deviation of the whole model

    def table(self) -> str:
        """The trials as Markdown, a line a weight: the deviation in each scheme, and what was chosen."""
        schemes = (STATIC8, STORED8, INT8, INT4)
        lines = [
            f"Deviation of the scores of calibration windows from the float model's, each weight alone "
            f"(margin {self.margin:.1%} for all together):",
            "",
        ]
        rows: dict[str, dict[str, SensitivityTrial]] = {}
        for trial in self.trials:
            rows.setdefault(trial.weight, {})[trial.scheme] = trial
        cells_of = []
        for weight, found in rows.items():
            cells = [f"{found[scheme].deviation:.2%}" if scheme in found else "" for scheme in schemes]
            size = next(iter(found.values())).values
            cells_of.append((weight, str(size), *cells, self.plan[weight]))
        lines += markdown.table(("weight", "values", *schemes, "chosen"), cells_of)
        lines += ["", f"Together: predicted {self.predicted:.2%}, measured {self.measured:.2%}."]
        return "\n".join(lines)


def deviation(scores: NDArray[np.float64], reference: NDArray[np.float64]) -> float:
    """Root mean square of the difference, over the standard deviation of the reference."""
    spread = float(reference.std())
    return float(np.sqrt(np.mean((scores - reference) ** 2)) / (spread if spread > 0 else 1.0))


def search(
    found: Sequence[Weight],
    score: Callable[[Mapping[str, str]], NDArray[np.float64]],
    reference: NDArray[np.float64],
    margin: float = MARGIN,
    progress: Callable[..., Any] = lambda items, **_: items,
) -> Decision:
    """Decides on a scheme for every weight of `found`.

    `score` gives the raw scores, float64 [N], that the model of a plan gives calibration windows, `reference` is what
    the float model gives them. Raises ModelError when a model cannot be run.
    """
    base = {item.name: FP16 for item in found}
    offers = [(item, scheme) for item in found for scheme in _CANDIDATES.get(item.kind, _DENSE)]
    trials = []
    for item, scheme in progress(offers, desc="sensitivity", unit="weight"):
        scores = score({item.name: scheme})
        trials.append(SensitivityTrial(item.name, item.kind, item.values.size, scheme, deviation(scores, reference)))
    budget = margin**2
    for _ in range(_TRIES):
        plan, variance = _spend(base, trials, budget)
        measured = deviation(score(plan), reference)
        if measured <= margin or plan == base:
            break
        budget *= max(0.25, 0.8 * (margin / measured) ** 2)
    else:
        plan, variance = base, 0.0
        measured = deviation(score(plan), reference)
    return Decision(plan, tuple(trials), margin, float(np.sqrt(variance)), measured)


def _spend(base: Mapping[str, str], trials: Sequence[SensitivityTrial], budget: float) -> tuple[dict[str, str], float]:
    """The plan whose steps save the most bytes for their variance, and the sum of its variances.

    What is left of the budget then goes into speed: convolutions that are stored in 8 bits are computed so, too.
    """
    plan, spent = dict(base), dict.fromkeys(base, 0.0)
    while True:
        steps = []
        for trial in trials:
            saved = (BITS[plan[trial.weight]] - BITS[trial.scheme]) * trial.values
            faster = trial.scheme == STATIC8 and plan[trial.weight] == STORED8
            more = trial.deviation**2 - spent[trial.weight]
            if (saved > 0 or faster) and sum(spent.values()) + more <= budget:
                steps.append((saved > 0, (saved or trial.values) / max(more, 1e-12), trial))
        if not steps:
            return plan, sum(spent.values())
        best = max(steps, key=lambda step: step[:2])[-1]
        plan[best.weight], spent[best.weight] = best.scheme, best.deviation**2
