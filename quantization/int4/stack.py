"""A whole GRU stack in 4 bits: layer after layer, each with the inputs that the quantized layers before it give."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec

import numpy as np

from edge_runtime.errors import ModelError, UsageError
from quantization.int4 import Floats, GruLayer, Head, logits, previous, states
from quantization.int4 import blocks as rounding
from quantization.int4.distill import HELD_OUT_SHARE, DistillationSettings, Pair, dequantized, distill, score_error
from quantization.int4.gptq import gptq, moments

METHODS = (*rounding.METHODS, "gptq", "distilled", "best")
"""`distilled` trains what `gptq` gives; `best` is whichever of `kquant`, `gptq`, `distilled` errs least, held out."""
BLOCK = 64
LARGEST_TRAINED = 4_000_000
"""Weights up to which `best` distils: a minute for two layers of 256 nodes, most of an hour for three of 1024."""


@dataclass(frozen=True)
class Stack:
    """A quantized stack. Of `layers` the biases are to be taken over (their weights are the dequantized ones)."""

    quantized: list[Pair]  # of each layer W and R
    layers: list[GruLayer]
    head: Head
    method: str  # what made it; never "best"
    error: float  # `distill.score_error` on the windows held out


def quantize_stack(
    layers: Sequence[GruLayer],
    head: Head,
    inputs: Floats,
    method: str = "best",
    block: int = BLOCK,
    symmetric: bool = True,
    held_out: Floats | None = None,
    settings: DistillationSettings | None = None,
) -> Stack:
    """The stack in 4 bits, fitted to `inputs`, float32 [N, T, I]: what enters the first layer for N windows.

    `held_out`, float32 [M, T, I], is what methods and the moment of training are chosen by; by default every fifth of
    the windows, which are then not fitted to. `best` goes without distillation where PyTorch is not installed or the
    stack is larger than LARGEST_TRAINED. Biases and head change with distillation only.

    Raises UsageError for an unknown method or block, or too few windows; ModelError for weights or inputs that are
    not finite.
    """
    if method not in METHODS:
        raise UsageError(f"unknown method {method!r} of 4-bit rounding: take one of {', '.join(METHODS)}")
    rounding.check_block(block)
    numbers = [inputs, *(part for layer in layers for part in (layer.W, layer.R, layer.Wb, layer.Rb))]
    if not all(np.isfinite(part).all() for part in numbers):
        raise ModelError("the GRU's weights or calibration inputs hold values that are not finite: no 4 bits fit them")
    if held_out is None:
        kept = np.arange(len(inputs)) % HELD_OUT_SHARE == HELD_OUT_SHARE - 1
        inputs, held_out = inputs[~kept], inputs[kept]
    if min(len(inputs), len(held_out)) < 2:
        raise UsageError(f"4-bit rounding needs more windows: {len(inputs)} to fit to, {len(held_out)} to check on")
    wanted = logits(layers, head, held_out)

    def plain(name: str) -> Stack:
        quantized = _in_turn(layers, inputs, name, block, symmetric)
        rounded = dequantized(layers, quantized)
        return Stack(quantized, rounded, head, name, score_error(logits(rounded, head, held_out), wanted))

    def trained(start: Stack) -> Stack:
        result = distill(layers, head, inputs, start.quantized, held_out, settings)
        return Stack(result.quantized, result.layers, result.head, "distilled", result.error_after)

    if method == "distilled":
        return trained(plain("gptq"))
    if method != "best":
        return plain(method)
    found = [plain("gptq"), plain("kquant")]
    if find_spec("torch") and sum(layer.W.size + layer.R.size for layer in layers) <= LARGEST_TRAINED:
        found.append(trained(found[0]))
    return min(found, key=lambda stack: stack.error)  # the simpler one where two are alike


def _in_turn(layers: Sequence[GruLayer], inputs: Floats, method: str, block: int, symmetric: bool) -> list[Pair]:
    found = []
    for layer in layers:
        of_inputs = _rounded(layer.W, inputs, method, block, symmetric)
        layer = replace(layer, W=of_inputs.dequantized())
        of_state = _rounded(layer.R, previous(states(layer, inputs)), method, block, symmetric)
        found.append((of_inputs, of_state))
        inputs = states(replace(layer, R=of_state.dequantized()), inputs)
    return found


def _rounded(matrix: Floats, inputs: Floats, method: str, block: int, symmetric: bool) -> rounding.Quantized:
    seen = moments(inputs)
    if method == "gptq":
        return gptq(matrix, seen, block, symmetric)
    return rounding.METHODS[method](matrix, block, symmetric, np.diag(seen).astype(np.float32))
