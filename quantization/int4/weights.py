"""The 4-bit matrices of a model: its GRU stack fitted as a whole, its other weights each by itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from quantization.int4 import Floats, GruLayer, Head
from quantization.int4.gptq import gptq, moments
from quantization.int4.reading import read_stack
from quantization.int4.stack import quantize_stack
from quantization.levels import Weight
from quantization.passes import linear
from quantization.passes.gru import is_gru
from quantization.passes.linear import InputRange
from quantization.passes.surgery import set_constant
from quantization.running import run
from quantization.schemes import BLOCK, FourBit


@dataclass(frozen=True)
class Int4Weights:
    """What the level `int4` is made of."""

    matrices: dict[str, FourBit]  # by the weights' names
    model: onnx.ModelProto  # the float model with the biases and head that were trained beside the GRU's codes
    method: str


def four_bits(
    model: onnx.ModelProto,
    found: list[Weight],
    windows: NDArray[np.float32],
    method: str = "gptq",
    seen: Mapping[str, InputRange] | None = None,
) -> Int4Weights:
    """Finds the 4-bit codes of all weights of `found` but convolutions on calibration windows, float32 [N, …].

    `seen` is what `linear.observe` gives, where there are sequence weights. Raises UsageError for a method that is
    unknown or not for this network, or too few windows, ModelError for a graph with neither, or whose GRU is not read
    by one head (or whose numbers are not finite).
    """
    dense = {item.name: item for item in found if item.kind in ("dense", "wide")}
    readers = [node for node in model.graph.node if node.op_type in ("Gemm", "MatMul") and node.input[1] in dense]
    grus = [node for node in model.graph.node if is_gru(node)]
    matrices: dict[str, FourBit] = {}
    head_node = None
    if seen and not grus:
        method = linear.without_gru(method)
        values = run(model, windows, [node.input[0] for node in readers])
    else:
        layers, head = read_stack(model)
        head_node = readers[-1]  # the one that `read_stack` has read: it makes the logits
        first, *values = run(model, windows, [grus[0].input[0], *(node.input[0] for node in readers)])
        stack = quantize_stack(layers, head, np.ascontiguousarray(first[:, :, 0]), method)
        for number, pair in enumerate(stack.quantized):
            matrices |= {f"gru.{number}.{kind}": linear.turned(item) for kind, item in zip("WR", pair, strict=True)}
        model, method = _with(model, grus, head_node, stack.layers, stack.head), stack.method
    matrices |= linear.four_bits(found, seen or {}, method)
    for node, inputs in zip(readers, values, strict=True):
        weight = stack.head.weight if node is head_node else np.ascontiguousarray(dense[node.input[1]].values.T)
        rounded = gptq(weight, moments(inputs.reshape(len(inputs), 1, -1)), BLOCK)
        matrices[node.input[1]] = linear.turned(rounded)
    return Int4Weights(matrices, model, method)


def _with(
    model: onnx.ModelProto, grus: list[onnx.NodeProto], head_node: onnx.NodeProto, layers: list[GruLayer], head: Head
) -> onnx.ModelProto:
    result = onnx.ModelProto()
    result.CopyFrom(model)
    for node, layer in zip(grus, layers, strict=True):
        both: Floats = np.concatenate([layer.Wb, layer.Rb])
        set_constant(result.graph, node.input[3], both[None])
    turned = next((item.i for item in head_node.attribute if item.name == "transB"), 0)
    set_constant(result.graph, head_node.input[1], head.weight if turned else np.ascontiguousarray(head.weight.T))
    set_constant(result.graph, head_node.input[2], head.bias)
    return result
