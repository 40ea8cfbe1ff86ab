"""Rounding a matrix to any grid with its inputs in view: the errors of its products count, not those of its weights.

The method is that of `int4.gptq`, GPTQ and then coordinate descent, for grids that are given beforehand: 8 bits with
a scale a column, or 4 bits that become 8 when the file is loaded, whose second rounding is then a part of the grid and
made up for with the first. `int4.gptq` finds scales as well, and knows one grid.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]
Grid = Callable[[Doubles, int], Doubles]
"""Gives the values nearest to the wished ones, float64 [O], that the weights of one input (its index) can have."""
_GROUP = 64
"""Inputs after which the others are told what changed, all at once: one large product in place of many small ones."""
_DAMPING = 0.01
"""Share of the inputs' mean power that is added to each: what the calibration sound is silent on counts as well."""
_SWEEPS = 2


def fitted(matrix: NDArray[np.float32], hessian: Doubles, grid: Grid) -> Doubles:
    """Values on the grid, float64 [O, I], for a matrix float32 [O, I] and inputs of second moments float64 [I, I]."""
    wanted = matrix.astype(np.float64)
    damped = hessian + np.eye(len(hessian)) * max(_DAMPING * float(np.diag(hessian).mean()), 1e-12)
    values = _compensated(wanted, damped, grid)
    for _ in range(_SWEEPS):
        _descend(wanted, damped, values, grid)
    return values


def _compensated(wanted: Doubles, hessian: Doubles, grid: Grid) -> Doubles:
    """Rounds input after input, those of much power first, and lets the ones that follow take up the error."""
    order = np.argsort(-np.diag(hessian), kind="stable")
    # The upper Cholesky factor of the inverse has all that the update needs.
    inverse = np.linalg.cholesky(np.linalg.inv(hessian[np.ix_(order, order)])).T
    left = wanted[:, order]
    values = np.empty_like(wanted)
    for first in range(0, len(order), _GROUP):
        group = slice(first, min(first + _GROUP, len(order)))
        missed = np.empty((len(left), group.stop - first))
        for place in range(first, group.stop):
            found = grid(left[:, place], int(order[place]))
            values[:, order[place]] = found
            missed[:, place - first] = (left[:, place] - found) / inverse[place, place]
            left[:, place : group.stop] -= np.outer(missed[:, place - first], inverse[place, place : group.stop])
        left[:, group.stop :] -= missed @ inverse[group, group.stop :]
    return values


def _descend(wanted: Doubles, hessian: Doubles, values: Doubles, grid: Grid) -> None:
    """One sweep over the inputs, in place: each weight becomes the best, given the others."""
    # What is left of the product's error, seen from each weight; kept up to date as values change.
    pull = np.ascontiguousarray(((wanted - values) @ hessian).T)
    power = np.diag(hessian)
    for first in range(0, len(power), _GROUP):
        group = slice(first, min(first + _GROUP, len(power)))
        moved = np.empty((group.stop - first, len(values)))
        for place in range(first, group.stop):
            found = grid(values[:, place] + pull[place] / power[place], place)
            moved[place - first] = found - values[:, place]
            values[:, place] = found
            pull[place : group.stop] -= np.outer(hessian[place : group.stop, place], moved[place - first])
        pull[group.stop :] -= hessian[group.stop :, group] @ moved
