"""Weights that are few bits wide while a network is trained, so that it learns to get by with them.

The loss and its gradient are those of the rounded weights, and descent moves the exact ones: a straight-through
estimator (Jacob et al., "Quantization and training of neural networks for efficient integer-arithmetic-only inference",
2018). What is kept are the exact weights, so the file is a checkpoint as any other, for `quantization` to round.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

WIDTHS = (0, 4, 8)
"""Bits that weights can be rounded to; 0 leaves them as they are."""
BLOCK = 64
"""Inputs that share a scale at 4 bits, as in `quantization.schemes`."""


def rounded(weight: Tensor, bits: int) -> Tensor:
    """`weight`, float [out, in, …], on the grid of its level; of the same shape, unchanged when rounded again.

    At 8 bits, and of convolutions at 4 as well, a scale an output; of other matrices at 4 bits one for BLOCK inputs.
    Scales are the largest value's; `quantization` finds better ones, so what holds here holds there.
    """
    if bits == 4 and weight.ndim == 2:
        padded = nn.functional.pad(weight, (0, -weight.shape[1] % BLOCK)).unflatten(1, (-1, BLOCK))
        return _on_grid(padded, 7).flatten(1)[:, : weight.shape[1]]
    return _on_grid(weight.flatten(1), 127).view_as(weight)


def _on_grid(values: Tensor, most: int) -> Tensor:
    scale = values.abs().amax(-1, keepdim=True).clamp_min(torch.finfo(values.dtype).tiny * most) / most
    return (values / scale).round() * scale


@contextmanager
def few_bits(model: nn.Module, bits: int) -> Iterator[None]:
    """Within it all matrices and convolutions of `model`, held ones too, are `bits` wide; behind it they are exact."""
    chosen = [weight for weight in model.parameters() if weight.ndim > 1] if bits else []
    exact = [weight.detach().clone() for weight in chosen]
    try:
        with torch.no_grad():
            for weight in chosen:
                weight.copy_(rounded(weight, bits))
        yield
    finally:
        with torch.no_grad():
            for weight, values in zip(chosen, exact, strict=True):
                weight.copy_(values)
