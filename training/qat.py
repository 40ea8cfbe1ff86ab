"""Weights that are few bits wide while a network is trained, so that it learns to get by with them.

The loss and its gradient are those of the rounded weights, and descent moves the exact ones: a straight-through
estimator (Jacob et al., "Quantization and training of neural networks for efficient integer-arithmetic-only inference",
2018). What is kept are the exact weights, so the file is a checkpoint as any other, for `quantization` to round, by
better scales than the largest values' that stand here. Activations, which it rounds as well, are left as they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from export.rawnet2 import RawNet2

WIDTHS = (0, 4, 8)
"""Bits that weights can be rounded to; 0 leaves them as they are."""
BLOCK = 64
"""Inputs that share a scale at 4 bits, as in `quantization.schemes`."""
LARGEST = {4: 7, 8: 64}
"""Of the whole numbers at so many bits. Of eight not 127: files for all processors (`quantization.targets`)."""
SMALL_SHARE = 1 / 25
"""Of an encoder's weights: matrices with fewer have 8 bits at `int4`, as in `quantization.levels`."""


def widths(model: RawNet2, bits: int) -> dict[str, int]:
    """How many bits the parameters of `model` have, by name, those that are exact left out.

    At 8 it is all matrices and convolutions, as at the level `int8-static`. At 4, as at `int4`, the convolutions of
    residual blocks are exact, and what makes the logits and the small matrices of an encoder have 8.
    """
    found = {name: weight for name, weight in model.named_parameters() if weight.ndim > 1}
    if bits != 4:
        return dict.fromkeys(found, bits) if bits else {}
    found = {name: weight for name, weight in found.items() if weight.ndim == 2 or not name.startswith("blocks.")}
    encoder = model.config.has_encoder
    limit = SMALL_SHARE * sum(weight.numel() for weight in found.values()) if encoder else 0
    last = ("fc2.",) if encoder else ("fc1.", "fc2.")  # the two are one matrix in the file where nothing stands between
    return {name: 8 if name.startswith(last) or w.numel() < limit else 4 for name, w in found.items()}


def rounded(weight: Tensor, bits: int) -> Tensor:
    """`weight`, float [out, in, …], as whole numbers of `bits` times a scale; unchanged when rounded again.

    At 8 bits an output has a scale, at 4 so have BLOCK of its inputs.
    """
    rows = weight.flatten(1)
    if bits == 8:
        return _in_steps(rows, LARGEST[8]).view_as(weight)
    blocks = nn.functional.pad(rows, (0, -rows.shape[1] % BLOCK)).unflatten(1, (-1, BLOCK))
    return _in_steps(blocks, LARGEST[4]).flatten(1)[:, : rows.shape[1]].reshape(weight.shape)


def _in_steps(values: Tensor, largest: int) -> Tensor:
    step = values.abs().amax(-1, keepdim=True).clamp_min(torch.finfo(values.dtype).tiny * largest) / largest
    return (values / step).round() * step


@contextmanager
def fake_quantized(model: RawNet2, bits: int) -> Iterator[None]:
    """Within it the parameters of `model`, held ones too, have their `widths`; after it they are exact."""
    chosen = [(model.get_parameter(name), width) for name, width in widths(model, bits).items()]
    exact = [weight.detach().clone() for weight, _ in chosen]
    try:
        with torch.no_grad():
            for weight, width in chosen:
                weight.copy_(rounded(weight, width))
        yield
    finally:
        with torch.no_grad():
            for (weight, _), values in zip(chosen, exact, strict=True):
                weight.copy_(values)
