"""The benchmark of streaming: what it counts, that it compares like with like, and the command as a whole.

No time is asserted: only what holds on any machine.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from benchmarks.__main__ import main
from benchmarks.machine.record import BUSY_LOAD, record
from benchmarks.timing.baseline import Baseline
from benchmarks.timing.interleaved import InterleavedTimes, Spread, interleave
from benchmarks.timing.operations import Recurrence, Work, work
from benchmarks.timing.pipelines import Loop, OurPipeline, open_all, open_pipeline
from benchmarks.timing.roofline import CoreLimits, Reading, Roofline, bound, cache_bytes
from benchmarks.timing.session_options import CHANGES, session_options
from benchmarks.timing.soak import soak
from benchmarks.timing.stages import first_block_frames
from benchmarks.timing.subgraph import part, read, recurrent_input
from edge_runtime import Detector
from edge_runtime.errors import ModelError, UsageError
from edge_runtime.model.inputs import Inputs
from edge_runtime.model.network import Network
from export.rawnet2 import Config
from quantization.calibration import read as read_calibration
from quantization.quantizer import Quantizer, write
from tests.conftest import TINY, TINY_PUBLIC, voice

ROOT = Path(__file__).parent.parent
HOP_SECONDS = 0.25


@pytest.fixture(scope="module")
def int8(exported: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model in int8."""
    path = tmp_path_factory.mktemp("int8") / "tiny-int8.onnx"
    write(Quantizer(exported("streaming"), read_calibration(None), count=4).make("int8", "portable"), path)
    return path


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def multiply_adds(config: Config, frames: int) -> tuple[int, int]:
    """Of a RawNet2 on so many frames, worked out from its description: of the first block, and of all the rest."""
    widths, columns, by_block = config.channels, frames, []
    source = config.filters
    for width in widths:
        one = columns * (3 * source * width + 3 * width * width + (source * width if source != width else 0))
        columns //= 3
        by_block.append(one)
        source = width
    attention = sum(width * width for width in widths)
    nodes = config.gru_nodes
    inputs = [widths[-1], *[nodes] * (config.gru_layers - 1)]
    gru = columns * sum(3 * nodes * (size + 0) for size in inputs)
    return by_block[0], sum(by_block[1:]) + attention + gru + 2 * nodes


def test_the_stock_pipeline_and_ours_score_the_same(exported: Callable[[str], Path]) -> None:
    """What is compared does the same work: each window's score, fed hop by hop."""
    baseline = Baseline(exported("waveform"))
    detector = Detector(exported("streaming"), hop_seconds=HOP_SECONDS)
    sound, hop = voice(4, seed=7), detector.hop_samples
    scores = [baseline.push(sound[: detector.window_samples])]
    starts = range(detector.window_samples, sound.size - hop + 1, hop)
    scores += [baseline.push(sound[start : start + hop]) for start in starts]
    windows = detector.push(sound[: starts[-1] + hop])
    assert scores == pytest.approx([window.score for window in windows], abs=2e-4)
    assert baseline.push(sound[:1]) is not None


def test_the_loop_is_endless_and_even() -> None:
    loop = Loop(TINY.sample_rate)
    heard = np.concatenate([loop.take(7001) for _ in range(300)])
    period = next(n for n in (round(61.7 * TINY.sample_rate),) if n < heard.size)
    np.testing.assert_array_equal(heard[period:], heard[: heard.size - period])
    assert np.ptp(heard) > 0.1


def test_turns_run_every_call_once_a_round_and_none_first_always() -> None:
    order: list[int] = []
    calls = [lambda n=n: order.append(n) for n in range(3)]
    turns = interleave(calls, rounds=6, warm_up=0)
    assert turns.wall.shape == turns.cpu.shape == (6, 3) and (turns.wall > 0).all()
    rounds = np.array(order).reshape(6, 3)
    assert (np.sort(rounds) == [0, 1, 2]).all()
    assert set(rounds[:, 0]) == {0, 1, 2}


def test_a_speedup_is_taken_within_its_round() -> None:
    seconds = np.array([[2.0, 1.0], [4.0, 2.0], [80.0, 40.0]])  # the machine got busy; the ratio did not change
    first, second = InterleavedTimes.speedups(seconds)
    assert (first, second) == (Spread(1, 1, 1), Spread(2, 2, 2))


@pytest.mark.parametrize("form", ["streaming", "shared"])
def test_work_is_what_the_description_says(form: str, exported: Callable[[str], Path]) -> None:
    pipeline = open_pipeline(exported(form), HOP_SECONDS, 1)
    assert isinstance(pipeline, OurPipeline)
    config = TINY_PUBLIC if form == "shared" else TINY
    frames = pipeline.contract.frames
    found = work(pipeline)
    first, rest = multiply_adds(config, frames)
    if form == "shared":
        new = first_block_frames(pipeline.detector.network, pipeline.hop_samples)
        assert new < frames
        first, _ = multiply_adds(config, new)
    assert (found.float_products, found.integer_products) == (first + rest, 0)
    steps = frames // 3 ** len(config.channels)
    assert found.recurrences == (Recurrence(4 * 3 * config.gru_nodes**2, steps),) * config.gru_layers


def test_work_of_an_int8_file_counts_the_gru_as_integers(int8: Path, exported: Callable[[str], Path]) -> None:
    made, float_one = (open_pipeline(path, HOP_SECONDS, 1) for path in (int8, exported("streaming")))
    assert isinstance(made, OurPipeline) and isinstance(float_one, OurPipeline)
    ours, theirs = work(made), work(float_one)
    assert ours.float_products + ours.integer_products == theirs.float_products and ours.integer_products > 0
    assert [item.bytes for item in ours.recurrences] == [item.bytes // 4 for item in theirs.recurrences]


def test_the_first_block_takes_the_frames_that_were_counted(exported: Callable[[str], Path]) -> None:
    """`first_block_frames` says what `Inputs` does at each hop."""
    network = Network.load(exported("shared"))
    contract = network.contract
    seen: list[int] = []

    class Watched(Network):
        def first_block(self, features: np.ndarray) -> np.ndarray:
            seen.append(features.shape[-1])
            return network.first_block(features)

    watched = Watched(network.path, network._session, contract, first_block=network._first_block)
    hop = contract.hop_multiple * 20
    inputs = Inputs(watched, contract.window_samples, 2 * contract.window_samples)
    sound = voice(3)
    inputs.push(sound, contract.window_samples)
    for _ in range(5):
        seen.clear()
        inputs.push(sound, contract.window_samples + hop)
        inputs.drop(hop)
        sound = sound[hop:]
        assert max(seen) == first_block_frames(network, hop)


@pytest.mark.parametrize("name", ["streaming", "shared"])
def test_parts_of_a_file_make_the_whole(name: str, exported: Callable[[str], Path]) -> None:
    path = exported(name)
    network, model = Network.load(path), read(path)
    source = {"streaming": "features", "shared": "columns"}[name]
    middle = recurrent_input(model)
    values = np.abs(voice(1)[: np.prod(network.input_shape(TINY.window_samples))])
    window = np.resize(values, (1, *network.input_shape(TINY.window_samples))).astype(np.float32)
    (sequence,) = part(model, source, middle, 1, "the blocks").run([middle], {source: window})
    (logits,) = part(model, middle, "logits", 1, "the GRU").run(["logits"], {middle: sequence})
    np.testing.assert_allclose(logits, network.body(window), atol=1e-6)
    with pytest.raises(ModelError, match="cannot cut the moon"):
        part(model, "no such value", "logits", 1, "the moon")


def test_the_bound_is_the_weights_read_and_the_products_at_the_peak() -> None:
    machine = CoreLimits(50.0, 100.0, (Reading(3 << 20, 60.0, "L3"), Reading(1 << 27, 10.0, "memory")))
    done = Work(100_000_000, 200_000_000, (Recurrence(3 << 20, 29),) * 3)
    found = bound("ours", done, machine, measured_ms=20.0)
    assert found.products_ms == pytest.approx(2 + 2)
    assert found.weights_ms == pytest.approx(3 * 29 * (3 << 20) / 60e9 * 1e3)
    assert found.times_bound == pytest.approx(20 / found.bound_ms)
    other: Roofline = bound("ours", Work(1, 1, (Recurrence(5, 2),)), machine, 1.0)
    assert other.reading.lies_in == "memory", "a size that was not measured counts as memory"


def test_caches_are_read_from_the_system_and_may_be_unknown(tmp_path: Path) -> None:
    for index, (level, kind, size) in enumerate([("1", "Data", "32K"), ("1", "Instruction", "32K"), ("2", "X", "2M")]):
        folder = tmp_path / f"index{index}"
        folder.mkdir()
        for name, text in (("level", level), ("type", kind), ("size", size)):
            (folder / name).write_text(text + "\n")
    assert cache_bytes(tmp_path) == [("L1", 32 << 10), ("L2", 2 << 20)]
    assert cache_bytes(tmp_path / "absent") == []


def test_a_busy_machine_is_told(exported: Callable[[str], Path]) -> None:
    from dataclasses import replace

    about = replace(record(1, 0.5, 10), load=BUSY_LOAD - 0.01)
    assert about.warning is None
    busy = replace(about, load=BUSY_LOAD + 0.01)
    assert busy.warning and any(busy.warning in line for line in busy.lines())


def test_a_soak_hears_all_its_hours(exported: Callable[[str], Path]) -> None:
    parts = soak(exported("streaming"), hours=0.05, hop_seconds=0.5)
    assert sum(item.hops for item in parts) == pytest.approx(0.05 * 3600 / 0.5, abs=1)
    assert parts[-1].until_hours == pytest.approx(0.05, rel=0.01)
    with pytest.raises(UsageError, match="soak"):
        soak(exported("streaming"), hours=0)


@pytest.mark.parametrize("hop_seconds", [float("nan"), float("inf"), -1, 0, 9])
def test_a_hop_that_cannot_be_is_refused_for_every_form(hop_seconds: float, exported: Callable[[str], Path]) -> None:
    told = set()
    for form in ("waveform", "streaming", "shared"):
        with pytest.raises(UsageError) as error:
            open_pipeline(exported(form), hop_seconds, 1)
        told.add(str(error.value))
    assert len(told) == 1, "in the same words"


def test_session_options_are_held_against_the_runtimes_own(exported: Callable[[str], Path]) -> None:
    first, *others = session_options(exported("shared"), rounds=2)
    assert first.speedup == Spread(1, 1, 1) and len(others) == len(CHANGES) - 1
    assert all(choice.speedup.median > 0 for choice in others)
    with pytest.raises(ModelError):
        session_options(Path("absent.onnx"))


def test_files_that_do_not_belong_together_are_refused(exported: Callable[[str], Path], int8: Path) -> None:
    with pytest.raises(ModelError, match="--form waveform"):
        open_all([exported("streaming"), int8], HOP_SECONDS, 1)
    with pytest.raises(ModelError, match="other windows"):
        open_all([exported("waveform"), ROOT / "edge_runtime" / "models" / "edge.onnx"], 0.5, 1)


@pytest.mark.nightly
def test_the_command_prints_every_figure(exported: Callable[[str], Path], int8: Path, tmp_path: Path) -> None:
    files = [exported("waveform"), exported("streaming"), int8]
    few = ("--rounds", "3", "--starts", "1", "--file-seconds", "5", "--hop", str(HOP_SECONDS))
    report = tmp_path / "page.md"
    done = run("streaming", *files, *few, "-o", report)
    assert done.returncode == 0, done.stderr
    tables = [part for part in report.read_text().split("\n\n") if part.startswith("|")]
    assert [len(table.splitlines()) - 2 for table in tables] == [3, 2, 2], report.read_text()
    for table in tables:
        assert len({line.count("|") for line in table.splitlines()}) == 1, table
    assert all(word not in report.read_text() for word in ("nan", "None"))
    assert report.read_text().count("needs 64 samples") == 3, "three rounds carry no p90"

    page = json.loads(run("streaming", *files, *few, "--json").stdout)
    baseline, ours, small = page["rows"]
    assert [row["kind"] for row in page["rows"]] == ["baseline", "ours", "ours"]
    assert baseline["speedup"]["median"] == 1 and ours["hop_samples"] % TINY.pool == 0
    assert all(row["latency_p90_ms"] is None for row in page["rows"])
    for row in (ours, small):
        assert row["live"]["peak_mb"] >= row["live"]["steady_mb"] > 10 and row["file_peak_mb"] > 10
        assert 0 < row["ready_s"] < row["first_window_s"]
    for stage in page["stages"]:
        assert sum(stage["parts"].values()) == pytest.approx(stage["whole_ms"])


def test_the_command_refuses_in_one_line(
    exported: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    waveform, streaming = exported("waveform"), exported("streaming")
    cases: list[tuple[int, list[str | Path]]] = [
        (4, ["streaming", streaming, waveform]),
        (4, ["streaming", waveform, tmp_path / "absent.onnx"]),
        (2, ["streaming", waveform, streaming, "--rounds", "0"]),
        (2, ["streaming", waveform, streaming, "--hop", "9"]),
        (2, ["streaming", waveform, waveform, "--hop", "nan"]),
        (2, ["soak", streaming, "--hours", "0"]),
        (4, ["soak", tmp_path / "absent.onnx"]),
        (5, ["soak", streaming, "--hours", "0.01", "-o", tmp_path / "absent" / "page.md"]),
    ]
    for code, arguments in cases:
        given, told = main([str(word) for word in arguments]), capsys.readouterr().err
        errors = [line for line in told.splitlines() if line.startswith("edge-detect: ")]
        assert (given, len(errors)) == (code, 1), (arguments, told)
