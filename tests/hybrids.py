"""Small networks with an encoder and random weights."""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from export.rawnet2 import VARIANTS, Config, RawNet2
from tests.conftest import random_model

TINY = replace(
    VARIANTS["hybrid"],
    window_samples=16000,
    kernel=65,
    filters=6,
    fc_nodes=8,
    encoder_width=24,
    encoder_heads=3,
    encoder_layers=2,
)


def random_hybrid(read: bool = True, config: Config = TINY) -> RawNet2:
    """Random weights everywhere, biases and norms too, so that whatever an export forgets is seen."""
    model = random_model(replace(config, encoder_read=read), seed=7)
    for module in model.modules():
        if isinstance(module, nn.LayerNorm):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
        elif isinstance(module, nn.Linear | nn.Conv1d) and module.bias is not None:
            nn.init.uniform_(module.bias, -0.5, 0.5)
    return model
