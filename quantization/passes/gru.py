"""The GRU rewrite: each ONNX GRU becomes a product over the whole sequence and a Scan over the recurrence.

No quantizer knows the GRU node. Written out as products it is the same algebra, and every tool can reach the
weights. For a step with input x and state h (gates z update, r reset, n new; `linear_before_reset` = 1, as
PyTorch computes):

    z, r = sigmoid(x Wzr + bzr + h Rzr + czr)
    n    = tanh(x Wn + bn + r * (h Rn + cn))
    h'   = n + z * (h - n)

x W + b has no state in it and is one product for the sequence; h R + c is the one product left in the Scan's body.
Operator definition: ONNX, GRU-14. That ONNX Runtime's tools quantize no GRU: its issue 9796.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edge_runtime.errors import ModelError
from quantization.passes.surgery import Names, constants, consumers, drop_unused, replace_node

Floats = NDArray[np.float32]
_ATTRIBUTES = {"hidden_size", "linear_before_reset", "direction", "activations", "layout"}


@dataclass(frozen=True)
class GruWeights:
    """A GRU's numbers, float32, gates in ONNX's order (update, reset, new)."""

    inputs: Floats  # W, [3 H, I]
    recurrent: Floats  # R, [3 H, H]
    input_bias: Floats  # [3 H]
    recurrent_bias: Floats  # [3 H]

    @property
    def hidden(self) -> int:
        """Nodes of the layer, H."""
        return self.recurrent.shape[1]


def is_gru(node: onnx.NodeProto) -> bool:
    """Whether the node is the standard GRU operator."""
    return bool(node.op_type == "GRU" and node.domain in ("", "ai.onnx"))


def read_weights(node: onnx.NodeProto, known: dict[str, NDArray[Any]]) -> GruWeights:
    """The numbers of a GRU node. Raises ModelError with the reason when the rewrite would not be exact for it."""
    attributes = {item.name: helper.get_attribute_value(item) for item in node.attribute}
    inputs = [*node.input, *[""] * (6 - len(node.input))]
    direction = attributes.get("direction", b"forward")
    if direction != b"forward":
        raise _refusal(node, f"its direction is {direction.decode()}, only forward is rewritten")
    if attributes.get("linear_before_reset", 0) != 1:
        raise _refusal(node, "linear_before_reset is 0: its reset gate acts before the product, as PyTorch's does not")
    if attributes.get("activations") not in (None, [b"Sigmoid", b"Tanh"]):
        raise _refusal(node, "its activations are other than Sigmoid and Tanh")
    if attributes.get("layout", 0) != 0:
        raise _refusal(node, "its layout is 1 (batch first)")
    unknown = attributes.keys() - _ATTRIBUTES
    if unknown:
        raise _refusal(node, f"it has {', '.join(sorted(unknown))}, which the rewrite does not keep")
    if inputs[4]:
        raise _refusal(node, "it takes sequence_lens, lengths of each sequence of a batch")
    for name, what in ((inputs[1], "W"), (inputs[2], "R"), (inputs[3], "B")):
        if name and name not in known:
            raise _refusal(node, f"its {what} is computed in the graph, not a constant")
    w, r = known[inputs[1]], known[inputs[2]]
    if w.ndim != 3 or r.ndim != 3 or w.shape[0] != 1 or r.shape != (1, w.shape[1], w.shape[1] // 3):
        raise _refusal(node, f"its W {list(w.shape)} and R {list(r.shape)} are no forward GRU's")
    rows = w.shape[1]
    if attributes.get("hidden_size", rows // 3) != rows // 3:
        raise _refusal(node, f"hidden_size is {attributes['hidden_size']}, its weights say {rows // 3}")
    bias = known[inputs[3]] if inputs[3] else np.zeros((1, 2 * rows), np.float32)
    if bias.shape != (1, 2 * rows):
        raise _refusal(node, f"its B is {list(bias.shape)}, not {[1, 2 * rows]}")
    if any(value.dtype != np.float32 for value in (w, r, bias)):
        raise _refusal(node, "its weights are not float32")
    return GruWeights(w[0], r[0], bias[0, :rows], bias[0, rows:])


def _refusal(node: onnx.NodeProto, reason: str) -> ModelError:
    return ModelError(f"the GRU {node.name or node.output[0]} cannot be rewritten: {reason}")


def rewrite(model: onnx.ModelProto) -> list[str]:
    """Replaces every GRU of the main graph in place; gives the prefixes of their weights' names, in order.

    The weights become the initializers `PREFIX.W` [I, 3 H] in the graph and `PREFIX.R` [H, 3 H] in the Scan's body,
    with biases `PREFIX.Wb` and `PREFIX.Rb` [3 H]. Exact except for the order of additions (about 1e-6 at the logits).
    Raises ModelError with the reason when a GRU does not fulfil what the algebra needs.
    """
    graph = model.graph
    known = constants(graph)
    found = [(node, read_weights(node, known)) for node in graph.node if is_gru(node)]
    names = Names(graph)
    prefixes = []
    for layer, (node, weights) in enumerate(found):
        prefixes.append(f"gru.{layer}")
        replace_node(graph, node, _nodes(graph, node, weights, prefixes[-1], names))
    drop_unused(graph)
    return prefixes


def _nodes(
    graph: onnx.GraphProto, node: onnx.NodeProto, weights: GruWeights, prefix: str, names: Names
) -> list[onnx.NodeProto]:
    hidden = weights.hidden
    readers = consumers(graph)
    sequence, last = [*node.output, "", ""][:2]
    wants_sequence = bool(sequence) and sequence in readers
    initial = node.input[5] if len(node.input) > 5 else ""

    def add(name: str, value: NDArray[Any]) -> str:
        graph.initializer.append(numpy_helper.from_array(value, name))
        return name

    def fresh(what: str) -> str:
        return names.fresh(f"{prefix}.{what}")

    first = add(fresh("first"), np.array([0], np.int64))  # axis of the one direction
    nodes = []
    start = fresh("start")
    if initial:
        nodes.append(helper.make_node("Squeeze", [initial, first], [start], fresh("squeeze_start")))
    else:
        shape, batch, whole = fresh("shape"), fresh("batch"), fresh("start_shape")
        second = add(fresh("second"), np.array([1], np.int64))
        nodes += [
            helper.make_node("Shape", [node.input[0]], [shape], fresh("get_shape")),
            helper.make_node("Gather", [shape, second], [batch], fresh("get_batch"), axis=0),
            helper.make_node(
                "Concat",
                [batch, add(fresh("hidden"), np.array([hidden], np.int64))],
                [whole],
                fresh("get_start_shape"),
                axis=0,
            ),
            helper.make_node(
                "ConstantOfShape",
                [whole],
                [start],
                fresh("zeros"),
                value=helper.make_tensor("", TensorProto.FLOAT, [1], [0]),
            ),
        ]
    product, projected, gates, new = fresh("product"), fresh("projected"), fresh("x_gates"), fresh("x_new")
    sizes = add(fresh("sizes"), np.array([2 * hidden, hidden], np.int64))
    final, states = fresh("final"), fresh("states")
    nodes += [
        helper.make_node(
            "MatMul",
            [node.input[0], add(f"{prefix}.W", np.ascontiguousarray(weights.inputs.T))],
            [product],
            fresh("project"),
        ),
        helper.make_node("Add", [product, add(f"{prefix}.Wb", weights.input_bias)], [projected], fresh("project_bias")),
        helper.make_node("Split", [projected, sizes], [gates, new], fresh("split"), axis=-1),
        helper.make_node(
            "Scan",
            [start, gates, new],
            [final, states] if wants_sequence else [final],
            fresh("recurrence"),
            num_scan_inputs=2,
            body=_body(weights, prefix, wants_sequence),
        ),
    ]
    if wants_sequence:
        second = add(fresh("direction"), np.array([1], np.int64))
        nodes.append(helper.make_node("Unsqueeze", [states, second], [sequence], fresh("give_states")))
    if last and (last in readers or last in {item.name for item in graph.output}):
        nodes.append(helper.make_node("Unsqueeze", [final, first], [last], fresh("give_final")))
    return nodes


def _body(weights: GruWeights, prefix: str, wants_sequence: bool) -> onnx.GraphProto:
    """One step: inputs h [B, H], x_gates [B, 2 H], x_new [B, H]; outputs h and, if wanted, h again."""
    hidden = weights.hidden

    def value(name: str, width: int) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, width])

    def name(what: str) -> str:
        return f"{prefix}.step.{what}"

    steps = (
        ("MatMul", ("h", f"{prefix}.R"), ("product",)),
        ("Add", ("product", f"{prefix}.Rb"), ("recurrent",)),
        ("Split", ("recurrent", "sizes"), ("h_gates", "h_new")),
        ("Add", ("x_gates", "h_gates"), ("gates",)),
        ("Sigmoid", ("gates",), ("opened",)),
        ("Split", ("opened", "halves"), ("update", "reset")),
        ("Mul", ("reset", "h_new"), ("kept",)),
        ("Add", ("x_new", "kept"), ("drive",)),
        ("Tanh", ("drive",), ("new",)),
        ("Sub", ("h", "new"), ("difference",)),
        ("Mul", ("update", "difference"), ("moved",)),
        ("Add", ("new", "moved"), ("next",)),
        *((("Identity", ("next",), ("state",)),) if wants_sequence else ()),
    )
    nodes = []
    for operator, inputs, outputs in steps:
        sources = [item if item.startswith(prefix) else name(item) for item in inputs]
        node = helper.make_node(operator, sources, [name(item) for item in outputs], name(f"{outputs[0]}_node"))
        if operator == "Split":
            node.attribute.append(helper.make_attribute("axis", -1))
        nodes.append(node)
    constant: dict[str, NDArray[Any]] = {
        f"{prefix}.R": np.ascontiguousarray(weights.recurrent.T),
        f"{prefix}.Rb": weights.recurrent_bias,
        name("sizes"): np.array([2 * hidden, hidden], np.int64),
        name("halves"): np.array([hidden, hidden], np.int64),
    }
    return helper.make_graph(
        nodes,
        f"{prefix}.step",
        [value(name("h"), hidden), value(name("x_gates"), 2 * hidden), value(name("x_new"), hidden)],
        [value(name("next"), hidden)] + ([value(name("state"), hidden)] if wants_sequence else []),
        [numpy_helper.from_array(array, key) for key, array in constant.items()],
    )
