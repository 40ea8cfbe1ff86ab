"""The 4-bit matrices of a model: its GRU stack fitted as a whole, its other dense weights each by itself."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from quantization.fourbit import Floats, Head, Layer
from quantization.fourbit.blocks import Quantized
from quantization.fourbit.gptq import gptq, moments
from quantization.fourbit.reading import read_stack
from quantization.fourbit.stack import quantize_stack
from quantization.gru import is_gru
from quantization.levels import Weight
from quantization.running import run
from quantization.schemes import BLOCK, FourBit
from quantization.surgery import set_constant


@dataclass(frozen=True)
class Fours:
    """What the level `int4` is made of."""

    matrices: dict[str, FourBit]  # by the weights' names
    model: onnx.ModelProto  # the float model with the biases and head that were trained beside the GRU's codes
    method: str


def four_bits(model: onnx.ModelProto, found: list[Weight], windows: NDArray[np.float32], method: str = "gptq") -> Fours:
    """Finds the 4-bit codes of all GRU and dense weights of `found` on calibration windows, float32 [N, …].

    Raises UsageError for an unknown method or too few windows, ModelError for a graph whose GRU is not read by one
    head (or whose numbers are not finite).
    """
    layers, head = read_stack(model)
    grus = [node for node in model.graph.node if is_gru(node)]
    dense = {item.name: item for item in found if item.kind == "dense"}
    readers = [node for node in model.graph.node if node.op_type == "Gemm" and node.input[1] in dense]
    head_node = readers[-1]  # the one that `read_stack` has read: it makes the logits
    values = run(model, windows, [grus[0].input[0], *(node.input[0] for node in readers)])
    stack = quantize_stack(layers, head, np.ascontiguousarray(values[0][:, :, 0]), method)
    matrices: dict[str, FourBit] = {}
    for number, pair in enumerate(stack.quantized):
        matrices |= {f"gru.{number}.{kind}": _turned(item) for kind, item in zip("WR", pair, strict=True)}
    for node, inputs in zip(readers, values[1:], strict=True):
        weight = stack.head.weight if node is head_node else np.ascontiguousarray(dense[node.input[1]].values.T)
        matrices[node.input[1]] = _turned(gptq(weight, moments(inputs.reshape(len(inputs), 1, -1)), BLOCK))
    return Fours(matrices, _with(model, grus, head_node, stack.layers, stack.head), stack.method)


def _turned(item: Quantized) -> FourBit:
    """Rows are outputs there and columns here."""
    zeros = None if item.zero_points is None else np.ascontiguousarray(item.zero_points.T)
    codes = np.ascontiguousarray(item.codes[:, : item.columns].T)
    return FourBit(codes, np.ascontiguousarray(item.scales.T), zeros, item.block)


def _with(
    model: onnx.ModelProto, grus: list[onnx.NodeProto], head_node: onnx.NodeProto, layers: list[Layer], head: Head
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
