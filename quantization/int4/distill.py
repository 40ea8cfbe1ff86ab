"""Quantization-aware distillation: a rounded stack learns to give the float stack's logits and states.

Rounding each product well is not yet rounding the network well: errors travel through the gates and through time, and
only some directions reach the score. Here the codes, the scales, the biases and the head are trained together against
the float stack. The forward pass uses the codes as the file will; backward, rounding counts as the identity (the
straight-through estimator; learned scales as in LSQ, Esser and others, 2020). The targets are the float stack's
outputs (Hinton and others, 2015), so no labels are needed, and nothing new about the task is learned.

Needs PyTorch, which is imported when `distill` is called.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_runtime.errors import UsageError
from quantization.int4 import Floats, GruLayer, Head, logits, states
from quantization.int4.blocks import LARGEST_CODE, MIDDLE, Quantized

if TYPE_CHECKING:
    import torch

Pair = tuple[Quantized, Quantized]
HELD_OUT_SHARE = 5
"""Every fifth calibration window is kept from training when no others are given to choose by."""
_WITHIN = 0.49
"""How far, in steps, a weight may start from its code: less than a half, or the first pass would round again."""


@dataclass(frozen=True)
class DistillationSettings:
    """How long and how fast to train. What is quick enough for a rough start undoes a good one, so speeds are tried."""

    speeds: tuple[float, ...] = (1.0, 10.0)  # factors of the rates; each is a training of its own from the start
    steps: int = 200
    batch: int = 64
    seed: int = 0
    rate_codes: float = 3e-4  # in steps of the grid
    rate_scales: float = 1e-4  # relative
    rate_biases: float = 1e-4
    state_share: float = 0.03  # weight of the states' error beside the logits'
    every: int = 20  # steps between two looks at the held-out windows


@dataclass(frozen=True)
class Distilled:
    """The trained stack, or the start where training did not help. Errors as in `score_error`, on held-out windows."""

    quantized: list[Pair]
    layers: list[GruLayer]  # with the dequantized weights and the new biases
    head: Head
    error_before: float
    error_after: float
    steps: int  # steps that the result was trained for; 0: it is the start


def dequantized(layers: Sequence[GruLayer], quantized: Sequence[Pair]) -> list[GruLayer]:
    """The layers with the weights that the codes stand for."""
    return [
        replace(layer, W=of_inputs.dequantized(), R=of_state.dequantized())
        for layer, (of_inputs, of_state) in zip(layers, quantized, strict=True)
    ]


def score_error(found: Floats, wanted: Floats) -> float:
    """Root mean square of the scores' difference, as a share of the wanted scores' spread; of logits float32 [N, 2]."""
    theirs = (wanted[:, 1] - wanted[:, 0]).astype(np.float64)
    difference = found[:, 1] - found[:, 0] - theirs
    return float(np.sqrt(np.mean(difference**2)) / max(float(theirs.std()), 1e-12))


def distill(
    layers: Sequence[GruLayer],
    head: Head,
    inputs: Floats,
    start: Sequence[Pair],
    held_out: Floats | None = None,
    settings: DistillationSettings | None = None,
) -> Distilled:
    """Trains the stack `start` towards the float stack `layers` and `head` on `inputs`, float32 [N, T, I].

    `held_out`, float32 [M, T, I], says which moment of which training was best; by default every fifth of `inputs`,
    which are then not trained on. On the held-out windows the result is never worse than the start: if it would be,
    it is the start. The same seed gives the same result on the same machine. Raises UsageError with fewer than 2
    windows on either side, or when PyTorch is not installed.
    """
    try:
        import torch
    except ImportError:
        raise UsageError(
            "distillation needs PyTorch: pip install -e '.[export]' in the clone, or choose the method gptq"
        ) from None
    settings = settings or DistillationSettings()
    if held_out is None:
        kept = np.arange(len(inputs)) % HELD_OUT_SHARE == HELD_OUT_SHARE - 1
        inputs, held_out = inputs[~kept], inputs[kept]
    if min(len(inputs), len(held_out)) < 2:
        raise UsageError(f"distillation needs more windows: {len(inputs)} to train, {len(held_out)} to choose by")
    wanted = logits(layers, head, held_out)
    targets = _targets(torch, layers, head, inputs)
    before = score_error(logits(dequantized(layers, start), head, held_out), wanted)
    best = Distilled(list(start), dequantized(layers, start), head, before, before, 0)
    for speed in settings.speeds:
        student = _Student(torch, layers, head, start)
        for step in _trained(torch, student, inputs, targets, settings, speed):
            quantized, now, now_head = student.result()
            now = dequantized(now, quantized)
            error = score_error(logits(now, now_head, held_out), wanted)
            if error < best.error_after:
                best = Distilled(quantized, now, now_head, before, error, step)
    return best


def _trained(
    torch: Any,
    student: _Student,
    inputs: Floats,
    targets: Sequence[torch.Tensor],
    settings: DistillationSettings,
    speed: float,
) -> Iterator[int]:
    """Trains, and stops every few steps, giving their number, so that the caller can look."""
    optimizer = torch.optim.Adam(student.groups(settings, speed), betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.steps, eta_min=0.0)
    generator = torch.Generator().manual_seed(settings.seed)
    given = torch.from_numpy(np.ascontiguousarray(inputs))
    for step in range(1, settings.steps + 1):
        chosen = torch.randint(len(inputs), (min(settings.batch, len(inputs)),), generator=generator)
        loss = _loss(student.run(given[chosen]), [target[chosen] for target in targets], settings.state_share)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % settings.every == 0 or step == settings.steps:
            yield step


def _targets(torch: Any, layers: Sequence[GruLayer], head: Head, inputs: Floats) -> list[torch.Tensor]:
    """The float stack's states [N, T, H] of each layer and, last, its logits [N, 2]."""
    found, given = [], inputs
    for layer in layers:
        given = states(layer, given)
        found.append(torch.from_numpy(given))
    return [*found, torch.from_numpy(np.ascontiguousarray(given[:, -1] @ head.weight.T + head.bias))]


def _loss(found: Sequence[torch.Tensor], wanted: Sequence[torch.Tensor], share: float) -> torch.Tensor:
    """Squared errors relative to the targets' spread: of the score, a little of each logit, and of the states."""
    mine, theirs = found[-1], wanted[-1]
    score, aim = mine[:, 1] - mine[:, 0], theirs[:, 1] - theirs[:, 0]
    spread = aim.var(unbiased=False) + 1e-8
    total = (score - aim).square().mean() / spread + 0.1 * (mine - theirs).square().mean() / spread
    for state, target in zip(found[:-1], wanted[:-1], strict=True):
        total = total + share * (state - target).square().mean() / (target.var(unbiased=False) + 1e-8)
    return total


class _Matrix:
    """A quantized matrix in training: weights in steps of the grid, and a factor for each block's scale."""

    def __init__(self, torch: Any, start: Quantized, matrix: Floats) -> None:
        self._torch, self._start = torch, start
        rows, blocks = start.scales.shape
        codes = start.codes.reshape(rows, blocks, start.block).astype(np.float32)
        fill = start.codes.shape[1] - start.columns
        blocked = np.pad(matrix, ((0, 0), (0, fill))).reshape(codes.shape)
        zero = np.full((rows, blocks), MIDDLE) if start.zero_points is None else start.zero_points
        self._zero = torch.from_numpy(zero.astype(np.float32)[:, :, None])
        self._scales = torch.from_numpy(start.scales[:, :, None].copy())
        scales = np.where(start.scales == 0, 1, start.scales)[:, :, None]
        # Where the float weight lies in its code's cell is kept, so that the first steps round the doubtful ones.
        aside = np.clip(blocked / scales + zero[:, :, None] - codes, -_WITHIN, _WITHIN)
        self.place = torch.from_numpy((codes + aside).astype(np.float32)).requires_grad_()
        self.factor = torch.zeros_like(self._scales).requires_grad_()

    def codes(self) -> torch.Tensor:
        return self._torch.clamp(self._torch.round(self.place), 0, LARGEST_CODE)

    def weights(self) -> torch.Tensor:
        """The dequantized matrix [rows, columns], with gradients for places and scales."""
        within = self._torch.clamp(self.place, 0, LARGEST_CODE)
        codes = within + (self.codes() - within).detach()
        whole = (codes - self._zero) * (self._scales * self.factor.exp())
        return whole.flatten(1)[:, : self._start.columns]

    def result(self) -> Quantized:
        with self._torch.no_grad():
            codes = self.codes().flatten(1).numpy().astype(np.uint8)
            scales = (self._scales * self.factor.exp()).squeeze(2).numpy().astype(np.float32)
        return replace(self._start, codes=codes, scales=scales)


class _Student:
    """The stack in training."""

    def __init__(self, torch: Any, layers: Sequence[GruLayer], head: Head, start: Sequence[Pair]) -> None:
        def free(values: Floats) -> torch.Tensor:
            return torch.from_numpy(values.copy()).requires_grad_()

        self._torch = torch
        self._layers = layers
        self._matrices = [
            (_Matrix(torch, of_inputs, layer.W), _Matrix(torch, of_state, layer.R))
            for layer, (of_inputs, of_state) in zip(layers, start, strict=True)
        ]
        self._biases = [(free(layer.Wb), free(layer.Rb)) for layer in layers]
        self._head = (free(head.weight), free(head.bias))

    def groups(self, settings: DistillationSettings, speed: float = 1.0) -> list[dict[str, Any]]:
        matrices = [matrix for pair in self._matrices for matrix in pair]
        biases = [bias for pair in self._biases for bias in pair]
        return [
            {"params": [matrix.place for matrix in matrices], "lr": speed * settings.rate_codes},
            {"params": [matrix.factor for matrix in matrices], "lr": speed * settings.rate_scales},
            {"params": [*biases, *self._head], "lr": speed * settings.rate_biases},
        ]

    def parameters(self) -> list[torch.Tensor]:
        return [parameter for group in self.groups(DistillationSettings()) for parameter in group["params"]]

    def run(self, inputs: torch.Tensor) -> list[torch.Tensor]:
        """The states [B, T, H] of each layer and, last, the logits [B, 2], of inputs [B, T, I]."""
        torch, found = self._torch, []
        for (of_inputs, of_state), (input_bias, state_bias) in zip(self._matrices, self._biases, strict=True):
            driven = inputs @ of_inputs.weights().T + input_bias
            recurrent = of_state.weights().T
            hidden = recurrent.shape[0]
            state = inputs.new_zeros(len(inputs), hidden)
            after = []
            for drive in driven.unbind(1):
                kept = state @ recurrent + state_bias
                gates = torch.sigmoid(drive[:, : 2 * hidden] + kept[:, : 2 * hidden])
                new = torch.tanh(drive[:, 2 * hidden :] + gates[:, hidden:] * kept[:, 2 * hidden :])
                state = new + gates[:, :hidden] * (state - new)
                after.append(state)
            inputs = torch.stack(after, 1)
            found.append(inputs)
        weight, bias = self._head
        return [*found, inputs[:, -1] @ weight.T + bias]

    def result(self) -> tuple[list[Pair], list[GruLayer], Head]:
        """The quantized matrices, the layers (float weights, new biases) and the head, as copies."""
        quantized = [(of_inputs.result(), of_state.result()) for of_inputs, of_state in self._matrices]
        layers = [
            replace(layer, Wb=wb.detach().numpy().copy(), Rb=rb.detach().numpy().copy())
            for layer, (wb, rb) in zip(self._layers, self._biases, strict=True)
        ]
        weight, bias = (item.detach().numpy().copy() for item in self._head)
        return quantized, layers, Head(weight, bias)
