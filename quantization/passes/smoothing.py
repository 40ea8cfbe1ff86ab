"""Evening out what enters the products over a sequence, so that one scale serves all of its channels.

A few channels of a transformer are many times as large as the others, and whole numbers that reach as far leave the
rest few steps. What enters a product is divided by a factor a channel and the weights' rows are multiplied by it, which
changes nothing in float: SmoothQuant, Xiao et al., "Accurate and efficient post-training quantization for large
language models", 2023. The division goes into the norm or the constant that made the channels, else it is a node of
its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from quantization.levels import Weight
from quantization.passes.surgery import Names, constants, consumers, replace_node, set_constant
from quantization.running import run

Floats = NDArray[np.float32]
WINDOWS = 32
"""Calibration windows whose largest values are looked at."""
STRENGTH = 0.5
"""The share of the inputs' unevenness that the weights take over."""
_LEAST = 1e-5
"""What is smaller counts as this: a channel that is silent on the calibration sound must not divide by zero."""


def factors(model: onnx.ModelProto, found: Sequence[Weight], windows: Floats) -> dict[str, Floats]:
    """What the channels before each sequence weight of `found` are to be divided by, float32 [inputs], by its name.

    `windows` is float32 [N, …], each an input of the model. A weight that two products read has none. Raises
    ModelError when the model cannot be run.
    """
    names = {item.name for item in found if item.kind == "sequence"}
    known, readers = constants(model.graph), consumers(model.graph)
    sources = {
        node.input[1]: node.input[0]
        for node in model.graph.node
        if node.op_type == "MatMul" and node.input[1] in names and len(readers[node.input[1]]) == 1
    }
    distinct = list(dict.fromkeys(sources.values()))
    peaks = {
        name: np.abs(values).max(tuple(range(values.ndim - 1)))
        for name, values in zip(distinct, run(model, windows[:WINDOWS], distinct), strict=True)
    }
    return {weight: factors_of(peaks[source], known[weight]) for weight, source in sources.items()}


def smoothed(model: onnx.ModelProto, chosen: Mapping[str, Floats]) -> onnx.ModelProto:
    """The same function as `model`, what enters the weights of `chosen` divided by their factors."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    readers, known, fresh = consumers(graph), constants(graph), Names(graph)
    for node in [item for item in graph.node if item.op_type == "MatMul" and item.input[1] in chosen]:
        source, weight = node.input[0], node.input[1]
        divisors = chosen[weight]
        shares: Floats = np.reciprocal(divisors)
        set_constant(graph, weight, known[weight] * divisors[:, None])
        if len(readers[source]) > 1 or not _absorbed(graph, source, shares, fresh):
            inverse, even = fresh.fresh(f"{weight}.evening"), fresh.fresh(f"{weight}.even")
            set_constant(graph, inverse, shares)
            product = onnx.NodeProto()
            product.CopyFrom(node)
            product.input[0] = even
            divided = helper.make_node("Mul", [source, inverse], [even], f"{even}.node")
            replace_node(graph, node, [divided, product])
    return result


def factors_of(peaks: Floats, weight: Floats) -> Floats:
    """What each channel is to be divided by, float32 [I], of inputs' largest values [I] and a weight [I, O].

    Their geometric mean is 1.
    """
    rows = np.maximum(np.abs(weight).max(1), _LEAST)
    logs = STRENGTH * np.log(np.maximum(peaks, _LEAST)) - (1 - STRENGTH) * np.log(rows)
    return np.exp(logs - logs.mean()).astype(np.float32)


def _absorbed(graph: onnx.GraphProto, source: str, shares: Floats, fresh: Names) -> bool:
    """Multiplies the channels of `source`, which has one reader, in the constants of the node that makes it, if any."""
    node = next((item for item in graph.node if source in item.output), None)
    if node is None or source in {item.name for item in graph.output}:
        return False
    known = constants(graph)
    if node.op_type == "LayerNormalization":
        places = [place for place in (1, 2) if place < len(node.input)]
    elif node.op_type == "Mul":
        places = [place for place in (0, 1) if node.input[place] in known and known[node.input[place]].size == 1][:1]
    else:
        places = []
    values = [known.get(node.input[place]) for place in places]
    if not places or any(value is None or value.size not in (1, len(shares)) for value in values):
        return False
    for place, value in zip(places, values, strict=True):
        name = fresh.fresh(f"{node.input[place]}.even")
        set_constant(graph, name, (np.asarray(value, np.float32).reshape(-1) * shares).astype(np.float32))
        node.input[place] = name
    return True
