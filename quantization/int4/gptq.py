"""Rounding with the inputs in view: GPTQ, then a descent over single codes and scales, on calibration activations.

The error that counts is that of the product, |X w - X q|^2 = (w - q) H (w - q) with H = X'X the inputs' second moments,
not that of the weights. GPTQ (Frantar and others, 2022) rounds one input's weights after the other and lets those not
yet rounded take up the error. What it leaves is lowered by coordinate descent (QuantEase, Behdin and others, 2023):
every code is set again to the best one given all others, and the scales are solved for given all codes.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from quantization.int4 import Floats
from quantization.int4.blocks import LARGEST_CODE, METHODS, MIDDLE, Quantized

Doubles = NDArray[np.float64]
_GROUP = 64
"""Inputs after which the others are told what changed, all at once: one large product in place of many small ones."""


def moments(inputs: Floats) -> Doubles:
    """Second moments, float64 [I, I], of a product's inputs, float32 [..., I]: X'X / samples."""
    samples = inputs.reshape(-1, inputs.shape[-1]).astype(np.float64)
    return np.asarray(samples.T @ samples / len(samples))


def gptq(
    matrix: Floats,
    hessian: Doubles,
    block: int,
    symmetric: bool = True,
    order: bool = True,
    damping: float = 0.01,
    sweeps: int = 4,
) -> Quantized:
    """A matrix float32 [O, I] in 4 bits, for inputs of second moments float64 [I, I].

    `order`: inputs of much power are rounded first (the blocks stay where they are, with scales found beforehand).
    `damping` is a share of the mean power, added to each input's. `sweeps` of coordinate descent follow. The error of
    the product is never above that of `kquant`, which gives the scales to start with.
    """
    power = np.diag(hessian)
    damped = hessian + np.eye(len(power)) * max(damping * float(power.mean()), 1e-12)
    start = METHODS["kquant"](matrix, block, symmetric, np.diag(damped).astype(np.float32))
    found = _with_columns(start, _compensated(matrix, damped, start, order))
    best = min((start, found), key=lambda item: float(errors(matrix, item, damped).sum()))
    for _ in range(sweeps):
        best = _refit(matrix, damped, best)
        best = _descended(matrix, damped, best)
    return _refit(matrix, damped, best)


def errors(matrix: Floats, quantized: Quantized, hessian: Doubles) -> Doubles:
    """Mean squared error of each output of the product, float64 [O]."""
    missed = (matrix - quantized.dequantized()).astype(np.float64)
    return np.asarray(((missed @ hessian) * missed).sum(axis=1))


def _per_input(quantized: Quantized) -> tuple[Doubles, Doubles]:
    """The scale and zero point of each weight, float64 [O, I]."""
    scales = np.repeat(quantized.scales, quantized.block, axis=1)[:, : quantized.columns].astype(np.float64)
    if quantized.zero_points is None:
        return scales, np.full_like(scales, MIDDLE)
    zero = np.repeat(quantized.zero_points, quantized.block, axis=1)[:, : quantized.columns]
    return scales, zero.astype(np.float64)


def _with_columns(quantized: Quantized, codes: Doubles) -> Quantized:
    """The same blocks with other codes [O, I]."""
    whole = quantized.codes.copy()
    whole[:, : quantized.columns] = codes
    return replace(quantized, codes=whole)


def _rounded(weights: Doubles, scales: Doubles, zero: Doubles) -> Doubles:
    safe = np.where(np.abs(scales) < 1e-12, 1e-12, scales)
    return np.clip(np.rint(weights / safe + zero), 0, LARGEST_CODE)


def _compensated(matrix: Floats, hessian: Doubles, start: Quantized, order: bool) -> Doubles:
    """GPTQ's codes, [O, I], on the scales and zero points of `start`."""
    scales, zero = _per_input(start)
    columns = np.argsort(-np.diag(hessian), kind="stable") if order else np.arange(len(hessian))
    # The upper Cholesky factor of the inverse has all that the paper's update needs.
    inverse = np.linalg.cholesky(np.linalg.inv(hessian[np.ix_(columns, columns)])).T
    left = matrix.astype(np.float64)[:, columns]
    codes = np.empty_like(left)
    for first in range(0, len(columns), _GROUP):
        group = slice(first, min(first + _GROUP, len(columns)))
        missed = np.empty((len(left), group.stop - first))
        for place in range(first, group.stop):
            column = columns[place]
            codes[:, place] = _rounded(left[:, place], scales[:, column], zero[:, column])
            value = (codes[:, place] - zero[:, column]) * scales[:, column]
            missed[:, place - first] = (left[:, place] - value) / inverse[place, place]
            left[:, place : group.stop] -= np.outer(missed[:, place - first], inverse[place, place : group.stop])
        left[:, group.stop :] -= missed @ inverse[group, group.stop :]
    found = np.empty_like(codes)
    found[:, columns] = codes
    return found


def _descended(matrix: Floats, hessian: Doubles, quantized: Quantized) -> Quantized:
    """One sweep over the inputs: each code becomes the best, given the others."""
    scales, zero = _per_input(quantized)
    codes = quantized.codes[:, : quantized.columns].astype(np.float64)
    # What is left of the product's error, seen from each weight; kept up to date as codes change.
    pull = np.ascontiguousarray(((matrix - (codes - zero) * scales) @ hessian).T)
    power = np.diag(hessian)
    for first in range(0, len(power), _GROUP):
        group = slice(first, min(first + _GROUP, len(power)))
        moved = np.empty((group.stop - first, len(codes)))
        for column in range(first, group.stop):
            value = (codes[:, column] - zero[:, column]) * scales[:, column]
            wanted = _rounded(value + pull[column] / power[column], scales[:, column], zero[:, column])
            moved[column - first] = (wanted - codes[:, column]) * scales[:, column]
            codes[:, column] = wanted
            pull[column : group.stop] -= np.outer(hessian[column : group.stop, column], moved[column - first])
        pull[group.stop :] -= hessian[group.stop :, group] @ moved
    return _with_columns(quantized, codes)


def _refit(matrix: Floats, hessian: Doubles, quantized: Quantized) -> Quantized:
    """The scales of each row solved for, given the codes; rows that would not gain keep theirs."""
    _, zero = _per_input(quantized)
    rows, blocks = quantized.scales.shape
    steps = quantized.codes[:, : quantized.columns] - zero
    fill = ((0, 0), (0, blocks * quantized.block - quantized.columns))
    split = np.pad(steps, fill).reshape(rows, blocks, quantized.block)
    aimed = (np.pad(matrix @ hessian, fill).reshape(split.shape) * split).sum(axis=2)
    square = np.pad(hessian, (fill[1], fill[1])).reshape(blocks, quantized.block, blocks, quantized.block)
    normal = np.empty((rows, blocks, blocks))
    for one in range(blocks):
        for other in range(one, blocks):
            product = ((split[:, one] @ square[one, :, other]) * split[:, other]).sum(axis=1)
            normal[:, one, other] = normal[:, other, one] = product
    # A block whose codes are all zero has no scale to find: the ridge keeps the system solvable.
    ridge = 1e-9 * np.trace(normal, axis1=1, axis2=2)[:, None, None] * np.eye(blocks) + 1e-30 * np.eye(blocks)
    scales = np.linalg.solve(normal + ridge, aimed[:, :, None])[:, :, 0].astype(np.float32)
    usable = np.all(np.isfinite(scales) & (np.abs(scales) > 1e-12), axis=1, keepdims=True)
    candidate = replace(quantized, scales=np.where(usable, scales, quantized.scales))
    better = errors(matrix, candidate, hessian) < errors(matrix, quantized, hessian)
    return replace(quantized, scales=np.where(better[:, None], candidate.scales, quantized.scales))
