"""Checkpoints that are wrapped, have too much in them, or are no arrays of numbers, and programs that are ended."""

from __future__ import annotations

import io
import json
import os
import resource
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor

from edge_runtime.app.inspection import inspect, table
from edge_runtime.errors import ModelError
from export import __main__ as program
from export.checkpoint import load, save
from export.rawnet2 import RawNet2
from tests import hostile_models as hostile
from tests import test_export_reference as reference
from tests.test_export_refusals import TINY, config_of

GRU = "gru.weight_hh_l0"


def state() -> dict[str, Any]:
    return dict(reference.state_dict("asvspoof5"))


def named(prefix: str) -> dict[str, Any]:
    return {prefix + key: tensor for key, tensor in state().items()}


def saved(path: Path, content: object) -> Path:
    torch.save(content, path)
    return path


WRAPPED: dict[str, Callable[[], object]] = {
    "ema": lambda: {"ema": state(), "epoch": 3},
    "params": lambda: {"params": state()},
    "net_params": lambda: {"net_params": state(), "optimizer": {"state": {0: torch.ones(3)}}},
    "model_state": lambda: {"model_state": state()},
    "ema_state_dict": lambda: {"ema_state_dict": state()},
    "another name, two levels": lambda: {"run": {"weights of ours": state()}},
    "prefixes": lambda: {"state_dict": named("_orig_mod.module.model.")},
    "bare": state,
}


@pytest.mark.parametrize("kind", WRAPPED)
def test_weights_are_found_wherever_a_program_put_them(kind: str, tmp_path: Path) -> None:
    plain = load(saved(tmp_path / "plain.pth", state()), "asvspoof5")
    found = load(saved(tmp_path / "wrapped.pth", WRAPPED[kind]()), "asvspoof5")
    for one, other in zip(found.model.state_dict().values(), plain.model.state_dict().values(), strict=True):
        assert torch.equal(one, other)


def test_the_weights_go_before_their_smoothed_copy_and_the_user_hears_it(tmp_path: Path) -> None:
    other = {key: tensor + 0.5 if tensor.is_floating_point() else tensor for key, tensor in state().items()}
    found = load(saved(tmp_path / "two.pth", {"ema": other, "model": {"net": state()}}), "asvspoof5")
    assert found.found.endswith("under model.net, not ema")
    assert torch.equal(found.model.state_dict()["first_bn.weight"], state()["first_bn.weight"])


def test_extra_weights_are_named_and_left_out_on_request(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    more = {"loss.\x1b[31mweight": torch.ones(3), "steps": torch.tensor([1, 2]), "teacher.w": torch.ones(1).expand(4)}
    path = saved(tmp_path / "extra.pth", {**state(), **more})
    with pytest.raises(ModelError, match="--ignore-extra"):
        load(path, "asvspoof5")
    assert load(path, "asvspoof5", ignore_extra=True).model
    path = saved(tmp_path / "three.pth", {**state(), **{f"loss.\x1b[31m{n}": torch.ones(2) for n in range(5)}})
    assert program.main([str(path), "--variant", "asvspoof5", "-o", str(tmp_path / "out.onnx")]) == 4
    said = capsys.readouterr().err
    assert "\x1b" not in said and "loss.\\x1b[31m0" in said and "and 2 more: 5 weights" in said


def odd(tensor: Callable[[torch.Size], Tensor]) -> Callable[[], object]:
    return lambda: {**state(), GRU: tensor(state()[GRU].shape)}


def cyclic() -> object:
    found: dict[str, Any] = {"epoch": 1}
    found["model"] = found
    return found


def same_memory() -> object:
    base = torch.ones(10_000)
    size = state()["first_bn.weight"].numel()
    return {**state(), "first_bn.weight": base[:size], "first_bn.bias": base[1 : size + 1]}


class Large:
    """2^38 bytes, which PyTorch's restricted unpickler would make."""

    def __reduce__(self) -> tuple[type[bytearray], tuple[int]]:
        return bytearray, (1 << 38,)


NO_ARRAYS: dict[str, tuple[Callable[[], object], str]] = {
    "steps of 0": (odd(lambda shape: torch.ones(1).expand(shape)), "no plain"),
    "2^61 numbers on one": (odd(lambda shape: torch.ones(1).expand(2**31, 2**30)), "no plain"),
    "overlapping rows": (odd(lambda shape: torch.ones(5 * shape[0]).as_strided(shape, (1, 1))), "no plain"),
    "sparse": (odd(lambda shape: torch.ones(shape).to_sparse()), "no plain"),
    "nested": (odd(lambda shape: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])), "no plain"),
    "meta": (odd(lambda shape: torch.ones(shape, device="meta")), "no plain"),
    "quantized": (odd(lambda shape: torch.quantize_per_tensor(torch.ones(shape), 0.1, 0, torch.qint8)), "no plain"),
    "complex": (odd(lambda shape: torch.ones(shape, dtype=torch.complex64)), "no plain"),
    "float8": (odd(lambda shape: torch.ones(shape).to(torch.float8_e4m3fn)), "no plain"),
    "bool": (odd(lambda shape: torch.ones(shape, dtype=torch.bool)), "no plain"),
    "no axes": (odd(lambda shape: torch.tensor(1.0)), "shape []"),
    "a container in itself": (cyclic, "no RawNet2"),
    "two weights on one memory": (same_memory, "on the same memory"),
    "an array of 256 GB": (lambda: {"first_bn.weight": Large()}, "more memory"),
}


@pytest.mark.filterwarnings("ignore")  # PyTorch warns of what it is about to give up
@pytest.mark.parametrize("kind", NO_ARRAYS)
def test_what_is_no_array_of_numbers_is_one_line(kind: str, tmp_path: Path) -> None:
    make, reason = NO_ARRAYS[kind]
    limit = resource.getrlimit(resource.RLIMIT_AS)
    with pytest.raises(ModelError) as caught:
        load(saved(tmp_path / "odd.pth", make()), "asvspoof5")
    assert reason in str(caught.value) and "\n" not in str(caught.value) and len(str(caught.value)) < 500
    assert resource.getrlimit(resource.RLIMIT_AS) == limit


def test_many_small_entries_are_a_bomb_too_and_packed_weights_are_none(tmp_path: Path) -> None:
    """Each entry is smaller than the file; together they are a hundred times as much."""
    bomb, packed = tmp_path / "bomb.pth", tmp_path / "packed.pth"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(100):
            archive.writestr(f"archive/data/{number}", bytes(90_000))
    assert bomb.stat().st_size < 90_000
    with pytest.raises(ModelError, match="unpacks to more"):
        load(bomb)
    with (
        zipfile.ZipFile(saved(tmp_path / "plain.pth", state())) as plain,
        zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        for entry in plain.infolist():
            archive.writestr(entry.filename, plain.read(entry))
    assert load(packed, "asvspoof5").model


def test_figures_of_any_length_are_read_or_refused(tmp_path: Path) -> None:
    tensors = {name: part for name, part in RawNet2(TINY).state_dict().items() if part.ndim}
    config = json.loads(safetensors_metadata(config_of())["config"])
    path = tmp_path / "own.safetensors"
    for metadata in (
        {"calibration": '{"scale": 1' + "0" * 400 + "}"},
        {"calibration": '{"offset": -1e999}'},
        {"calibration": '{"scale": ' + "9" * 5000 + "}"},
        {"figures": '{"a": ' + "[" * 500 + "]" * 500 + "}"},
        {"name": "n" * 100_000},
    ):
        path.write_bytes(safetensors.torch.save(tensors, {"config": json.dumps(config), **metadata}))
        with pytest.raises(ModelError, match="damaged"):
            load(path)


def safetensors_metadata(data: bytes) -> dict[str, str]:
    header: dict[str, dict[str, str]] = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    return header["__metadata__"]


def test_inspect_shows_escapes_and_bounds_what_it_shows(tmp_path: Path) -> None:
    model = tmp_path / hostile.write(
        tmp_path,
        hostile.good(name="\x1b[2J\u202egnp", figures=json.dumps({"\x1b[31m": "\u2066" + "x" * 100_000, "a\nb": 1})),
    )
    text = table(inspect(model))
    assert all(letter.isprintable() or letter == "\n" for letter in text)
    assert "\\x1b[2J\\u202egnp" in text and "a\\nb" in text
    assert len(text) < 5000


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_export_that_is_ended_leaves_nothing(number: signal.Signals, tmp_path: Path) -> None:
    torch.manual_seed(0)
    save(tmp_path / "own.safetensors", RawNet2(TINY).eval())
    words = [sys.executable, "-m", "export", "own.safetensors", "-o", "model.onnx"]
    root = Path(__file__).resolve().parent.parent
    process = subprocess.Popen(
        words, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(root)}, stderr=subprocess.PIPE, text=True
    )
    try:
        until = time.monotonic() + 120
        while not list(tmp_path.glob(".model.onnx.*.part")) and process.poll() is None and time.monotonic() < until:
            time.sleep(0.001)
        process.send_signal(number)
        _, said = process.communicate(timeout=120)
    finally:
        process.kill()
    assert "Traceback" not in said
    assert process.returncode in (0, 128 + number), said
    assert {path.name for path in tmp_path.iterdir()} <= {"own.safetensors", "model.onnx"}
    assert (process.returncode == 0) == (tmp_path / "model.onnx").exists()


def test_legacy_files_cannot_ask_for_more_than_they_have(tmp_path: Path) -> None:
    """The older form names the length of each array before the array; here it says 2^40 numbers."""
    buffer = io.BytesIO()
    torch.save({"first_bn.weight": torch.ones(300)}, buffer, _use_new_zipfile_serialization=False)
    data = buffer.getvalue()
    claimed = b"\x8a\x06" + (1 << 40).to_bytes(6, "little")  # LONG1 in the place of BININT2
    path = tmp_path / "legacy.pth"
    path.write_bytes(data.replace(b"M\x2c\x01", claimed))
    assert claimed in path.read_bytes()
    with pytest.raises(ModelError):
        load(path, "asvspoof5")
