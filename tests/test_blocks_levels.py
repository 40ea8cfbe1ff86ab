"""Models that look at blocks at every level of quantization, beside another model, and in the benchmarks."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from benchmarks.timing.operations import work
from benchmarks.timing.pipelines import OurPipeline
from benchmarks.timing.session_options import CHANGES, session_options
from benchmarks.timing.soak import soak
from benchmarks.timing.stages import ENCODER, stages
from edge_runtime import Detector
from edge_runtime.app.inspection import inspect
from edge_runtime.model.blocks import BlockStream
from edge_runtime.model.network import Network
from quantization.calibration import read
from quantization.quantizer import Quantizer, write
from quantization.running import raw_scores
from tests.blocky import BLOCK, RATE, SOUND, TINY, Blocky
from tests.conftest import voice
from tests.program import lines, run

BOUNDS = {"fp16": 0.01, "int8": 0.1, "int8-static": 0.2, "int4": 0.4, "auto": 0.2}
"""RMS of the scores' differences over a stream, over their standard deviation."""


@pytest.fixture(scope="module")
def quantizer(blocks: Blocky) -> Quantizer:
    return Quantizer(blocks.path, read(None), count=32)


def scores(path: Path) -> np.ndarray:
    detector = Detector(Network.load(path, trusted=True), hop_seconds=0.2)
    return np.array([found.score for found in detector.push(SOUND) if found.score is not None])


@pytest.mark.parametrize("level", BOUNDS)
def test_a_level_keeps_the_scores_of_a_stream(level: str, quantizer: Quantizer, blocks: Blocky, tmp_path: Path) -> None:
    path = tmp_path / "small.onnx"
    write(quantizer.make(level, "portable"), path)
    exact, found = scores(blocks.path), scores(path)
    assert np.sqrt(np.mean((found - exact) ** 2)) <= BOUNDS[level] * exact.std()
    facts = inspect(path)
    assert [facts[name] for name in ("level", "form", "block_frames", "context_frames", "level_blocks")] == [
        level, "blocks", 20, 30, 3,
    ]  # fmt: skip
    assert path.stat().st_size < blocks.path.stat().st_size


def test_windows_that_stand_alone_are_scored_as_the_runtime_does(quantizer: Quantizer, blocks: Blocky) -> None:
    """What ranges and roundings are found on is what the device computes."""
    network = Network.load(blocks.path, trusted=True)
    logits = network.logits(quantizer.windows[:4])
    np.testing.assert_allclose(
        raw_scores(quantizer.model, quantizer.windows[:4]), logits[:, 1] - logits[:, 0], atol=1e-4
    )


@pytest.mark.parametrize("swapped", [False, True])
def test_it_is_tried_beside_another_model_and_another_beside_it(
    swapped: bool, blocks: Blocky, exported: Callable[[str], Path], tmp_path: Path
) -> None:
    """A candidate's hops are its own, whatever the running model's are."""
    sound, report = tmp_path / "sound.wav", tmp_path / "report"
    soundfile.write(sound, voice(14), RATE)
    models = [exported("streaming"), blocks.path][:: -1 if swapped else 1]
    words = ("--model", models[0], "--file", sound, "--no-gate", "--json", "--hop", "0.4")
    alone = run(*words)
    both = run(*words, "--shadow", models[1], "--shadow-report", report, "--shadow-windows", "15")
    assert both.returncode == alone.returncode == 0, both.stderr
    assert both.stdout == alone.stdout
    tally = json.loads(report.read_text())["tally"]
    windows = [line for line in lines(both.stdout) if line["type"] == "window"]
    assert tally["both"] == tally["offered"] == len(windows) > 30 and tally["dropped_seconds"] == 0


@pytest.fixture(scope="module")
def pipeline(blocks: Blocky) -> OurPipeline:
    return OurPipeline(blocks.path, 0.4, 1)


def test_work_is_that_of_the_new_blocks_and_the_head(pipeline: OurPipeline) -> None:
    """Two blocks a hop, worked out from the description; attention sees the context and the block.

    In the last layer queries of the block's own frames alone go on.
    """
    width, layers, blocks = TINY.encoder_width, TINY.encoder_layers, pipeline.hop_samples // BLOCK
    own = TINY.block_frames // 2
    seen = own + TINY.context_frames // 2
    stem = (2 * seen + 2) * 3 * TINY.filters * width + seen * 3 * width * width
    inner = (seen * (layers - 1) + own) * (9 * width * width + 2 * seen * width)
    head = 2 * (layers + 1) * width * TINY.fc_nodes + 2 * TINY.fc_nodes
    assert blocks == 2 and pipeline.hop_samples == 2 * BLOCK
    assert work(pipeline).float_products == blocks * (stem + layers * seen * 3 * width * width + inner) + head


def test_stages_options_and_hours_of_it_can_be_timed(pipeline: OurPipeline, blocks: Blocky) -> None:
    found = stages(pipeline, rounds=3, threads=1)
    assert found.parts[ENCODER] > 0 and found.network_ms == found.parts[ENCODER]
    assert [choice.options for choice in session_options(blocks.path, rounds=2)] == list(CHANGES)
    assert len(soak(blocks.path, hours=0.01, hop_seconds=0.4)) == 2


def test_what_is_kept_of_a_stream_does_not_grow(blocks: Blocky) -> None:
    stream = BlockStream(Network.load(blocks.path, trusted=True))
    random = np.random.default_rng(1)
    frames = np.abs(random.normal(0, 0.1, (TINY.filters, 4000))).astype(np.float32)
    whole = stream.push(frames)
    stream.reset()
    cuts = np.sort(random.integers(0, 4000, 300))
    pieces = [stream.push(piece) for piece in np.split(frames, cuts, axis=1)]
    np.testing.assert_array_equal(np.concatenate(pieces), whole)
    held = sum(value.nbytes for value in vars(stream).values() if isinstance(value, np.ndarray))
    assert held <= 4 * TINY.filters * (4 + TINY.context_frames + 2 * TINY.block_frames)
