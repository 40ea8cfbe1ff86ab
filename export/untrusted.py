"""A checkpoint's bytes, which anybody may have written, to plain weights: no code is run, and memory is bounded.

Two containers are read: PyTorch's (a zip with a pickle, or the older bare pickle), by PyTorch's restricted unpickler,
and safetensors. Either may say that it holds more than it does, or describe tensors that are none: views with steps of
0 over one number, sparse, nested, quantized. Whatever is not a plain array of numbers of its own is refused here.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import resource
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from edge_runtime.errors import ModelError
from edge_runtime.system.text import printable

LARGEST_BYTES = 1 << 30
"""Of a file, and of what is in it; the largest public RawNet2 has 102 MB."""
_UNPACKED = 2
"""Times its own size that a file's content may have: weights hardly pack. The constant is for tiny files."""
_SMALL = 1 << 20
_MEMORY = 1 << 29
"""Bytes that reading may take beside four times the file."""
_NUMBERS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_MOST_AXES = 8
_UNUSABLE = "it cannot be used (--ignore-extra leaves it out, if the network does not need it)"
_SHOWN = 60
"""Characters of a name that somebody else gave."""


def shown(name: object) -> str:
    """A key of a checkpoint for a message: on one line, of bounded length, control characters escaped."""
    text = str(name)
    return printable(text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "...")


def read(path: Path) -> bytes:
    """The file's bytes. Raises ModelError when there is no such file, or it is too large."""
    try:
        if not path.is_file():
            raise ModelError(f"there is no checkpoint file {path}")
        with path.open("rb") as file:
            data = file.read(LARGEST_BYTES + 1)
    except (OSError, ValueError) as reason:
        raise ModelError(f"cannot read {path}: {getattr(reason, 'strerror', None) or reason}") from None
    if len(data) > LARGEST_BYTES:
        raise ModelError(f"{path} has more than {LARGEST_BYTES >> 20} MB: it is no RawNet2 checkpoint")
    return data


def content(data: bytes) -> tuple[Any, dict[str, str]]:
    """What the bytes hold, of types that run no code, and the metadata of safetensors. Raises ModelError."""
    if data[8:9] == b"{":
        return _from_safetensors(data)
    return _from_pickle(data), {}


def plain(state: Mapping[str, Tensor], drop: bool) -> dict[str, Tensor]:
    """The tensors that are dense arrays of floating-point numbers; with `drop` others are left out.

    Without it they raise ModelError. Nothing else may be asked of a tensor before: a nested one has no shape.
    """
    found = {key: tensor for key, tensor in state.items() if _is_plain(tensor)}
    if (foreign := sorted(state.keys() - found.keys())) and not drop:
        raise ModelError(f"the checkpoint's {shown(foreign[0])} holds no plain floating-point numbers: {_UNUSABLE}")
    return found


def check_weights(state: Mapping[str, Tensor]) -> None:
    """Raises ModelError unless these dense arrays hold finite numbers, each in memory of its own."""
    total = 0
    spans: list[tuple[int, int, str]] = []
    for key, tensor in state.items():
        size = tensor.numel() * tensor.element_size()
        total += size
        if total > LARGEST_BYTES:
            raise ModelError(f"the checkpoint's weights have more than {LARGEST_BYTES >> 20} MB")
        if size:
            begin = tensor.data_ptr()
            spans.append((begin, begin + _reach(tensor) * tensor.element_size(), key))
    spans.sort()
    for (_, end, one), (begin, _, other) in pairwise(spans):
        if begin < end:
            raise ModelError(f"the checkpoint's {shown(one)} and {shown(other)} lie on the same memory: it is damaged")
    for key, tensor in state.items():
        if not bool(torch.isfinite(tensor).all()):
            raise ModelError(f"the checkpoint's {shown(key)} holds NaN or infinite weights: it cannot be used")
        if key.endswith("running_var") and bool((tensor < 0).any()):
            raise ModelError(f"the checkpoint's {shown(key)} holds a negative variance: it is damaged")


def _is_plain(tensor: Tensor) -> bool:
    """Whether it is a dense array that lies within its own storage, and no two of its numbers on one place."""
    if type(tensor) not in (Tensor, torch.nn.Parameter) or tensor.dtype not in _NUMBERS:
        return False
    if tensor.device.type != "cpu" or tensor.layout != torch.strided or tensor.is_nested or tensor.is_quantized:
        return False
    if tensor.ndim > _MOST_AXES:
        return False
    if tensor.numel() == 0:
        return True
    reach = _reach(tensor)
    needed = (tensor.storage_offset() + reach) * tensor.element_size()
    return reach > 0 and tensor.storage_offset() >= 0 and needed <= tensor.untyped_storage().nbytes()


def _reach(tensor: Tensor) -> int:
    """Places from a tensor's first number to the one after its last; 0 when two numbers may lie on one place."""
    reach = 1
    for step, length in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if length > 1:
            if step < reach:
                return 0
            reach += step * (length - 1)
    return reach


def _from_safetensors(data: bytes) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with _bounded(len(data)):
            state = safetensors.torch.load(data)
            header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        metadata = header.get("__metadata__") or {}
        if not all(isinstance(text, str) for text in metadata.values()):
            raise ValueError("its metadata are no text")
    except Exception as reason:  # hostile bytes may raise anything
        text = printable(" ".join(str(reason).split())[:160])
        raise ModelError(f"the checkpoint is cut short or damaged: {text}") from None
    return state, metadata


def _from_pickle(data: bytes) -> Any:
    """What a `.pth` file holds, by torch's restricted unpickler, which builds tensors and runs no code."""
    try:
        if data[:2] == b"PK":
            _check_unpacked(data)
        with warnings.catch_warnings(), _bounded(len(data)):
            warnings.simplefilter("ignore")  # the user gets one line, below
            return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except ModelError:
        raise
    except MemoryError:
        raise ModelError("the checkpoint asks for more memory than its size allows: refused") from None
    except Exception as reason:  # hostile bytes may raise anything; none of it is for the user to read
        text = str(reason)
        if "allocate memory" in text:
            raise ModelError("the checkpoint asks for more memory than its size allows: refused") from None
        if (named := re.search(r"GLOBAL ([\w.]+)|(?:class|function) ([\w.]+)", text)) is not None:
            raise ModelError(
                f"the checkpoint holds code or objects ({shown(named[1] or named[2])}), which are never loaded: "
                "save its state_dict() alone"
            ) from None
        raise ModelError("the checkpoint is cut short, damaged or no PyTorch file") from None


def _check_unpacked(data: bytes) -> None:
    """Raises ModelError when a zip's entries are more, together, than weights can be packed to."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        total = sum(entry.file_size for entry in archive.infolist())
    if total > min(LARGEST_BYTES, _UNPACKED * len(data) + _SMALL):
        raise ModelError(f"the checkpoint unpacks to more than {_UNPACKED} times its own size: refused")


@contextlib.contextmanager
def _bounded(size: int) -> Iterator[None]:
    """Within it this process gets no more memory than reading a file of `size` bytes needs."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    try:
        now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        most = now + 4 * size + _MEMORY
        if before[0] != resource.RLIM_INFINITY:
            most = min(most, before[0])
        resource.setrlimit(resource.RLIMIT_AS, (most, before[1]))
    except (OSError, ValueError):  # no Linux: then the checks beside this one must do
        yield
        return
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
