"""Weight normalisation as older networks store it, for networks that stand in for published vocoders."""

from __future__ import annotations

import warnings

from torch import nn


def normed(layer: nn.Module) -> nn.Module:
    """`layer` with its weight in two factors, `weight_g` and `weight_v`."""
    with warnings.catch_warnings(action="ignore"):
        return nn.utils.weight_norm(layer)
