"""A RawNet2 as one ONNX file: everything constant folded, dynamic in batch and time, free of the host's traces.

What is folded, and why each is exact:
- the filter bank is data, not code: an initializer of the `waveform` form, metadata only of the others;
- `bn2` follows `conv1` with nothing between, and the zero padding lies before the convolution:
  bn(W*x + b) = (sW)*x + s(b - mean) + beta, with s = gamma / sqrt(var + eps);
- the other BatchNorms precede an activation and follow a pool or a sigmoid's product: they become s*x + t;
- `fc2(fc1(x))` has no activation between: one matrix;
- only the GRU's last step is read, so its final state is taken and no sequence leaves the last layer;
- behind the filter bank time is the last of four axes, [batch, channels, 1, time]: ONNX Runtime has its fast blocked
  convolutions (NCHWc) for four axes only;
- a speech encoder (`export.encoder_graph`) has frames in rows, [batch, frames, bands]; the affine map of its BatchNorm
  stays, as zeros are padded behind it;
- the log-softmax of some published variants is left out: the file gives logits.
Folding is computed in float64 and rounded once.
"""

from __future__ import annotations

import io
import logging
import warnings
from contextlib import redirect_stdout

import onnx
import torch
from torch import Tensor, nn
from torch.nn import functional

from edge_runtime.errors import ModelError
from edge_runtime.model.contract import FORMS, Contract
from edge_runtime.model.network import INPUTS
from edge_runtime.model.shape import BLOCK_INPUTS, BLOCK_OUTPUTS
from export import blocks
from export.blocks import LEVEL_FLOOR, RELATIVE_FLOOR
from export.encoder import REACH
from export.encoder_graph import Dense, FoldedEncoder, gelu
from export.rawnet2 import LONGEST_FRAMES, Block, Config, RawNet2
from export.sharing import split

OPSET = 18
IR_VERSION = 8
"""The pair that ONNX Runtime reads since 1.14; newer ones would give nothing here and shut out older wheels."""
OUTPUT = "logits"


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
    def __init__(self, block: Block) -> None:
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

    def forward(  # type: ignore[override]
        self, x: Tensor, level: Tensor, past: Tensor, window: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        related = blocks.related(x.transpose(1, 2), level)
        read, present = self.encoder.block(self.first_bn(related), past)
        return blocks.moments(read), present, self.judge(blocks.summary(window))


def shortest_input(config: Config, form: str) -> int:
    """The fewest samples (`waveform`) or frames (`streaming`) that the network can take."""
    frames = config.shortest_frames
    return frames if form == "streaming" else frames * config.pool + config.kernel - 1 - config.leading_zeros


def build(model: RawNet2, contract: Contract) -> onnx.ModelProto:
    """The ONNX model of `contract.form`, with the contract in its metadata.

    Input `waveform`, float32 [batch, samples], `features`, float32 [batch, filters, frames], or `columns`, float32
    [batch, channels, 1, columns]; output `logits`, float32 [batch, 2]. Batch and time are both free. The form `blocks`
    has the inputs and outputs that `Contract` says. Raises ModelError when torch or ONNX refuse the network, or it
    has another form than the contract.
    """
    if contract.form not in FORMS:
        raise ModelError(f"there is no form {contract.form!r}; known are {', '.join(FORMS)}")
    config = model.config
    if contract.form == "shared" and config.has_encoder:
        raise ModelError("windows cannot share the first block of a network with an encoder: take the form streaming")
    if (contract.form == "blocks") != config.has_blocks:
        raise ModelError("a network that looks at blocks has the form blocks, and no other network has it")
    if contract.form == "blocks":
        proto = _blocks(model)
    else:
        proto = _windows(model, "waveform" if contract.form == "waveform" else "streaming")
    if contract.form == "shared":
        proto, contract = split(proto, contract)
    return _clean(proto, contract)


def _windows(model: RawNet2, form: str) -> onnx.ModelProto:
    config = model.config
    length = config.window_samples if form == "waveform" else config.frames
    example = torch.zeros((2, length) if form == "waveform" else (2, config.filters, length))
    shapes = {
        0: torch.export.Dim("batch", min=1),
        example.ndim - 1: torch.export.Dim(
            "samples" if form == "waveform" else "frames", min=shortest_input(config, form)
        ),
    }
    return _trace(Folded(model, form), (example,), (shapes,), [INPUTS[form]], [OUTPUT])


def _blocks(model: RawNet2) -> onnx.ModelProto:
    config = model.config
    batch, windows = torch.export.Dim("batch", min=1), torch.export.Dim("windows", min=1)
    examples = (
        torch.ones(2, config.filters, config.block_frames + REACH),
        torch.ones(2, 1, 1),
        torch.ones(2, 2 * config.encoder_layers, 7, config.encoder_width),
        torch.ones(3, config.window_blocks, 2, model.encoder.channels),
    )
    shapes = (
        {0: batch},
        {0: batch},
        {0: batch, 2: torch.export.Dim("past", min=0, max=LONGEST_FRAMES)},
        {0: windows, 1: torch.export.Dim("blocks", min=2, max=LONGEST_FRAMES)},
    )
    return _trace(FoldedBlocks(model), examples, shapes, list(BLOCK_INPUTS), list(BLOCK_OUTPUTS))


def _trace(
    module: nn.Module, examples: tuple[Tensor, ...], shapes: tuple[object, ...], inputs: list[str], outputs: list[str]
) -> onnx.ModelProto:
    exporter_log = logging.getLogger("torch.onnx")
    level = exporter_log.level
    exporter_log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), torch.no_grad():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                module,
                examples,
                dynamo=True,
                input_names=inputs,
                output_names=outputs,
                dynamic_shapes=shapes,
                opset_version=OPSET,
                optimize=True,
                verbose=False,
            )
        if program is None:
            raise RuntimeError("the exporter gave nothing")
        return program.model_proto
    except Exception as reason:  # the exporter raises what its many passes raise
        raise ModelError(f"torch cannot export this network: {' '.join(str(reason).split())[:160]}") from reason
    finally:
        exporter_log.setLevel(level)


def _clean(proto: onnx.ModelProto, contract: Contract) -> onnx.ModelProto:
    """Leaves the mathematics and the contract; takes out source lines, stack traces and the host's paths."""
    graph = proto.graph
    proto.ir_version = IR_VERSION
    proto.producer_name, proto.producer_version, proto.doc_string = "edge-detect", "", ""
    graph.name, graph.doc_string = f"rawnet2_{contract.variant}_{contract.form}", ""
    del graph.value_info[:], graph.metadata_props[:], proto.metadata_props[:]
    for item in (*graph.node, *graph.initializer, *graph.input, *graph.output):
        item.doc_string = ""
        del item.metadata_props[:]
    for key, text in contract.to_metadata().items():
        proto.metadata_props.add(key=key, value=text)
    axes = graph.input[0].type.tensor_type.shape.dim
    free = [axes[0], axes[-1]] if contract.form != "blocks" else [axes[0]]
    if proto.functions or not all(axis.dim_param for axis in free):
        raise ModelError("this torch exports another graph than expected: use the versions that pyproject.toml names")
    try:
        onnx.checker.check_model(proto, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as reason:
        raise ModelError(f"ONNX rejects the exported graph: {' '.join(str(reason).split())[:160]}") from None
    return proto
