"""The network with a speech encoder: exported, streamed, saved and refused as RawNet2 is."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.timing.pipelines import OurPipeline
from benchmarks.timing.stages import ENCODER, stages
from edge_runtime import Detector
from edge_runtime.errors import EdgeDetectError, UsageError
from edge_runtime.model.highpass import filtered
from edge_runtime.model.network import Network
from export import __main__ as program
from export.checkpoint import Calibration, load, save
from export.encoder import EncoderLayer
from export.parity import LIMIT, signals
from export.rawnet2 import LONGEST_FRAMES, RawNet2
from tests.conftest import TINY as RESIDUAL
from tests.conftest import voice
from tests.hybrids import TINY, random_hybrid
from tests.test_export_refusals import refused

RATE = TINY.sample_rate
CALIBRATION = Calibration(scale=2.0, offset=0.25, threshold=-0.5, threshold_bonafide=0.5)
SOUND = np.concatenate([0.3 * voice(3, seed=5), *signals(RATE, RATE).values()]).astype(np.float32)
"""10 s: speech, noise, tones, silence and clipping."""


@pytest.fixture(scope="module", params=[True, False], ids=["read", "summed"])
def model(request: pytest.FixtureRequest) -> RawNet2:
    return random_hybrid(request.param)


@pytest.fixture(scope="module")
def checkpoint(model: RawNet2, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("hybrid") / "hybrid.safetensors"
    save(path, model, CALIBRATION, figures={"eer": 0.25}, name="small hybrid")
    return path


@dataclass(frozen=True)
class Exported:
    path: Path
    network: Network
    report: dict[str, Any]  # what the program printed


@pytest.fixture(scope="module", params=["streaming", "waveform"])
def exported(request: pytest.FixtureRequest, checkpoint: Path) -> Exported:
    path, printed = checkpoint.parent / f"{request.param}.onnx", io.StringIO()
    arguments = [str(checkpoint), "-o", str(path), "--json"]
    arguments += [] if request.param == "streaming" else ["--form", request.param]  # streaming is the default
    with redirect_stdout(printed):
        assert program.main(arguments) == 0
    return Exported(path, Network.load(path), json.loads(printed.getvalue()))


def by_pytorch(model: RawNet2, windows: NDArray[np.float32]) -> NDArray[np.float32]:
    with torch.no_grad():
        return model(torch.from_numpy(np.array(windows))).numpy()


def test_a_layer_is_a_transformer_layer_as_published() -> None:
    """PyTorch's own, with its norms first and GELU, under other names."""
    torch.manual_seed(0)
    ours, published = (
        EncoderLayer(24, 3),
        nn.TransformerEncoderLayer(24, 3, 96, 0.0, "gelu", batch_first=True, norm_first=True),
    )
    names = {
        "attention_norm": "norm1", "attention_in": "self_attn.in_proj_", "attention_out": "self_attn.out_proj",
        "dense_norm": "norm2", "dense_in": "linear1", "dense_out": "linear2",
    }  # fmt: skip
    state = {}
    for name, tensor in ours.state_dict().items():
        layer, kind = name.split(".")
        state[names[layer] + (kind if names[layer].endswith("_") else f".{kind}")] = torch.randn_like(tensor)
        tensor.copy_(state[names[layer] + (kind if names[layer].endswith("_") else f".{kind}")])
    published.load_state_dict(state)
    x = torch.randn(2, 17, 24)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), published(x), atol=1e-4, rtol=1e-4)


def test_the_program_proves_every_signal(exported: Exported, model: RawNet2) -> None:
    report = exported.report
    assert report["variant"] == "hybrid" and report["form"] == exported.network.contract.form
    assert report["largest_difference"] <= LIMIT
    assert {"silence", "voice", "voice, then silence"} <= {row["signal"] for row in report["proof"]}
    assert len({row["samples"] for row in report["proof"]}) == 2
    logits = by_pytorch(model, np.stack(list(signals(16000, RATE).values())))
    assert np.ptp(logits[:, 1] - logits[:, 0]) > 0.1, "a constant output would prove nothing"


@given(
    start=st.integers(0, 6 * RATE),
    samples=st.integers(TINY.kernel + 4 * TINY.pool, 4 * RATE),
    batch=st.integers(1, 4),
)
def test_any_length_in_any_batch_gives_what_pytorch_gives(
    exported: Exported, model: RawNet2, start: int, samples: int, batch: int
) -> None:
    windows = np.stack([np.resize(SOUND[start + 1000 * index :], samples) for index in range(batch)])
    inputs = windows
    if exported.network.contract.form == "streaming":
        inputs = model.features(torch.from_numpy(windows)).numpy()
    np.testing.assert_allclose(exported.network.logits(inputs), by_pytorch(model, windows), atol=LIMIT, rtol=0)


@given(
    cuts=st.lists(st.integers(0, SOUND.size), max_size=12),
    hop_seconds=st.floats(0.2, 1),
    window_seconds=st.sampled_from([None, 0.31, 2.5]),
)
def test_any_split_any_hop_any_window_scores_as_pytorch_does(
    exported: Exported, model: RawNet2, cuts: list[int], hop_seconds: float, window_seconds: float | None
) -> None:
    contract = exported.network.contract
    hop_seconds = min(hop_seconds, window_seconds or 1)
    detector = Detector(exported.network, hop_seconds=hop_seconds, window_seconds=window_seconds)
    windows = [found for block in np.split(SOUND, sorted(cuts)) for found in detector.push(block)] + detector.flush()
    assert windows[0].start == 0 and windows[-1].end * RATE >= SOUND.size - 0.05 * RATE - contract.hop_multiple
    scored = [found for found in windows if found.score is not None]
    assert len(scored) >= 4
    judged = filtered(SOUND, contract.high_pass_hz, RATE)
    heard = np.stack([judged[round(found.start * RATE) :][: detector.window_samples] for found in scored])
    expected = contract.llr(by_pytorch(model, heard))
    scores = np.array([found.score for found in scored], np.float64)
    np.testing.assert_allclose(scores, expected, atol=2 * contract.scale * LIMIT, rtol=0)


def test_a_sound_shorter_than_a_window_is_scored_and_a_window_shorter_than_a_filter_is_refused(
    exported: Exported, model: RawNet2
) -> None:
    detector = Detector(exported.network)
    assert detector.push(SOUND[:5000]) == []
    (found,) = detector.flush()
    contract = exported.network.contract
    judged = filtered(SOUND[:5000], contract.high_pass_hz, RATE)
    expected = contract.llr(by_pytorch(model, np.resize(judged, TINY.window_samples)[None]))[0]
    assert found.score == pytest.approx(expected, abs=2 * contract.scale * LIMIT)
    for samples in (30, TINY.kernel - 1):
        with pytest.raises(UsageError, match="too short"):
            Detector(exported.network, window_seconds=samples / RATE)


def test_the_file_says_what_it_is_and_leaves_what_a_device_fuses(
    exported: Exported, model: RawNet2, tmp_path: Path
) -> None:
    contract = exported.network.contract
    assert (contract.variant, contract.name, contract.window_samples, contract.pool) == (
        "hybrid", "small hybrid", TINY.window_samples, TINY.pool,
    )  # fmt: skip
    assert (contract.calibrated, contract.scale, contract.offset) == (True, 2.0, 0.25)
    graph = onnx.load(exported.path)
    assert [entry.version for entry in graph.opset_import] == [18] and graph.ir_version == 8
    for trace in (b".py", b"site-packages", b"torch", str(exported.path.parent).encode()):
        assert trace not in exported.path.read_bytes(), trace
    # Every dense layer and convolution of the network is a MatMul by a constant: what a quantizer takes.
    constants = {item.name: item.dims for item in graph.graph.initializer}
    weights = [node.input[1] for node in graph.graph.node if node.op_type == "MatMul" and node.input[1] in constants]
    assert len(weights) == 2 + 4 * TINY.encoder_layers + 2 + model.config.encoder_read
    assert [TINY.encoder_width, 4 * TINY.encoder_width] in [list(constants[name]) for name in weights]
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath, options.log_severity_level = str(tmp_path / "optimized.onnx"), 4
    onnxruntime.InferenceSession(exported.path, options, providers=["CPUExecutionProvider"])
    kinds = {node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node}
    assert "BiasGelu" in kinds and "Erf" not in kinds


@pytest.mark.parametrize("half", [False, True])
def test_saved_and_loaded_it_is_the_same_network(half: bool, model: RawNet2, tmp_path: Path) -> None:
    path = tmp_path / "saved.safetensors"
    save(path, model, CALIBRATION, figures={"eer": 0.5}, name="saved", half=half)
    found = load(path, "hybrid")
    assert (found.model.config, found.calibration, found.figures, found.name) == (
        model.config, CALIBRATION, {"eer": 0.5}, "saved",
    )  # fmt: skip
    windows = np.stack([SOUND[start : start + RATE] for start in (0, RATE, 4 * RATE)])
    expected = by_pytorch(model, windows)
    np.testing.assert_allclose(by_pytorch(found.model, windows), expected, atol=0.1 if half else 0, rtol=0)


def test_wishes_that_cannot_be(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy, out = tmp_path / "hybrid.safetensors", str(tmp_path / "model.onnx")
    copy.write_bytes(checkpoint.read_bytes())
    shortest, longest = TINY.pool * 4 + TINY.kernel - 1, TINY.pool * (LONGEST_FRAMES + 1) + TINY.kernel - 2
    for code, arguments, reason in (
        (4, ["--form", "shared"], "streaming"),
        (4, ["--variant", "edge"], "not edge"),
        (2, ["--window-samples", str(shortest - 1)], "too short"),
        (2, ["--window-samples", str(longest + 1)], f"at most {longest}"),
        (2, ["--sinc-kernel", "11"], "--sinc-kernel"),
    ):
        assert reason in refused(tmp_path, capsys, code, [str(copy), "-o", out, *arguments]), arguments
    assert load(copy, window_samples=shortest).model.config.frames == 4
    assert load(copy, window_samples=longest).model.config.frames == LONGEST_FRAMES


def file_of(edit: Callable[[dict[str, Tensor]], object] | None = None, **changes: object) -> bytes:
    """A saved hybrid with other weights or another config."""
    state = {name: tensor for name, tensor in random_hybrid().state_dict().items() if tensor.ndim}
    if edit is not None:
        edit(state)
    return safetensors.torch.save(state, {"config": json.dumps({**asdict(TINY), **changes})})


def without_encoder(**changes: object) -> bytes:
    state = {name: tensor for name, tensor in RawNet2(RESIDUAL).state_dict().items() if tensor.ndim}
    return safetensors.torch.save(state, {"config": json.dumps({**asdict(RESIDUAL), **changes})})


def bare() -> bytes:
    buffer = io.BytesIO()
    torch.save(random_hybrid().state_dict(), buffer)
    return buffer.getvalue()


WHOLE = file_of()
BAD: dict[str, tuple[bytes, str]] = {
    "cut short": (WHOLE[: len(WHOLE) // 2], "cut short"),
    "own names without a config": (bare(), "export.checkpoint.save"),
    "blocks beside the encoder": (file_of(channels=[8, 8]), "channels"),
    "a GRU beside the encoder": (file_of(gru_nodes=8, gru_layers=1), "disagree"),
    "neither blocks nor encoder": (without_encoder(channels=[]), "channels"),
    "blocks without a GRU": (without_encoder(gru_nodes=0), "gru_nodes = 0"),
    "an encoder that is not there": (without_encoder(channels=[], encoder_width=24, encoder_heads=3), "disagree"),
    "blocks that are not there": (file_of(encoder_width=0, channels=[8], gru_nodes=8, gru_layers=1), "disagree"),
    "no heads": (file_of(encoder_heads=0), "encoder_heads = 0"),
    "heads that do not divide": (file_of(encoder_heads=5), "5 heads"),
    "odd width": (file_of(encoder_width=15), "encoder_width = 15"),
    "width of two": (file_of(encoder_width=2, encoder_heads=1), "encoder_width = 2"),
    "width as text": (file_of(encoder_width="24"), "encoder_width = '24'"),
    "negative width": (file_of(encoder_width=-24), "encoder_width = -24"),
    "huge width": (file_of(encoder_width=1 << 40), "encoder_width"),
    "other width": (file_of(encoder_width=48), "disagree"),
    "read, but for its weights": (file_of(encoder_read=False), "disagree"),
    "no layers": (file_of(encoder_layers=0), "encoder_layers = 0"),
    "many layers": (file_of(encoder_layers=1 << 20), "disagree"),
    "slaney as a number": (file_of(slaney=1), "slaney = 1"),
    "lacks a weight": (
        file_of(lambda state: state.pop("encoder.layers.1.dense_in.bias")), "lacks encoder.layers.1.dense_in.bias",
    ),
    "lacks a stem": (file_of(lambda state: state.pop("encoder.stem1.weight")), "lacks"),
    "foreign weight": (file_of(lambda state: state.update({"encoder.extra": torch.ones(2)})), "holds encoder.extra"),
    "wrong shape": (
        file_of(lambda state: state.update({"encoder.read.weight": torch.ones(8, 24)})),
        "encoder.read.weight has the shape",
    ),
    "flat stem": (file_of(lambda state: state.update({"encoder.stem1.weight": torch.ones(24)})), "encoder.stem1"),
    "NaN": (file_of(lambda state: state["encoder.stem2.weight"].fill_(float("nan"))), "encoder.stem2.weight holds NaN"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_checkpoint_is_refused(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, reason = BAD[kind]
    (tmp_path / "bad").write_bytes(data)
    (tmp_path / "model.onnx").write_bytes(b"an older model")
    assert reason in refused(tmp_path, capsys, 4, [str(tmp_path / "bad"), "-o", str(tmp_path / "model.onnx")])


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.floats(0, 1), position=st.floats(0, 1), value=st.integers(0, 255), header=st.booleans())
def test_damage_anywhere_is_a_clear_error_or_harmless(
    cut: float, position: float, value: int, header: bool, tmp_path: Path
) -> None:
    """A changed byte in the weights cannot be seen; in the header, or where the file is cut, it must be."""
    data = bytearray(WHOLE)
    size = 8 + int.from_bytes(data[:8], "little") if header else len(data)
    data[int(position * (size - 1))] = value
    path = tmp_path / "damaged.safetensors"
    path.write_bytes(data if header else data[: int(cut * len(data))])
    try:
        found = load(path)
    except EdgeDetectError as error:
        assert "\n" not in str(error)
    else:
        assert all(torch.isfinite(part).all() for part in found.model.state_dict().values())


@pytest.mark.parametrize("exported", ["streaming"], indirect=True)
def test_its_time_is_broken_down_without_a_recurrent_layer_to_cut_at(exported: Exported) -> None:
    pipeline = OurPipeline(exported.path, 0.5, 1)
    found = stages(pipeline, rounds=3, threads=1)
    assert ENCODER in found.parts and found.network_ms > 0
    assert sum(found.parts.values()) == pytest.approx(found.whole_ms)
