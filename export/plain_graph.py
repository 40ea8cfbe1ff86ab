"""The graph of a network with a speech encoder, written node by node as `export.encoder_graph` is traced.

Whole windows (the form `streaming`) and blocks of a stream (the form `blocks`) share the layers and the head.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from edge_runtime.errors import UsageError
from edge_runtime.model.contract import BLOCK_REACH, Contract
from edge_runtime.model.network import INPUTS
from edge_runtime.model.shape import BLOCK_INPUTS, BLOCK_OUTPUTS
from export.plain_nodes import Graph, State

OPSET, IR_VERSION = 18, 8  # of export.graph, which imports PyTorch
LEVEL_FLOOR, RELATIVE_FLOOR, VARIANCE_FLOOR = 1e-5, 1e-3, 1e-4  # of export.blocks and export.encoder
Shapes = Mapping[str, Sequence[str | int]]
_DENSE = ("attention_out", "dense_in", "dense_out")


def build(state: State, heads: int, contract: Contract) -> onnx.ModelProto:
    """The network of a hybrid without a dense reading layer, in the contract's form, its contract in the metadata.

    `state` has the checkpoint's tensors by their names, of any floating type; `heads` is the number of attention's.
    Raises UsageError for a network of another kind, or of another form than `streaming` and `blocks`.
    """
    if "encoder.stem1.weight" not in state or "encoder.read.weight" in state:
        raise UsageError("this network needs PyTorch to be exported")
    if contract.form not in ("streaming", "blocks"):
        raise UsageError(f"the form {contract.form} needs PyTorch to be exported")
    graph = Graph()
    taken, given = (_blocks if contract.form == "blocks" else _windows)(graph, state, heads, contract)
    proto = helper.make_model(
        helper.make_graph(
            graph.nodes,
            f"rawnet2_{contract.variant}_{contract.form}",
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in taken.items()],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in given.items()],
            graph.initializers,
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="edge-detect",
    )
    for key, text in contract.to_metadata().items():
        proto.metadata_props.add(key=key, value=text)
    onnx.checker.check_model(proto, full_check=True)
    return proto


def _windows(graph: Graph, state: State, heads: int, contract: Contract) -> tuple[Shapes, Shapes]:
    """Features of whole windows to their logits. Gives the shapes of inputs and outputs, as `_blocks` does."""
    features = INPUTS["streaming"]
    x = graph.add("Transpose", features, perm=[0, 2, 1])
    level = graph.add("ReduceMean", x, graph.integers([1, 2]), keepdims=1, noop_with_empty_axes=0)
    x = _stems(graph, state, _related(graph, state, x, level), padded=True)
    width = len(state["encoder.stem2.bias"])
    frames = graph.add("Squeeze", graph.add("Shape", features, start=2, end=3))
    half = graph.add("Div", graph.add("Add", graph.integers(1), frames), graph.integers(2))
    steps = graph.add("Range", graph.integers(0), half, graph.integers(1))
    steps = graph.add("Cast", graph.add("Unsqueeze", steps, graph.integers([1])), to=TensorProto.FLOAT)
    angles = graph.add("Mul", steps, graph.weight("encoder.rates", _rates(width)))
    x = graph.add("Add", x, graph.add("Concat", graph.add("Sin", angles), graph.add("Cos", angles), axis=1))
    batch = graph.add("Shape", features, start=0, end=1)
    length = graph.add("Reshape", half, graph.integers([-1]), allowzero=0)
    sizes = [graph.integers([size]) for size in (heads, width // heads, width)]
    shapes = (
        graph.add("Concat", batch, length, *sizes[:2], axis=0),
        graph.add("Concat", batch, length, sizes[2], axis=0),
    )
    outputs = [x]
    for layer in range(_layers(state)):
        outputs.append(_layer(graph, state, outputs[-1], f"encoder.layers.{layer}", heads, shapes))
    _head(graph, state, *_moments(graph, graph.add("Concat", *outputs, axis=2)))
    bands = len(state["first_bn.weight"])
    return {features: ["batch", bands, "frames"]}, {"logits": ["batch", 2]}


def _blocks(graph: Graph, state: State, heads: int, contract: Contract) -> tuple[Shapes, Shapes]:
    """A block's moments, and the logits of windows of moments, in one graph."""
    features, level, window = BLOCK_INPUTS
    moments, logits = BLOCK_OUTPUTS
    width, layers, newest = len(state["encoder.stem2.bias"]), _layers(state), contract.block_frames // 2
    frames = (contract.seen_frames - BLOCK_REACH) // 2
    x = _related(graph, state, graph.add("Transpose", features, perm=[0, 2, 1]), level)
    x = _stems(graph, state, x, padded=False)
    angles = np.arange(frames, dtype=np.float32)[:, None] * _rates(width)
    x = graph.add("Add", x, graph.weight("encoder.positions", np.concatenate((np.sin(angles), np.cos(angles)), 1)))
    shapes = (graph.integers([0, 0, heads, width // heads]), graph.integers([0, 0, width]))  # 0: as it is
    outputs = [x]
    for layer in range(layers):
        last = newest if layer == layers - 1 else 0
        outputs.append(_layer(graph, state, outputs[-1], f"encoder.layers.{layer}", heads, shapes, 0, last))
    own = [_newest(graph, output, newest) for output in outputs[:-1]]
    mean, variance = _moments(graph, graph.add("Concat", *own, outputs[-1], axis=2), keep=True)
    graph.add("Concat", mean, variance, output=moments, axis=1)
    # Of the window's blocks: the mean of their means; the mean of their variances, and the variance of their means.
    which = graph.integers([2])
    means, variances = (
        graph.add("Squeeze", part, which) for part in graph.add("Split", window, outputs=2, axis=2, num_outputs=2)
    )
    mean, between = _moments(graph, means)
    within = graph.add("ReduceMean", variances, graph.integers([1]), keepdims=0, noop_with_empty_axes=0)
    _head(graph, state, mean, graph.add("Add", within, between))
    bands, channels = len(state["first_bn.weight"]), (layers + 1) * width
    taken: dict[str, Sequence[str | int]] = {
        features: ["batch", bands, contract.seen_frames],
        level: ["batch", 1, 1],
        window: ["windows", "blocks", 2, channels],
    }
    given: dict[str, Sequence[str | int]] = {
        moments: ["batch", 2, channels],
        logits: ["windows", 2],
    }
    return taken, given


def _rates(width: int) -> NDArray[np.float32]:
    return np.exp((-math.log(10000) / (width // 2 - 1)) * np.arange(width // 2, dtype=np.float32))


def _layers(state: State) -> int:
    return len({name.split(".")[2] for name in state if name.startswith("encoder.layers.")})


def _related(graph: Graph, state: State, x: str, level: str) -> str:
    """Rows of envelopes [B, frames, bands] to normalised logarithms of what they are relative to the level."""
    relative = graph.add("Div", x, graph.add("Add", level, graph.number(LEVEL_FLOOR)))
    return graph.affine(graph.add("Log", graph.add("Add", relative, graph.number(RELATIVE_FLOOR))), "first_bn", state)


def _stems(graph: Graph, state: State, x: str, padded: bool) -> str:
    x = graph.gelu(graph.stem(x, "encoder.stem1", state, 1, padded))
    return graph.gelu(graph.stem(x, "encoder.stem2", state, 2, padded))


def _moments(graph: Graph, read: str, keep: bool = False) -> tuple[str, str]:
    """Mean and variance over the frames, each [B, channels], with `keep` [B, 1, channels], of [B, frames, channels]."""
    time = graph.integers([1])
    mean = graph.add("ReduceMean", read, time, keepdims=1, noop_with_empty_axes=0)
    square = graph.add("Pow", graph.add("Sub", read, mean), graph.number(2.0))
    variance = graph.add("ReduceMean", square, time, keepdims=int(keep), noop_with_empty_axes=0)
    return mean if keep else graph.add("Squeeze", mean, time), variance


def _head(graph: Graph, state: State, mean: str, variance: str) -> None:
    """The logits of means and variances, each [B, channels]."""
    deviation = graph.add("Sqrt", graph.add("Add", variance, graph.number(VARIANCE_FLOOR)))
    x = graph.affine(graph.add("Concat", mean, deviation, axis=1), "summary_bn", state)
    x = graph.gelu(graph.dense(x, "hidden", state["fc1.weight"].T, state["fc1.bias"]))
    graph.dense(x, "logits", state["fc2.weight"].T, state["fc2.bias"], output="logits")


def _newest(graph: Graph, x: str, count: int) -> str:
    """The last `count` frames of [B, frames, ...]."""
    begin, end, axis = (graph.integers([value]) for value in (-count, np.iinfo(np.int64).max, 1))
    return graph.add("Slice", x, begin, end, axis)


def _layer(
    graph: Graph,
    state: State,
    x: str,
    name: str,
    heads: int,
    shapes: tuple[str, str],
    zero: int = 1,
    newest: int = 0,
) -> str:
    """A transformer layer, norms first; with `newest` of so many frames alone, which attend to all.

    `shapes` name the sizes with the heads apart, [B, T, heads, width / heads], and together, [B, T, width]; `zero` says
    whether a size of 0 in them is one (1), or that of the input. The queries' weights hold the attention's
    1 / sqrt(width / heads).
    """
    width = len(state[f"{name}.attention_out.bias"])
    scale = np.ones(3 * width)
    scale[:width] = math.sqrt(heads / width)
    weight, bias = (state[f"{name}.attention_in.{key}"].astype(np.float64) for key in ("weight", "bias"))
    normed = graph.layer_norm(x, f"{name}.attention_norm", state)
    every = graph.dense(normed, f"{name}.attention_in", (weight * scale[:, None]).T, bias * scale)
    parts = graph.add("Split", every, outputs=3, axis=2, num_outputs=3)
    queries, keys, values = (graph.add("Reshape", part, shapes[0], allowzero=zero) for part in parts)
    if newest:
        x, queries = (_newest(graph, part, newest) for part in (x, queries))
    queries, values = (graph.add("Transpose", part, perm=[0, 2, 1, 3]) for part in (queries, values))
    keys = graph.add("Transpose", keys, perm=[0, 2, 3, 1])
    weights = graph.add("Softmax", graph.add("MatMul", queries, keys), axis=3)
    mixed = graph.add("Transpose", graph.add("MatMul", weights, values), perm=[0, 2, 1, 3])
    mixed = graph.add("Reshape", mixed, shapes[1], allowzero=zero)
    dense = {key: (state[f"{name}.{key}.weight"].T, state[f"{name}.{key}.bias"]) for key in _DENSE}
    x = graph.add("Add", x, graph.dense(mixed, f"{name}.attention_out", *dense["attention_out"]))
    normed = graph.layer_norm(x, f"{name}.dense_norm", state)
    inner = graph.gelu(graph.dense(normed, f"{name}.dense_in", *dense["dense_in"]))
    return graph.add("Add", x, graph.dense(inner, f"{name}.dense_out", *dense["dense_out"]))
