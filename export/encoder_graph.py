"""The speech encoder as the exporter traces it: time before channels throughout, and every weight one of a MatMul.

- A convolution over time is a product with three frames beside one another, exactly. So all of the encoder's weights
  are matrices [in, out], which one scheme quantizes; ONNX Runtime takes no longer for it than for its convolutions.
- The queries' weights hold the attention's 1 / sqrt(width / heads).
- The encoding of time is computed: 0.1 ms, and no table that would make the file larger and bound a window's length.
- GELU is written in an order of its factors that ONNX Runtime recognises, and runs as one node with the bias before it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from export.encoder import VARIANCE_FLOOR, Encoder, EncoderLayer, rates


def gelu(x: Tensor) -> Tensor:
    """The exact GELU, of any shape."""
    return x * (1 + torch.erf(x / math.sqrt(2))) * 0.5


class Dense(nn.Module):
    """x @ weight + bias over the last axis; `weight` is [in, out]."""

    weight: Tensor
    bias: Tensor

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        """`weight` is torch's, [out, in]; both are rounded to float32."""
        super().__init__()
        self.register_buffer("weight", weight.detach().T.contiguous().float())
        self.register_buffer("bias", bias.detach().float())

    @staticmethod
    def of(source: nn.Linear) -> Dense:
        """`source` unchanged."""
        return Dense(source.weight, source.bias)

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight + self.bias


class _Stem(nn.Module):
    """A convolution of three taps over time, zeros beyond the ends: [B, T, in] -> [B, ceil(T / stride), out]."""

    def __init__(self, source: nn.Conv1d) -> None:
        super().__init__()
        assert source.kernel_size == (3,) and source.padding == (1,) and source.bias is not None
        self.stride = source.stride[0]
        self.dense = Dense(source.weight.permute(0, 2, 1).flatten(1), source.bias)

    def forward(self, x: Tensor, padded: bool = True) -> Tensor:
        x = functional.pad(x, (0, 0, 1, 1)) if padded else x
        taps = (x[:, : -2 : self.stride], x[:, 1 : -1 : self.stride], x[:, 2 :: self.stride])
        return self.dense(torch.cat(taps, 2))


class _FoldedLayer(nn.Module):
    """A transformer layer, [B, T, width] -> [B, T, width]."""

    def __init__(self, layer: EncoderLayer) -> None:
        super().__init__()
        self.heads = layer.heads
        self.attention_norm, self.dense_norm = layer.attention_norm, layer.dense_norm
        width = layer.attention_in.in_features
        scale = torch.ones(3 * width, dtype=torch.float64)
        scale[:width] = math.sqrt(self.heads / width)
        source = layer.attention_in
        self.attention_in = Dense(source.weight.double() * scale[:, None], source.bias.double() * scale)
        self.attention_out = Dense.of(layer.attention_out)
        self.dense_in, self.dense_out = Dense.of(layer.dense_in), Dense.of(layer.dense_out)

    def forward(self, x: Tensor, newest: int = 0) -> Tensor:
        """As `EncoderLayer`."""
        parts = self.attention_in(self.attention_norm(x)).chunk(3, dim=2)
        queries, keys, values = (part.unflatten(2, (self.heads, -1)) for part in parts)
        if newest:
            x, queries = x[:, -newest:], queries[:, -newest:]
        mixed = torch.softmax(queries.transpose(1, 2) @ keys.permute(0, 2, 3, 1), dim=3) @ values.transpose(1, 2)
        x = x + self.attention_out(mixed.transpose(1, 2).flatten(2))
        return x + self.dense_out(gelu(self.dense_in(self.dense_norm(x))))


class FoldedEncoder(nn.Module):
    """Normalised features [B, frames, bands], any number of frames, to a summary of the window [B, 2 * channels]."""

    rates: Tensor

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.stem1, self.stem2 = _Stem(encoder.stem1), _Stem(encoder.stem2)
        self.register_buffer("rates", rates(encoder.stem2.out_channels))
        self.layers = nn.ModuleList(_FoldedLayer(layer) for layer in encoder.layers)  # type: ignore[arg-type]
        self.read = None if encoder.read is None else Dense.of(encoder.read)

    def block(self, x: Tensor, newest: int) -> Tensor:
        """As `Encoder.block`, of [B, frames, bands]."""
        x = gelu(self.stem2(gelu(self.stem1(x, padded=False)), padded=False))
        angles = torch.arange(x.shape[1])[:, None] * self.rates
        x = x + torch.cat((angles.sin(), angles.cos()), 1)
        outputs = [x]
        for number, layer in enumerate(self.layers, 1):
            x = layer(x, newest if number == len(self.layers) else 0)
            outputs.append(x)
        return self._read(torch.cat([output[:, -newest:] for output in outputs], 2))

    def _read(self, outputs: Tensor) -> Tensor:
        return outputs if self.read is None else gelu(self.read(outputs))

    def forward(self, x: Tensor) -> Tensor:
        x = gelu(self.stem2(gelu(self.stem1(x))))
        angles = torch.arange(x.shape[1])[:, None] * self.rates
        x = x + torch.cat((angles.sin(), angles.cos()), 1)
        outputs = [x]
        for layer in self.layers:
            outputs.append(layer(outputs[-1]))
        read = self._read(torch.cat(outputs, 2))
        mean = read.mean(dim=1, keepdim=True)
        variance = (read - mean).square().mean(dim=1)
        return torch.cat((mean.squeeze(1), torch.sqrt(variance + VARIANCE_FLOOR)), 1)
