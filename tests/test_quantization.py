"""What a user of `python -m quantization` relies on: files that run, stay near the float model, and say so."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edge_runtime.errors import ModelError
from edge_runtime.model.network import Network
from edge_runtime.model.processor import ANY
from export.checkpoint import load
from export.convert import contract_of
from export.graph import build as export_graph
from quantization import levels
from quantization.calibration import read
from quantization.passes.surgery import Names, graphs
from quantization.quantizer import QuantizedModel, Quantizer, write
from quantization.running import raw_scores, run
from quantization.schemes import Builder, FourBit
from quantization.targets import family, target_of
from tests.conftest import voice

ROOT = Path(__file__).parent.parent
CORRELATIONS = {"fp32": 1.0, "fp16": 0.9999, "int8": 0.999, "int8-static": 0.99, "int4": 0.99, "auto": 0.99}
RATIOS = {"fp32": 1.0, "fp16": 1.9, "int8": 2.8, "int8-static": 3.3, "int4": 3.5, "auto": 4.0}


@pytest.fixture(scope="module")
def quantizer(tmp_path_factory: pytest.TempPathFactory) -> Quantizer:
    """The model that we ship, in float, calibrated on the clips that come with a clone."""
    path = tmp_path_factory.mktemp("float") / "edge.onnx"
    checkpoint = load(ROOT / "training" / "edge.safetensors")
    onnx.save(export_graph(checkpoint.model, contract_of(checkpoint, "streaming")), path)
    return Quantizer(path, read(None), method="gptq")


@pytest.fixture(scope="module")
def made(quantizer: Quantizer) -> Callable[[str], QuantizedModel]:
    """Gives the portable model of a level, made once."""
    known: dict[str, QuantizedModel] = {}

    def make(level: str) -> QuantizedModel:
        if level not in known:
            known[level] = quantizer.make(level, "portable")
        return known[level]

    return make


def program(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False, timeout=300)


@pytest.mark.parametrize("level", CORRELATIONS)
def test_a_level_keeps_the_scores_and_the_promised_size(
    level: str, made: Callable[[str], QuantizedModel], quantizer: Quantizer
) -> None:
    item = made(level)
    onnx.checker.check_model(item.model, full_check=True)
    correlation = item.comparison.correlation
    assert correlation is not None and correlation >= CORRELATIONS[level] - 1e-9
    assert quantizer.path.stat().st_size / item.bytes >= RATIOS[level] - 0.02


@pytest.mark.parametrize("level", ["int8", "int8-static", "int4", "auto"])
def test_a_file_says_what_it_is_and_how_far_it_is_from_float(
    level: str, made: Callable[[str], QuantizedModel], quantizer: Quantizer, tmp_path: Path
) -> None:
    write(made(level), tmp_path / "model.onnx")
    network = Network.load(tmp_path / "model.onnx")
    contract = network.contract
    assert (contract.level, contract.target, contract.int8_bits) == (level, "portable", 7)
    assert network.largest_batch > 1  # windows share no scale
    assert (contract.scale, contract.threshold) == (quantizer.contract.scale, quantizer.contract.threshold)
    facts = contract.figures["quantization"]
    assert facts["float_sha256"] == quantizer.sha256
    assert facts["compared"]["correlation"] == pytest.approx(made(level).comparison.correlation, abs=1e-6)
    assert {**quantizer.contract.figures, "quantization": facts} == contract.figures  # with nothing lost


def test_auto_shows_the_table_it_decided_from_and_keeps_its_margin(
    made: Callable[[str], QuantizedModel], quantizer: Quantizer
) -> None:
    item = made("auto")
    for weight in quantizer.weights:
        assert f"| {weight.name} |" in item.report
    decision = next(iter(quantizer._decisions.values()))
    assert 0 < decision.measured <= decision.margin
    assert "int4" in decision.plan.values()


@pytest.mark.nightly
def test_a_margin_that_nothing_keeps_leaves_every_weight_in_16_bits_and_is_told(quantizer: Quantizer) -> None:
    notes: list[str] = []
    strict = Quantizer(quantizer.path, quantizer.calibration, method="rtn", margin=1e-7, count=16, tell=notes.append)
    assert set(strict.make("auto", "portable").contract.figures["quantization"]["bits"].values()) == {16}
    assert any("no plan keeps the margin" in line for line in notes)


@pytest.mark.parametrize("level", ["int8", "int4"])
def test_a_file_for_other_processors_is_measured_here_with_the_integers_it_has_there(
    level: str, quantizer: Quantizer
) -> None:
    """Its integers are those of the file for AVX2, in which they are stored so that they are right on any x86."""
    plan = levels.plan_of(level, quantizer.weights)
    windows = quantizer.windows[:6]
    there = raw_scores(quantizer._build(plan, target_of("arm64")), windows, exact=True)
    here = raw_scores(quantizer._build(plan, target_of("x86-avx2")), windows)
    np.testing.assert_allclose(there, here, rtol=0, atol=1e-4)
    assert np.abs(here - quantizer.reference[:6]).max() > 1e-4  # the same integers, not the same floats


def test_no_weight_is_the_value_that_arm_without_dot_product_cannot_multiply(quantizer: Quantizer) -> None:
    for level in ("int8-static", "int4"):
        model = quantizer._build(levels.plan_of(level, quantizer.weights), target_of("arm64"))
        for graph in graphs(model.graph):
            for item in graph.initializer:
                if item.data_type == TensorProto.INT8:
                    assert numpy_helper.to_array(item).min(initial=0) >= -127


@pytest.mark.parametrize("target", ["portable", "arm64", "x86-avx2", "x86-vnni"])
def test_integer_weights_keep_to_the_range_of_their_target(target: str, quantizer: Quantizer) -> None:
    chosen = target_of(target)
    model = quantizer._build(levels.plan_of("int8", quantizer.weights), chosen)
    found = 0
    for graph in graphs(model.graph):
        for item in graph.initializer:
            if item.name.endswith(".int8") and item.name.startswith("gru."):
                weights = numpy_helper.to_array(item)
                assert weights.dtype == chosen.dtype
                centred = weights.astype(int) - (128 if chosen.unsigned else 0)
                assert np.abs(centred).max() == chosen.largest
                found += 1
            elif item.name.endswith(".int8"):  # only stored so, and multiplied as floats
                assert np.abs(numpy_helper.to_array(item).astype(int)).max() == 127
                found += 1
    assert found == sum(weight.kind != "conv" for weight in quantizer.weights)


def test_a_family_has_each_file_once_and_all_targets_of_integer_levels() -> None:
    pairs = [(level, target.name) for level, target in family(tuple(CORRELATIONS))]
    assert len(pairs) == len(set(pairs)) == 2 + 4 * 5
    assert ("fp16", "portable") in pairs and ("fp16", "arm64") not in pairs


@given(
    rows=st.integers(1, 200),
    columns=st.integers(1, 9),
    zeros=st.booleans(),
    target=st.sampled_from(["portable", "x86-avx2"]),
    bounded=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_packed_codes_multiply_as_the_matrix_that_they_stand_for(
    rows: int, columns: int, zeros: bool, target: str, bounded: bool, seed: int
) -> None:
    random = np.random.default_rng(seed)
    blocks = -(-rows // 64)
    weight = FourBit(
        random.integers(0, 16, (rows, columns), dtype=np.uint8),
        random.normal(0, 0.1, (blocks, columns)).astype(np.float32),
        random.integers(0, 16, (blocks, columns), dtype=np.uint8) if zeros else None,
    )
    graph = helper.make_graph(
        [],
        "product",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, rows])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [None, columns])],
    )
    make = Builder(graph, Names(graph))
    make.product4("x", weight, "w", target_of(target), "logits", bounded)
    graph.node.extend(make.nodes)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    x = random.normal(0, 1, (3, rows)).astype(np.float32)
    x[1] *= 1000  # a row has its own scale
    x[2] = 0
    if bounded:
        x = np.tanh(x)
    (found,) = run(model, x)
    values = weight.values()
    for line, row in zip(x, found, strict=True):
        # Half a step of each activation and of each weight.
        step = (1 if bounded else np.abs(line).max()) / 127
        bound = step * np.abs(values).sum(0) + np.abs(line).sum() * np.abs(values).max(0) / 64
        assert (np.abs(row - line @ values) <= bound + 1e-5 * np.abs(line).max()).all()


@pytest.mark.parametrize("form", ["streaming", "waveform"])
def test_both_forms_can_be_quantized_and_the_filter_bank_stays_as_it_is(
    form: str, exported: Callable[[str], Path], tmp_path: Path
) -> None:
    item = Quantizer(exported(form), read(None), count=24).make("int8-static", "portable")
    write(item, tmp_path / "small.onnx")
    assert Network.load(tmp_path / "small.onnx").contract.form == form
    if form == "waveform":
        kept = {node.name: numpy_helper.to_array(node) for node in item.model.graph.initializer}
        assert any(np.array_equal(value.squeeze(), item.contract.filters) for value in kept.values())


def test_what_is_quantized_already_is_refused(made: Callable[[str], QuantizedModel], tmp_path: Path) -> None:
    write(made("int8"), tmp_path / "small.onnx")
    with pytest.raises(ModelError, match=r"quantized already \(level int8\): give the float file"):
        Quantizer(tmp_path / "small.onnx", read(None))


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of labelled clips to evaluate on; the labels are made up, but both are there."""
    folder = tmp_path_factory.mktemp("clips")
    for number in range(6):
        place = folder / ("bonafide" if number % 2 else "spoof") / f"{number}.wav"
        place.parent.mkdir(exist_ok=True)
        soundfile.write(place, voice(3 + number, seed=number), 16000)
    return folder


def test_the_program_proves_what_it_writes_and_the_runtime_scores_with_it(
    quantizer: Quantizer, clips: Path, tmp_path: Path
) -> None:
    out = tmp_path / "small.onnx"
    required = ("--require", "correlation >= 0.999", "--json")
    done = program("quantization", quantizer.path, "--evaluate", clips, "-o", out, *required)
    assert done.returncode == 0, done.stderr
    (told,) = json.loads(done.stdout)
    assert told["compared"]["clips"] == 6 and told["compared"]["eer_delta_upper_points"] is not None
    assert Network.load(out).contract.figures["quantization"]["compared"] == told["compared"]
    heard = program("edge_runtime", "--model", out, "--file", ROOT / "examples" / "human.flac", "--json")
    summary = json.loads(heard.stdout.splitlines()[-1])
    assert heard.returncode == 0 and summary["verdict"] == "bonafide"


def test_a_requirement_that_is_not_met_leaves_the_old_file_and_says_why(
    quantizer: Quantizer, clips: Path, tmp_path: Path
) -> None:
    out = tmp_path / "small.onnx"
    out.write_bytes(b"what was there before")
    done = program("quantization", quantizer.path, "--evaluate", clips, "-o", out, "--require", "size_ratio>=9")
    assert done.returncode == 11
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("edge-detect: ")]
    assert "size_ratio is 2.8" in line and "required is size_ratio >= 9" in line
    assert out.read_bytes() == b"what was there before"


def test_a_family_is_named_after_model_level_and_target(exported: Callable[[str], Path], tmp_path: Path) -> None:
    done = program("quantization", exported("streaming"), "--all", "--level", "int8", "-o", tmp_path / "family")
    assert done.returncode == 0, done.stderr
    names = {"portable", "arm64", "arm64-dotprod", "x86-avx2", "x86-vnni"}
    assert {path.name for path in (tmp_path / "family").iterdir()} == {f"tiny-int8-{name}.onnx" for name in names}
    for name in names:
        path = tmp_path / "family" / f"tiny-int8-{name}.onnx"
        assert Network.load(path, processor=ANY).contract.target == name


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["missing.onnx", "-o", "out.onnx"], 4, "no such model file: missing.onnx"),
        (["{float}", "-o", "{folder}/none/out.onnx"], 5, "cannot write"),
        (["{float}", "-o", "{folder}"], 5, "it is a folder (--all fills one)"),
        (["{float}", "-o", "/dev/full"], 5, "it is a device, a pipe or a socket, not a file"),
        (["{float}", "-o", "{float}"], 2, "would be overwritten by what is made from it"),
        (["{float}", "-o", "out.onnx", "--require", "beauty>1"], 2, "requires beauty, which is not measured"),
        (["{float}", "-o", "out.onnx", "--require", "eer_delta<=1"], 2, "needs labelled clips"),
        (["{float}", "-o", "out.onnx", "--calibration", "{folder}"], 3, "holds no audio file"),
        (["{float}", "-o", "out.onnx", "--calibration", "{clips}", "--evaluate", "{clips}"], 2, "6 of 6 clips"),
        (["{float}", "-o", "out.onnx", "--level", "int4", "--method", "magic"], 2, "there is no method magic"),
    ],
)
def test_a_mistake_costs_one_line_and_its_exit_code(
    arguments: list[str], code: int, message: str, quantizer: Quantizer, clips: Path, tmp_path: Path
) -> None:
    places = {"float": str(quantizer.path), "folder": str(tmp_path), "clips": str(clips)}
    done = program("quantization", *(item.format(**places) for item in arguments))
    lines = [line for line in done.stderr.splitlines() if line.startswith("edge-detect: ")]
    assert (done.returncode, len(lines)) == (code, 1), done.stderr
    assert message in lines[0] and "Traceback" not in done.stderr
    assert not (ROOT / "out.onnx").exists()


def test_a_damaged_model_is_refused(quantizer: Quantizer, tmp_path: Path) -> None:
    shutil.copyfile(quantizer.path, tmp_path / "cut.onnx")
    with (tmp_path / "cut.onnx").open("r+b") as file:
        file.truncate(100_000)
    done = program("quantization", tmp_path / "cut.onnx", "-o", tmp_path / "out.onnx")
    assert done.returncode == 4 and "Traceback" not in done.stderr


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_no_numbers_are_the_models_fault(value: float, quantizer: Quantizer, tmp_path: Path) -> None:
    model = onnx.ModelProto()
    model.CopyFrom(quantizer.model)
    for item in model.graph.initializer:
        if item.name == "head.weight":
            spoiled = numpy_helper.to_array(item).copy()
            spoiled[0, 0] = value
            item.CopyFrom(numpy_helper.from_array(spoiled, item.name))
    onnx.save(model, tmp_path / "spoiled.onnx")
    with pytest.raises(ModelError, match=r"the weights head\.weight hold values that are not numbers"):
        Quantizer(tmp_path / "spoiled.onnx", read(None))


def test_a_family_stays_in_its_folder_whatever_the_model_calls_itself(
    exported: Callable[[str], Path], tmp_path: Path
) -> None:
    model = onnx.load(exported("streaming"))
    next(item for item in model.metadata_props if item.key == "edge_detect.name").value = "../../escaped"
    onnx.save(model, tmp_path / "odd.onnx")
    done = program("quantization", tmp_path / "odd.onnx", "--all", "--level", "fp16", "-o", tmp_path / "family")
    assert done.returncode == 0, done.stderr
    assert [path.name for path in (tmp_path / "family").iterdir()] == ["escaped-fp16-portable.onnx"]


def test_clips_that_no_model_can_score_are_told_and_counted(quantizer: Quantizer, clips: Path, tmp_path: Path) -> None:
    folder = tmp_path / "clips"
    shutil.copytree(clips, folder)
    (folder / "spoof" / "junk.wav").write_bytes(b"no sound")
    done = program("quantization", quantizer.path, "--evaluate", folder, "-o", tmp_path / "small.onnx", "--json")
    assert done.returncode == 0 and "note: no score: " in done.stderr and "junk.wav" in done.stderr
    assert json.loads(done.stdout)[0]["unscored"] == 1


def facts(path: Path) -> dict[str, Any]:
    """What a file's metadata say of its quantization."""
    found: dict[str, Any] = Network.load(path, processor=ANY).contract.figures["quantization"]
    return found


@pytest.mark.nightly
def test_the_same_command_gives_the_same_file(quantizer: Quantizer, tmp_path: Path) -> None:
    for name in ("one", "two"):
        again = Quantizer(quantizer.path, read(None), method="gptq", count=20)
        write(again.make("int4", "portable"), tmp_path / f"{name}.onnx")
    assert facts(tmp_path / "one.onnx") == facts(tmp_path / "two.onnx")
    assert (tmp_path / "one.onnx").read_bytes() == (tmp_path / "two.onnx").read_bytes()


@pytest.mark.parametrize("level", ["fp16", "int8", "int8-static", "int4"])
def test_why_a_weight_is_left_in_float_is_answered(
    level: str, made: Callable[[str], QuantizedModel], quantizer: Quantizer
) -> None:
    lines = made(level).explained.splitlines()[2:]
    assert [line.split(" | ")[0].removeprefix("| ") for line in lines] == [item.name for item in quantizer.weights]
    for line in lines:
        *_, product, why = line.strip("| ").split(" | ")
        assert product in ("float", "int8") and len(why) > 10
    convolutions = [line for line in lines if "| convolution |" in line]
    assert all(("| int8 |" in line) == (level == "int8-static") for line in convolutions)
