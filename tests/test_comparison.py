"""Comparing two models: the figures by their definitions, the interval by its coverage, the command as a whole."""

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
import soundfile
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnxruntime.quantization import QuantType, quantize_dynamic

from benchmarks.accuracy import Judged
from benchmarks.comparison import Comparison, compare, compare_scores, comparison_table, describe
from benchmarks.metrics import eer, eer_clustered
from benchmarks.protocols import Clip
from benchmarks.speed import relative_speed
from edge_runtime.decision.verdict import Thresholds, Verdict, decide
from edge_runtime.errors import InputError, UsageError
from edge_runtime.model.contract import Contract
from edge_runtime.model.processor import judge_target, this_processor
from tests.conftest import voice

ROOT = Path(__file__).parent.parent
SCORE = st.floats(-30, 30, allow_nan=False)
PAIRED = st.lists(st.tuples(SCORE, SCORE, st.booleans(), st.sampled_from("abcdefgh")), min_size=1, max_size=40)


def judged(scores: NDArray[np.float64], labels: NDArray[np.bool_], sources: list[str]) -> list[Judged]:
    """Clips 0, 1, ... with these scores, and the verdicts that thresholds of -1 and 1 give."""
    return [
        Judged(Clip(Path(f"{n}.wav"), "bonafide" if label else "spoof", source=source), score, decide(score, LIMITS))
        for n, (score, label, source) in enumerate(zip(scores.tolist(), labels, sources, strict=True))
    ]


LIMITS = Thresholds(-1.0, 1.0)


def population(
    rng: np.random.Generator, clips: int, sources: int, noise: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_], list[str]]:
    """Scores of a float model, the same with noise added, labels and sources; sources shift both models alike."""
    labels = rng.random(clips) < 0.5
    member = rng.integers(0, sources, clips)
    first = np.where(labels, 1.0, -1.0) + rng.standard_normal(clips) + rng.normal(0, 0.5, sources)[member]
    return first, first + noise * rng.standard_normal(clips), labels, [f"s{n}" for n in member]


@given(PAIRED)
def test_a_model_compared_with_itself_differs_in_nothing(pairs: list[tuple[float, float, bool, str]]) -> None:
    score, _, label, source = zip(*pairs, strict=True)
    clips = judged(np.array(score), np.array(label), list(source))
    result = compare(clips, clips, rounds=20)
    assert (result.clips, result.unmatched) == (len(clips), 0)
    assert result.largest_difference == result.flipped == result.flipped_hard == 0
    assert result.correlation is None if len(set(score)) == 1 else result.correlation == pytest.approx(1)
    bounds = (result.eer_delta_low_points, result.eer_delta_points, result.eer_delta_upper_points)
    assert bounds == ((0, 0, 0) if len(set(label)) == 2 else (None, None, None))


@given(PAIRED)
def test_exchanging_the_models_turns_every_difference_round(pairs: list[tuple[float, float, bool, str]]) -> None:
    first, second, label, source = (list(column) for column in zip(*pairs, strict=True))
    there = compare_scores(first, second, label, source, rounds=20)
    back = compare_scores(second, first, label, source, rounds=20)
    assert there.correlation == (None if back.correlation is None else pytest.approx(back.correlation))
    assert there.largest_difference == back.largest_difference == np.abs(np.subtract(first, second)).max()
    assert (there.eer_reference, there.eer_other) == (back.eer_other, back.eer_reference)
    if there.eer_delta_points is None or there.eer_delta_low_points is None or there.eer_delta_high_points is None:
        assert back.eer_delta_low_points is None
    else:
        assert back.eer_delta_points == pytest.approx(-there.eer_delta_points)
        assert back.eer_delta_low_points == pytest.approx(-there.eer_delta_high_points)
        assert back.eer_delta_high_points == pytest.approx(-there.eer_delta_low_points)


@given(PAIRED, st.floats(0.1, 10), st.floats(-5, 5))
def test_another_scale_and_offset_leave_correlation_and_eer(
    pairs: list[tuple[float, float, bool, str]], scale: float, offset: float
) -> None:
    scores = np.round([pair[0] for pair in pairs], 2)
    labels = [pair[2] for pair in pairs]
    assume(len(set(scores.tolist())) > 1)
    result = compare_scores(scores, scale * scores + offset, labels, [pair[3] for pair in pairs], rounds=5)
    assert result.correlation == pytest.approx(1)
    assert result.eer_delta_points in (None, 0)


@given(PAIRED)
def test_figures_are_by_their_definitions(pairs: list[tuple[float, float, bool, str]]) -> None:
    first, second, label = (np.array([pair[n] for pair in pairs]) for n in range(3))
    source = [pair[3] for pair in pairs]
    before, after = judged(first, label, source), judged(second, label, source)
    result = compare(before, after[::-1], rounds=5)  # the order of clips does not matter
    verdicts = [(a.verdict, b.verdict) for a, b in zip(before, after, strict=True)]
    hard = [{Verdict.BONAFIDE, Verdict.SPOOF} == set(pair) for pair in verdicts]
    assert result.flipped == pytest.approx(np.mean([a != b for a, b in verdicts]))
    assert result.flipped_hard == pytest.approx(np.mean(hard))
    if label.any() and not label.all():
        rates = [eer(side[label], side[~label])[0] for side in (first, second)]
        assert (result.eer_reference, result.eer_other) == tuple(rates)
        assert result.eer_delta_points == pytest.approx(100 * (rates[1] - rates[0]))
    if result.correlation is not None and min(np.std(first), np.std(second)) > 1e-3:
        assert result.correlation == pytest.approx(np.corrcoef(first, second)[0, 1], abs=1e-6)
    again = json.loads(json.dumps(result.as_figures(), allow_nan=False))
    assert again.keys() == Comparison.__dataclass_fields__.keys()


def test_only_clips_that_both_scored_count_and_the_others_are_told() -> None:
    rng = np.random.default_rng(1)
    first, second, labels, sources = population(rng, 60, 6, 0.3)
    before, after = judged(first, labels, sources), judged(second, labels, sources)
    result = compare(before[:50], after[10:])
    assert replace(result, unmatched=0) == compare(before[10:50], after[10:50])
    assert (result.clips, result.unmatched) == (40, 20)
    with pytest.raises(InputError, match="no clip"):
        compare(before[:10], after[10:])


def test_one_label_or_scores_all_alike_leave_out_what_cannot_be_said() -> None:
    rng = np.random.default_rng(2)
    first, _, labels, sources = population(rng, 30, 6, 0.3)
    human = compare(judged(first, labels | True, sources), judged(first + 0.1, labels | True, sources))
    assert human.eer_reference is None and human.eer_delta_points is None and human.eer_delta_upper_points is None
    assert human.over is None
    assert human.correlation == pytest.approx(1) and human.largest_difference == pytest.approx(0.1)
    dead = compare(judged(first, labels, sources), judged(0 * first, labels, sources))
    assert dead.correlation is None
    assert dead.eer_other == pytest.approx(0.5, abs=0.5) and dead.eer_delta_upper_points is not None
    assert compare_scores([1.0, 2.0], [1.0, 2.5]).flipped is None
    with pytest.raises(ValueError, match="finite"):
        compare_scores([1.0, np.nan], [1.0, 2.0])
    with pytest.raises(ValueError, match="needed"):
        compare_scores([1.0, 2.0], [1.0])


def test_paired_interval_of_models_much_alike_is_narrower_than_that_of_either_eer() -> None:
    first, second, labels, sources = population(np.random.default_rng(3), 600, 20, 0.05)
    result = compare_scores(first, second, labels, sources, rounds=300)
    alone = eer_clustered(second, labels, sources, rounds=300)
    assert result.eer_delta_low_points is not None and result.eer_delta_high_points is not None
    assert result.over == "sources"
    paired = result.eer_delta_high_points - result.eer_delta_low_points
    assert paired < 0.5 * 100 * (alone.high - alone.low)


@pytest.mark.parametrize(("sources", "over"), [(20, "sources"), (2, "clips")])
def test_the_upper_bound_covers_the_true_rise_about_as_often_as_it_says(sources: int, over: str) -> None:
    noise = 0.8
    first, second, labels, names = population(np.random.default_rng(4), 200_000, 2000, noise)
    truth = compare_scores(first, second, labels, names, rounds=0).eer_delta_points
    assert truth is not None and truth > 1
    covered, trials = 0, 60
    for trial in range(trials):
        first, second, labels, names = population(np.random.default_rng(100 + trial), 200, sources, noise)
        result = compare_scores(first, second, labels, names, rounds=150)
        assert result.eer_delta_upper_points is not None and result.over == over
        covered += result.eer_delta_upper_points >= truth
    # Of 60 trials at 95 %, 50 or fewer happen once in a thousand times; the bootstrap is a little short of 95 %.
    assert covered >= 50, f"{covered} of {trials} bounds cover a rise of {truth:.2f} points"


def test_the_same_clips_give_the_same_figures() -> None:
    first, second, labels, sources = population(np.random.default_rng(5), 100, 8, 0.5)
    assert compare_scores(first, second, labels, sources) == compare_scores(first, second, labels, sources)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four short clips of each label, of four groups."""
    folder = tmp_path_factory.mktemp("clips")
    for n in range(8):
        group = folder / ("bonafide" if n % 2 else "spoof") / f"group{n // 2}"
        group.mkdir(parents=True)
        soundfile.write(group / f"{n}.wav", voice(1.4, n), 16000)
    return folder


@pytest.fixture(scope="module")
def stock(exported: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model, quantized by ONNX Runtime's own tool, which leaves our metadata as they were."""
    file = tmp_path_factory.mktemp("stock") / "stock-dynamic.onnx"
    quantize_dynamic(str(exported("streaming")), str(file), weight_type=QuantType.QUInt8)
    return file


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_command_compares_files_of_any_tool_with_the_float_one(
    exported: Callable[[str], Path], stock: Path, clips: Path, tmp_path: Path
) -> None:
    float_model, waveform = exported("streaming"), exported("waveform")
    report = tmp_path / "table.md"
    done = run("compare", float_model, waveform, stock, "--data", clips, "--rounds", "2", "-o", report)
    assert done.returncode == 0, done.stderr
    lines = [line for line in report.read_text().splitlines() if line.startswith("|")]
    assert len(lines) == 5 and len({line.count("|") for line in lines}) == 1, lines
    assert all(word not in report.read_text() for word in ("nan", "None"))
    assert "stock-dynamic | stock-dynamic | portable" in lines[4], "its metadata say fp32, its graph does not"

    done = run("compare", float_model, waveform, stock, "--data", clips, "--no-speed", "--json")
    reference, same, quantized = json.loads(done.stdout)
    assert reference["comparison"] is None and reference["size_ratio"] == 1 and reference["speed"] is None
    assert same["comparison"]["largest_difference"] < 1e-3 < quantized["comparison"]["largest_difference"]
    assert same["comparison"]["eer_delta_points"] == 0 and same["comparison"]["clips"] == 8
    assert quantized["size_bytes"] == stock.stat().st_size


def test_command_refuses_in_one_line(exported: Callable[[str], Path], clips: Path, tmp_path: Path) -> None:
    float_model = exported("streaming")
    cases: list[tuple[int, list[str | Path]]] = [
        (4, [float_model, tmp_path / "absent.onnx", "--data", clips]),
        (3, [float_model, float_model, "--data", tmp_path / "absent"]),
        (2, [float_model, float_model, "--data", clips, "--rounds", "0"]),
        (5, [float_model, float_model, "--data", clips, "--no-speed", "-o", tmp_path / "absent" / "table.md"]),
    ]
    for code, arguments in cases:
        done = run("compare", *arguments)
        errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        assert (done.returncode, len(errors)) == (code, 1), done.stderr
        assert "Traceback" not in done.stderr


def test_command_measures_a_file_for_other_processors_but_not_its_speed(
    exported: Callable[[str], Path], clips: Path, tmp_path: Path
) -> None:
    float_model, file = exported("streaming"), tmp_path / "tiny-int8-x86-vnni.onnx"
    model = onnx.load(str(float_model))
    contract = Contract.from_metadata({entry.key: entry.value for entry in model.metadata_props})
    contract = replace(contract, level="int8", target="x86-vnni", int8_bits=8)
    onnx.helper.set_model_props(model, contract.to_metadata())
    onnx.save(model, str(file))
    refusal, _ = judge_target(contract, this_processor())
    done = run("compare", float_model, file, "--data", clips, "--rounds", "1", "--json")
    row = json.loads(done.stdout)[1]
    assert (row["level"], row["target"]) == ("int8", "x86-vnni")
    assert row["comparison"]["largest_difference"] == 0, "it is the float graph under another name"
    assert (row["speed"] is None) == (refusal is not None) == ("exact sums" in done.stderr)
    done = run("compare", file, float_model, "--data", clips, "--no-speed")
    assert done.returncode == (4 if refusal else 0), done.stderr


def test_speed_is_relative_to_the_first_file(exported: Callable[[str], Path], stock: Path) -> None:
    first, *others = relative_speed([exported("streaming"), exported("waveform"), stock], rounds=5)
    assert first.ratio == first.ratio_low == first.ratio_high == 1
    for speed in (first, *others):
        assert speed.latency_ms > 0 and 0 < speed.ratio_low <= speed.ratio <= speed.ratio_high
        assert speed.memory_mb is None or speed.memory_mb > 0
    with pytest.raises(UsageError):
        relative_speed([])


def test_table_says_what_a_figure_lacks(exported: Callable[[str], Path]) -> None:
    file = exported("streaming")
    contract = replace(CONTRACT, level="int8", target="arm64")
    alike = compare_scores([1.0, 2.0], [3.0, 3.0])
    close = compare_scores([1.0, 2.0, 3.0], [1.0, 2.0, 3.002], [True, False, True], unmatched=2)
    rows = [describe(file, file, contract, item) for item in (alike, close)]
    table = comparison_table([*rows, describe(file, file, contract, None, refusal="made for a Pi")])
    for words in (
        "has no figures: made for a Pi",
        "int8",
        "arm64",
        "undefined",
        "not measured",
        "needs both labels",
        "2 clips have a score from one",
    ):
        assert words in table, table
    assert "1.00000" not in table, "a correlation short of 1 must not read as 1"


CONTRACT = Contract("streaming", "edge", 16000, 16000, 9, np.ones((6, 65), np.float32))
