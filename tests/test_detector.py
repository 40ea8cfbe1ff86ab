"""The detector: streaming equals offline scoring for every split, and every input has a defined answer."""

from __future__ import annotations

import hashlib
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from onnx import TensorProto, helper

from edge_runtime import Detector, Window
from edge_runtime.errors import ModelError, UsageError
from edge_runtime.model.frontend import FilterBank
from edge_runtime.model.highpass import filtered
from edge_runtime.model.network import Network
from export.rawnet2 import RawNet2
from tests.conftest import TINY, voice, without_high_pass

RATE = TINY.sample_rate
SOUND = np.concatenate((voice(2.2, 1), np.zeros(RATE * 2, np.float32), voice(2.5, 2), np.ones(RATE, np.float32)))


def score_all(detector: Detector, samples: NDArray[np.float32], cuts: list[int] | None = None) -> list[Window]:
    windows = [w for block in np.split(samples, cuts or []) for w in detector.push(block)]
    return windows + detector.flush()


def assert_same(found: list[Window], expected: list[Window]) -> None:
    assert [(w.start, w.end, w.verdict, w.reason) for w in found] == [
        (w.start, w.end, w.verdict, w.reason) for w in expected
    ]
    for one, other in zip(found, expected, strict=True):
        assert (one.score is None) == (other.score is None)
        if one.score is not None and other.score is not None:
            assert one.score == pytest.approx(other.score, abs=1e-5), f"window at {one.start} s"


@given(cuts=st.lists(st.integers(0, SOUND.size), max_size=30), length=st.integers(0, SOUND.size))
def test_any_split_gives_the_same_windows(network: Network, cuts: list[int], length: int) -> None:
    detector = Detector(network, hop_seconds=0.25)
    sound = SOUND[:length]
    whole = score_all(detector, sound)
    assert_same(score_all(detector, sound, sorted(min(cut, length) for cut in cuts)), whole)


def test_single_samples_give_the_same_windows_as_one_block(network: Network) -> None:
    detector = Detector(network, hop_seconds=0.3)
    sound = voice(1.5)
    assert_same(score_all(detector, sound, list(range(sound.size))), score_all(detector, sound))


@pytest.mark.parametrize("hop_seconds", [0.1, 0.5, 0.777])
def test_streaming_equals_offline_scoring_and_pytorch(network: Network, original: RawNet2, hop_seconds: float) -> None:
    detector = Detector(network, hop_seconds=hop_seconds, threshold=0.0)
    sound = voice(4.3, seed=5)
    windows = score_all(detector, sound, list(range(0, sound.size, 700)))
    assert len(windows) > 3
    contract = network.contract
    bank = FilterBank(contract.filters, contract.pool)
    judged = filtered(sound, contract.high_pass_hz, RATE)
    for found in windows:
        start, end = round(found.start * RATE), round(found.end * RATE)
        samples = judged[start:end]
        inputs = bank.whole(samples) if contract.form != "waveform" else samples
        offline = float(contract.llr(network.logits(inputs[None]))[0])
        assert found.score == pytest.approx(offline, abs=1e-5), f"window at {found.start} s"
        with torch.no_grad():
            logits = original(torch.from_numpy(samples)[None]).numpy()
        difference = np.abs(network.logits(inputs[None]) - logits).max()
        assert difference <= 1e-4, f"window at {found.start} s: PyTorch differs by {difference}"
        assert found.score == pytest.approx(float(contract.llr(logits)[0]), abs=1e-3)


def test_windows_come_every_hop_and_times_do_not_drift(network: Network) -> None:
    detector = Detector(network, hop_seconds=0.5)
    silence = np.zeros(detector.sample_rate * 60, np.float32)
    windows = [w for _ in range(10) for w in detector.push(silence)]
    for index, found in enumerate(windows):
        assert found.start == index * detector.hop_samples / detector.sample_rate
        assert found.end == (index * detector.hop_samples + detector.window_samples) / detector.sample_rate
    assert len(windows) == (10 * silence.size - detector.window_samples) // detector.hop_samples + 1


def test_hop_is_rounded_to_what_windows_can_share(network: Network) -> None:
    detector = Detector(network, hop_seconds=0.5)
    assert detector.hop_samples % network.contract.hop_multiple == 0
    assert abs(detector.hop_samples - 8000) <= network.contract.hop_multiple / 2


@given(extra=st.integers(0, 3 * RATE))
def test_the_end_of_a_recording_is_scored(network: Network, extra: int) -> None:
    detector = Detector(network, hop_seconds=0.5)
    windows = score_all(detector, voice(4)[: RATE + extra])
    unscored = RATE + extra - windows[-1].end * RATE
    assert 0 <= unscored <= 0.05 * RATE + network.contract.hop_multiple
    assert [w.start for w in windows] == sorted({w.start for w in windows})


def test_a_short_recording_is_repeated_up_to_a_window(network: Network) -> None:
    short = voice(0.7)
    (found,) = score_all(Detector(network), short)
    judged = filtered(short, network.contract.high_pass_hz, RATE)
    (repeated,) = score_all(Detector(without_high_pass(network)), np.resize(judged, TINY.window_samples))
    assert (found.start, found.end, found.reason) == (0.0, 0.7, "")
    assert found.score == pytest.approx(repeated.score, abs=1e-5)


def test_less_than_half_a_second_is_scored_but_unsure(network: Network) -> None:
    (found,) = score_all(Detector(network, threshold=0), voice(0.4))
    assert (found.verdict, found.reason, found.end) == ("unsure", "short", 0.4)
    assert found.score is not None


def test_no_samples_give_no_windows(network: Network) -> None:
    assert score_all(Detector(network), np.empty(0, np.float32)) == []


def test_silence_is_not_scored(network: Network) -> None:
    faint = 3e-4 * np.random.default_rng(0).standard_normal(2 * RATE).astype(np.float32)
    for silence in (np.zeros(2 * RATE, np.float32), np.full(2 * RATE, 0.25, np.float32), faint):
        windows = score_all(Detector(network), silence)
        assert windows and {(w.verdict, w.score) for w in windows} == {("silent", None)}


def test_silent_windows_between_spoken_ones_do_not_shift_the_scores(network: Network) -> None:
    windows = score_all(Detector(network), SOUND)
    spoken = {w.start: w.score for w in windows if w.verdict != "silent"}
    assert 0 < len(spoken) < len(windows)
    judged = filtered(SOUND, network.contract.high_pass_hz, RATE)
    for found in windows:
        if found.score is not None:
            samples = judged[round(found.start * RATE) : round(found.end * RATE)]
            (alone,) = score_all(Detector(without_high_pass(network)), samples)
            assert found.score == pytest.approx(alone.score, abs=1e-5)


def test_invalid_samples_make_the_windows_that_touch_them_unsure(network: Network) -> None:
    sound = voice(4)
    sound[[20000, 20001, 20002]] = [np.nan, np.inf, -np.inf]
    mended = sound.copy()
    mended[20000:20003] = mended[19999]
    found, expected = (score_all(Detector(network, threshold=0), s) for s in (sound, mended))
    for one, other in zip(found, expected, strict=True):
        touched = one.start * RATE <= 20000 < one.end * RATE
        assert (one.invalid, one.reason) == ((3, "invalid") if touched else (0, ""))
        assert one.verdict == ("unsure" if touched else other.verdict)
        assert one.score == pytest.approx(other.score, abs=1e-5)


def test_clipped_sound_keeps_its_score_and_is_unsure(network: Network) -> None:
    windows = score_all(Detector(network, threshold=0), np.clip(30 * voice(2), -1, 1))
    assert {(w.verdict, w.reason) for w in windows} == {("unsure", "clipped")}
    assert all(w.score is not None and w.clipped > 0.01 for w in windows)


@given(samples=arrays(np.float32, st.integers(0, 20000), elements=st.floats(width=32), fill=st.floats(width=32)))
def test_any_floats_have_a_defined_answer(network: Network, samples: NDArray[np.float32]) -> None:
    windows = score_all(Detector(network), samples)
    assert bool(windows) == bool(samples.size)
    for found in windows:
        assert found.score is None or math.isfinite(found.score)
        assert math.isfinite(found.level_dbfs) and math.isfinite(found.peak_dbfs) and 0 <= found.clipped <= 1
        touched = samples[round(found.start * RATE) : round(found.end * RATE)]
        if not np.isfinite(touched).all():
            assert found.verdict == "unsure" and found.invalid > 0


@pytest.mark.parametrize(
    "samples",
    [np.zeros(5, np.int16), np.zeros((5, 2), np.float32), np.float32(0), [1, 2, 3], [True], [1j], ["a"]],
    ids=str,
)
def test_what_is_not_mono_floats_is_refused(network: Network, samples: object) -> None:
    with pytest.raises(UsageError, match="samples must be"):
        Detector(network).push(samples)  # type: ignore[arg-type]


def test_doubles_and_lists_are_taken(network: Network) -> None:
    sound = voice(1.5)
    expected = score_all(Detector(network), sound)
    assert_same(score_all(Detector(network), sound.astype(np.float64)), expected)
    assert_same(score_all(Detector(network), sound.tolist()), expected)


def test_flush_and_reset_begin_a_new_stream(network: Network) -> None:
    detector = Detector(network)
    first = score_all(detector, voice(2.2))
    assert detector.flush() == []
    detector.push(voice(1.9, seed=9))
    detector.reset()
    assert_same(score_all(detector, voice(2.2)), first)


@pytest.mark.parametrize(
    "options",
    [
        {"hop_seconds": 0},
        {"hop_seconds": math.nan},
        {"hop_seconds": 1.5},
        {"window_seconds": -1},
        {"window_seconds": math.inf},
        {"window_seconds": 1e9},
        {"window_seconds": 0.003},
        {"window_seconds": 0.3, "hop_seconds": 0.5},
        {"threshold": math.nan},
    ],
    ids=str,
)
def test_impossible_options_are_refused(network: Network, options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        Detector(network, **options)


def test_a_window_shorter_than_the_usual_hop_is_its_own_hop(network: Network) -> None:
    detector = Detector(network, window_seconds=0.3)
    assert detector.window_samples - network.contract.hop_multiple < detector.hop_samples <= detector.window_samples


def test_another_window_length_scores_like_pytorch(network: Network, original: RawNet2) -> None:
    detector = Detector(network, window_seconds=1.5)
    sound = voice(3)
    windows = score_all(detector, sound)
    assert windows[0].end == 1.5
    judged = filtered(sound, network.contract.high_pass_hz, RATE)
    for found in windows:
        samples = torch.from_numpy(judged[round(found.start * RATE) : round(found.end * RATE)])
        with torch.no_grad():
            expected = float(network.contract.llr(original(samples[None]).numpy())[0])
        assert found.score == pytest.approx(expected, abs=1e-3)


def test_a_fixed_time_axis_refuses_another_window(exported: Callable[[str], Path], tmp_path: Path) -> None:
    model = onnx.load(str(exported("streaming")))
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_value = Network.load(exported("streaming")).contract.frames
    onnx.save(model, str(tmp_path / "fixed.onnx"))
    assert score_all(Detector(tmp_path / "fixed.onnx"), voice(1))
    with pytest.raises(UsageError, match="takes windows of 1 s only"):
        Detector(tmp_path / "fixed.onnx", window_seconds=2.0)


def damaged(kind: str, good: Path, folder: Path) -> Path:
    """A file that is no usable model, of one of several kinds."""
    path = folder / "model.onnx"
    if kind == "missing":
        return path
    if kind == "folder":
        return folder
    if kind == "another network" or kind == "another input":
        shape: list[str | int] = ["batch", 7 if kind == "another input" else "length"]
        node = helper.make_node("Identity", ["x"], ["logits"])
        value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("x", "logits")]
        model = helper.make_model(helper.make_graph([node], "foreign", value[:1], value[1:]))
        model.ir_version, model.opset_import[0].version = 8, 17
        if kind == "another input":
            model.metadata_props.extend(onnx.load(str(good)).metadata_props)
        onnx.save(model, str(path))
        return path
    contents = {
        "empty": b"",
        "text": b"this is no model\n",
        "truncated": good.read_bytes()[: good.stat().st_size // 2],
        "zeros": bytes(1000),
    }
    path.write_bytes(contents[kind])
    return path


@pytest.mark.parametrize(
    "kind", ["missing", "folder", "empty", "text", "truncated", "zeros", "another network", "another input"]
)
def test_what_is_no_model_is_refused_in_one_line(
    kind: str, exported: Callable[[str], Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = damaged(kind, exported("streaming"), tmp_path)
    with pytest.raises(ModelError) as caught:
        Network.load(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", ""), "ONNX Runtime wrote beside the error"


@given(cut=st.floats(0, 1, exclude_max=True))
def test_a_model_cut_anywhere_is_a_model_error(
    exported: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory, cut: float
) -> None:
    contents = exported("streaming").read_bytes()
    path = tmp_path_factory.mktemp("cut") / "model.onnx"
    path.write_bytes(contents[: int(cut * len(contents))])
    with pytest.raises(ModelError):
        Network.load(path)


def test_wrongly_shaped_features_are_a_model_error(network: Network) -> None:
    with pytest.raises(ModelError, match="failed"):
        network.logits(np.zeros((1, 2, 3, 4), np.float32))


def test_importing_the_package_loads_no_heavy_library() -> None:
    code = "import edge_runtime, sys; print(*{'onnxruntime', 'numpy', 'soundfile', 'torch'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_sha256_is_that_of_the_file(exported: Callable[[str], Path]) -> None:
    path = exported("streaming")
    assert Network.load(path).sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
