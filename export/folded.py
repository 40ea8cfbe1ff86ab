"""The networks as the exporter traces them: everything constant folded, for one form of file each.

What is folded, and why each is exact:
- the filter bank is data, not code: an initializer of the `waveform` form, metadata only of the others;
- `bn2` follows `conv1` with nothing between, and the zero padding lies before the convolution:
  bn(W*x + b) = (sW)*x + s(b - mean) + beta, with s = gamma / sqrt(var + eps);
- the other BatchNorms precede an activation and follow a pool or a sigmoid's product: they become s*x + t;
- `fc2(fc1(x))` has no activation between: one matrix;
- only the GRU's last step is read, so its final state is taken and no sequence leaves the last layer;
- after the filter bank time is the last of four axes, [batch, channels, 1, time]: ONNX Runtime has its fast blocked
  convolutions (NCHWc) for four axes only;
- a speech encoder (`export.encoder_graph`) has frames in rows, [batch, frames, bands]; the affine map of its BatchNorm
  stays, as zeros are padded after it;
- the log-softmax of some published variants is left out: the file gives logits.
Folding is computed in float64 and rounded once.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from export import blocks
from export.blocks import LEVEL_FLOOR, RELATIVE_FLOOR
from export.encoder_graph import Dense, FoldedEncoder, gelu
from export.rawnet2 import RawNet2, ResidualBlock

OPSET = 18


def _affine(norm: nn.BatchNorm1d) -> tuple[Tensor, Tensor]:
    """A BatchNorm in evaluation as float64 scale and shift, [channels] each."""
    scale = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)  # type: ignore[union-attr]
    return scale, norm.bias.double() - norm.running_mean.double() * scale  # type: ignore[union-attr]


def _max_pool(x: Tensor, size: int) -> Tensor:
    """Max-pool over time, the last axis, as an ONNX node: torch.export would freeze its length."""
    ones = [1] * (x.ndim - 3)
    return torch.onnx.ops.symbolic(
        "MaxPool",
        (x,),
        {"kernel_shape": [*ones, size], "strides": [*ones, size]},
        dtype=x.dtype,
        shape=(*x.shape[:-1], x.shape[-1] // size),
        version=OPSET,
    )


def _convolution(source: nn.Conv1d, scale: Tensor | None = None, shift: Tensor | None = None) -> nn.Conv2d:
    """A convolution over time for four axes, its outputs then multiplied by `scale` and raised by `shift`, [out]."""
    taps, padding = source.kernel_size[0], int(source.padding[0])
    made = nn.Conv2d(source.in_channels, source.out_channels, (1, taps), padding=(0, padding))
    weight, bias = source.weight.double(), source.bias.double()  # type: ignore[union-attr]
    if scale is not None and shift is not None:
        weight, bias = weight * scale[:, None, None], bias * scale + shift
    made.weight.copy_(weight.unsqueeze(2))
    made.bias.copy_(bias)  # type: ignore[union-attr]
    return made


class _Affine(nn.Module):
    """s*x + t per channel: a BatchNorm that no convolution can take in. `inner` axes follow that of the channels."""

    scale: Tensor
    shift: Tensor

    def __init__(self, norm: nn.BatchNorm1d, inner: int = 2) -> None:
        super().__init__()
        scale, shift = _affine(norm)
        self.register_buffer("scale", scale.float().reshape(-1, *[1] * inner))
        self.register_buffer("shift", shift.float().reshape(-1, *[1] * inner))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale + self.shift


class _FoldedBlock(nn.Module):
    def __init__(self, block: ResidualBlock) -> None:
        super().__init__()
        self.bn1 = None if block.bn1 is None else _Affine(block.bn1)
        self.conv1 = _convolution(block.conv1, *_affine(block.bn2))
        self.conv2 = _convolution(block.conv2)
        self.downsample = None if block.downsample is None else _convolution(block.downsample)
        self.attention = block.attention

    def forward(self, x: Tensor) -> Tensor:
        y = x if self.bn1 is None else functional.leaky_relu(self.bn1(x), 0.3)
        y = functional.leaky_relu(self.conv1(y), 0.3)
        y = self.conv2(y) + (x if self.downsample is None else self.downsample(x))
        y = _max_pool(y, 3)
        scale = torch.sigmoid(self.attention(y.mean(dim=(2, 3))))[:, :, None, None]
        return y * scale + scale


class _LastState(nn.Module):
    """A GRU's last step as ONNX GRU nodes: [T, B, in] -> [B, nodes]; to be exported, not to be run.

    The nodes are written here because torch.export unrolls its own GRU over a fixed time, and because
    `linear_before_reset` (torch's way: the reset gate acts after the recurrent product) is not to be left to a
    converter. ONNX orders the gates update, reset, new; torch reset, update, new.
    """

    def __init__(self, gru: nn.GRU) -> None:
        super().__init__()
        self.nodes, self.layers = gru.hidden_size, gru.num_layers
        for layer in range(gru.num_layers):
            for kind, name in (("weight_ih", "W"), ("weight_hh", "R"), ("bias_ih", "B"), ("bias_hh", "Rb")):
                reset, update, new = getattr(gru, f"{kind}_l{layer}").detach().chunk(3)
                self.register_buffer(f"{name}{layer}", torch.cat((update, reset, new)).unsqueeze(0))
            biases = torch.cat((self.get_buffer(f"B{layer}"), self.get_buffer(f"Rb{layer}")), 1)
            self.register_buffer(f"B{layer}", biases)
            delattr(self, f"Rb{layer}")

    def forward(self, x: Tensor) -> Tensor:
        state = x
        for layer in range(self.layers):
            steps, batch = x.shape[0], x.shape[1]
            sequence, state = torch.onnx.ops.symbolic_multi_out(
                "GRU",
                (x, *(self.get_buffer(f"{name}{layer}") for name in "WRB")),
                {"hidden_size": self.nodes, "linear_before_reset": 1},
                dtypes=(x.dtype, x.dtype),
                shapes=((steps, 1, batch, self.nodes), (1, batch, self.nodes)),
                version=OPSET,
            )
            x = sequence.squeeze(1)
        return state.squeeze(0)


class Folded(nn.Module):
    """The network of one form with everything constant folded; what the exporter traces."""

    filters: Tensor

    @torch.no_grad()
    def __init__(self, model: RawNet2, form: str) -> None:
        super().__init__()
        self.config, self.form = model.config, form
        if form == "waveform":
            self.register_buffer("filters", model.filters.unsqueeze(1))
        if self.config.has_encoder:
            self.first_bn, self.encoder = _Affine(model.first_bn, inner=0), FoldedEncoder(model.encoder)
            self.summary_bn = None if self.config.encoder_read else _Affine(model.summary_bn, inner=0)
            self.hidden, self.logits = Dense.of(model.fc1), Dense.of(model.fc2)
            self.eval()
            return
        self.first_bn, self.bn_before_gru = _Affine(model.first_bn), _Affine(model.bn_before_gru)
        self.blocks = nn.ModuleList(_FoldedBlock(block) for block in model.blocks)  # type: ignore[arg-type]
        self.gru = _LastState(model.gru)
        first, second = model.fc1, model.fc2
        self.head = nn.Linear(first.in_features, 2)
        self.head.weight.copy_(second.weight.double() @ first.weight.double())
        self.head.bias.copy_(second.weight.double() @ first.bias.double() + second.bias.double())
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        if self.form == "waveform":
            x = functional.conv1d(x.unsqueeze(1), self.filters)
            x = _max_pool(x.abs(), self.config.pool)
        x = x.transpose(1, 2) if self.config.has_encoder else x.unsqueeze(2)
        if self.config.compression == "log":
            every = tuple(range(1, x.ndim))
            x = torch.log(x / (x.mean(dim=every, keepdim=True) + LEVEL_FLOOR) + RELATIVE_FLOOR)
        if self.config.has_encoder:
            return self.judge(self.encoder(self.first_bn(x)))
        x = functional.selu(self.first_bn(x))
        for block in self.blocks:
            x = block(x)
        return self.head(self.gru(functional.selu(self.bn_before_gru(x)).squeeze(2).permute(2, 0, 1)))

    def judge(self, summary: Tensor) -> Tensor:
        """Logits [B, 2] of what an encoder sums up of windows."""
        summary = summary if self.summary_bn is None else self.summary_bn(summary)
        return self.logits(gelu(self.hidden(summary)))


class FoldedBlocks(Folded):
    """The two halves of the `blocks` form in one graph: a block's moments, and the logits of a window of moments."""

    @torch.no_grad()
    def __init__(self, model: RawNet2) -> None:
        super().__init__(model, "blocks")

    def forward(self, x: Tensor, level: Tensor, window: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        related = self.first_bn(blocks.related(x.transpose(1, 2), level))
        read = self.encoder.block(related, self.config.block_frames // 2)
        return blocks.moments(read), self.judge(blocks.summary(window))
