"""What a network cannot do without, counted in its graph: multiply-adds, and the recurrent weights read at each step.

A GRU of H nodes has 3 H x H recurrent weights, and needs all of them at each step before it can begin the next. Its
input's products, the convolutions and the dense layers know no such order: they are counted as multiply-adds.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

from benchmarks.timing.pipelines import OurPipeline
from benchmarks.timing.stages import first_block_frames
from benchmarks.timing.subgraph import need_onnx, read
from edge_runtime.errors import ModelError

_CONVOLUTIONS = {"Conv": 1, "ConvInteger": 1, "QLinearConv": 3}  # operator: which input is the weight
_PRODUCTS = ("MatMul", "MatMulInteger", "QLinearMatMul", "Gemm")
_INTEGER = ("ConvInteger", "QLinearConv", "MatMulInteger", "QLinearMatMul", "QuantizeLinear")


@dataclass(frozen=True)
class Recurrence:
    """One GRU layer: the bytes of its recurrent weights as they are multiplied, and how often all are read."""

    bytes: int
    steps: int


@dataclass(frozen=True)
class Work:
    """A hop's work in the network, without the filter bank."""

    float_products: int  # multiply-adds
    integer_products: int
    recurrences: tuple[Recurrence, ...]


def work(pipeline: OurPipeline) -> Work:
    """The work of one hop: the network on a window and, where windows share the first block, that on the new frames.

    Where the network looks at blocks it is that of a hop's new blocks and of the head.
    Raises UsageError without onnx, ModelError for a graph that cannot be followed.
    """
    network, contract = pipeline.detector.network, pipeline.contract
    model, window = read(pipeline.path), (1, *network.input_shape(contract.window_samples))
    if contract.form == "blocks":
        new = pipeline.hop_samples // contract.hop_multiple
        return _count(model, (new, len(contract.filters), contract.seen_frames), (new, 1, 1), window)
    body = _count(model, window)
    if not contract.first_block:
        return body
    block = need_onnx().ModelProto.FromString(contract.first_block)
    first = _count(block, (1, len(contract.filters), first_block_frames(network, pipeline.hop_samples)))
    return Work(
        body.float_products + first.float_products, body.integer_products + first.integer_products, body.recurrences
    )


def _count(model: Any, *shapes_given: tuple[int, ...]) -> Work:
    """The work of a model on inputs of these shapes, in its order."""
    onnx = need_onnx()
    for node, shape in zip(model.graph.input, shapes_given, strict=True):
        for axis, length in zip(node.type.tensor_type.shape.dim, shape, strict=True):
            axis.dim_value = length
    graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    shapes = {
        value.name: [axis.dim_value for axis in value.type.tensor_type.shape.dim]
        for value in (*graph.input, *graph.value_info, *graph.output)
    }
    shapes |= {item.name: list(item.dims) for item in graph.initializer}
    makers = {name: node.op_type for node in graph.node for name in node.output}
    products = {False: 0, True: 0}  # by whether they are of integers
    recurrences = []
    for node in graph.node:
        kind, inputs = node.op_type, node.input
        # Of two such nodes' outputs ONNX Runtime multiplies the integers (QDQ).
        integer = kind in _INTEGER or all(makers.get(name) == "DequantizeLinear" for name in inputs[:2])
        try:
            if kind in _CONVOLUTIONS:
                products[integer] += prod(shapes[node.output[0]]) * prod(shapes[inputs[_CONVOLUTIONS[kind]]][1:])
            elif kind in _PRODUCTS:
                products[integer] += prod(shapes[node.output[0]]) * shapes[inputs[0]][-1]
            elif kind == "GRU":
                steps, hidden = shapes[inputs[0]][0], shapes[inputs[2]][-1]
                products[False] += steps * prod(shapes[inputs[1]])
                recurrences.append(Recurrence(4 * 3 * hidden**2, steps))
            elif kind == "Scan":
                body = next(item.g for item in node.attribute if item.name == "body")
                width = 1 if any(inner.op_type in _INTEGER for inner in body.node) else 4
                hidden, steps = shapes[node.output[0]][-1], shapes[inputs[1]][0]
                recurrences.append(Recurrence(width * 3 * hidden**2, steps))
        except (KeyError, IndexError):
            raise ModelError(f"cannot tell the work of the node {node.name or kind}: a shape is not known") from None
    if 0 in products.values() and not any(products.values()):
        raise ModelError("the graph has no products: it is no RawNet2 of `python -m export`")
    return Work(products[False], products[True], tuple(recurrences))
