"""Model files: their metadata, and whole files, which are opened and run as the process of a trial does it."""

from __future__ import annotations

import json
import os
import resource
import signal
from pathlib import Path

from edge_runtime.errors import ModelError
from edge_runtime.model import limits, onnxfile
from edge_runtime.model.contract import Contract
from edge_runtime.model.frontend import FilterBank
from edge_runtime.model.trial import ModelRequest
from edge_runtime.model.trial_child import attempt
from tests import hostile_models as hostile
from tests.fuzz.harness import Target

_SECONDS = 3
"""Processor time of one file."""
_WRONG = 3


def _seeds(folder: Path) -> list[bytes]:
    files = [hostile.good(), hostile.streaming(), hostile.shared()]
    texts = [json.dumps(onnxfile.examine(content)).encode() for content in files]
    return [*texts, *files, hostile.external("w"), hostile.no_numbers()]


def _run(sample: bytes, folder: Path) -> None:
    if sample[:1] == b"{":
        _read(sample)
        return
    content = folder / "model.onnx"
    content.write_bytes(sample)
    found = onnxfile.read(content)
    Contract.from_metadata(found.metadata)
    _open(ModelRequest(str(content), found.sha256, found.size, None, False))


def _read(sample: bytes) -> None:
    """The metadata as the file's reader would give them: texts by text."""
    try:
        metadata = json.loads(sample)
        if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
            return
    except (ValueError, RecursionError):
        return
    contract = Contract.from_metadata(metadata)
    assert contract.needed_bytes(contract.window_samples, 0, 1) <= limits.LARGEST_MEMORY
    assert Contract.from_metadata(contract.to_metadata()).to_metadata() == contract.to_metadata()
    if contract.form != "waveform" and contract.filters.size <= 4096 and contract.pool <= 4096:
        FilterBank(contract.filters, contract.pool)


def _open(wish: ModelRequest) -> None:
    """In a process of its own. Raises ModelError when it is refused; ONNX Runtime may crash there, as it may in use."""
    pid = os.fork()
    if pid == 0:
        try:
            resource.setrlimit(resource.RLIMIT_CPU, (_SECONDS, _SECONDS + 1))
            attempt(wish)
            os._exit(0)
        except (ModelError, MemoryError):
            os._exit(_WRONG)
        except BaseException:
            os._exit(1)
    status = os.waitpid(pid, 0)[1]
    if os.WIFSIGNALED(status):
        raise ModelError(f"ended by {signal.Signals(os.WTERMSIG(status)).name}")
    if os.WEXITSTATUS(status) == _WRONG:
        raise ModelError("refused")
    assert os.WEXITSTATUS(status) == 0, "another exception"


TARGET = Target(
    seeds=_seeds,
    run=_run,
    tokens=(
        *(b"window_samples", b"99999999999", b"-1", b"1e999", b"NaN", b"0", b"1x1", b"shared", b"streaming"),
        *(b"\x68\x01", b"\x72", b"\x3a", b"\x00" * 8, b"AAAA", b"4000000000x4000000000", b"\xff\xff\xff\xff\x0f"),
    ),
    most_seconds=15.0,
)
