"""Exported files compute the published mathematics, say what they are, and carry nothing of the machine."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor

from edge_runtime.model.contract import Contract
from edge_runtime.model.network import Network
from export import __main__ as program
from export.checkpoint import Calibration, load, save
from export.convert import contract_of, convert
from export.parity import LIMIT, prove
from export.rawnet2 import VARIANTS, Config, RawNet2
from tests import test_export_reference as reference

SAMPLES = reference.WINDOW_SAMPLES
OPTIONS = ["--threshold", "0.5", "--scale", "2", "--name", "mine", "--window-samples", "6900"]
"""What the edge-waveform case is exported with, in place of what its checkpoint says."""
CALIBRATION = Calibration(scale=1.5, offset=-0.25, threshold=-0.5, threshold_bonafide=0.75)
EDGE = Config("edge", SAMPLES, 101, 12, (12, 12, 6, 6, 6), reference.GRU_NODES, 2, reference.FC_NODES, pool=9,
              mel_scale=False, live_bn1=True, compression="log")  # fmt: skip


def edge_model() -> RawNet2:
    model = RawNet2(EDGE)
    model.load_state_dict(reference.state_dict("edge"))
    return model.eval()


def write_checkpoint(variant: str, folder: Path) -> Path:
    if variant == "edge":
        path = folder / "edge.safetensors"
        save(path, edge_model(), CALIBRATION, figures={"eer": 0.25, "data": "dev"}, name="small edge")
    else:
        path = folder / f"{variant}.pth"
        torch.save(reference.state_dict(variant), path)
    return path


@dataclass(frozen=True)
class Exported:
    variant: str
    form: str
    checkpoint: Path
    path: Path

    def logits(self, waveform: Tensor) -> np.ndarray:
        """By plain ONNX Runtime, as anyone would run the file."""
        session = onnxruntime.InferenceSession(self.path, providers=["CPUExecutionProvider"])
        if self.form == "streaming":
            return session.run(["logits"], {"features": reference.envelopes(self.variant, waveform).float().numpy()})[0]
        return session.run(["logits"], {"waveform": waveform.numpy()})[0]


CASES = [
    ("asvspoof2021", "waveform"),
    ("asvspoof5", "streaming"),
    ("eurecom2019", "streaming"),
    ("lanceaking", "waveform"),
    ("edge", "waveform"),
    ("edge", "streaming"),
]


@pytest.fixture(scope="session", params=CASES, ids="-".join)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    variant, form = request.param
    folder = tmp_path_factory.mktemp(variant)
    checkpoint, path = write_checkpoint(variant, folder), folder / "model.onnx"
    arguments = [str(checkpoint), "--variant", variant, "--form", form, "-o", str(path)]
    if variant != "edge":
        arguments += ["--window-samples", str(SAMPLES)]
    elif form == "waveform":
        arguments += OPTIONS
    assert program.main(arguments) == 0
    return Exported(variant, form, checkpoint, path)


def test_the_file_computes_the_published_mathematics(exported: Exported) -> None:
    """In any batch, and at another window length than its own."""
    state = reference.state_dict(exported.variant)
    for clips, samples in ((1, SAMPLES), (3, SAMPLES), (2, SAMPLES - 1234)):
        sound = reference.speech_like(clips, samples)
        wanted = reference.logits(exported.variant, state, sound).numpy()
        assert np.ptp(wanted) > 1e-2, "a constant output would prove nothing"
        difference = np.abs(exported.logits(sound) - wanted).max()
        assert difference <= LIMIT, f"{clips} clips of {samples} samples differ by {difference}"


def test_the_metadata_says_what_the_device_needs(exported: Exported) -> None:
    contract = Network.load(exported.path).contract
    facts = reference.PUBLISHED[exported.variant]
    assert (contract.variant, contract.form, contract.level) == (exported.variant, exported.form, "fp32")
    assert (contract.sample_rate, contract.pool) == (16000, facts.pool)
    assert contract.source_sha256 == hashlib.sha256(exported.checkpoint.read_bytes()).hexdigest()
    np.testing.assert_allclose(contract.filters, reference.bank(exported.variant)[:, 0], atol=1e-7)
    numbers = (
        contract.window_samples,
        contract.scale,
        contract.offset,
        contract.threshold,
        contract.threshold_bonafide,
    )
    said = (contract.calibrated, contract.name, contract.figures)
    if (exported.variant, exported.form) == ("edge", "waveform"):  # options replace what the checkpoint says
        assert numbers == (6900, 2.0, CALIBRATION.offset, 0.5, 0.5)
        assert said == (True, "mine", {"eer": 0.25, "data": "dev"})
    elif exported.variant == "edge":
        assert numbers == (SAMPLES, *vars(CALIBRATION).values())
        assert said == (True, "small edge", {"eer": 0.25, "data": "dev"})
    else:
        assert numbers == (SAMPLES, 1.0, 0.0, 0.0, 0.0)
        assert said == (False, "", {})


def test_the_graph_is_folded_and_carries_nothing_of_the_machine(exported: Exported) -> None:
    model = onnx.load(exported.path, load_external_data=False)
    kinds = [node.op_type for node in model.graph.node]
    assert not {"BatchNormalization", "LogSoftmax"} & set(kinds)
    assert kinds.count("GRU") == reference.PUBLISHED[exported.variant].layers
    assert model.ir_version <= 9
    assert [entry.version for entry in model.opset_import] == [18]
    assert all(tensor.data_location == onnx.TensorProto.DEFAULT for tensor in model.graph.initializer)
    data = exported.path.read_bytes()
    for trace in (b".py", b"site-packages", b"torch", b"/home", str(exported.path.parent).encode()):
        assert trace not in data, trace


def test_dead_layers_are_gone(exported: Exported) -> None:
    """A bn1 that the published code computes and throws away is no node; a live one is one activation more."""
    facts = reference.PUBLISHED[exported.variant]
    activations = [node for node in onnx.load(exported.path).graph.node if node.op_type == "LeakyRelu"]
    assert len(activations) == facts.blocks + (facts.blocks - 1 if facts.live_bn1 else 0)


def test_inspect_prints_the_contract(exported: Exported, capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main(["inspect", str(exported.path), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["variant"], facts["form"], facts["schema"]) == (exported.variant, exported.form, 1)
    assert facts["sha256"] == hashlib.sha256(exported.path.read_bytes()).hexdigest()


@pytest.mark.parametrize("variant", [name for name in VARIANTS if name in reference.PUBLISHED and name != "edge"])
def test_the_loaded_network_computes_the_published_mathematics(variant: str, tmp_path: Path) -> None:
    found = load(write_checkpoint(variant, tmp_path), variant, window_samples=SAMPLES)
    sound = reference.speech_like(3, SAMPLES)
    with torch.no_grad():
        got = found.model(sound)
    assert (got - reference.logits(variant, reference.state_dict(variant), sound)).abs().max() <= LIMIT


def test_the_wrong_one_of_two_twins_scores_differently(tmp_path: Path) -> None:
    """asvspoof2021 and asvspoof5 have the same keys: only the user knows, and a wrong word changes the scores."""
    path = write_checkpoint("asvspoof2021", tmp_path)
    right = load(path, "asvspoof2021", window_samples=SAMPLES)
    wrong = load(path, "asvspoof5", window_samples=SAMPLES)
    assert "asvspoof5 would fit as well" in right.found
    sound = reference.speech_like(2, SAMPLES)
    with torch.no_grad():
        assert (right.model(sound) - wrong.model(sound)).abs().max() > 1e-2


@pytest.mark.parametrize("variant", ["lanceaking", "eurecom2019"])
def test_a_variant_is_recognised_by_its_names_and_shapes(variant: str, tmp_path: Path) -> None:
    assert load(write_checkpoint(variant, tmp_path)).model.config.variant == variant


@pytest.mark.parametrize("wrap", ["module", "compiled", "nested", "trainer"])
def test_checkpoints_as_people_ship_them(wrap: str, tmp_path: Path) -> None:
    state = reference.state_dict("lanceaking")
    shipped: dict[str, object] = {
        "module": {f"module.{key}": tensor for key, tensor in state.items()},
        "compiled": {f"module._orig_mod.{key}": tensor for key, tensor in state.items()},
        "nested": {"epoch": 3, "state_dict": state, "optimizer": {"step": 1}},
        "trainer": {"model": {"state_dict": {f"net.{key}": tensor for key, tensor in state.items()}}},
    }
    torch.save(shipped[wrap], tmp_path / "shipped.pth")
    torch.save(state, tmp_path / "plain.pth")
    weights = load(tmp_path / "shipped.pth").model.state_dict()
    for key, tensor in load(tmp_path / "plain.pth").model.state_dict().items():
        assert torch.equal(weights[key], tensor), key


def test_own_checkpoints_come_back_as_they_were_saved(tmp_path: Path) -> None:
    found = load(write_checkpoint("edge", tmp_path))
    assert (found.model.config, found.calibration, found.name) == (EDGE, CALIBRATION, "small edge")
    for key, tensor in edge_model().state_dict().items():
        assert torch.equal(found.model.state_dict()[key], tensor) or key.endswith("num_batches_tracked"), key


def test_half_precision_keeps_the_scores_near(tmp_path: Path) -> None:
    save(tmp_path / "whole.safetensors", edge_model())
    save(tmp_path / "half.safetensors", edge_model(), half=True)
    sound = reference.speech_like(2, SAMPLES)
    with torch.no_grad():
        difference = (load(tmp_path / "half.safetensors").model(sound) - edge_model()(sound)).abs().max()
    assert difference < 0.01
    assert (tmp_path / "half.safetensors").stat().st_size < (tmp_path / "whole.safetensors").stat().st_size


def test_the_proof_sees_a_changed_weight(exported: Exported) -> None:
    window = None if exported.variant == "edge" else SAMPLES
    model = load(exported.checkpoint, exported.variant, window_samples=window).model
    assert prove(model, exported.path).holds
    with torch.no_grad():
        model.fc2.bias.add_(1e-3)
    assert not prove(model, exported.path).holds


def test_inspect_runs_where_no_torch_is_installed(tmp_path: Path) -> None:
    """On a device: whatever imports torch, onnx or safetensors fails there, and nothing may."""
    model = onnx.helper.make_model(
        onnx.helper.make_graph(
            [
                onnx.helper.make_node("ReduceMax", ["waveform"], ["loudest"], axes=[1], keepdims=1),
                onnx.helper.make_node("Concat", ["loudest", "loudest"], ["logits"], axis=1),
            ],
            "small",
            [onnx.helper.make_tensor_value_info("waveform", onnx.TensorProto.FLOAT, ["batch", 100])],
            [onnx.helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, ["batch", 2])],
        ),
        opset_imports=[onnx.helper.make_opsetid("", 13)],
        ir_version=8,
    )
    contract = Contract("waveform", "edge", 16000, 100, 3, np.ones((2, 5), np.float32))
    onnx.helper.set_model_props(model, contract.to_metadata())
    onnx.save(model, tmp_path / "small.onnx")
    code = (
        "import sys\n"
        "for name in ('torch', 'onnx', 'onnxscript', 'safetensors'): sys.modules[name] = None\n"
        "from export.__main__ import main\n"
        "sys.exit(main(['inspect', sys.argv[1], '--json']))\n"
    )
    run = subprocess.run([sys.executable, "-c", code, str(tmp_path / "small.onnx")], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout)["window_samples"] == 100


def test_the_offered_variants_are_the_known_ones() -> None:
    assert tuple(VARIANTS) == program.VARIANTS


@pytest.mark.parametrize("form", ["waveform", "streaming"])
@pytest.mark.nightly
def test_a_full_size_network_exports_exactly(form: str, tmp_path: Path) -> None:
    """1,024 GRU units, as the public baselines have; `convert` proves every file that it writes."""
    torch.manual_seed(0)
    model = RawNet2(VARIANTS["asvspoof2021"]).eval()
    save(tmp_path / "full.safetensors", model)
    checkpoint = load(tmp_path / "full.safetensors")
    proof = convert(checkpoint, contract_of(checkpoint, form), tmp_path / "full.onnx")
    assert proof.difference <= LIMIT
    assert (tmp_path / "full.onnx").stat().st_size > 60e6


@pytest.mark.parametrize("form", ["waveform", "streaming", "shared"])
def test_no_file_says_where_it_was_made(form: str, tmp_path: Path) -> None:
    """Neither the graph nor the first block, which is a model of its own in the metadata."""
    variant = "asvspoof5"
    path = tmp_path / "model.onnx"
    arguments = [str(write_checkpoint(variant, tmp_path)), "--variant", variant, "--form", form, "-o", str(path)]
    assert program.main([*arguments, "--window-samples", str(SAMPLES)]) == 0
    blocks = Contract.from_metadata({item.key: item.value for item in onnx.load(path).metadata_props}).first_block
    for content in (path.read_bytes(), blocks):
        for trace in (b"/export/", b"File ", b"site-packages", str(tmp_path).encode()):
            assert trace not in content
