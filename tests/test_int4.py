"""4 bits: what the blocks stand for, and that each better way is better than the one before."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from edge_runtime.errors import ModelError, UsageError
from quantization.int4 import Floats, GruLayer, Head, logits, states
from quantization.int4.blocks import BLOCKS, METHODS, Quantized
from quantization.int4.distill import DistillationSettings, dequantized, distill, score_error
from quantization.int4.gptq import errors, gptq, moments
from quantization.int4.reading import read_stack
from quantization.int4.stack import METHODS as STACK_METHODS
from quantization.int4.stack import quantize_stack
from tests.conftest import voice

ROOT = Path(__file__).parent.parent


def random_matrix(rows: int, columns: int, seed: int) -> Floats:
    return np.random.default_rng(seed).normal(0, 0.1, (rows, columns)).astype(np.float32)


def correlated(count: int, size: int, seed: int) -> Floats:
    """Inputs of a few directions and a mean, as activations are."""
    generator = np.random.default_rng(seed)
    mixed = generator.normal(size=(count, size // 3 + 1)) @ generator.normal(size=(size // 3 + 1, size))
    return np.asarray(mixed + 0.3 * generator.normal(size=(count, size)) + 0.5, np.float32)


def random_stack(seed: int = 0, inputs: int = 20, hidden: int = 32, depth: int = 2) -> tuple[list[GruLayer], Head]:
    generator = np.random.default_rng(seed)

    def draw(*shape: int) -> Floats:
        return generator.normal(0, 1 / np.sqrt(shape[-1]), shape).astype(np.float32)

    sizes = [inputs, *[hidden] * depth]
    layers = [GruLayer(draw(3 * hidden, size), draw(3 * hidden, hidden), *draw(2, 3 * hidden)) for size in sizes[:-1]]
    return layers, Head(draw(2, hidden) * 3, draw(2))


def sequences(count: int, seed: int = 0, steps: int = 10, size: int = 20) -> Floats:
    return correlated(count * steps, size, seed).reshape(count, steps, size)


@given(
    rows=st.integers(1, 20),
    columns=st.integers(1, 150),
    block=st.sampled_from(BLOCKS),
    symmetric=st.booleans(),
    method=st.sampled_from(sorted(METHODS)),
    shape=st.sampled_from(["normal", "zeros", "positive", "outlier", "tiny", "constant"]),
)
def test_any_matrix_is_rounded_within_its_range(
    rows: int, columns: int, block: int, symmetric: bool, method: str, shape: str
) -> None:
    matrix = random_matrix(rows, columns, columns)
    if shape == "zeros":
        matrix[:] = 0
    elif shape == "positive":
        matrix = np.abs(matrix) + 1
    elif shape == "outlier":
        matrix[0, 0] = 100
    elif shape == "tiny":
        matrix *= np.float32(1e-9)
    elif shape == "constant":
        matrix[:] = -0.25
    quantized = METHODS[method](matrix, block, symmetric, None)
    found = quantized.dequantized()
    assert quantized.codes.max() <= 15 and np.isfinite(found).all() and found.shape == matrix.shape
    # No way of rounding may be worse than to write zeros.
    assert np.square(found - matrix).sum() <= np.square(matrix).sum() * (1 + 1e-6)
    if shape == "zeros":
        assert not found.any()


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("block", [32, 64, 128])
def test_each_method_beats_rounding_to_nearest_at_what_it_is_for(block: int, symmetric: bool) -> None:
    matrix, inputs = random_matrix(96, 150, 1), correlated(2000, 150, 2)
    seen = moments(inputs)
    importance = np.diag(seen).astype(np.float32)

    def weighted(quantized: Quantized) -> float:
        return float((np.square(matrix - quantized.dequantized()) * importance).sum())

    def product(quantized: Quantized) -> float:
        return float(errors(matrix, quantized, seen).sum())

    found = {name: method(matrix, block, symmetric, importance) for name, method in METHODS.items()}
    found["gptq"] = gptq(matrix, seen, block, symmetric)
    print({name: (weighted(item), product(item)) for name, item in found.items()})
    assert weighted(found["clipped"]) < weighted(found["rtn"])
    assert weighted(found["kquant"]) < weighted(found["clipped"])
    absolute = {name: np.abs(matrix - item.dequantized()).mean() for name, item in found.items()}
    assert absolute["hqq"] < absolute["rtn"]
    assert product(found["gptq"]) < 0.5 * min(product(found[name]) for name in METHODS)


@given(columns=st.integers(1, 90), count=st.integers(1, 60), order=st.booleans(), seed=st.integers(0, 50))
def test_gptq_is_never_worse_than_its_start(columns: int, count: int, order: bool, seed: int) -> None:
    # With fewer samples than inputs the second moments are singular; an input that is always 0 has no power at all.
    matrix, inputs = random_matrix(12, columns, seed), correlated(count, columns, seed)
    inputs[:, :: columns // 2 + 1] = 0
    seen = moments(inputs)
    damped = seen + 0.01 * np.diag(seen).mean() * np.eye(columns)
    start = METHODS["kquant"](matrix, 32, True, np.diag(damped).astype(np.float32))
    found = errors(matrix, gptq(matrix, seen, 32, order=order), damped).sum()
    assert np.isfinite(found) and found <= errors(matrix, start, damped).sum() * 1.001 + 1e-12


def test_the_float_stack_is_what_onnx_runtime_computes(exported: Callable[[str], Path], tmp_path: Path) -> None:
    model = onnx.load(str(exported("streaming")))
    layers, head = read_stack(model)
    entry = next(node.input[0] for node in model.graph.node if node.op_type == "GRU")
    model.graph.output.append(helper.make_tensor_value_info(entry, TensorProto.FLOAT, None))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    features = np.abs(np.random.default_rng(0).normal(size=(3, 6, 1000))).astype(np.float32)
    wanted, entering = session.run(["logits", entry], {"features": features})
    assert len(layers) == 2
    np.testing.assert_allclose(logits(layers, head, entering.transpose(1, 0, 2)), wanted, atol=1e-5)


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.nightly
def test_the_better_the_method_the_nearer_the_scores(symmetric: bool) -> None:
    layers, head = random_stack()
    inputs, unseen = np.split(sequences(180), [120])
    wanted = logits(layers, head, unseen)
    found = {}
    for method in STACK_METHODS:
        stack = quantize_stack(layers, head, inputs, method, 32, symmetric, settings=DistillationSettings(steps=60))
        found[method] = score_error(logits(stack.layers, stack.head, unseen), wanted)
        # The layers given are those of the codes given: what is written to the file is what was measured.
        for layer, (of_inputs, of_state) in zip(stack.layers, stack.quantized, strict=True):
            assert np.array_equal(layer.W, of_inputs.dequantized()) and np.array_equal(layer.R, of_state.dequantized())
            assert (of_inputs.zero_points is None) == symmetric
        assert stack.method != "best"
    print(found)
    assert found["gptq"] < 0.7 * found["rtn"]
    assert found["best"] <= min(found["gptq"], found["kquant"]) * 1.1


@pytest.mark.nightly
def test_distillation_repairs_a_bad_start_and_repeats_itself() -> None:
    layers, head = random_stack(3)
    inputs, held_out = np.split(sequences(200), [160])
    start = [(METHODS["rtn"](layer.W, 64, True, None), METHODS["rtn"](layer.R, 64, True, None)) for layer in layers]
    settings = DistillationSettings(steps=80, speeds=(10.0,))
    first, second = (distill(layers, head, inputs, start, held_out, settings) for _ in range(2))
    wanted = logits(layers, head, held_out)
    assert first.error_before == score_error(logits(dequantized(layers, start), head, held_out), wanted)
    assert first.error_after == score_error(logits(first.layers, first.head, held_out), wanted)
    assert first.error_after < 0.9 * first.error_before
    assert first.error_after == second.error_after
    assert np.array_equal(first.quantized[1][1].codes, second.quantized[1][1].codes)


@given(rate=st.sampled_from([1e-4, 1e-1, 10.0]), share=st.sampled_from([0.0, 1.0]), seed=st.integers(0, 3))
def test_distillation_never_gives_less_than_it_was_given(rate: float, share: float, seed: int) -> None:
    layers, head = random_stack(seed, 6, 8, 1)
    inputs, held_out = sequences(12, seed, 4, 6), sequences(6, seed + 9, 4, 6)
    start = [(gptq(layer.W, moments(inputs), 16), METHODS["rtn"](layer.R, 16, True, None)) for layer in layers]
    settings = DistillationSettings(
        steps=6, every=2, speeds=(1.0,), rate_codes=rate, rate_scales=rate, rate_biases=rate, state_share=share
    )
    found = distill(layers, head, inputs, start, held_out, settings)
    assert found.error_after <= found.error_before
    assert score_error(logits(found.layers, found.head, held_out), logits(layers, head, held_out)) == found.error_after
    if not found.steps:
        assert np.array_equal(found.layers[0].W, start[0][0].dequantized())
        assert np.array_equal(found.head.weight, head.weight) and np.array_equal(found.layers[0].Wb, layers[0].Wb)


def test_what_cannot_be_rounded_is_refused_with_a_reason() -> None:
    layers, head = random_stack()
    inputs = sequences(20)
    with pytest.raises(UsageError, match=r"unknown method 'awq'.*gptq"):
        quantize_stack(layers, head, inputs, "awq")
    with pytest.raises(UsageError, match="block of 48"):
        quantize_stack(layers, head, inputs, "rtn", 48)
    with pytest.raises(UsageError, match="more windows"):
        quantize_stack(layers, head, inputs[:3], "gptq")
    inputs[0, 0, 0] = np.nan
    with pytest.raises(ModelError, match="not finite"):
        quantize_stack(layers, head, inputs, "gptq")
    assert np.isfinite(states(layers[0], sequences(2) * 1e6)).all()


def test_the_command_prints_a_table_and_refuses_the_test_set(exported: Callable[[str], Path], tmp_path: Path) -> None:
    for folder in ("data", "test"):
        for label in ("bonafide", "spoof"):
            (tmp_path / folder / label).mkdir(parents=True)
            for index in range(9 if folder == "data" else 2):
                sound = voice(1.2, seed=index + 20 * (label == "spoof") + 50 * (folder == "test"))
                soundfile.write(tmp_path / folder / label / f"{index}.wav", sound, 16000)

    def run(test: str) -> subprocess.CompletedProcess[str]:
        options = ["--data", str(tmp_path / "data"), "--evaluate", str(tmp_path / test), "--windows", "12"]
        options += ["--held-out", "6", "--block", "64", "--method", "rtn", "gptq"]
        return subprocess.run(
            [sys.executable, "-m", "quantization.int4.compare", str(exported("streaming")), *options],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
        )

    good = run("test")
    assert good.returncode == 0, good.stderr
    assert "12 windows to fit to, 6 of other clips held out" in good.stdout
    lines = [line for line in good.stdout.splitlines() if line.startswith("| 64 ")]
    assert len(lines) == 2 and sum("**" in line for line in lines) == 1
    bad = run("data")
    assert bad.returncode == 2 and not bad.stdout and bad.stderr.count("\n") == 1
    assert "calibrate on other clips" in bad.stderr
