"""Levels as plans: which scheme each weight of a model gets, and the model that follows from a plan."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from edge_runtime.errors import ModelError
from quantization.passes.gru import rewrite
from quantization.passes.surgery import Names, bodies, constants, drop_unused, graphs, replace_node
from quantization.schemes import Builder, EightBit, FourBit
from quantization.targets import Target

Floats = NDArray[np.float32]
FP32, FP16, STORED8, STATIC8, INT8, INT4 = "fp32", "fp16", "int8-stored", "int8-static", "int8", "int4"
BITS = {FP32: 32, FP16: 16, STORED8: 8, STATIC8: 8, INT8: 8, INT4: 4}
DENSE_SCHEMES = (FP32, FP16, INT8, INT4)
CONV_SCHEMES = (FP32, FP16, STORED8, STATIC8)
_INTEGER_KINDS = ("recurrent", "input", "sequence")
FEWEST_VALUES = 256
"""Smaller constants stay as they are: a node to unpack them would cost more than it saves."""
WIDE_VALUES = 1 << 20
"""A dense matrix from here on is multiplied in integers beside a transformer: as float32 it takes much memory."""
SMALL_SHARE = 1 / 25
"""Of all values: matrices of a transformer below it keep 8 bits at `int4`."""


@dataclass(frozen=True)
class Weight:
    """A matrix of a product, or a convolution's filters, as a plan names it."""

    name: str
    kind: str  # "recurrent", "input" (both of a GRU), "sequence" (read once a step), "dense", "wide" or "conv"
    values: Floats  # [inputs, outputs]; of a conv [outputs, inputs, taps]

    @property
    def schemes(self) -> tuple[str, ...]:
        """What this weight can be stored as."""
        if self.kind == "sequence":
            return (*DENSE_SCHEMES, STATIC8)
        return CONV_SCHEMES if self.kind == "conv" else DENSE_SCHEMES


def weights(model: onnx.ModelProto) -> list[Weight]:
    """The weights of a float model that a plan decides on, in the order of the graph; `model` is left as it is.

    GRU layers are named as the rewrite names them, `gru.0.W` and `gru.0.R`. The filter bank of the `waveform` form is
    none: it is data that the contract carries, and its errors would go into every feature. Raises ModelError when a
    GRU cannot be rewritten.
    """
    rewritten = onnx.ModelProto()
    rewritten.CopyFrom(model)
    rewrite(rewritten)
    found = []
    bank, sequences = _filter_banks(rewritten.graph), _sequences(model)
    wide = _wide(model, sequences)
    for node in rewritten.graph.node:
        for graph in [rewritten.graph, *bodies(node)]:
            known = constants(graph)
            for part in [node] if graph is rewritten.graph else graph.node:
                name = part.input[1] if len(part.input) > 1 else ""
                if name not in known or name in bank:
                    continue
                if part.op_type == "Conv":
                    found.append(Weight(name, "conv", known[name]))
                elif part.op_type == "MatMul" and known[name].ndim == 2:
                    plain = "sequence" if name in sequences else "wide" if name in wide else "dense"
                    kind = {"R": "recurrent", "W": "input"}.get(name.rsplit(".", 1)[-1], plain)
                    found.append(Weight(name, kind, known[name]))
                elif part.op_type == "Gemm":
                    found.append(Weight(name, "dense", _gemm_matrix(part, known[name])))
    return found


def _filter_banks(graph: onnx.GraphProto) -> set[str]:
    """The filters of convolutions that the sound itself enters, reshaped or not."""
    sound = {item.name for item in graph.input}
    for node in graph.node:
        if node.op_type in ("Unsqueeze", "Reshape") and node.input[0] in sound:
            sound.add(node.output[0])
    if not any(node.op_type == "Abs" for node in graph.node):
        return set()  # the streaming form: what enters is the bank's output
    return {node.input[1] for node in graph.node if node.op_type == "Conv" and node.input[0] in sound}


def _sequences(model: onnx.ModelProto) -> set[str]:
    """The matrices that a MatMul of the graph itself applies to every step of a sequence: [batch, steps, inputs].

    They are large, and their products are most of what a transformer computes; those of what sums up a window are not.
    """
    known = constants(model.graph)
    readers = [
        node
        for node in model.graph.node
        if node.op_type == "MatMul" and node.input[1] in known and known[node.input[1]].ndim == 2
    ]
    if not readers:
        return set()
    values = onnx.shape_inference.infer_shapes(model).graph.value_info
    ranks = {item.name: len(item.type.tensor_type.shape.dim) for item in values}
    return {node.input[1] for node in readers if ranks.get(node.input[0], 0) > 2}


def _wide(model: onnx.ModelProto, sequences: Container[str]) -> set[str]:
    """The large matrices of what sums up a window, beside a transformer."""
    known = constants(model.graph)
    if not any(name in sequences for name in known):
        return set()
    names = {node.input[1] for node in model.graph.node if node.op_type == "MatMul" and node.input[1] in known}
    return {
        name for name in names if name not in sequences and known[name].ndim == 2 and known[name].size >= WIDE_VALUES
    }


def _gemm_matrix(node: onnx.NodeProto, value: Floats) -> Floats:
    attributes = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
    if attributes.get("transA", 0) or attributes.get("alpha", 1.0) != 1.0 or attributes.get("beta", 1.0) != 1.0:
        raise ModelError(f"the product {node.name} has transA, alpha or beta, which are not quantized here")
    return np.ascontiguousarray(value.T) if attributes.get("transB", 0) else value


def plan_of(level: str, found: list[Weight]) -> dict[str, str]:
    """The scheme of every weight at a level; below fp32, what is not in whole numbers is stored in 16 bits.

    The last dense weight, which makes the two logits, keeps 8 bits at `int4`: it is 0.05 % of the weights, and every
    other error passes through it. Where products over a sequence hold most weights, so do the smaller ones and the
    dense ones: an eighth of the weights, and two fifths of what 4 bits cost the scores (variances, each weight alone).
    """
    dense = {"fp32": FP32, "fp16": FP16, "int8": INT8, "int8-static": INT8, "int4": INT4}[level]
    static = {"fp32": FP32, "int8-static": STATIC8}
    kinds = {"conv": static.get(level, FP16), "sequence": static.get(level, dense)}
    plan = {item.name: kinds.get(item.kind, dense) for item in found}
    kept = [item.name for item in found if item.kind == "dense"][-1:]
    if any(item.kind == "sequence" for item in found):
        limit = SMALL_SHARE * sum(item.values.size for item in found)
        kept += [item.name for item in found if item.values.size < limit]
    return plan | {name: INT8 for name in kept if plan[name] == INT4}


def build(
    model: onnx.ModelProto,
    plan: Mapping[str, str],
    target: Target,
    int4: Mapping[str, FourBit] | None = None,
    ranges: Any = None,
    eights: Mapping[str, EightBit] | None = None,
) -> onnx.ModelProto:
    """The model that follows from a plan; `model` is a float one with its GRUs, and is left as it is.

    `int4` holds the 4-bit matrices of the weights that the plan gives `int4`, `ranges` the table of
    `convolutions.find_ranges` where it gives a convolution `int8-static`, `eights` the sequence weights that it gives
    `int8` or `int8-static`, rounded for the target. Weights that the plan does not name are stored in 16
    bits, as those of `fp16`, unless all of the plan is `fp32`. The metadata are copied. Raises ModelError when a GRU
    cannot be rewritten, KeyError when a matrix is missing.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    if set(plan.values()) <= {FP32}:
        return result
    eights, sequences = eights or {}, _sequences(result)
    wide = _wide(result, sequences)
    static = [name for name, scheme in plan.items() if scheme == STATIC8 and name not in sequences]
    if static:
        from quantization.passes.convolutions import quantize  # loads ONNX Runtime's tools, which few levels need

        result = quantize(result, static, ranges, target)
    if any(plan.get(f"gru.{layer}.{kind}") in (INT8, INT4) for layer in range(len(plan)) for kind in "WR"):
        rewrite(result)
    _halve(result, _filter_banks(result.graph) | {name for name, scheme in plan.items() if scheme != FP16})
    _apply_integers(result, plan, target, int4 or {}, eights, sequences, wide)
    return result


def integer_products(plan: Mapping[str, str], found: Iterable[Weight]) -> bool:
    """Whether any product of the plan is computed in integers.

    Those are convolutions with fixed ranges, a GRU's products, those over a sequence and wide ones in 8 bits.
    """
    return any(
        plan[item.name] == STATIC8
        or (plan[item.name] in (INT8, INT4) and item.kind in _INTEGER_KINDS)
        or (plan[item.name] == INT8 and item.kind == "wide")
        for item in found
    )


def is_gru_weight(name: str) -> bool:
    """Whether `name` is that of a GRU's weight, as the rewrite names them."""
    return name.startswith("gru.") and name.endswith((".W", ".R"))


def _apply_integers(
    model: onnx.ModelProto,
    plan: Mapping[str, str],
    target: Target,
    int4: Mapping[str, FourBit],
    eights: Mapping[str, EightBit],
    sequences: Container[str],
    wide: Container[str],
) -> None:
    """Products of a GRU, over a sequence and, in 8 bits, with wide matrices become integer ones.

    Other weights are small, are only stored so, and multiplied as floats.
    """
    names, states = Names(model.graph), _states(model.graph)
    for graph in graphs(model.graph):
        known = constants(graph)
        for node in list(graph.node):
            name = node.input[1] if len(node.input) > 1 else ""
            scheme = plan.get(name, FP32) if name in known else FP32
            if scheme not in (STORED8, INT8, INT4, STATIC8) or node.op_type not in ("Conv", "MatMul", "Gemm"):
                continue
            make = Builder(graph, names)
            source, output = node.input[0], node.output[0]
            if scheme == STORED8:
                changed = onnx.NodeProto()
                changed.CopyFrom(node)
                changed.input[1] = make.stored8(known[name], f"{name}.float")
                make.nodes.append(changed)
            elif scheme == STATIC8:
                make.product_static(source, eights[name], name, target, output)
            elif name in wide and scheme == INT8:
                make.product_wide(source, known[name], name, target, output)
            elif name not in sequences and not is_gru_weight(name):
                matrix = _gemm_matrix(node, known[name]) if node.op_type == "Gemm" else known[name]
                # With a scale for each output, which are the columns here and stored8's rows.
                stored = make.stored4(int4[name], name) if scheme == INT4 else make.turned8(matrix, name)
                inputs = [source, stored, *node.input[2:]]
                make.nodes.append(onnx.helper.make_node(node.op_type, inputs, [output], f"{name}.product"))
            elif scheme == INT8:
                make.product8(source, eights.get(name, known[name]), name, target, output, source in states)
            else:
                make.product4(source, int4[name], name, target, output, source in states)
            replace_node(graph, node, make.nodes)
    drop_unused(model.graph)


def _states(graph: onnx.GraphProto) -> set[str]:
    """Names of values that are a GRU's states, in the graph and in the bodies of its Scans: all within +-1.

    A state is a mean of earlier states and of values of tanh, weighted by a sigmoid; so it stays within +-1 if it
    begins there, which zeros do.
    """
    zeros = {node.output[0] for node in graph.node if node.op_type == "ConstantOfShape"}
    found = set()
    for node in graph.node:
        if node.op_type == "Scan" and node.input[0] in zeros:
            found |= {*node.output, bodies(node)[0].input[0].name}
        elif node.op_type in ("Squeeze", "Unsqueeze", "Transpose", "Identity") and node.input[0] in found:
            found.add(node.output[0])
    return found


def _halve(model: onnx.ModelProto, keep: set[str]) -> None:
    """Stores float constants of FEWEST_VALUES and more in 16 bits, except for those in `keep` and scales of integers.

    A value beyond the range of 16 bits keeps its whole constant in 32.
    """
    names = Names(model.graph)
    for graph in graphs(model.graph):
        for item in list(graph.initializer):
            value: NDArray[Any] = numpy_helper.to_array(item)
            readers = [node for node in graph.node if item.name in node.input]
            if (
                value.dtype != np.float32
                or value.size < FEWEST_VALUES
                or item.name in keep
                or not readers
                or np.abs(value).max() > np.finfo(np.float16).max
                or any(node.op_type in ("QuantizeLinear", "DequantizeLinear") for node in readers)
            ):
                continue
            make = Builder(graph, names)
            new = make.half(value, f"{item.name}.float")
            for node in readers:
                for place, name in enumerate(node.input):
                    if name == item.name:
                        node.input[place] = new
            first = next(index for index, node in enumerate(graph.node) if new in node.input)
            graph.node.insert(first, make.nodes[0])
    drop_unused(model.graph)
