"""Models and checkpoints of somebody else.

Models go through `edge-detect`, checkpoints through `python -m export`.
"""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests import hostile_models as hostile
from tests.faults.case import Case

CLIP = Path(__file__).resolve().parents[2] / "examples" / "human.flac"


def _model(what: str, make: Callable[[], bytes], shows: str) -> Case:
    def arguments(folder: Path) -> Sequence[str | Path]:
        return ["--model", hostile.write(folder, make()), "--file", CLIP]

    return Case(what, arguments, 4, shows)


def _checkpoint(what: str, make: Callable[[], bytes], shows: str, *more: str, code: int = 4) -> Case:
    def arguments(folder: Path) -> Sequence[str | Path]:
        (folder / "checkpoint.pth").write_bytes(make())
        return ["checkpoint.pth", "-o", "model.onnx", "--json", *more]

    return Case(what, arguments, code, shows, "export", most_megabytes=700.0)


def _saved(content: object) -> bytes:
    import torch

    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def _state(**more: Any) -> dict[str, Any]:
    from tests import test_export_reference as reference

    return {**reference.state_dict("asvspoof5"), **more}


def _strides() -> bytes:
    import torch

    return _saved(_state(**{"gru.weight_hh_l0": torch.ones(1).expand(2**31, 2**30)}))


def _nested() -> bytes:
    import torch

    parts = torch.nested.nested_tensor([torch.ones(3), torch.ones(4)])
    return _saved(_state(**{"gru.weight_hh_l0": parts}))


def _extra() -> bytes:
    import torch

    return _saved(_state(**{"loss.\x1b[31mweight": torch.ones(3)}))


def _bomb() -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(100):
            archive.writestr(f"archive/data/{number}", bytes(1_000_000))
    return packed.getvalue()


def _own(**metadata: str) -> bytes:
    import safetensors.torch

    from export.rawnet2 import RawNet2
    from tests.test_export_refusals import TINY, asdict

    tensors = {name: part for name, part in RawNet2(TINY).state_dict().items() if part.ndim}
    made: bytes = safetensors.torch.save(tensors, {"config": json.dumps(asdict(TINY)), **metadata})
    return made


class _Code:
    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return os.mkdir, ("OWNED",)


CASES = [
    _model("a model with a window of 19 GB", lambda: hostile.good(window_samples="4800000000"), "window in samples"),
    _model(
        "a model with a pool of 1 at 384 kHz",
        lambda: hostile.good(form="streaming", pool="1", sample_rate="384000", window_samples="23040000"),
        "MB of memory",
    ),
    _model("a model with a number of 5,000 digits", lambda: hostile.good(pool="9" * 5000), "that is no number"),
    replace(
        _model("a model with a loop of 2^60 rounds", hostile.loop, "opening and running it once took more"),
        before=("sh", "-c", 'ulimit -t 6; exec "$@"', "sh"),  # less than there is, so that the test is short
    ),
    _model("a model with a constant of 32 GB", hostile.expanded, "MB of memory"),
    _model("a model whose weights lie in another file", lambda: hostile.external("/etc/passwd"), "external data"),
    _model("a model that gives NaN for every sound", hostile.no_numbers, "NaN or infinite"),
    _model("a first block that gives one column", lambda: hostile.shared("one column"), "its first block gives"),
    _model("a model that gives three logits", hostile.three_columns, "it must be tensor(float) [1, 2]"),
    _checkpoint("a checkpoint of 100 KB that unpacks to 100 MB", _bomb, "unpacks to more than"),
    _checkpoint("a checkpoint with a tensor of 2^61 numbers on one", _strides, "holds no plain"),
    _checkpoint("a checkpoint with a nested tensor", _nested, "holds no plain"),
    _checkpoint("a checkpoint with code in it", lambda: _saved({"first_bn.weight": _Code()}), "never loaded"),
    _checkpoint(
        "a checkpoint with a calibration of 10^400",
        lambda: _own(calibration='{"scale": 1' + "0" * 400 + "}"),
        "calibration is damaged",
    ),
    _checkpoint(
        "a checkpoint with a weight too many, whose name has an escape",
        _extra,
        "loss.\\x1b[31mweight",
        "--variant",
        "asvspoof5",
    ),
]
