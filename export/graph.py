"""A RawNet2 as one ONNX file: everything constant folded, dynamic in batch and time, free of the host's traces.

`export.folded` has the modules that are traced, and what is folded in them.
"""

from __future__ import annotations

import io
import logging
import warnings
from contextlib import redirect_stdout

import onnx
import torch
from torch import Tensor, nn

from edge_runtime.errors import ModelError
from edge_runtime.model.contract import FORMS, Contract
from edge_runtime.model.network import INPUTS
from edge_runtime.model.shape import BLOCK_INPUTS, BLOCK_OUTPUTS
from export.folded import OPSET, Folded, FoldedBlocks
from export.rawnet2 import LONGEST_FRAMES, Config, RawNet2
from export.sharing import split, without_traces

IR_VERSION = 8
"""With OPSET the pair that ONNX Runtime reads since 1.14; newer ones would give nothing here and shut out older wheels.
"""
OUTPUT = "logits"


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
        torch.ones(2, config.filters, config.shortest_frames),
        torch.ones(2, 1, 1),
        torch.ones(3, config.window_blocks, 2, model.encoder.channels),
    )
    shapes = (
        {0: batch},
        {0: batch},
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
    without_traces(proto)
    proto.producer_name, proto.producer_version = "edge-detect", ""
    graph.name = f"rawnet2_{contract.variant}_{contract.form}"
    del proto.metadata_props[:]
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
