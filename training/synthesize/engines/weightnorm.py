"""Weight normalisation (Salimans and Kingma 2016) taken out of stored weights, which vocoders keep as two factors."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor


def multiplied_out(stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights without weight normalisation: `weight` for each pair of `weight_g` and `weight_v`."""
    weights = {}
    for name, tensor in stored.items():
        if name.endswith("weight_v"):
            length = tensor.norm(dim=tuple(range(1, tensor.ndim)), keepdim=True)
            weights[name.removesuffix("_v")] = tensor / length * stored[name.removesuffix("v") + "g"]
        elif not name.endswith("weight_g"):
            weights[name] = tensor
    return weights
