"""A stack of GRU layers in 4 bits: what a layer and a head are, and the float arithmetic they are compared with.

`blocks` rounds one matrix, `gptq` rounds it with its inputs in view, `distill` trains the rounded stack against the
float one, `stack` puts them together, `compare` measures them. Gates stand in ONNX's order: update z, reset r, new n;
the reset gate acts after the product (`linear_before_reset` = 1):

    z, r = sigmoid(x Wzr + bzr + h Rzr + czr);  n = tanh(x Wn + bn + r * (h Rn + cn));  h' = n + z * (h - n)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class GruLayer:
    """One GRU layer, float32."""

    W: Floats  # [3 H, I], of the inputs
    R: Floats  # [3 H, H], of the state
    Wb: Floats  # [3 H]
    Rb: Floats  # [3 H]

    @property
    def hidden(self) -> int:
        """Nodes of the layer, H."""
        return self.R.shape[1]


@dataclass(frozen=True)
class Head:
    """What makes logits of the last layer's last state, float32; it is not fitted here, being tiny."""

    weight: Floats  # [2, H]
    bias: Floats  # [2]


def states(layer: GruLayer, inputs: Floats) -> Floats:
    """The states after each step, float32 [N, T, H], of inputs float32 [N, T, I], beginning with zeros."""
    count, steps, _ = inputs.shape
    hidden = layer.hidden
    driven = inputs @ layer.W.T + layer.Wb
    recurrent = np.ascontiguousarray(layer.R.T)
    state = np.zeros((count, hidden), np.float32)
    found = np.empty((count, steps, hidden), np.float32)
    for step in range(steps):
        kept = state @ recurrent + layer.Rb
        gates = _sigmoid(driven[:, step, : 2 * hidden] + kept[:, : 2 * hidden])
        new = np.tanh(driven[:, step, 2 * hidden :] + gates[:, hidden:] * kept[:, 2 * hidden :])
        state = new + gates[:, :hidden] * (state - new)
        found[:, step] = state
    return found


def previous(after: Floats) -> Floats:
    """What the recurrence multiplies: the states before each step, float32 [N, T, H], from those after it."""
    before = np.zeros_like(after)
    before[:, 1:] = after[:, :-1]
    return before


def logits(layers: Sequence[GruLayer], head: Head, inputs: Floats) -> Floats:
    """The logits, float32 [N, 2], of inputs float32 [N, T, I]."""
    for layer in layers:
        inputs = states(layer, inputs)
    return inputs[:, -1] @ head.weight.T + head.bias


def scores(layers: Sequence[GruLayer], head: Head, inputs: Floats) -> Floats:
    """Bona fide less spoof logit, float32 [N]."""
    found = logits(layers, head, inputs)
    return np.asarray(found[:, 1] - found[:, 0])


def _sigmoid(values: Floats) -> Floats:
    # By tanh: exp overflows where a gate is far shut.
    return np.asarray(np.float32(0.5) * np.tanh(np.float32(0.5) * values) + np.float32(0.5))
