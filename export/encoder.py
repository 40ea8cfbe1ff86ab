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
FIRST_POSITION = 100
"""Of a block's first frame. Frames at the very start of what Whisper hears look like no others, so not 0."""
VARIANCE_FLOOR = 1e-4
"""Keeps the slope of the standard deviation finite where a channel does not move."""


def rates(width: int) -> Tensor:
    """How fast each sine and cosine of `positions` turns, float32 [width // 2], in radians a frame."""
    return torch.exp(-math.log(10000) / (width // 2 - 1) * torch.arange(width // 2)).float()


def positions(frames: int, width: int) -> Tensor:
    """Whisper's fixed encoding of time, float32 [frames, width]: sines, then cosines, of falling frequency."""
    angles = torch.arange(frames)[:, None] * rates(width)[None, :]
    return torch.cat((angles.sin(), angles.cos()), 1)


class Layer(nn.Module):
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

    def forward(self, x: Tensor) -> Tensor:
        return self.attend(x)[0]

    def attend(self, x: Tensor, past: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The layer's outputs and the keys and values of these frames, [B, 2 * heads, T, width / heads].

        `past`, [B, 2 * heads, P, width / heads], are keys and values of frames before them, which are attended to too.
        """
        parts = self.attention_in(self.attention_norm(x)).unflatten(2, (3 * self.heads, -1)).transpose(1, 2)
        queries, present = parts[:, : self.heads], parts[:, self.heads :]
        seen = present if past is None else torch.cat((past, present), 2)
        keys, values = seen.chunk(2, dim=1)
        mixed = functional.scaled_dot_product_attention(queries, keys, values)
        x = x + self.dropout(self.attention_out(mixed.transpose(1, 2).flatten(2)))
        return x + self.dropout(self.dense_out(functional.gelu(self.dense_in(self.dense_norm(x))))), present


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
        self.layers = nn.ModuleList(Layer(width, heads) for _ in range(layers))
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

    def block(self, x: Tensor, past: Tensor | None) -> tuple[Tensor, Tensor]:
        """What is summed up of a block's frames, [B, frames, channels], and what later blocks attend to of them.

        `x`, [B, bands, 2 * frames + REACH], begins with the REACH frames before the block's own; no zeros are put
        around it. `past`, [B, 2 * layers * heads, P, width / heads], are keys and values of earlier blocks, each
        layer's keys before its values, and so is what is given.
        """
        x = functional.gelu(functional.conv1d(x, self.stem1.weight, self.stem1.bias))
        x = functional.gelu(functional.conv1d(x, self.stem2.weight, self.stem2.bias, 2)).transpose(1, 2)
        x = x + self.position[FIRST_POSITION : FIRST_POSITION + x.shape[1]]
        outputs, present = [x], []
        for number, layer in enumerate(self.layers):
            rows = 2 * layer.heads  # type: ignore[operator]
            before = None if past is None else past[:, rows * number : rows * (number + 1)]
            x, kept = layer.attend(x, before)  # type: ignore[operator]
            outputs.append(x)
            present.append(kept)
        return self._read(torch.cat(outputs, 2)), torch.cat(present, 1)

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
