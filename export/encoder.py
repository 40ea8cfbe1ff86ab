"""A speech encoder in the place of RawNet2's residual blocks: two convolutions and a few transformer layers.

Its shape is that of Whisper's encoder (Radford et al., "Robust speech recognition via large-scale weak
supervision", 2022), so that weights pretrained on much more speech than a detector has can begin it. All layers'
outputs are read, since traces of synthesis lie in the lower ones, and a window is summed up by the mean and the
standard deviation over time.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

REACH = 4
"""Feature frames before a block's own on which its first encoder frame depends: two convolutions of three taps."""
VARIANCE_FLOOR = 1e-4
"""Keeps the slope of the standard deviation finite where a channel does not move."""


def rates(width: int) -> Tensor:
    """How fast each sine and cosine of `positions` turns, float32 [width // 2], in radians a frame."""
    return torch.exp(-math.log(10000) / (width // 2 - 1) * torch.arange(width // 2)).float()


def positions(frames: int, width: int) -> Tensor:
    """Whisper's fixed encoding of time, float32 [frames, width]: sines, then cosines, of falling frequency."""
    angles = torch.arange(frames)[:, None] * rates(width)[None, :]
    return torch.cat((angles.sin(), angles.cos()), 1)


class EncoderLayer(nn.Module):
    """A transformer layer, norms first: [B, T, width] -> [B, T, width]."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.LayerNorm(width)
        self.attention_in = nn.Linear(width, 3 * width)  # queries, keys, values
        self.attention_out = nn.Linear(width, width)
        self.dense_norm = nn.LayerNorm(width)
        self.dense_in = nn.Linear(width, 4 * width)
        self.dense_out = nn.Linear(4 * width, width)
        self.dropout = nn.Dropout(0.0)  # training sets it

    def forward(self, x: Tensor, newest: int = 0) -> Tensor:
        """Of the `newest` frames alone, which attend to all; 0: of all frames."""
        parts = self.attention_in(self.attention_norm(x)).unflatten(2, (3 * self.heads, -1)).transpose(1, 2)
        queries, keys, values = parts.chunk(3, dim=1)
        mixed = functional.scaled_dot_product_attention(queries[:, :, -newest:], keys, values)
        x = x[:, -newest:] + self.dropout(self.attention_out(mixed.transpose(1, 2).flatten(2)))
        return x + self.dropout(self.dense_out(functional.gelu(self.dense_in(self.dense_norm(x)))))


class Encoder(nn.Module):
    """Normalised features [B, bands, frames] to a summary of the window [B, 2 * channels].

    `summary` channels are read from the outputs frame by frame; 0: the outputs themselves are summed up.
    """

    position: Tensor

    def __init__(self, bands: int, width: int, heads: int, layers: int, summary: int, longest: int) -> None:
        super().__init__()
        outputs = (layers + 1) * width
        self.channels = summary or outputs
        self.stem1 = nn.Conv1d(bands, width, 3, padding=1)
        self.stem2 = nn.Conv1d(width, width, 3, padding=1, stride=2)
        self.layers = nn.ModuleList(EncoderLayer(width, heads) for _ in range(layers))
        self.read = nn.Linear(outputs, summary) if summary else None
        self.dropout = nn.Dropout(0.0)  # training sets it
        self.register_buffer("position", positions(longest, width), persistent=False)

    def outputs(self, x: Tensor) -> Tensor:
        """The convolutions' and all layers' outputs side by side, [B, frames, (layers + 1) * width]."""
        x = functional.gelu(self.stem2(functional.gelu(self.stem1(x)))).transpose(1, 2)
        x = x + self.position[: x.shape[1]]
        outputs = [x]
        for layer in self.layers:
            outputs.append(layer(outputs[-1]))
        return torch.cat(outputs, 2)

    def block(self, x: Tensor, newest: int) -> Tensor:
        """What is summed up of a block's frames, [B, newest, channels].

        `x`, [B, bands, REACH + context + 2 * newest], ends with the block's own frames; those before them are seen
        again, so that the block's can attend to them. No zeros are put around it.
        """
        x = functional.gelu(functional.conv1d(x, self.stem1.weight, self.stem1.bias))
        x = functional.gelu(functional.conv1d(x, self.stem2.weight, self.stem2.bias, 2)).transpose(1, 2)
        x = x + self.position[: x.shape[1]]
        outputs = [x]
        for number, layer in enumerate(self.layers, 1):
            x = layer(x, newest if number == len(self.layers) else 0)
            outputs.append(x)
        return self._read(torch.cat([output[:, -newest:] for output in outputs], 2))

    def _read(self, outputs: Tensor) -> Tensor:
        return outputs if self.read is None else functional.gelu(self.read(self.dropout(outputs)))

    def forward(self, x: Tensor) -> Tensor:
        read = self._read(self.outputs(x))
        mean = read.mean(dim=1)
        variance = (read - mean.unsqueeze(1)).square().mean(dim=1)
        return torch.cat((mean, torch.sqrt(variance + VARIANCE_FLOOR)), 1)


class FixedNorm(nn.BatchNorm1d):
    """A BatchNorm that keeps the means and variances it was given, in training too: [B, channels]."""

    def train(self, mode: bool = True) -> FixedNorm:
        """Stays in evaluation mode."""
        super().train(False)
        return self
