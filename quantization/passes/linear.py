"""Products over a sequence, as a transformer has them: what enters them, and their weights rounded with that in view.

Each weight is fitted by itself to what the float model gives it on calibration windows. Rounded to the nearest,
weights of seven bits, as portable files have them, moved the summary of a window three times as far.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from edge_runtime.errors import UsageError
from quantization.int4.blocks import LARGEST_CODE, METHODS, Quantized
from quantization.int4.gptq import gptq
from quantization.levels import Weight
from quantization.rounding import Doubles, Grid, fitted
from quantization.running import run
from quantization.schemes import BLOCK, MIDDLE, EightBit, FourBit, int8_weight

WINDOWS = 128
"""Calibration windows that are looked at: 160 in the place of 64 lowered the error of 4 bits by a fiftieth only."""
_CHUNK = 16
"""Windows whose inner values are held at once: 10 000 numbers a step of each."""
_OUTER = 1e-3
"""Share of the steps whose least and whose largest input may lie beyond the fixed range."""
_SEVEN_BITS = 64
_LEAST_STEP = 2.0**-14
"""Keeps a block of zeros from dividing by its scale; 16 bits hold it."""


@dataclass(frozen=True)
class InputRange:
    """What enters one product."""

    moments: Doubles  # second moments, float64 [I, I]
    least: float
    most: float


def observe(model: onnx.ModelProto, found: Sequence[Weight], windows: NDArray[np.float32]) -> dict[str, InputRange]:
    """What enters the products of the sequence weights among `found`, by their names.

    `windows` is float32 [N, …], each an input of the model. Raises ModelError when the model cannot be run.
    """
    names = {item.name for item in found if item.kind == "sequence"}
    readers = {
        node.input[1]: node.input[0] for node in model.graph.node if node.op_type == "MatMul" and node.input[1] in names
    }
    sources = list(dict.fromkeys(readers.values()))
    sums: dict[str, Doubles] = {}
    edges: dict[str, list[NDArray[np.float32]]] = {name: [] for name in sources}
    chosen = windows[:WINDOWS]
    for start in range(0, len(chosen), _CHUNK):
        for name, values in zip(sources, run(model, chosen[start : start + _CHUNK], sources), strict=True):
            steps = values.reshape(-1, values.shape[-1])
            sums[name] = sums.get(name, 0.0) + (steps.T @ steps).astype(np.float64)
            edges[name].append(np.stack((steps.min(1), steps.max(1))))
    seen = {}
    for name in sources:
        low, high = np.concatenate(edges[name], 1)  # [steps]
        least, most = float(np.quantile(low, _OUTER)), float(np.quantile(high, 1 - _OUTER))
        seen[name] = InputRange(sums[name] / low.size, min(least, 0.0), max(most, 0.0))
    return {weight: seen[source] for weight, source in readers.items()}


def eight_bits(found: Sequence[Weight], seen: Mapping[str, InputRange], largest: int) -> dict[str, EightBit]:
    """The sequence weights in integers within +-largest, with the fixed ranges of their inputs, by name."""
    made = {}
    for item in found:
        if item.kind == "sequence":
            _, scale = int8_weight(item.values, largest)
            inputs = seen[item.name]
            values = fitted(np.ascontiguousarray(item.values.T), inputs.moments, _whole_steps(scale, largest))
            codes = np.rint(values.T / scale).astype(np.int8)
            made[item.name] = EightBit(np.ascontiguousarray(codes), scale, (inputs.least, inputs.most))
    return made


def _whole_steps(scale: NDArray[np.float32], largest: int) -> Grid:
    steps = scale.astype(np.float64)
    return lambda values, _: np.clip(np.rint(values / steps), -largest, largest) * steps


def four_bits(found: Sequence[Weight], seen: Mapping[str, InputRange], method: str) -> dict[str, FourBit]:
    """The sequence weights in 4 bits, by name. Raises UsageError for a method that is for the GRU only."""
    made = {}
    for item in found:
        if item.kind == "sequence":
            made[item.name] = _four_bit(np.ascontiguousarray(item.values.T), seen[item.name].moments, method)
    return made


def without_gru(method: str) -> str:
    """The method of 4 bits for a network without a GRU. Raises UsageError for one that is unknown or needs a GRU."""
    if method not in (*METHODS, "gptq", "best"):
        raise UsageError(f"{method} is no method of 4 bits for a network without a GRU: take gptq")
    return "gptq" if method == "best" else method


def _four_bit(matrix: NDArray[np.float32], moments: Doubles, method: str) -> FourBit:
    """`matrix` is [outputs, inputs]."""
    if method in METHODS:
        return turned(METHODS[method](matrix, BLOCK, True, np.diag(moments).astype(np.float32)))
    start = turned(gptq(matrix, moments, BLOCK))
    # When the file is loaded, codes become whole numbers of 7 bits, one scale a column: right for every target.
    peak = np.abs(start.scales).max(0) * MIDDLE
    scale = np.where(peak > 0, peak / _SEVEN_BITS, 1).astype(np.float32)
    steps = (start.scales / scale).astype(np.float16).astype(np.float64)
    steps = np.where(np.abs(steps) < _LEAST_STEP, _LEAST_STEP, steps)

    def codes(values: Doubles, step: Doubles) -> Doubles:
        return np.asarray(np.clip(np.rint(values / scale / step), -MIDDLE, LARGEST_CODE - MIDDLE))

    def grid(values: Doubles, place: int) -> Doubles:
        step = steps[place // BLOCK]
        whole = np.clip(np.rint(codes(values, step) * step), -_SEVEN_BITS, _SEVEN_BITS)
        return np.asarray(whole * scale)

    values = fitted(matrix, moments, grid).T
    spread = np.repeat(steps, BLOCK, 0)[: len(values)]
    return FourBit(
        (codes(values, spread) + MIDDLE).astype(np.uint8), (steps * scale).astype(np.float32), None, BLOCK, scale
    )


def turned(item: Quantized) -> FourBit:
    """Rows are outputs there and columns here."""
    zeros = None if item.zero_points is None else np.ascontiguousarray(item.zero_points.T)
    codes = np.ascontiguousarray(item.codes[:, : item.columns].T)
    return FourBit(codes, np.ascontiguousarray(item.scales.T), zeros, item.block)
