"""A model as it travels to the processes that score: the file's bytes, its hash, and how to open it."""

from __future__ import annotations

import hashlib
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import onnxruntime

from edge_runtime.detector import Detector
from edge_runtime.errors import InputError, ModelError
from edge_runtime.model.network import Network
from edge_runtime.version import __version__
from evaluation.hop import at_hop

_MOST_OPENED = 16
"""Detectors that a thread keeps: a cluster's workers live longer than one benchmark."""


def versions() -> str:
    """What a score depends on beside model, hop and clip."""
    return f"edge-detect {__version__}, ONNX Runtime {onnxruntime.__version__}"


@dataclass(frozen=True)
class Payload:
    """A model file with the hop it is run at."""

    name: str
    content: bytes = field(repr=False)
    sha256: str
    hop_seconds: float
    exact: bool  # opened with exact sums: see `Network.load`
    versions: str

    @property
    def key(self) -> str:
        """Payloads of one key give the same scores."""
        return f"{self.sha256} {self.hop_seconds!r} {self.exact} {self.versions}"

    def open(self) -> Detector:
        """A detector of one thread. Raises ModelError for the file, UsageError for the hop."""
        with tempfile.TemporaryDirectory() as folder:  # ONNX Runtime has read it all when it is open
            file = Path(folder) / self.name
            file.write_bytes(self.content)
            return Detector(Network.load(file, exact=self.exact), hop_seconds=self.hop_seconds)


def pack(model: Path, hop_seconds: float, *, anywhere: bool = False) -> tuple[Payload, Detector]:
    """The payload of a model file, and a detector that was opened from it to see that it works.

    `anywhere` is for comparisons: a file that this processor would compute wrong is opened with exact sums. Raises
    ModelError when the file cannot be used, UsageError for the hop.
    """
    exact = False
    try:
        network = Network.load(model)
    except ModelError:
        if not anywhere:
            raise
        network, exact = Network.load(model, exact=True), True
    detector = at_hop(Detector(network, hop_seconds=hop_seconds), hop_seconds)
    try:
        content = model.read_bytes()
    except OSError as reason:
        raise ModelError(f"cannot read the model {model}: {reason.strerror}") from None
    digest = hashlib.sha256(content).hexdigest()
    return Payload(model.name, content, digest, detector.hop_seconds, exact, versions()), detector


_parcels: dict[str, Payload] = {}
_opened = threading.local()  # a Dask worker may have several threads, and a detector serves one


def unpack(payloads: Sequence[Payload]) -> None:
    """Takes payloads in, in the process that will score."""
    _parcels.update({payload.key: payload for payload in payloads})


def detector(key: str) -> Detector:
    """This thread's detector of a payload that this process has, opened once.

    Raises InputError where this process has another version of what a score depends on, so that no set of scores is of
    two kinds, ModelError as `Payload.open`.
    """
    kept: dict[str, Detector] = _opened.__dict__.setdefault("detectors", {})
    if key not in kept:
        payload = _parcels[key]
        if payload.versions != versions():
            raise InputError(f"a worker has {versions()}, this machine {payload.versions}: install the same on both")
        if len(kept) >= _MOST_OPENED:
            kept.clear()
        kept[key] = payload.open()
    return kept[key]
