"""The network as an ONNX Runtime session: opened against its contract, run, and never a foreign exception."""

from __future__ import annotations

import hashlib
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from edge_runtime.errors import ModelError
from edge_runtime.model.contract import Contract
from edge_runtime.model.processor import Processor, judge_target, this_processor

SHIPPED = Path(__file__).parent.parent / "models" / "edge.onnx"
INPUTS = {"waveform": "waveform", "streaming": "features"}
_FATAL = 4  # ONNX Runtime logs errors on its own, beside raising them; the exception says it once
_LARGEST_BATCH = 8


class Network:
    """An opened model. Make one with `Network.load`."""

    def __init__(
        self, path: Path, session: onnxruntime.InferenceSession, contract: Contract, notes: tuple[str, ...] = ()
    ) -> None:
        """Raises ModelError when the session's inputs and outputs are not what the contract promises."""
        self.path = path
        self.contract = contract
        self.notes = notes
        """What the user should know of this file on this processor, a line each; mostly nothing."""
        self._session = session
        shape = _check(session, contract)
        self.dynamic_time = not isinstance(shape[-1], int)
        together = contract.independent and not isinstance(shape[0], int)
        self.largest_batch = _LARGEST_BATCH if together else 1
        """Windows that `logits` takes at once."""

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
        if not file.is_file():
            what = "the shipped model is missing" if path is None else "no such model file"
            raise ModelError(f"{what}: {file}")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = _FATAL
        # Waiting threads sleep: spinning costs a battery or a neighbour more than it gains between two hops.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        processor = processor or this_processor()
        exact = exact and processor.is_x86
        if exact:
            options.add_session_config_entry("session.x64quantprecision", "1")
        try:
            session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
            metadata = session.get_modelmeta().custom_metadata_map
        except Exception as error:  # ONNX Runtime's exceptions share no narrower base
            raise ModelError(f"cannot open the model {file}: {_one_line(error)}") from None
        try:
            contract = Contract.from_metadata(metadata)
            refusal, notes = judge_target(contract, processor)
            if refusal and not exact:
                raise ModelError(refusal)
            return Network(file, session, contract, tuple(notes))
        except ModelError as error:
            raise ModelError(f"{file}: {error}") from None

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the file, in hexadecimal. Raises ModelError when it cannot be read any more."""
        try:
            with self.path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise ModelError(f"cannot read the model {self.path}: {error.strerror}") from None

    def logits(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits, float32 [B, 2], of features [B, filters, frames] or of waveforms [B, samples], float32.

        B is at most `largest_batch`. Raises ModelError when the model fails on them.
        """
        try:
            (result,) = self._session.run(["logits"], {INPUTS[self.contract.form]: batch})
        except Exception as error:
            raise ModelError(f"the model {self.path} failed: {_one_line(error)}") from None
        if result.shape != (len(batch), 2):
            raise ModelError(f"the model {self.path} gave logits of shape {result.shape}, not {(len(batch), 2)}")
        return np.asarray(result, dtype=np.float32)


def _check(session: onnxruntime.InferenceSession, contract: Contract) -> list[Any]:
    """The input's shape, in which a number is fixed and anything else dynamic."""
    inputs, outputs = session.get_inputs(), session.get_outputs()
    name = INPUTS[contract.form]
    if [node.name for node in inputs] != [name] or "logits" not in [node.name for node in outputs]:
        found = ", ".join(node.name for node in inputs) + " -> " + ", ".join(node.name for node in outputs)
        raise ModelError(f"its graph is {found}, a {contract.form} model has {name} -> logits")
    streaming = contract.form == "streaming"
    expected = [1, len(contract.filters), contract.frames] if streaming else [1, contract.window_samples]
    shape = list(inputs[0].shape)
    fits = inputs[0].type == "tensor(float)" and len(shape) == len(expected)
    if not fits or any(isinstance(a, int) and a != b for a, b in zip(shape, expected, strict=True)):
        raise ModelError(f"its input is {inputs[0].type} {shape}, its metadata says tensor(float) {expected}")
    return shape


def _one_line(error: Exception) -> str:
    """The first line of ONNX Runtime's message, without its code prefix and at most a screen line long."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    text = lines[0].split(" : ", 3)[-1].strip()
    return text if len(text) <= 200 else text[:197] + "..."
