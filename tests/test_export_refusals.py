"""Bad checkpoints and bad requests end in one clear line and an exit code, and leave the disk as it was."""

from __future__ import annotations

import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from edge_runtime.errors import EdgeDetectError, ModelError, OutputError
from export import __main__ as program
from export.checkpoint import Checkpoint, load, save
from export.convert import contract_of, convert
from export.rawnet2 import Config, RawNet2
from tests import test_export_reference as reference

TINY = Config("edge", 600, 9, 2, (2, 2), 2, 1, 2, pool=3, mel_scale=False, live_bn1=True, compression="log")


def pth(state: object, new_format: bool = True) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer, _use_new_zipfile_serialization=new_format)
    return buffer.getvalue()


def changed(edit: Callable[[dict[str, Tensor]], object], variant: str = "asvspoof5") -> bytes:
    state = reference.state_dict(variant)
    edit(state)
    return pth(state)


class Hostile:
    """Unpickled without care, it makes the folder `OWNED`."""

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, ("OWNED",)


def poisoned(value: float) -> bytes:
    return changed(lambda state: state["gru.weight_hh_l1"][3].fill_(value))


def config_of(**changes: object) -> bytes:
    tensors = {name: part for name, part in RawNet2(TINY).state_dict().items() if part.ndim}
    return safetensors.torch.save(tensors, {"config": json.dumps({**asdict(TINY), **changes})})


WHOLE = changed(lambda state: None)
OWN = config_of()
BAD: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "damaged"),
    "text": (b"hello, world, this is no checkpoint", "damaged"),
    "truncated": (WHOLE[: len(WHOLE) // 2], "cut short"),
    "truncated own": (OWN[: len(OWN) // 2], "cut short"),
    "hostile": (pth({"first_bn.weight": torch.ones(2), "x": Hostile()}), "never loaded"),
    "hostile, old format": (pth(Hostile(), new_format=False), "never loaded"),
    "bare pickle": (pickle.dumps({"state_dict": Hostile()}), "no PyTorch file"),
    "whole network": (pth(torch.nn.Linear(2, 2)), "state_dict"),
    "no tensors": (pth({"epoch": 3}), "no RawNet2"),
    "a list": (pth([torch.ones(2)]), "no state dict"),
    "another network": (pth(torch.nn.Linear(2, 2).state_dict()), "no RawNet2"),
    "NaN": (poisoned(float("nan")), "gru.weight_hh_l1 holds NaN"),
    "infinite": (poisoned(float("inf")), "gru.weight_hh_l1 holds NaN or infinite"),
    "negative variance": (changed(lambda s: s["first_bn.running_var"].fill_(-1)), "first_bn.running_var"),
    "integers": (changed(lambda s: s.update({"fc2_gru.bias": torch.tensor([1, 2])})), "fc2_gru.bias"),
    "lacks a weight": (changed(lambda s: s.pop("block3.0.conv2.bias")), "lacks blocks.3.conv2.bias"),
    "lacks the GRU": (changed(lambda s: s.pop("gru.weight_hh_l0")), "lacks gru.weight_hh_l0"),
    "foreign weight": (changed(lambda s: s.update(extra=torch.ones(2))), "holds extra"),
    "wrong shape": (changed(lambda s: s.update({"fc2_gru.weight": torch.ones(3, 8)})), "fc2.weight has the shape"),
    "flat weight": (changed(lambda s: s.update({"gru.weight_hh_l0": torch.ones(4)})), "gru.weight_hh_l0"),
    "other variant": (changed(lambda s: None, "lanceaking"), "not asvspoof5"),
    "EURECOM's width": (changed(lambda s: None, "eurecom2019"), "not asvspoof5"),
    "own, but of another variant": (OWN, "not asvspoof5"),
    "own, unknown field": (config_of(surprise=1), "surprise"),
    "own, absurd pool": (config_of(pool=0), "pool = 0"),
    "own, absurd kernel": (config_of(kernel="9"), "kernel = '9'"),
    "own, huge kernel": (config_of(kernel=1 << 40), "kernel"),
    "own, other width": (config_of(gru_nodes=1 << 20), "disagree"),
    "own, flat channels": (config_of(channels=3), "config"),
}  # fmt: skip


def listing(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() if path.is_file() else b"" for path in folder.iterdir()}


def refused(folder: Path, capsys: pytest.CaptureFixture[str], code: int, arguments: list[str]) -> str:
    """Runs the program; asserts its exit code, one line of error, and an unchanged folder. Gives the line."""
    before = listing(folder)
    assert program.main(arguments) == code
    printed = capsys.readouterr()
    errors = [line for line in printed.err.splitlines() if not line.startswith("variant: ")]
    assert (printed.out, len(errors)) == ("", 1), printed
    assert "Traceback" not in printed.err
    assert listing(folder) == before
    return errors[0]


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_checkpoint_is_refused(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data, reason = BAD[kind]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.pth").write_bytes(data)
    (tmp_path / "model.onnx").write_bytes(b"an older model")
    named = "asvspoof5" if "own, " not in kind or "another" in kind else "edge"
    line = refused(tmp_path, capsys, 4, ["bad.pth", "--variant", named, "-o", "model.onnx"])
    assert reason in line
    assert not (tmp_path / "OWNED").exists()


def test_the_hostile_checkpoint_is_a_real_attack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the refusals above would prove nothing."""
    monkeypatch.chdir(tmp_path)
    pickle.loads(BAD["bare pickle"][0])
    assert (tmp_path / "OWNED").is_dir()


def test_a_zip_bomb_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bomb.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data/0", bytes(10_000_000))
    with pytest.raises(ModelError, match="unpacks to more"):
        load(path)


def test_twins_must_be_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "twin.pth").write_bytes(WHOLE)
    line = refused(tmp_path, capsys, 2, [str(tmp_path / "twin.pth"), "-o", str(tmp_path / "model.onnx")])
    assert "asvspoof2021 and asvspoof5" in line
    assert "--variant" in line


def test_requests_that_cannot_be(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own, out = str(tmp_path / "own.pth"), str(tmp_path / "model.onnx")
    Path(own).write_bytes(OWN)
    folder = tmp_path / "folder"
    folder.mkdir()
    for code, arguments, reason in (
        (4, [str(tmp_path / "absent.pth"), "-o", out], "no checkpoint file"),
        (4, [str(folder), "-o", out], "no checkpoint file"),
        (2, [own, "-o", out, "--window-samples", "20"], "too short"),
        (2, [own, "-o", out, "--sinc-kernel", "11"], "--sinc-kernel"),
        (2, [own, "-o", out, "--threshold", "1", "--threshold-bonafide", "0"], "order"),
        (2, [own, "-o", out, "--scale", "-1"], "order"),
        (5, [own, "-o", str(folder)], "folder"),
        (5, [own, "-o", str(tmp_path / "absent" / "model.onnx")], "cannot write"),
        (4, ["inspect", own], "cannot open"),
        (4, ["inspect", str(tmp_path / "absent.onnx")], "no such"),
    ):
        assert reason in refused(tmp_path, capsys, code, arguments), arguments
    for arguments in ([own], [own, "-o", out, "--variant", "other"], [own, "-o", out, "--scale", "nan"]):
        assert program.main(arguments) == 2


def test_a_file_that_fails_its_proof_is_not_written(tmp_path: Path) -> None:
    """Here the file's filter bank is not the network's."""
    torch.manual_seed(0)
    checkpoint = Checkpoint(RawNet2(TINY).eval(), "", "")
    path = tmp_path / "model.onnx"
    path.write_bytes(b"an older model")
    contract = contract_of(checkpoint, "streaming")
    with pytest.raises(ModelError, match="differs from PyTorch"):
        convert(checkpoint, replace(contract, filters=np.flip(contract.filters, 0).copy()), path)
    assert listing(tmp_path) == {"model.onnx": b"an older model"}


def test_saving_refuses_what_cannot_be_read_back(tmp_path: Path) -> None:
    model = RawNet2(TINY)
    with pytest.raises(OutputError):
        save(tmp_path / "absent" / "own.safetensors", model)
    with torch.no_grad():
        model.fc1.weight[0, 0] = 1e6
    with pytest.raises(ModelError, match=r"fc1\.weight"):
        save(tmp_path / "own.safetensors", model, half=True)
    assert listing(tmp_path) == {}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    own=st.booleans(),
    cut=st.floats(0, 1),
    position=st.floats(0, 1),
    value=st.integers(0, 255),
    whole=st.booleans(),
)
def test_damage_anywhere_is_a_clear_error_or_harmless(
    own: bool, cut: float, position: float, value: int, whole: bool, tmp_path: Path
) -> None:
    """A changed byte in the weights cannot be seen; anywhere else, and any cut, it must not end in a foreign error."""
    data = bytearray(OWN if own else WHOLE)
    data[int(position * (len(data) - 1))] = value
    path = tmp_path / "damaged.pth"
    path.write_bytes(data if whole else data[: int(cut * len(data))])
    found, said = None, ""
    try:
        found = load(path, None if own else "asvspoof5")
    except EdgeDetectError as error:
        said = str(error)
    assert "\n" not in said
    assert found is None or all(torch.isfinite(part).all() for part in found.model.state_dict().values())
