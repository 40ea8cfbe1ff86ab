"""The float file of the checkpoint that is shipped, made without PyTorch: what quantization begins with.

PyTorch of the default index brings gigabytes of CUDA, and is needed for any other checkpoint. This one is known by its
SHA-256, which the shipped model has in its metadata with filters, window and calibration; so only the network's graph
is written here, as the exporter writes `export.encoder_graph`, node by node. Tests compare the two; here what was made
is compared with the shipped model, which was quantized from the same checkpoint.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import safetensors.numpy
import soundfile
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edge_runtime.atomic import whole_file
from edge_runtime.errors import ModelError, UsageError
from edge_runtime.model.contract import Contract
from edge_runtime.model.frontend import FilterBank
from edge_runtime.model.network import INPUTS, SHIPPED, Network

State = Mapping[str, NDArray[np.floating[Any]]]
"""A checkpoint's tensors by name."""

OPSET, IR_VERSION = 18, 8  # of export.graph, which imports PyTorch
LEVEL_FLOOR, RELATIVE_FLOOR, VARIANCE_FLOOR, NORM_EPSILON = 1e-5, 1e-3, 1e-4, 1e-5  # of rawnet2, encoder and torch
LARGEST_DIFFERENCE = 1.0
"""Of a window's log-likelihood ratio between the shipped model and its float file; some tenths are usual."""
_EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


def is_shipped(checkpoint: str | Path) -> bool:
    """Whether it is the checkpoint that the shipped model was made from."""
    try:
        with Path(checkpoint).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == Network.load(SHIPPED).contract.source_sha256
    except (OSError, ModelError):
        return False


def convert_shipped(checkpoint: str | Path, path: str | Path) -> float:
    """Writes the float file of the shipped checkpoint, and gives the largest difference to the shipped model, LLR.

    Raises UsageError for another checkpoint, ModelError when the two differ too much, OutputError when the file cannot
    be written.
    """
    if not is_shipped(checkpoint):
        raise UsageError(f"{checkpoint} is not the checkpoint of the shipped model: only that is made without PyTorch")
    data = Path(checkpoint).read_bytes()
    about = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
    shipped = Network.load(SHIPPED)
    contract = replace(
        shipped.contract, level="fp32", target="portable", int8_bits=0, figures=json.loads(about["figures"])
    )
    made = build(safetensors.numpy.load(data), json.loads(about["config"])["encoder_heads"], contract)
    with whole_file(path) as temporary:
        onnx.save(made, temporary)
        difference = _difference(shipped, Network.load(temporary))
        if not difference <= LARGEST_DIFFERENCE:
            raise ModelError(f"what was made differs from the shipped model by {difference:.2f}: nothing was written")
    return difference


def build(state: State, heads: int, contract: Contract) -> onnx.ModelProto:
    """The network of a hybrid without a dense reading layer, in the form `streaming`, its contract in the metadata.

    `state` has the checkpoint's tensors by their names, of any floating type; `heads` is the number of attention's.
    Raises UsageError for a network of another kind.
    """
    if "encoder.stem1.weight" not in state or "encoder.read.weight" in state:
        raise UsageError("this network needs PyTorch to be exported")
    graph = _Graph()
    x = _normalised(graph, state)
    x = _encoder(graph, state, x, heads)
    x = graph.affine(x, "summary_bn", state)
    x = graph.gelu(graph.dense(x, "hidden", state["fc1.weight"].T, state["fc1.bias"]))
    graph.dense(x, "logits", state["fc2.weight"].T, state["fc2.bias"], output="logits")
    bands = len(state["first_bn.weight"])
    proto = helper.make_model(
        helper.make_graph(
            graph.nodes,
            f"rawnet2_{contract.variant}_{contract.form}",
            [helper.make_tensor_value_info(INPUTS["streaming"], TensorProto.FLOAT, ["batch", bands, "frames"])],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 2])],
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


class _Graph:
    """Nodes and weights as they are added; every method gives the name of what it computes."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self._constants: dict[tuple[str, str], str] = {}

    def add(self, kind: str, *inputs: str, outputs: int = 1, output: str = "", **attributes: Any) -> Any:
        """A node; several outputs are a list of names."""
        names = [
            output or f"{kind.lower()}_{len(self.nodes)}" + (f"_{n}" if outputs > 1 else "") for n in range(outputs)
        ]
        self.nodes.append(helper.make_node(kind, list(inputs), names, **attributes))
        return names if outputs > 1 else names[0]

    def weight(self, name: str, values: NDArray[Any]) -> str:
        """Float32 under a name of its own."""
        values = np.ascontiguousarray(values, dtype=np.float32)
        self.initializers.append(numpy_helper.from_array(values, name))
        return name

    def constant(self, value: Any, kind: type) -> str:
        """A number or a short list, once for all who need it."""
        array: NDArray[Any] = np.array(value, dtype=kind)
        key = (array.dtype.str, str(array.tolist()))
        if key not in self._constants:
            self._constants[key] = f"constant_{len(self._constants)}"
            self.initializers.append(numpy_helper.from_array(array, self._constants[key]))
        return self._constants[key]

    def integers(self, value: Any) -> str:
        return self.constant(value, np.int64)

    def number(self, value: float) -> str:
        return self.constant(value, np.float32)

    def dense(self, x: str, name: str, weight: NDArray[Any], bias: NDArray[Any], output: str = "") -> str:
        """x @ weight + bias, `weight` [in, out]."""
        product = self.add("MatMul", x, self.weight(f"{name}.weight", weight))
        return str(self.add("Add", product, self.weight(f"{name}.bias", bias), output=output))

    def gelu(self, x: str) -> str:
        """The exact GELU, its factors in the order that ONNX Runtime recognises."""
        inner = self.add("Erf", self.add("Div", x, self.number(math.sqrt(2))))
        return str(self.add("Mul", self.add("Mul", x, self.add("Add", inner, self.number(1.0))), self.number(0.5)))

    def affine(self, x: str, name: str, state: State) -> str:
        """A BatchNorm in evaluation."""
        part = {
            key: state[f"{name}.{key}"].astype(np.float64) for key in ("weight", "bias", "running_mean", "running_var")
        }
        scale = part["weight"] / np.sqrt(part["running_var"] + NORM_EPSILON)
        shift = part["bias"] - part["running_mean"] * scale
        scaled = self.add("Mul", x, self.weight(f"{name}.scale", scale))
        return str(self.add("Add", scaled, self.weight(f"{name}.shift", shift)))

    def layer_norm(self, x: str, name: str, state: State) -> str:
        weights = [self.weight(f"{name}.{key}", state[f"{name}.{key}"]) for key in ("weight", "bias")]
        return str(self.add("LayerNormalization", x, *weights, axis=-1, epsilon=NORM_EPSILON, stash_type=1))

    def stem(self, x: str, name: str, state: State, stride: int) -> str:
        """A convolution of three taps over time as a product: [B, T, in] -> [B, ceil(T / stride), out]."""
        padded = self.add("Pad", x, self.integers([0, 1, 0, 0, 1, 0]), mode="constant")
        axis, step = self.integers([1]), self.integers([stride])
        bounds = ((0, -2), (1, -1), (2, (1 << 63) - 1))
        taps = [self.add("Slice", padded, self.integers([a]), self.integers([b]), axis, step) for a, b in bounds]
        weight = state[f"{name}.weight"].transpose(0, 2, 1).reshape(len(state[f"{name}.weight"]), -1).T
        return self.dense(self.add("Concat", *taps, axis=2), f"{name}.dense", weight, state[f"{name}.bias"])


def _normalised(graph: _Graph, state: State) -> str:
    """Features [B, bands, frames] to normalised rows [B, frames, bands]: logarithms relative to the window's mean."""
    x = graph.add("Transpose", INPUTS["streaming"], perm=[0, 2, 1])
    mean = graph.add("ReduceMean", x, graph.integers([1, 2]), keepdims=1, noop_with_empty_axes=0)
    relative = graph.add("Div", x, graph.add("Add", mean, graph.number(LEVEL_FLOOR)))
    return graph.affine(graph.add("Log", graph.add("Add", relative, graph.number(RELATIVE_FLOOR))), "first_bn", state)


def _encoder(graph: _Graph, state: State, x: str, heads: int) -> str:
    """Normalised rows [B, frames, bands] to the mean and the deviation over time of all layers, [B, 2 * channels]."""
    width = len(state["encoder.stem2.bias"])
    batch = graph.add("Shape", INPUTS["streaming"], start=0, end=1)
    frames = graph.add("Squeeze", graph.add("Shape", INPUTS["streaming"], start=2, end=3))
    half = graph.add("Div", graph.add("Add", graph.integers(1), frames), graph.integers(2))
    x = graph.gelu(graph.stem(x, "encoder.stem1", state, 1))
    x = graph.gelu(graph.stem(x, "encoder.stem2", state, 2))
    steps = graph.add("Range", graph.integers(0), half, graph.integers(1))
    steps = graph.add("Cast", graph.add("Unsqueeze", steps, graph.integers([1])), to=TensorProto.FLOAT)
    rates = np.exp((-math.log(10000) / (width // 2 - 1)) * np.arange(width // 2, dtype=np.float32))
    angles = graph.add("Mul", steps, graph.weight("encoder.rates", rates))
    x = graph.add("Add", x, graph.add("Concat", graph.add("Sin", angles), graph.add("Cos", angles), axis=1))
    length = graph.add("Reshape", half, graph.integers([-1]), allowzero=0)
    sizes = [graph.integers([size]) for size in (heads, width // heads, width)]
    shapes = (
        graph.add("Concat", batch, length, *sizes[:2], axis=0),
        graph.add("Concat", batch, length, sizes[2], axis=0),
    )
    outputs = [x]
    for layer in range(len({name.split(".")[2] for name in state if name.startswith("encoder.layers.")})):
        outputs.append(_layer(graph, state, outputs[-1], f"encoder.layers.{layer}", heads, shapes))
    read = graph.add("Concat", *outputs, axis=2)
    time = graph.integers([1])
    mean = graph.add("ReduceMean", read, time, keepdims=1, noop_with_empty_axes=0)
    square = graph.add("Pow", graph.add("Sub", read, mean), graph.number(2.0))
    variance = graph.add("ReduceMean", square, time, keepdims=0, noop_with_empty_axes=0)
    mean = graph.add("Squeeze", mean, time)
    deviation = graph.add("Sqrt", graph.add("Add", variance, graph.number(VARIANCE_FLOOR)))
    return str(graph.add("Concat", mean, deviation, axis=1))


def _layer(graph: _Graph, state: State, x: str, name: str, heads: int, shapes: tuple[str, str]) -> str:
    """A transformer layer, norms first; the queries' weights hold the attention's 1 / sqrt(width / heads).

    `shapes` name the sizes with the heads apart, [B, T, heads, width / heads], and together, [B, T, width].
    """
    width = len(state[f"{name}.attention_out.bias"])
    scale = np.ones(3 * width)
    scale[:width] = math.sqrt(heads / width)
    weight, bias = (state[f"{name}.attention_in.{key}"].astype(np.float64) for key in ("weight", "bias"))
    normed = graph.layer_norm(x, f"{name}.attention_norm", state)
    every = graph.dense(normed, f"{name}.attention_in", (weight * scale[:, None]).T, bias * scale)
    parts = graph.add("Split", every, outputs=3, axis=2, num_outputs=3)
    queries, keys, values = (graph.add("Reshape", part, shapes[0], allowzero=1) for part in parts)
    queries, values = (graph.add("Transpose", part, perm=[0, 2, 1, 3]) for part in (queries, values))
    keys = graph.add("Transpose", keys, perm=[0, 2, 3, 1])
    weights = graph.add("Softmax", graph.add("MatMul", queries, keys), axis=3)
    mixed = graph.add("Transpose", graph.add("MatMul", weights, values), perm=[0, 2, 1, 3])
    mixed = graph.add("Reshape", mixed, shapes[1], allowzero=1)
    dense = {key: (state[f"{name}.{key}.weight"].T, state[f"{name}.{key}.bias"]) for key in _DENSE}
    x = graph.add("Add", x, graph.dense(mixed, f"{name}.attention_out", *dense["attention_out"]))
    normed = graph.layer_norm(x, f"{name}.dense_norm", state)
    inner = graph.gelu(graph.dense(normed, f"{name}.dense_in", *dense["dense_in"]))
    return str(graph.add("Add", x, graph.dense(inner, f"{name}.dense_out", *dense["dense_out"])))


_DENSE = ("attention_out", "dense_in", "dense_out")


def _difference(one: Network, other: Network) -> float:
    """The largest difference of the log-likelihood ratio over the first windows of the example clips."""
    contract = one.contract
    found = []
    for clip in ("human", "synthetic"):
        samples, _ = soundfile.read(_EXAMPLES / f"{clip}.flac", dtype="float32", frames=contract.window_samples)
        features = FilterBank(contract.filters, contract.pool, contract.leading_zeros).push(samples)[None]
        found.append(abs(contract.llr(one.logits(features)) - contract.llr(other.logits(features))).max())
    return float(max(found))
