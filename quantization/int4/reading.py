"""A GRU stack and its head as they stand in an ONNX file."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper

from edge_runtime.errors import ModelError
from quantization.int4 import GruLayer, Head
from quantization.passes.gru import is_gru, read_weights
from quantization.passes.surgery import constants


def read_stack(model: onnx.ModelProto) -> tuple[list[GruLayer], Head]:
    """The GRU layers and the head of a float model. Raises ModelError when it has none that can be quantized."""
    known = constants(model.graph)
    found = [read_weights(node, known) for node in model.graph.node if is_gru(node)]
    if not found:
        raise ModelError("the model has no GRU to put into 4 bits: give a float file of `python -m export`")
    last = next((node for node in model.graph.node if "logits" in node.output), None)
    if last is None or last.op_type != "Gemm" or any(name not in known for name in last.input[1:]):
        raise ModelError("the model's logits are not made by a Gemm with constant weights after the GRU")
    attributes = {item.name: helper.get_attribute_value(item) for item in last.attribute}
    weight = known[last.input[1]] if attributes.get("transB") else known[last.input[1]].T
    layers = [GruLayer(item.inputs, item.recurrent, item.input_bias, item.recurrent_bias) for item in found]
    bias = known[last.input[2]] if len(last.input) > 2 else np.zeros(2, np.float32)
    return layers, Head(np.ascontiguousarray(weight), bias)
