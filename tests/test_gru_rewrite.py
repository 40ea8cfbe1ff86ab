"""The GRU rewrite computes what the GRU computes, and says why where it would not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edge_runtime.errors import ModelError
from export.parity import signals
from quantization.passes.gru import rewrite
from quantization.running import run

LIMIT = 1e-5


def stack(
    inputs: int = 5, hidden: int = 4, layers: int = 1, *, seed: int = 0, initial: bool = False, **attributes: Any
) -> onnx.ModelProto:
    """GRU layers with random weights and biases: `x` [T, B, I] to the states `y` [T, B, H] and the last `logits`."""
    random = np.random.default_rng(seed)
    constants: dict[str, NDArray[Any]] = {"zero": np.array([0]), "one": np.array([1])}
    nodes = []
    source = "x"
    for layer in range(layers):
        width = inputs if layer == 0 else hidden
        shapes = {"W": (1, 3 * hidden, width), "R": (1, 3 * hidden, hidden), "B": (1, 6 * hidden)}
        for name, shape in shapes.items():
            # Recurrent weights as PyTorch begins with them: much larger ones make a chaotic system, in which the
            # last bit of any float arithmetic grows without bound.
            spread = {"W": 1.0, "R": hidden**-0.5, "B": 1.0}[name]
            constants[f"{name}{layer}"] = random.uniform(-spread, spread, shape).astype(np.float32)
        names = [source, *(f"{name}{layer}" for name in shapes)]
        if initial:
            constants[f"h{layer}"] = random.normal(0, 0.5, (1, 1, hidden)).astype(np.float32)
            names += ["", f"h{layer}"]
        given_attributes = {"hidden_size": hidden, "linear_before_reset": 1} | attributes
        nodes.append(helper.make_node("GRU", names, [f"s{layer}", f"l{layer}"], f"gru{layer}", **given_attributes))
        source = f"y{layer}" if layer + 1 < layers else "y"
        nodes.append(helper.make_node("Squeeze", [f"s{layer}", "one"], [source]))
    nodes.append(helper.make_node("Squeeze", [f"l{layers - 1}", "zero"], ["logits"]))
    graph = helper.make_graph(
        nodes,
        "stack",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["time", "batch", inputs])],
        [
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", hidden]),
            helper.make_tensor_value_info("y", TensorProto.FLOAT, ["time", "batch", hidden]),
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def outputs(model: onnx.ModelProto, x: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return list(session.run(None, {"x": x}))


def rewritten(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    rewrite(copy)
    onnx.checker.check_model(copy, full_check=True)
    assert not [node for node in copy.graph.node if node.op_type == "GRU"]
    return copy


@given(
    inputs=st.integers(1, 9),
    hidden=st.integers(1, 9),
    layers=st.integers(1, 3),
    steps=st.integers(1, 40),
    batch=st.integers(1, 5),
    seed=st.integers(0, 1000),
)
def test_every_state_is_that_of_the_gru(
    inputs: int, hidden: int, layers: int, steps: int, batch: int, seed: int
) -> None:
    model = stack(inputs, hidden, layers, seed=seed)
    x = np.random.default_rng(seed).normal(0, 2, (steps, batch, inputs)).astype(np.float32)
    for wanted, found in zip(outputs(model, x), outputs(rewritten(model), x), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=0, atol=LIMIT)


def test_a_long_sequence_does_not_drift() -> None:
    model = stack(16, 64, 3)
    x = np.random.default_rng(1).normal(0, 1, (3000, 2, 16)).astype(np.float32)
    for wanted, found in zip(outputs(model, x), outputs(rewritten(model), x), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=0, atol=LIMIT)


def test_a_state_to_begin_with_is_kept() -> None:
    model = stack(initial=True)
    x = np.random.default_rng(1).normal(0, 1, (7, 1, 5)).astype(np.float32)
    for wanted, found in zip(outputs(model, x), outputs(rewritten(model), x), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=0, atol=LIMIT)


def test_a_gru_without_biases_has_zeros() -> None:
    model = stack()
    model.graph.node[0].input[3] = ""
    x = np.random.default_rng(1).normal(0, 1, (7, 2, 5)).astype(np.float32)
    np.testing.assert_allclose(outputs(rewritten(model), x)[0], outputs(model, x)[0], rtol=0, atol=LIMIT)


@pytest.mark.parametrize("form", ["streaming", "waveform"])
def test_an_exported_model_keeps_its_logits(form: str, exported: Callable[[str], Path]) -> None:
    model = onnx.load(exported(form))
    copy = rewritten(model)
    sounds = np.stack(list(signals(16000, 16000).values()))
    if form == "streaming":
        sounds = np.abs(np.random.default_rng(0).normal(0, 1, (7, 6, 1770))).astype(np.float32)
    (wanted,), (found,) = run(model, sounds), run(copy, sounds)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=LIMIT)
    assert np.std(wanted[:, 1] - wanted[:, 0]) > 100 * LIMIT  # or the comparison would show nothing


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({"direction": "reverse"}, "its direction is reverse"),
        ({"linear_before_reset": 0}, "linear_before_reset is 0"),
        ({"activations": ["Relu", "Tanh"]}, "its activations are other"),
        ({"clip": 3.0}, "it has clip"),
        ({"layout": 1}, "its layout is 1"),
        ({"hidden_size": 3}, "hidden_size is 3, its weights say 4"),
    ],
)
def test_a_gru_of_another_algebra_is_refused_with_the_reason(attributes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ModelError, match=f"^the GRU gru0 cannot be rewritten: {reason}"):
        rewrite(stack(**attributes))


def test_lengths_of_sequences_are_refused() -> None:
    model = stack()
    model.graph.initializer.append(numpy_helper.from_array(np.array([3], np.int32), "lengths"))
    model.graph.node[0].input.append("lengths")
    with pytest.raises(ModelError, match="sequence_lens"):
        rewrite(model)


@pytest.mark.parametrize(("place", "name"), [(1, "W"), (2, "R"), (3, "B")])
def test_weights_that_the_graph_computes_are_refused(place: int, name: str) -> None:
    model = stack()
    model.graph.node[0].input[place] = "computed"
    model.graph.node.insert(0, helper.make_node("Neg", [f"{name}0"], ["computed"]))
    with pytest.raises(ModelError, match=f"its {name} is computed in the graph, not a constant"):
        rewrite(model)


def test_a_refusal_leaves_the_model_as_it_was() -> None:
    model = stack(layers=2)
    model.graph.node[2].attribute.append(helper.make_attribute("clip", 1.0))
    before = model.SerializeToString()
    with pytest.raises(ModelError, match="gru1"):
        rewrite(model)
    assert model.SerializeToString() == before
