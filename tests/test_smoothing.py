"""Inputs of products that are evened out: the float scores stay, and whole numbers serve uneven channels."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from quantization import levels
from quantization.calibration import read
from quantization.levels import Weight
from quantization.passes.smoothing import factors, factors_of, smoothed
from quantization.passes.surgery import constants, set_constant
from quantization.quantizer import Quantizer
from quantization.running import raw_scores, run
from quantization.sensitivity import deviation
from quantization.targets import target_of
from tests.test_quantization_hybrid import float_file

UNEVEN = 60.0


def uneven(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same function, a few of whose normed channels are many times as large, as training leaves them in Whisper."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    known = constants(result.graph)
    for norm in [node for node in result.graph.node if node.op_type == "LayerNormalization"]:
        product = next(node for node in result.graph.node if node.input[0] == norm.output[0])
        gains = np.ones(len(known[norm.input[1]]), np.float32)
        gains[3::16] = UNEVEN
        for name in norm.input[1:3]:
            set_constant(result.graph, name, known[name] * gains)
        set_constant(result.graph, product.input[1], known[product.input[1]] / gains[:, None])
    return result


@pytest.fixture(scope="module")
def quantizer(tmp_path_factory: pytest.TempPathFactory) -> Quantizer:
    made = Quantizer(float_file(tmp_path_factory.mktemp("float") / "tiny.onnx", read=False), read(None), count=32)
    made.model = uneven(made.model)
    return made


def test_the_float_scores_stay_and_the_channels_are_even(quantizer: Quantizer) -> None:
    even = smoothed(quantizer.model, quantizer.factors)
    assert raw_scores(even, quantizer.windows) == pytest.approx(quantizer.reference, rel=1e-4, abs=1e-5)
    names = [item.name for item in quantizer.weights if item.kind == "sequence"]
    assert names and {item.name for item in levels.weights(even)} == {item.name for item in quantizer.weights}

    def spread(model: onnx.ModelProto) -> float:
        """How far the largest channel of a norm stands out, in the worst product."""
        readers = {n.input[1]: n.input[0] for n in model.graph.node if n.op_type == "MatMul" and n.input[1] in names}
        inputs = run(model, quantizer.windows[:4], list(readers.values()))
        peaks = [np.abs(values).reshape(-1, values.shape[-1]).max(0) for values in inputs]
        return float(max(peak.max() / np.median(peak) for peak in peaks))

    assert spread(even) < 0.4 * spread(quantizer.model)


def test_what_makes_the_channels_takes_up_the_factors_where_it_can(quantizer: Quantizer) -> None:
    def count(model: onnx.ModelProto, operator: str) -> int:
        return sum(node.op_type == operator for node in model.graph.node)

    layers = count(quantizer.model, "LayerNormalization") // 2
    added = count(smoothed(quantizer.model, quantizer.factors), "Mul") - count(quantizer.model, "Mul")
    assert added == 2 + layers, "both convolutions and what attention has mixed; norms and GELUs hold theirs"


def test_eight_bits_lose_less(quantizer: Quantizer) -> None:
    plain = Quantizer(quantizer.path, quantizer.calibration, count=32)
    plain.model = quantizer.model
    plain.__dict__["factors"] = {}  # as it was before there was any smoothing
    target = target_of("portable")

    def lost(made: Quantizer, level: str) -> float:
        model = made._build(levels.plan_of(level, made.weights), target)
        return deviation(raw_scores(model, quantizer.windows, exact=True), quantizer.reference)

    for level in ("int8", "int8-static"):
        assert lost(quantizer, level) < 0.5 * lost(plain, level), level


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_factors_even_out_inputs_and_rows_whatever_they_are(seed: int) -> None:
    rng = np.random.default_rng(seed)
    peaks = (10 ** rng.uniform(-3, 3, 12)).astype(np.float32)
    weight = (rng.standard_normal((12, 5)) * 10 ** rng.uniform(-3, 3, (12, 1))).astype(np.float32)
    peaks[rng.integers(12)] = 0  # a channel that was silent
    weight[rng.integers(12)] = 0
    found = factors_of(peaks, weight)
    assert np.isfinite(found).all() and (found > 0).all() and abs(np.log(found).mean()) < 1e-3
    live = (peaks > 0) & np.abs(weight).any(1)
    products = (peaks / found)[live] / (np.abs(weight).max(1) * found)[live]
    assert np.ptp(np.log(products)) < 1e-2, "inputs and rows differ alike from channel to channel"


def test_a_weight_that_two_products_read_stays_as_it_is() -> None:
    weight = np.random.default_rng(1).standard_normal((6, 6)).astype(np.float32)
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["first"]),
        helper.make_node("MatMul", ["first", "w"], ["second"]),
        helper.make_node("ReduceMean", ["second"], ["logits"], keepdims=0),
    ]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("x", [1, 4, 6]), ("logits", []))
    ]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], [numpy_helper.from_array(weight, "w")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    assert factors(model, [Weight("w", "sequence", weight)], np.ones((2, 4, 6), np.float32)) == {}
    assert smoothed(model, {}) == model


def test_in_a_mixed_plan_only_products_in_eight_bits_are_evened_out(quantizer: Quantizer) -> None:
    names = [item.name for item in quantizer.weights if item.kind == "sequence"]
    schemes = ("int8", "int4", "int8-static", "fp16")
    plan = {name: schemes[number % 4] for number, name in enumerate(names)}
    model = quantizer._build(plan, target_of("portable"))
    assert np.corrcoef(raw_scores(model, quantizer.windows, exact=True), quantizer.reference)[0, 1] > 0.99
    only_four = quantizer._build(dict.fromkeys(names, "int4"), target_of("portable"))
    gains = [node.input[1] for node in only_four.graph.node if node.op_type == "LayerNormalization"]
    assert not any(name.endswith(".even") for name in gains), "four bits meet the channels as they were"
