"""A model that looks at blocks: whatever the split and the hop, its windows are PyTorch's over the whole stream."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge_runtime import Detector, Window
from edge_runtime.app.inspection import inspect
from edge_runtime.errors import UsageError
from edge_runtime.model.highpass import filtered
from edge_runtime.model.network import Network
from export.checkpoint import load
from export.parity import LIMIT
from tests.blocky import BLOCK, RATE, SOUND, TINY, Blocky, blocky
from tests.conftest import voice
from tests.program import lines, one_line, run

BOUND = 2 * 2.0 * LIMIT  # of a score: two logits, times the calibration's scale


@pytest.fixture(scope="module")
def network(blocks: Blocky) -> Network:
    return Network.load(blocks.path)


@pytest.fixture(scope="module")
def expected(blocks: Blocky) -> NDArray[np.float64]:
    """Of every window of SOUND that ends with a block."""
    return blocks.stream(filtered(SOUND, blocks.contract.high_pass_hz, RATE))


def scores_by_block(windows: list[Window]) -> dict[int, float]:
    """Scores by the block that a window begins with; only the last one of a stream may begin within one."""
    starts = {round(found.start * RATE): found.score for found in windows if found.score is not None}
    assert not any(start % BLOCK for start in list(starts)[:-1])
    return {start // BLOCK: score for start, score in starts.items() if start % BLOCK == 0}


def heard(detector: Detector, sound: NDArray[np.float32], cuts: list[int]) -> list[Window]:
    pieces = np.split(sound, sorted(min(cut, sound.size) for cut in cuts))
    return [found for piece in pieces for found in detector.push(piece)] + detector.flush()


def agree(windows: list[Window], expected: NDArray[np.float64], least: int = 1) -> None:
    found = scores_by_block(windows)
    assert len(found) >= least
    np.testing.assert_allclose(list(found.values()), expected[list(found)], atol=BOUND, rtol=0)


def test_the_export_is_proved_for_windows_and_for_a_stream(blocks: Blocky, tmp_path: Path) -> None:
    for made in (blocks, blocky(tmp_path, read=True)):
        rows = {row.signal: row for row in made.proof.rows}
        assert made.proof.holds and rows["stream, uneven hops"].samples >= 5 * TINY.window_samples
        assert made.contract.form == "blocks"


@settings(max_examples=25)
@given(
    cuts=st.lists(st.integers(0, SOUND.size), max_size=12),
    hop_blocks=st.integers(1, 5),
    length=st.integers(TINY.window_samples, SOUND.size),
)
def test_any_split_any_hop_scores_as_pytorch_does_over_the_whole_stream(
    network: Network, blocks: Blocky, expected: NDArray[np.float64], cuts: list[int], hop_blocks: int, length: int
) -> None:
    detector = Detector(network, hop_seconds=hop_blocks * BLOCK / RATE)
    windows = heard(detector, SOUND[:length], cuts)
    assert windows[0].start == 0 and windows[-1].end * RATE >= length - 0.05 * RATE - 1
    agree(windows, expected)
    last = round(windows[-1].start * RATE)
    if last % BLOCK and windows[-1].score is not None:  # it ends with the stream, and stands alone
        alone = filtered(SOUND[:length], network.contract.high_pass_hz, RATE)[last:]
        assert windows[-1].score == pytest.approx(blocks.stream(alone)[0], abs=BOUND)


def test_the_hop_may_change_at_any_time(network: Network, expected: NDArray[np.float64]) -> None:
    detector, windows = Detector(network, hop_seconds=0.2), []
    for number, piece in enumerate(np.array_split(SOUND, 40)):
        windows += detector.push(piece)
        detector.set_hop((number % 5 + 1) * BLOCK / RATE)
    agree(windows + detector.flush(), expected, least=8)


def test_what_was_heard_before_a_reset_or_an_end_is_forgotten(network: Network, expected: NDArray[np.float64]) -> None:
    detector = Detector(network, hop_seconds=0.2)
    detector.push(voice(3.3, seed=1))
    detector.reset()
    agree(heard(detector, SOUND, [5000]), expected, least=20)
    agree(heard(detector, SOUND, [70_000]), expected, least=20)


def test_the_windows_of_one_push_are_scored_together(network: Network, expected: NDArray[np.float64]) -> None:
    assert network.largest_batch > 1
    detector = Detector(network, hop_seconds=0.2)
    windows = detector.push(SOUND)
    assert len(windows) == len(expected)
    agree(windows, expected, least=20)


@pytest.mark.parametrize("before", [0, 40_000])
def test_a_stream_shorter_than_a_window_is_repeated_and_has_no_history(
    blocks: Blocky, network: Network, before: int
) -> None:
    detector = Detector(network)
    detector.push(SOUND[:before])
    detector.flush()
    assert detector.push(SOUND[:5000]) == []
    (found,) = detector.flush()
    repeated = np.resize(filtered(SOUND[:5000], network.contract.high_pass_hz, RATE), TINY.window_samples)
    assert found.score == pytest.approx(blocks.stream(repeated)[0], abs=BOUND)


def test_windows_that_are_not_scored_are_heard_all_the_same(network: Network, blocks: Blocky) -> None:
    """Silence, and what the gate finds to be no speech, are of the stream that later windows depend on."""
    noise = np.random.default_rng(3).normal(0, 0.05, 3 * RATE).astype(np.float32)
    sound = np.concatenate((0.3 * voice(3, seed=2), np.zeros(2 * RATE, np.float32), noise, 0.3 * voice(3, seed=4)))
    expected = blocks.stream(filtered(sound.astype(np.float32), network.contract.high_pass_hz, RATE))
    for gate in (False, True):
        windows = heard(Detector(network, hop_seconds=0.2, gate=gate), sound.astype(np.float32), [30_000, 90_000])
        left_out = [found for found in windows if found.score is None]
        assert left_out and len(left_out) < len(windows)
        agree(windows, expected)


@pytest.mark.parametrize("count", [1, 2, 8])
def test_a_window_of_other_whole_blocks_scores_as_pytorch_does(blocks: Blocky, network: Network, count: int) -> None:
    detector = Detector(network, hop_seconds=0.2, window_seconds=count * BLOCK / RATE)
    expected = blocks.stream(filtered(SOUND, network.contract.high_pass_hz, RATE), count)
    agree(heard(detector, SOUND, [12_345]), expected, least=20)


@pytest.mark.parametrize("seconds", [0.1, 0.3, 0.9, 1.01, 2.3])
def test_a_window_of_no_whole_blocks_is_refused(network: Network, seconds: float) -> None:
    with pytest.raises(UsageError, match="window of") as caught:
        Detector(network, window_seconds=seconds)
    assert "\n" not in str(caught.value) and "0.2 s" in str(caught.value)


def test_the_program_scores_a_file_as_pytorch_does(blocks: Blocky, tmp_path: Path) -> None:
    wav = tmp_path / "speech.wav"
    soundfile.write(wav, 0.5 * voice(7, seed=6), RATE, subtype="FLOAT")
    done = run("--model", blocks.path, "--file", wav, "--json", "--no-gate", "--hop", "0.4")
    assert done.returncode == 0, done.stderr
    windows = [line for line in lines(done.stdout) if line["type"] == "window"]
    sound, _ = soundfile.read(wav, dtype="float32")
    expected = blocks.stream(filtered(sound, blocks.contract.high_pass_hz, RATE))
    places = [round(line["start"] * RATE / BLOCK) for line in windows]
    assert len(places) >= 14
    np.testing.assert_allclose([line["score"] for line in windows], expected[places], atol=BOUND + 1e-4, rtol=0)
    wrong = run("--model", blocks.path, "--file", wav, "--window", "0.7")
    assert wrong.returncode == 2 and "0.2 s" in one_line(wrong.stderr)


def test_the_file_says_how_long_its_blocks_are_and_no_other_form_does(blocks: Blocky, model: str) -> None:
    facts = inspect(blocks.path)
    assert [facts[name] for name in ("form", "block_frames", "context_frames", "level_blocks", "hop_multiple")] == [
        "blocks", 20, 30, 3, BLOCK,
    ]  # fmt: skip
    keys = {entry.key for entry in onnx.load(model).metadata_props}
    assert not {key for key in keys if "block_frames" in key or "context" in key or "level_blocks" in key}
    for trace in (b".py", b"site-packages", b"torch", str(blocks.path.parent).encode()):
        assert trace not in blocks.path.read_bytes(), trace


def test_a_checkpoint_keeps_its_blocks_and_an_older_one_has_none(blocks: Blocky) -> None:
    assert load(blocks.checkpoint).model.config == blocks.model.config
    old = load(Path(__file__).parent.parent / "training" / "edge.safetensors").model.config
    assert not old.has_blocks and old.leading_zeros == 0
    assert replace(old, block_frames=0) == old and asdict(old)["level_blocks"] == 0
