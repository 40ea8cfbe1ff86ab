"""Exact streaming: for any audio, split and hop, each window's score is what the PyTorch model gives that window."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from edge_runtime import Detector, Window
from edge_runtime.capture.file import read_blocks
from edge_runtime.errors import ModelError, UsageError
from edge_runtime.model.contract import Contract
from edge_runtime.model.frontend import FilterBank
from edge_runtime.model.highpass import filtered
from edge_runtime.model.network import Network
from export import graph
from export.checkpoint import load
from export.convert import contract_of
from export.parity import signals
from export.rawnet2 import RawNet2
from export.sharing import join, split
from quantization.calibration import read
from quantization.quantizer import Quantizer, write
from tests.conftest import TINY, voice, without_high_pass

ROOT = Path(__file__).parent.parent
CHECKPOINT = ROOT / "training" / "edge.safetensors"
EXAMPLES = sorted((ROOT / "examples").glob("*.flac")) + sorted((ROOT / "quantization" / "clips").glob("*.flac"))[:12]
RATE = TINY.sample_rate
LIMIT = 1e-4
"""Of a logit at the float level. Scores are twice a difference of logits here."""
BOUNDS = {"fp16": 0.005, "int8": 0.02, "int8-static": 0.08, "int4": 0.05, "auto": 0.06}
"""Of a score of the shipped network at other levels: RMS of the difference, over the scores' standard deviation."""
VOICE = voice(6, seed=3)

samples_of_any_kind = st.one_of(
    arrays(
        np.float32, st.integers(RATE, 2 * RATE), elements=st.floats(-1, 1, width=32), fill=st.floats(-1, 1, width=32)
    ),
    st.builds(
        lambda kind, gain, length: (np.float32(gain) * signals(3 * RATE, RATE)[kind][:length]).astype(np.float32),
        st.sampled_from(["noise", "quiet noise", "tones", "voice", "voice, then silence", "clipped voice"]),
        st.floats(1e-3, 1),
        st.integers(RATE, 3 * RATE),
    ),
)


def in_pieces(detector: Detector, sound: NDArray[np.float32], cuts: list[int]) -> list[Window]:
    places = sorted(min(cut, sound.size) for cut in cuts)
    return [w for block in np.split(sound, places) for w in detector.push(block)] + detector.flush()


def window_of(sound: NDArray[np.float32], found: Window) -> NDArray[np.float32]:
    return sound[round(found.start * RATE) : round(found.end * RATE)]


def by_pytorch(model: RawNet2, contract: Contract, samples: NDArray[np.float32]) -> float:
    with torch.no_grad():
        return float(contract.llr(model(torch.from_numpy(samples.copy())[None]).numpy())[0])


@given(
    sound=samples_of_any_kind,
    cuts=st.lists(st.integers(0, 3 * RATE), max_size=12),
    hop_samples=st.integers(160, TINY.window_samples),
)
def test_any_audio_any_split_any_hop_scores_as_pytorch_does(
    network: Network, original: RawNet2, sound: NDArray[np.float32], cuts: list[int], hop_samples: int
) -> None:
    detector = Detector(network, hop_seconds=hop_samples / RATE)
    judged = filtered(sound, network.contract.high_pass_hz, RATE)
    for found in in_pieces(detector, sound, cuts):
        if found.score is not None:
            expected = by_pytorch(original, network.contract, window_of(judged, found))
            assert abs(found.score - expected) <= 2 * network.contract.scale * LIMIT, f"window at {found.start} s"


@given(
    steps=st.lists(st.tuples(st.integers(0, RATE), st.floats(0.02, 1.0)), min_size=1, max_size=12),
)
def test_the_hop_may_change_at_any_time(network: Network, steps: list[tuple[int, float]]) -> None:
    detector, place = Detector(network, hop_seconds=0.5), 0
    windows: list[Window] = []
    for count, hop_seconds in steps:
        windows += detector.push(VOICE[place : place + count])
        place = min(VOICE.size, place + count)
        detector.set_hop(hop_seconds)
    sound = VOICE[:place]
    windows += detector.flush()
    starts = [w.start for w in windows]
    assert starts == sorted(set(starts))
    # Nothing is left unheard between windows, nor before the first or behind the last.
    for one, other in itertools.pairwise(windows):
        assert other.start <= one.end
    if windows:
        assert windows[0].start == 0
        assert place - windows[-1].end * RATE <= 0.05 * RATE + network.contract.hop_multiple
    judged = filtered(sound, network.contract.high_pass_hz, RATE)
    for found in windows:
        if found.score is not None and found.end - found.start == detector.window_samples / RATE:
            (alone, *_) = in_pieces(Detector(without_high_pass(network)), window_of(judged, found), [])
            assert alone.score is not None and found.score == pytest.approx(alone.score, abs=1e-4)


def test_a_hop_beyond_the_window_is_refused_and_changes_nothing(network: Network) -> None:
    detector = Detector(network, hop_seconds=0.5)
    for wrong in (0, -1, float("nan"), 1.5):
        with pytest.raises(UsageError):
            detector.set_hop(wrong)
    assert detector.hop_samples == pytest.approx(8000, abs=network.contract.hop_multiple)


@pytest.mark.parametrize(("pool", "asked", "true"), [(3, 8000, 8001), (16, 8000, 8000)])
def test_half_a_second_becomes_the_nearest_hop_that_windows_can_share(pool: int, asked: int, true: int) -> None:
    form = "shared" if pool == 3 else "streaming"
    contract = Contract(form, "x", 16000, 64000, pool, np.ones((1, 65), np.float32))
    assert round(asked / contract.hop_multiple) * contract.hop_multiple == true


@pytest.fixture(scope="module")
def quantized(exported: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Path]:
    """Gives the file of a tiny model's form, or of `edge`, the network that we ship, at a level, made once."""
    folder = tmp_path_factory.mktemp("quantized")
    shops: dict[str, Quantizer] = {}

    def path(form: str, level: str) -> Path:
        file = folder / f"{form}-{level}.onnx"
        if form not in shops:
            source = exported(form) if form != "edge" else folder / "edge.onnx"
            if form == "edge":
                checkpoint = load(CHECKPOINT)
                onnx.save(graph.build(checkpoint.model, contract_of(checkpoint)), str(source))
            shops[form] = Quantizer(source, read(None), count=48)
        if not file.exists():
            write(shops[form].make(level, "portable"), file)
        return file

    return path


@pytest.mark.parametrize("level", BOUNDS)
@pytest.mark.parametrize("form", ["streaming", "shared"])
def test_quantized_streaming_equals_the_same_file_on_each_window(
    form: str, level: str, quantized: Callable[[str, str], Path]
) -> None:
    network = Network.load(quantized(form, level))
    windows = in_pieces(Detector(network, hop_seconds=0.1), VOICE, list(range(0, VOICE.size, 1234)))
    assert len(windows) > 40
    bank = FilterBank(network.contract.filters, network.contract.pool)
    judged = filtered(VOICE, network.contract.high_pass_hz, RATE)
    for found in windows:
        features = bank.whole(window_of(judged, found))
        alone = float(network.contract.llr(network.logits(features[None]))[0])
        # The last bit of a feature may put it on the other side of a step of 8 bits: not more than such steps.
        assert found.score is not None and abs(found.score - alone) <= 0.02


@pytest.mark.parametrize("level", BOUNDS)
def test_quantized_streaming_stays_near_pytorch_within_the_bound_of_its_level(
    level: str, quantized: Callable[[str, str], Path]
) -> None:
    model = load(CHECKPOINT).model
    detector = Detector(quantized("edge", level))
    rate = detector.sample_rate
    scores, expected = [], []
    for path in EXAMPLES:
        sound = np.concatenate(list(read_blocks(str(path), None, rate)))
        judged = filtered(sound, detector.network.contract.high_pass_hz, rate)
        for found in in_pieces(detector, sound, list(range(0, sound.size, 3210))):
            if found.score is not None and found.end - found.start == detector.window_samples / rate:
                scores.append(found.score)
                samples = judged[round(found.start * rate) : round(found.end * rate)]
                expected.append(by_pytorch(model, detector.network.contract, samples))
    assert len(scores) >= 6
    difference = np.array(scores) - np.array(expected)
    assert np.sqrt(np.mean(difference**2)) <= BOUNDS[level] * np.std(expected)


@pytest.mark.parametrize("level", ["fp32", *BOUNDS])
@pytest.mark.parametrize("form", ["streaming", "shared"])
def test_windows_of_a_batch_do_not_touch_each_other(
    form: str, level: str, quantized: Callable[[str, str], Path], exported: Callable[[str], Path]
) -> None:
    network = Network.load(exported(form) if level == "fp32" else quantized(form, level))
    assert network.largest_batch > 1
    bank = FilterBank(network.contract.filters, network.contract.pool)
    # A loud window beside faint ones: with one scale for all the faint ones would come out coarse.
    sounds = [gain * voice(1, seed=seed) for seed, gain in enumerate((0.01, 1.0, 0.001, 0.1))]
    features = [bank.whole(sound.astype(np.float32)) for sound in sounds[: network.largest_batch]]
    together = network.logits(np.stack(features))
    for one, row in zip(features, together, strict=True):
        np.testing.assert_allclose(network.logits(one[None])[0], row, atol=1e-5)


def test_many_windows_at_once_equal_single_ones(network: Network) -> None:
    one, many = Detector(network, hop_seconds=0.05), Detector(network, hop_seconds=0.05)
    singly = in_pieces(one, VOICE, list(range(0, VOICE.size, one.hop_samples)))
    together = in_pieces(many, VOICE, [])
    assert [w.start for w in singly] == [w.start for w in together]
    for a, b in zip(singly, together, strict=True):
        assert (a.score is None) == (b.score is None)
        assert a.score is None or a.score == pytest.approx(b.score, abs=1e-5)


def test_split_and_join_are_inverse(exported: Callable[[str], Path], tmp_path: Path) -> None:
    shared, streaming = Network.load(exported("shared")), Network.load(exported("public"))
    joined, contract = join(onnx.load(str(exported("shared"))), shared.contract)
    assert contract.form == "streaming" and contract.hop_multiple == streaming.contract.hop_multiple
    for key, text in contract.to_metadata().items():
        joined.metadata_props.add(key=key, value=text)
    onnx.checker.check_model(joined, full_check=True)
    onnx.save(joined, str(tmp_path / "joined.onnx"))
    features = np.random.default_rng(0).random((2, 6, contract.frames), np.float32)
    expected = streaming.logits(features)
    np.testing.assert_allclose(Network.load(tmp_path / "joined.onnx").logits(features), expected, atol=1e-6)
    np.testing.assert_allclose(shared.logits(features), expected, atol=1e-6)


def test_a_network_that_looks_at_the_whole_window_first_is_not_split(exported: Callable[[str], Path]) -> None:
    model = onnx.load(str(exported("streaming")))
    with pytest.raises(ModelError, match=r"cannot be shared: .*Log"):
        split(model, Network.load(exported("streaming")).contract)


@pytest.mark.parametrize("damage", ["missing", "not base64", "another model", "other filters"])
def test_a_damaged_first_block_is_one_clear_error(damage: str, exported: Callable[[str], Path], tmp_path: Path) -> None:
    model = onnx.load(str(exported("shared")))
    key = "edge_detect.first_block_onnx_base64"
    kept = [item for item in model.metadata_props if item.key != key]
    (own,) = [item.value for item in model.metadata_props if item.key == key]
    if damage == "other filters":
        name = "edge_detect.filter_shape"
        shape = next(item for item in kept if item.key == name)
        rows, taps = (int(part) for part in shape.value.split("x"))
        shape.value = f"{rows // 2}x{taps * 2}"
    values = {"not base64": "*", "another model": own[: len(own) // 2 // 4 * 4], "other filters": own}
    pairs = [(item.key, item.value) for item in kept]
    pairs += [(key, values[damage])] if damage in values else []
    del model.metadata_props[:]
    for name, value in pairs:
        model.metadata_props.add(key=name, value=value)
    onnx.save(model, str(tmp_path / "damaged.onnx"))
    with pytest.raises(ModelError, match=r"first block|metadata is damaged") as caught:
        Network.load(tmp_path / "damaged.onnx")
    assert len(str(caught.value).splitlines()) == 1
