"""What a user of `python -m quantization` relies on for networks with a speech encoder in the GRU's place."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edge_runtime.errors import UsageError
from edge_runtime.model.contract import Contract
from edge_runtime.model.network import Network
from edge_runtime.model.processor import ANY
from export.graph import build as export_graph
from export.rawnet2 import VARIANTS
from quantization import levels
from quantization.calibration import read
from quantization.levels import INT4, INT8, STATIC8, Weight
from quantization.passes.linear import InputRange, eight_bits, four_bits
from quantization.passes.surgery import Names
from quantization.quantizer import QuantizedModel, Quantizer, write
from quantization.rounding import fitted
from quantization.running import raw_scores, run
from quantization.schemes import BLOCK, Builder, int8_weight
from quantization.targets import target_of
from tests.conftest import random_model

ROOT = Path(__file__).parent.parent
TINY = replace(
    VARIANTS["hybrid"],
    window_samples=16000,
    kernel=65,
    filters=8,
    fc_nodes=16,
    encoder_width=48,
    encoder_heads=3,
    encoder_layers=2,
)
CORRELATIONS = {"fp16": 0.9999, "int8": 0.999, "int8-static": 0.99, "int4": 0.95, "auto": 0.99}


def float_file(path: Path, form: str = "streaming", read: bool = True) -> Path:
    """A tiny network with a speech encoder and random weights, in float."""
    model = random_model(replace(TINY, encoder_read=read), seed=3)
    contract = Contract(
        form=form,
        variant="hybrid",
        sample_rate=TINY.sample_rate,
        window_samples=TINY.window_samples,
        pool=TINY.pool,
        filters=model.filters.numpy(),
        name="tiny",
    )
    onnx.save(export_graph(model, contract), path)
    return path


@pytest.fixture(scope="module")
def quantizer(tmp_path_factory: pytest.TempPathFactory) -> Quantizer:
    return Quantizer(float_file(tmp_path_factory.mktemp("float") / "tiny.onnx"), read(None), count=48)


@pytest.fixture(scope="module")
def made(quantizer: Quantizer) -> Callable[[str, str], QuantizedModel]:
    """Gives the model of a level and a target, made once."""
    known: dict[tuple[str, str], QuantizedModel] = {}

    def make(level: str, target: str = "portable") -> QuantizedModel:
        if (level, target) not in known:
            known[level, target] = quantizer.make(level, target)
        return known[level, target]

    return make


@pytest.mark.parametrize("level", CORRELATIONS)
def test_a_level_keeps_the_scores_and_is_smaller(
    level: str, made: Callable[..., QuantizedModel], quantizer: Quantizer, tmp_path: Path
) -> None:
    item = made(level)
    onnx.checker.check_model(item.model, full_check=True)
    write(item, tmp_path / "small.onnx")
    network = Network.load(tmp_path / "small.onnx")
    logits = np.concatenate([network.logits(window[None]) for window in quantizer.windows[:8]])
    scores = logits[:, 1] - logits[:, 0]
    assert np.corrcoef(scores, quantizer.reference[:8])[0, 1] >= CORRELATIONS[level]
    assert item.comparison.correlation is not None and item.comparison.correlation >= CORRELATIONS[level]
    assert item.bytes == (tmp_path / "small.onnx").stat().st_size < quantizer.path.stat().st_size


@pytest.mark.parametrize("level", ["int8-static", "int4"])
def test_an_encoder_that_is_summed_up_as_it_is_keeps_the_scores(level: str, tmp_path: Path) -> None:
    quantizer = Quantizer(float_file(tmp_path / "tiny.onnx", read=False), read(None), count=48)
    item = quantizer.make(level, "portable")
    assert item.comparison.correlation is not None and item.comparison.correlation >= CORRELATIONS[level]


@pytest.mark.parametrize("level", ["int8", "int8-static", "int4"])
@pytest.mark.parametrize(("target", "bits"), [("portable", 7), ("arm64", 8), ("x86-avx2", 0), ("x86-vnni", 8)])
def test_a_file_says_how_its_products_are_computed_and_what_it_was_fitted_to(
    level: str, target: str, bits: int, made: Callable[..., QuantizedModel], quantizer: Quantizer, tmp_path: Path
) -> None:
    write(made(level, target), tmp_path / "small.onnx")
    contract = Network.load(tmp_path / "small.onnx", processor=ANY).contract
    assert (contract.level, contract.target, contract.int8_bits) == (level, target, bits)
    facts = contract.figures["quantization"]
    assert facts["float_sha256"] == quantizer.sha256
    assert facts["calibration"] == {"data": "built-in", "windows": len(quantizer.windows)}
    assert facts["bits"].keys() == {item.name for item in quantizer.weights}
    assert facts["compared"]["correlation"] >= CORRELATIONS[level]


def test_auto_decides_on_every_weight_and_keeps_its_margin(
    made: Callable[..., QuantizedModel], quantizer: Quantizer
) -> None:
    item = made("auto")
    for weight in quantizer.weights:
        assert f"| {weight.name} |" in item.report
    facts = item.contract.figures["quantization"]
    assert facts["margin"]["measured"] <= facts["margin"]["asked"] and {4, 8} <= set(facts["bits"].values())
    assert item.contract.int8_bits == 7


def test_a_file_of_16_bits_multiplies_floats(made: Callable[..., QuantizedModel]) -> None:
    item = made("fp16")
    assert item.contract.int8_bits == 0 and "calibration" not in item.contract.figures["quantization"]


@pytest.mark.parametrize("level", ["int8", "int8-static", "int4"])
@pytest.mark.parametrize("target", ["portable", "arm64", "x86-avx2"])
def test_every_product_over_the_sequence_has_integer_weights_in_the_range_of_its_target(
    level: str, target: str, made: Callable[..., QuantizedModel], quantizer: Quantizer
) -> None:
    chosen, graph = target_of(target), made(level, target).model.graph
    stored = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
    sequence = [item.name for item in quantizer.weights if item.kind == "sequence"]
    assert len(sequence) == 2 + 2 * 4 + 1  # the stem, two layers, the reading of them all
    for name in sequence:
        assert name not in stored  # nothing of it is left in float
        if f"{name}.int4" in stored:
            assert level == "int4"
            continue
        codes = stored[f"{name}.int8"]
        assert codes.dtype == chosen.dtype
        centred = codes.astype(int) - (128 if chosen.unsigned else 0)
        assert np.abs(centred).max() in (chosen.largest, chosen.largest - 1)
    kinds = {node.op_type for node in graph.node}
    assert ("MatMulInteger" in kinds) == (level != "int8-static")
    assert ("DequantizeLinear" in kinds) == (level == "int8-static")


def test_small_and_last_weights_of_four_bits_keep_eight(quantizer: Quantizer) -> None:
    sizes = {"a": 10_000, "b": 20_000, "few": 900, "hidden": 300, "logits": 20}
    kinds = dict.fromkeys(sizes, "sequence") | {"hidden": "dense", "logits": "dense"}
    found = [Weight(name, kinds[name], np.zeros((size, 1), np.float32)) for name, size in sizes.items()]
    plan = levels.plan_of("int4", found)
    assert plan == {"a": INT4, "b": INT4, "few": INT8, "hidden": INT8, "logits": INT8}
    assert levels.plan_of("int8-static", found)["a"] == STATIC8
    assert INT4 in levels.plan_of("int4", quantizer.weights).values()


@pytest.mark.parametrize("level", ["int8", "int8-static", "int4"])
def test_windows_of_one_batch_do_not_touch_each_other(
    level: str, made: Callable[..., QuantizedModel], quantizer: Quantizer, tmp_path: Path
) -> None:
    write(made(level), tmp_path / "small.onnx")
    network = Network.load(tmp_path / "small.onnx")
    assert network.contract.independent and network.largest_batch > 2
    usual = quantizer.windows[0]
    strange = np.zeros_like(usual)  # one loud frame in silence: its values reach further than any other window's
    strange[:, 40] = 100.0
    alone = network.logits(usual[None])[0]
    together = network.logits(np.stack([strange, usual, strange]))[1]
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-3 * quantizer.reference.std())


@pytest.mark.parametrize("level", ["int8", "int8-static", "int4"])
def test_a_file_for_other_processors_is_measured_here_with_the_integers_it_has_there(
    level: str, made: Callable[..., QuantizedModel], quantizer: Quantizer
) -> None:
    windows = quantizer.windows[:6]
    there = raw_scores(made(level, "arm64").model, windows, exact=True)
    here = raw_scores(made(level, "x86-avx2").model, windows)
    np.testing.assert_allclose(there, here, rtol=0, atol=1e-3 * quantizer.reference.std())
    assert np.abs(here - quantizer.reference[:6]).max() > 1e-5  # the same integers, not the same floats


def correlated(random: np.random.Generator, inputs: int) -> NDArray[np.float64]:
    """Second moments, float64 [I, I], of inputs that move together, as those behind a LayerNorm do."""
    samples = random.normal(0, 1, (4 * inputs, 3)) @ random.normal(0, 1, (3, inputs))
    samples += random.normal(0.3, 0.3, (4 * inputs, inputs))
    return np.asarray(samples.T @ samples / len(samples))


@given(inputs=st.integers(3, 150), outputs=st.integers(1, 9), seed=st.integers(0, 1000))
def test_rounding_with_the_inputs_in_view_costs_a_product_less_than_to_the_nearest(
    inputs: int, outputs: int, seed: int
) -> None:
    random = np.random.default_rng(seed)
    matrix = random.normal(0, 0.1, (outputs, inputs)).astype(np.float32)
    moments, step = correlated(random, inputs), 0.02

    def nearest(values: NDArray[np.float64], _: int = 0) -> NDArray[np.float64]:
        return np.asarray(np.rint(values / step) * step)

    def cost(values: NDArray[np.float64]) -> float:
        missed = matrix - values
        return float(((missed @ moments) * missed).sum())

    values = fitted(matrix, moments, nearest)
    np.testing.assert_allclose(values, nearest(values), rtol=0, atol=1e-12)  # on the grid
    assert cost(values) <= cost(nearest(matrix.astype(np.float64))) * 1.05


@pytest.mark.parametrize("rows", [40, 64, 150])
@pytest.mark.parametrize("target", ["portable", "arm64", "x86-avx2"])
def test_four_bits_become_the_whole_numbers_that_they_were_fitted_as(rows: int, target: str) -> None:
    random = np.random.default_rng(rows)
    matrix = random.normal(0, 0.1, (rows, 7)).astype(np.float32)
    matrix[:, 2] = 0  # a column of zeros, and a block of small numbers
    matrix[:BLOCK, 3] *= 1e-3
    weight = Weight("w", "sequence", matrix)
    four = four_bits([weight], {"w": InputRange(correlated(random, rows), -1.0, 1.0)}, "gptq")["w"]
    assert four.columns is not None
    whole = four.values() / four.columns
    graph = helper.make_graph(
        [],
        "product",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, rows])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [None, 7])],
    )
    make = Builder(graph, Names(graph))
    make.product4("x", four, "w", target_of(target), "logits", False)
    graph.node.extend(make.nodes)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    (found,) = run(model, np.eye(rows, dtype=np.float32))  # each row picks the weights of one input
    integers = found / four.columns
    np.testing.assert_allclose(integers, np.rint(integers), rtol=0, atol=1e-3)
    assert np.abs(integers).max() <= 64.001 and np.abs(integers - whole).max() <= 0.501
    assert not found[:, 2].any()


@pytest.mark.parametrize("largest", [64, 127])
def test_eight_bits_keep_to_their_range_and_to_scales_of_the_columns(largest: int) -> None:
    random = np.random.default_rng(largest)
    weight = Weight("w", "sequence", random.normal(0, 0.1, (90, 5)).astype(np.float32))
    eight = eight_bits([weight], {"w": InputRange(correlated(random, 90), -0.2, 3.0)}, largest)["w"]
    assert np.abs(eight.codes.astype(int)).max() <= largest and eight.inputs == (-0.2, 3.0)
    assert np.array_equal(eight.scale, int8_weight(weight.values, largest)[1])
    assert np.abs(eight.codes * eight.scale - weight.values).max() < 8 * eight.scale.max()


def test_the_form_of_waveforms_keeps_its_filter_bank(tmp_path: Path) -> None:
    quantizer = Quantizer(float_file(tmp_path / "waveform.onnx", "waveform"), read(None), count=16)
    item = quantizer.make("int8-static", "portable")
    write(item, tmp_path / "small.onnx")
    assert Network.load(tmp_path / "small.onnx").contract.form == "waveform"
    kept = [numpy_helper.to_array(node) for node in item.model.graph.initializer]
    assert any(np.array_equal(value.squeeze(), item.contract.filters) for value in kept)


@pytest.mark.parametrize("method", ["rtn", "best"])
def test_other_methods_of_four_bits_serve_too(method: str, quantizer: Quantizer) -> None:
    item = Quantizer(quantizer.path, read(None), method=method, count=24).make("int4", "portable")
    assert item.contract.figures["quantization"]["method"] == {"rtn": "rtn", "best": "gptq"}[method]
    assert item.comparison.correlation is not None and item.comparison.correlation > 0.8


@pytest.mark.parametrize("method", ["distilled", "magic"])
def test_a_method_that_is_for_a_gru_or_for_nothing_is_refused(method: str, quantizer: Quantizer) -> None:
    with pytest.raises(UsageError, match=f"{method} is no method of 4 bits for a network without a GRU"):
        Quantizer(quantizer.path, read(None), method=method, count=16).make("int4", "portable")


def test_the_same_command_gives_the_same_file(quantizer: Quantizer, tmp_path: Path) -> None:
    for name in ("one", "two"):
        write(Quantizer(quantizer.path, read(None), count=16).make("int4", "portable"), tmp_path / f"{name}.onnx")
    assert (tmp_path / "one.onnx").read_bytes() == (tmp_path / "two.onnx").read_bytes()


def test_the_program_makes_a_file_and_keeps_to_what_is_required(quantizer: Quantizer, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "quantization", str(quantizer.path), "--windows", "16", "--json"]
    command += ["--target", "x86-avx2"]
    command += ["-o", str(tmp_path / "small.onnx"), "--require", "correlation>=0.99", "--require", "size_ratio<=1"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False, timeout=120)
    assert done.returncode == 11 and "required is size_ratio <= 1" in done.stderr
    assert "correlation" not in done.stderr.split("edge-detect: ")[-1]
    assert not (tmp_path / "small.onnx").exists()
    done = subprocess.run(command[:-2], capture_output=True, text=True, cwd=ROOT, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    (told,) = json.loads(done.stdout)
    assert (told["level"], told["target"]) == ("int8", "x86-avx2") and told["compared"]["correlation"] >= 0.99
