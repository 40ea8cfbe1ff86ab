"""Checkpoints: PyTorch's zip and its older pickle, and safetensors, read without trust."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import safetensors.torch
import torch

from export.checkpoint import load
from export.rawnet2 import RawNet2
from tests import test_export_reference as reference
from tests.fuzz.harness import Target
from tests.test_export_refusals import TINY


class _Code:
    """Unpickled without care, it makes a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = str(folder / "OWNED")

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return os.mkdir, (self._folder,)


def _saved(content: object, zipped: bool = True) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=zipped)
    return buffer.getvalue()


def _seeds(folder: Path) -> list[bytes]:
    torch.manual_seed(0)
    state = reference.state_dict("asvspoof5")
    tensors = {name: part for name, part in RawNet2(TINY).state_dict().items() if part.ndim}
    metadata = {"config": json.dumps(asdict(TINY)), "calibration": '{"scale": 2.0, "offset": 0.5}', "figures": "{}"}
    few = {"first_bn.weight": torch.ones(2), "x": torch.ones(2, 2).t()}
    return [
        safetensors.torch.save(tensors, metadata),
        _saved({"model": state, "epoch": 3}),
        _saved({"ema": state}, zipped=False),
        *(_saved(few, zipped) for zipped in (True, False)),
        *(_saved({**few, "y": _Code(folder)}, zipped) for zipped in (True, False)),
    ]


def _run(sample: bytes, folder: Path) -> None:
    path = folder / "checkpoint"
    path.write_bytes(sample)
    try:
        found = load(path, None if sample[8:9] == b"{" else "asvspoof5")
    finally:
        assert not (folder / "OWNED").exists(), "code was run"
    assert all(bool(torch.isfinite(part).all()) for part in found.model.state_dict().values())


TARGET = Target(
    seeds=_seeds,
    run=_run,
    tokens=(
        *(b"F32", b"F64", b"BOOL", b"I64", b"9" * 400, b"NaN", b'"shape":[0,4611686018427387904]', b"[[[["),
        *(
            b"\x80\x02",
            b"ctorch\n",
            b"q\x00",
            b"Q",
            b"R",
            b"\x8a\x08",
            b"K\x00",
            b"ctorch._utils\n_rebuild_tensor_v2\n",
        ),
        *(b"PK\x03\x04", b"PK\x01\x02", b"cbuiltins\nbytearray\n", b"cposix\nsystem\n"),
    ),
    most_seconds=20.0,
)
