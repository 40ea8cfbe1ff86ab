"""The network as ONNX Runtime sessions: opened against its contract, run, and never a foreign exception."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from edge_runtime.errors import ModelError
from edge_runtime.model import limits, onnxfile, trial
from edge_runtime.model.blocks import BlockStream
from edge_runtime.model.contract import COLUMN_FRAMES, Contract
from edge_runtime.model.processor import Processor, judge_target, this_processor
from edge_runtime.model.session import one_line, open_session
from edge_runtime.model.shape import INPUTS, check_body, check_first_block

SHIPPED = Path(__file__).resolve().parent.parent / "models" / "edge.onnx"
_LARGEST_BATCH = 4
"""Windows of one run: a GRU's weights are then read once for all. 8 were no faster, and take more memory."""


_ONLY_WHAT_IS_ASKED = onnxruntime.RunOptions()
_ONLY_WHAT_IS_ASKED.only_execute_path_to_fetches = True
"""One half of a `blocks` graph, and not the other."""


class Network:
    """An opened model. Make one with `Network.load`.

    Whoever has whole windows calls `logits`. Whoever shares work between windows calls `first_block` once for each new
    frame, where the form is `shared`, or `moments` once for each block, where it is `blocks`; and `body` for each
    window.
    """

    def __init__(
        self,
        path: Path,
        session: onnxruntime.InferenceSession,
        contract: Contract,
        notes: tuple[str, ...] = (),
        first_block: onnxruntime.InferenceSession | None = None,
        sha256: str = "",
        attempt: Callable[[int], None] | None = None,
    ) -> None:
        """`sha256` is the file's; `attempt` tries windows of another length before they are run here.

        Raises ModelError when the session's inputs and outputs are not what the contract promises, or the contract
        asks for too much memory.
        """
        self.path = path
        self.contract = contract
        self.notes = notes
        """What the user should know of this file on this processor, a line each; mostly nothing."""
        self.sha256 = sha256
        """SHA-256 of the file as it was opened, in hexadecimal."""
        self._attempt = attempt
        self._session, self._first_block = session, first_block
        shape = check_body(session, contract)
        if first_block is not None:
            check_first_block(first_block, contract, shape[1])
        self._input_axes = shape[1:-1]
        self.dynamic_time = not isinstance(shape[1 if contract.form == "blocks" else -1], int)
        together = contract.independent and not isinstance(shape[0], int)
        self.largest_batch = _LARGEST_BATCH if together else 1
        """Windows that `logits` and `body` take at once."""
        self.moment_channels: int = shape[-1] if contract.form == "blocks" else 0
        """Channels of a block's moments, of the form `blocks`."""
        limits.check_memory(self.needed_bytes(contract.window_samples), "its window")

    @staticmethod
    def load(
        path: str | Path | None = None,
        threads: int = 1,
        processor: Processor | None = None,
        exact: bool = False,
        *,
        trusted: bool = False,
        stopped: Callable[[], bool] = lambda: False,
    ) -> Network:
        """Opens an ONNX file, or the shipped model, on the CPU with `threads` threads.

        `processor` is what the file is judged for, by default this machine's. `exact` is for hosts that measure files
        made for boxes: on x86 it makes ONNX Runtime turn 8-bit weights into unsigned ones, whose products cannot
        saturate, so that such a file is right, and slower, here too.

        A file that is neither the shipped model nor `trusted`, because this program has just made it, is first tried in
        a process of its own (`trial`), which `stopped` ends. Raises ModelError when the file is missing, damaged, no
        edge-detect model, more than one file, asks for too much, or was made for other processors so that its scores
        would be wrong here; Ended when it was `stopped()`.
        """
        file = SHIPPED if path is None else Path(path)
        _demand_file(file, shipped=path is None)
        before = file.stat()
        found = onnxfile.read(file)
        processor = processor or this_processor()
        exact = exact and processor.is_x86
        wish = trial.ModelRequest(str(file), found.sha256, found.size, None, exact)
        try:
            contract = Contract.from_metadata(found.metadata)
            refusal, notes = judge_target(contract, processor)
            if refusal and not exact:
                raise ModelError(refusal)
            _examine_first_block(contract.first_block)
            tried = trusted or file.resolve() == SHIPPED
            if not tried:
                trial.need(wish, stopped)
            session = open_session(str(file), "the model", threads=threads, exact=exact)
            first = contract.first_block
            first_block = open_session(first, "its first block", threads=threads, exact=exact) if first else None
            after = file.stat()
            if (before.st_ino, before.st_size, before.st_mtime_ns) != (after.st_ino, after.st_size, after.st_mtime_ns):
                raise ModelError("it was replaced while it was being opened: start again")

            def attempt(window_samples: int) -> None:
                trial.need(replace(wish, window_samples=window_samples), stopped)

            parts = (tuple(notes), first_block, found.sha256, None if tried else attempt)
            return Network(file, session, contract, *parts)
        except OSError as reason:
            raise ModelError(f"cannot read the model {file}: {reason.strerror or reason}") from None
        except UnicodeDecodeError:  # ONNX Runtime's bindings hand names on as they are
            raise ModelError(f"{file}: it is damaged: its names are no text") from None
        except ModelError as error:
            raise ModelError(f"{file}: {error}") from None

    def moved(self, session: onnxruntime.InferenceSession) -> Network:
        """The same model with its body in another session, of another provider; a first block stays on the CPU.

        It takes one window at a time, so that all its runs have one shape: TensorRT builds again for each, in minutes.
        Raises ModelError when the session is not one of this model.
        """
        parts = (self.notes, self._first_block, self.sha256, self._attempt)
        network = Network(self.path, session, self.contract, *parts)
        network.largest_batch = 1
        return network

    def fit(self, window_samples: int) -> None:
        """Raises ModelError unless windows of that length can be had: one that differs from the model's is tried."""
        limits.check_memory(self.needed_bytes(window_samples), f"windows of {window_samples} samples")
        if self.contract.form == "blocks" and window_samples % self.contract.hop_multiple:
            seconds = self.contract.hop_multiple / self.contract.sample_rate
            raise ModelError(f"its blocks have {seconds:g} s, of which a window is a whole number")
        if window_samples == self.contract.window_samples:
            return
        shape = self.input_shape(window_samples)
        if shape[-1] < 1:
            raise ModelError("shorter than a filter")
        if self._attempt:
            self._attempt(window_samples)
        self.body(np.zeros((1, *shape), np.float32))

    def needed_bytes(self, window_samples: int, held_samples: int | None = None) -> int:
        """Memory beside the network for windows of that length, of `held_samples` of sound: see `limits`."""
        channels = self._input_axes[0] if self._first_block is not None else self.moment_channels
        return self.contract.needed_bytes(window_samples, channels, self.largest_batch, held_samples)

    def input_shape(self, window_samples: int) -> tuple[int, ...]:
        """The shape, without the batch, of what `body` takes for a window."""
        contract = self.contract
        frames = contract.frames_of(window_samples)
        if contract.form == "waveform":
            return (window_samples,)
        if contract.form == "blocks":
            return (window_samples // contract.hop_multiple, 2, self.moment_channels)
        if contract.form == "streaming":
            return (len(contract.filters), frames)
        return (*(int(axis) for axis in self._input_axes), frames // COLUMN_FRAMES)

    def logits(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits, float32 [B, 2], of features [B, filters, frames] or, of a `waveform` file, of samples [B, n].

        All are float32; B is at most `largest_batch`. Raises ModelError when the model fails on them.
        """
        if self.contract.form == "blocks":
            return self.body(np.stack([BlockStream(self).push(features) for features in batch]))
        return self.body(batch if self._first_block is None else self.first_block(batch))

    def moments(self, features: NDArray[np.float32], level: NDArray[np.float32]) -> NDArray[np.float32]:
        """Mean and variance of blocks' frames, float32 [B, 2, channels].

        Of a file of the `blocks` form only. `features` are float32 [B, filters, seen_frames], `level` is float32
        [B, 1, 1]. B is at most `largest_batch`. Raises ModelError when the model fails on them.
        """
        window = np.zeros((0, *self.input_shape(self.contract.window_samples)), np.float32)  # of no window
        feed = {"features": features, "level": level, "window": window}
        (moments,) = self._run(self._session, ["moments"], feed)
        expected = (len(features), 2, self.moment_channels)
        if moments.shape != expected or moments.dtype != np.float32:
            found = f"{moments.dtype} {moments.shape}"
            raise ModelError(f"the model {self.path} gave {found} for a block, not float32 {expected}")
        return moments

    def first_block(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Columns, float32 [B, channels, 1, frames // 3], of features, float32 [B, filters, frames >= 3].

        The features end in silence at either end, as a window's do. Only a file of the `shared` form has this part.
        Raises ModelError when the model fails on them.
        """
        if self._first_block is None:
            raise ModelError(f"the model {self.path} has no first block of its own")
        (result,) = self._run(self._first_block, ["columns"], {"features": features})
        expected = (len(features), *self._input_axes, features.shape[-1] // COLUMN_FRAMES)
        if result.shape != expected or result.dtype != np.float32:
            found = f"{result.dtype} {result.shape}"
            raise ModelError(f"the model {self.path} has a first block that gave {found}, not float32 {expected}")
        return result

    def body(self, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits, float32 [B, 2], of what `input_shape` says: samples, features or, in the `shared` form, columns.

        Raises ModelError when the model fails on them.
        """
        feed = {INPUTS[self.contract.form]: inputs}
        if self.contract.form == "blocks":
            features = (0, len(self.contract.filters), self.contract.seen_frames)  # of no block
            feed |= {"features": np.zeros(features, np.float32), "level": np.zeros((0, 1, 1), np.float32)}
        (result,) = self._run(self._session, ["logits"], feed)
        if result.shape != (len(inputs), 2) or result.dtype != np.float32:
            found = f"{result.dtype} {result.shape}"
            raise ModelError(f"the model {self.path} gave logits of shape {found}, not float32 {(len(inputs), 2)}")
        return result

    def _run(
        self, session: onnxruntime.InferenceSession, outputs: list[str], feed: dict[str, Any]
    ) -> list[NDArray[Any]]:
        try:
            found = session.run(outputs, feed, _ONLY_WHAT_IS_ASKED)
        except Exception as error:  # ONNX Runtime's exceptions share no narrower base
            raise ModelError(f"the model {self.path} failed: {one_line(error)}") from None
        return [np.asarray(result) for result in found]


def _examine_first_block(content: bytes) -> None:
    """Raises ModelError unless it is one ONNX model, or none at all."""
    try:
        if content:
            onnxfile.examine(content)
    except ModelError as reason:
        raise ModelError(f"its first block: {reason}") from None


def _demand_file(file: Path, *, shipped: bool) -> None:
    """Raises ModelError unless there is a file."""
    try:
        there = file.is_file()
    except (OSError, ValueError) as reason:  # a folder that may not be looked into, a name that cannot be
        raise ModelError(f"cannot read the model {file}: {getattr(reason, 'strerror', None) or reason}") from None
    if not there:
        what = "the shipped model is missing" if shipped else "no such model file"
        raise ModelError(f"the model {file} is a folder" if file.is_dir() else f"{what}: {file}")
