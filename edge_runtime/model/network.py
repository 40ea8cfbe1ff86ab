"""The network as ONNX Runtime sessions: opened against its contract, run, and never a foreign exception."""

from __future__ import annotations

import hashlib
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from edge_runtime.errors import ModelError
from edge_runtime.model.contract import COLUMN_FRAMES, Contract
from edge_runtime.model.processor import Processor, judge_target, this_processor
from edge_runtime.model.session import one_line, open_session

SHIPPED = Path(__file__).parent.parent / "models" / "edge.onnx"
INPUTS = {"waveform": "waveform", "streaming": "features", "shared": "columns"}
_LARGEST_BATCH = 4
"""Windows of one run: a GRU's weights are then read once for all. 8 were no faster, and take more memory."""


class Network:
    """An opened model. Make one with `Network.load`.

    Whoever has whole windows calls `logits`. Whoever shares work between windows calls `first_block` once for each new
    frame, where the form is `shared`, and `body` for each window.
    """

    def __init__(
        self,
        path: Path,
        session: onnxruntime.InferenceSession,
        contract: Contract,
        notes: tuple[str, ...] = (),
        first_block: onnxruntime.InferenceSession | None = None,
    ) -> None:
        """Raises ModelError when the session's inputs and outputs are not what the contract promises."""
        self.path = path
        self.contract = contract
        self.notes = notes
        """What the user should know of this file on this processor, a line each; mostly nothing."""
        self._session, self._first_block = session, first_block
        shape = _check(session, contract)
        if first_block is not None:
            _check_first_block(first_block, contract, shape[1])
        self._input_axes = shape[1:-1]
        self.dynamic_time = not isinstance(shape[-1], int)
        together = contract.independent and not isinstance(shape[0], int)
        self.largest_batch = _LARGEST_BATCH if together else 1
        """Windows that `logits` and `body` take at once."""

    @staticmethod
    def load(
        path: str | Path | None = None,
        threads: int = 1,
        processor: Processor | None = None,
        exact: bool = False,
    ) -> Network:
        """Opens an ONNX file, or the shipped model, on the CPU with `threads` threads.

        `processor` is what the file is judged for, by default this machine's. `exact` is for hosts that measure files
        made for boxes: on x86 it makes ONNX Runtime turn 8-bit weights into unsigned ones, whose products cannot
        saturate, so that such a file is right, and slower, here too. Raises ModelError when the file is missing,
        damaged, no edge-detect model, or made for other processors so that its scores would be wrong here.
        """
        file = SHIPPED if path is None else Path(path)
        try:
            there = file.is_file()
        except (OSError, ValueError) as reason:  # a folder that may not be looked into, a name that cannot be
            raise ModelError(f"cannot read the model {file}: {getattr(reason, 'strerror', None) or reason}") from None
        if not there:
            what = "the shipped model is missing" if path is None else "no such model file"
            raise ModelError(f"the model {file} is a folder" if file.is_dir() else f"{what}: {file}")
        processor = processor or this_processor()
        exact = exact and processor.is_x86
        session = open_session(str(file), f"the model {file}", threads=threads, exact=exact)
        try:
            contract = Contract.from_metadata(session.get_modelmeta().custom_metadata_map)
            refusal, notes = judge_target(contract, processor)
            if refusal and not exact:
                raise ModelError(refusal)
            first = contract.first_block
            first_block = open_session(first, "its first block", threads=threads, exact=exact) if first else None
            return Network(file, session, contract, tuple(notes), first_block)
        except ModelError as error:
            raise ModelError(f"{file}: {error}") from None

    def moved(self, session: onnxruntime.InferenceSession) -> Network:
        """The same model with its body in another session, of another provider; a first block stays on the CPU.

        It takes one window at a time, so that all its runs have one shape: TensorRT builds anew for each, in minutes.
        Raises ModelError when the session is not one of this model.
        """
        network = Network(self.path, session, self.contract, self.notes, self._first_block)
        network.largest_batch = 1
        return network

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the file, in hexadecimal. Raises ModelError when it cannot be read any more."""
        try:
            with self.path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise ModelError(f"cannot read the model {self.path}: {error.strerror}") from None

    def input_shape(self, window_samples: int) -> tuple[int, ...]:
        """The shape, without the batch, of what `body` takes for a window."""
        contract = self.contract
        frames = (window_samples - contract.filters.shape[1] + 1) // contract.pool
        if contract.form == "waveform":
            return (window_samples,)
        if contract.form == "streaming":
            return (len(contract.filters), frames)
        return (*(int(axis) for axis in self._input_axes), frames // COLUMN_FRAMES)

    def logits(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits, float32 [B, 2], of features [B, filters, frames] or, of a `waveform` file, of samples [B, n].

        All are float32; B is at most `largest_batch`. Raises ModelError when the model fails on them.
        """
        return self.body(batch if self._first_block is None else self.first_block(batch))

    def first_block(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Columns, float32 [B, channels, 1, frames // 3], of features, float32 [B, filters, frames >= 3].

        The features end in silence at either end, as a window's do. Only a file of the `shared` form has this part.
        Raises ModelError when the model fails on them.
        """
        if self._first_block is None:
            raise ModelError(f"the model {self.path} has no first block of its own")
        return self._run(self._first_block, "columns", {"features": features})

    def body(self, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits, float32 [B, 2], of what `input_shape` says: samples, features or, in the `shared` form, columns.

        Raises ModelError when the model fails on them.
        """
        result = self._run(self._session, "logits", {INPUTS[self.contract.form]: inputs})
        if result.shape != (len(inputs), 2):
            raise ModelError(f"the model {self.path} gave logits of shape {result.shape}, not {(len(inputs), 2)}")
        return np.asarray(result, dtype=np.float32)

    def _run(self, session: onnxruntime.InferenceSession, output: str, feed: dict[str, Any]) -> NDArray[Any]:
        try:
            (result,) = session.run([output], feed)
        except Exception as error:  # ONNX Runtime's exceptions share no narrower base
            raise ModelError(f"the model {self.path} failed: {one_line(error)}") from None
        return np.asarray(result)


def _check(session: onnxruntime.InferenceSession, contract: Contract) -> list[Any]:
    """The input's shape, in which a number is fixed and anything else dynamic."""
    inputs, outputs = session.get_inputs(), session.get_outputs()
    name = INPUTS[contract.form]
    if [node.name for node in inputs] != [name] or "logits" not in [node.name for node in outputs]:
        found = ", ".join(node.name for node in inputs) + " -> " + ", ".join(node.name for node in outputs)
        raise ModelError(f"its graph is {found}, a {contract.form} model has {name} -> logits")
    shape = list(inputs[0].shape)
    expected = {
        "waveform": [1, contract.window_samples],
        "streaming": [1, len(contract.filters), contract.frames],
        "shared": [1, *shape[1:2], 1, contract.frames // COLUMN_FRAMES],
    }[contract.form]
    fits = inputs[0].type == "tensor(float)" and len(shape) == len(expected)
    if not fits or any(isinstance(a, int) and a != b for a, b in zip(shape, expected, strict=True)):
        raise ModelError(f"its input is {inputs[0].type} {shape}, its metadata says tensor(float) {expected}")
    return shape


def _check_first_block(session: onnxruntime.InferenceSession, contract: Contract, channels: Any) -> None:
    inputs, outputs = session.get_inputs(), session.get_outputs()
    if [node.name for node in (*inputs, *outputs)] != ["features", "columns"] or not isinstance(channels, int):
        raise ModelError("its first block is not one from features to columns")
    shape, bands = inputs[0].shape, len(contract.filters)
    if len(shape) != 3 or shape[1] != bands or isinstance(shape[2], int):
        raise ModelError(f"its first block takes {shape}, its filter bank gives {bands} bands of any length")
