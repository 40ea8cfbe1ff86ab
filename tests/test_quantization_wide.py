"""Large matrices of what sums up a window: integer products that lose no more than the rounding of their weights."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from quantization import levels
from quantization.int4.weights import four_bits
from quantization.passes.linear import observe
from quantization.passes.surgery import Names
from quantization.running import run
from quantization.schemes import Builder, int8_weight
from quantization.targets import target_of

INPUTS, OUTPUTS = 1024, 1024


def graph_of(weight: np.ndarray) -> onnx.ModelProto:
    """A product over a sequence, and one of its mean with `weight`."""
    inputs, outputs = weight.shape
    small = np.eye(inputs, dtype=np.float32)
    nodes = [
        helper.make_node("Neg", ["x"], ["turned"]),
        helper.make_node("MatMul", ["turned", "small"], ["y"]),
        helper.make_node("ReduceMean", ["y", "axis"], ["mean"], keepdims=0),
        helper.make_node("MatMul", ["mean", "wide"], ["logits"]),
    ]
    values = {"small": small, "wide": weight, "axis": np.array([1], np.int64)}
    constants = [numpy_helper.from_array(value, name) for name, value in values.items()]
    taken = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", "steps", inputs])
    given = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", outputs])
    made = helper.make_graph(nodes, "small", [taken], [given], constants)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


@pytest.mark.parametrize("name", ["portable", "x86-avx2"])
@pytest.mark.parametrize("batch", [1, 3])
def test_a_wide_product_has_the_error_of_its_weights_alone(name: str, batch: int) -> None:
    """Also where one value is a hundred times the others, which 8 bits of activations would not tell apart."""
    random, target = np.random.default_rng(0), target_of(name)
    weight = random.normal(0, 0.1, (INPUTS, OUTPUTS)).astype(np.float32)
    inputs = random.normal(0, 1, (batch, INPUTS)).astype(np.float32)
    inputs[0, 5] = 100
    taken = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", INPUTS])
    given = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", OUTPUTS])
    graph = helper.make_graph([], "small", [taken], [given])
    make = Builder(graph, Names(graph))
    make.product_wide("x", weight, "wide", target, "y")
    graph.node.extend(make.nodes)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    codes, scale = int8_weight(weight, target.largest)
    (found,) = session.run(["y"], {"x": inputs})
    np.testing.assert_allclose(found, inputs @ (codes * scale), atol=0.05)
    (alone,) = session.run(["y"], {"x": inputs[-1:]})
    np.testing.assert_allclose(alone, found[-1:], atol=1e-5)
    assert not np.any(session.run(["y"], {"x": np.zeros((1, INPUTS), np.float32)})[0])


def test_only_large_matrices_beside_a_transformer_are_wide() -> None:
    random = np.random.default_rng(1)
    large = random.normal(size=(INPUTS, OUTPUTS)).astype(np.float32)
    kinds = {item.name: item.kind for item in levels.weights(graph_of(large))}
    assert kinds == {"small": "sequence", "wide": "wide"}
    kinds = {item.name: item.kind for item in levels.weights(graph_of(large[:, :1000]))}
    assert kinds == {"small": "sequence", "wide": "dense"}


def test_a_wide_matrix_has_4_bits_where_the_plan_gives_them() -> None:
    random = np.random.default_rng(2)
    model = graph_of(random.normal(0, 0.1, (128, 8192)).astype(np.float32))
    windows = random.normal(0, 1, (8, 4, 128)).astype(np.float32)
    found = levels.weights(model)
    plan = levels.plan_of("int4", found)
    assert plan == {"small": levels.INT8, "wide": levels.INT4}
    int4 = four_bits(model, found, windows, seen=observe(model, found, windows))
    made = levels.build(int4.model, plan, target_of("portable"), int4.matrices)
    (exact,), (rounded,) = run(model, windows), run(made, windows)
    assert np.corrcoef(exact.ravel(), rounded.ravel())[0, 1] > 0.98
    assert made.ByteSize() < model.ByteSize() / 6
