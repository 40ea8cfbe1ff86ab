"""Running a graph of the `blocks` form on whole windows, so that what is inside can be looked at as in other forms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from edge_runtime.model.blocks import BlockStream
from edge_runtime.model.contract import Contract
from edge_runtime.model.shape import BLOCK_INPUTS

Floats = NDArray[np.float32]
_WINDOW = BLOCK_INPUTS[-1]


def has_blocks(model: onnx.ModelProto) -> bool:
    """Whether a graph has the two halves of the `blocks` form."""
    return [item.name for item in model.graph.input] == list(BLOCK_INPUTS)


class BlockRun:
    """A session on a graph of the `blocks` form, whose metadata say how long its blocks are.

    It stands where `BlockStream` has a network.
    """

    def __init__(self, session: onnxruntime.InferenceSession, model: onnx.ModelProto, outputs: Sequence[str]) -> None:
        self.contract = Contract.from_metadata({item.key: item.value for item in model.metadata_props})
        self.moment_channels = int(model.graph.input[2].type.tensor_type.shape.dim[3].dim_value)
        self._session, self._outputs = session, list(outputs)
        behind = _reached(model)
        self._of_windows = [name for name in outputs if name in behind]
        self._of_blocks = [name for name in outputs if name not in behind]
        self._options = onnxruntime.RunOptions()
        self._options.only_execute_path_to_fetches = True
        self._seen: list[list[Floats]] = []

    def moments(self, features: Floats, level: Floats) -> Floats:
        """Those of one block; what is asked for of the values inside is kept."""
        window = np.zeros((0, 2, 2, self.moment_channels), np.float32)
        feed = {"features": features, "level": level, _WINDOW: window}
        moments, *found = self._session.run(["moments", *self._of_blocks], feed, self._options)
        self._seen.append(found)
        return np.asarray(moments)

    def window(self, features: Floats) -> list[Any]:
        """The outputs asked for, of features [filters, frames]: what a block has, of all blocks in order."""
        self._seen.clear()
        moments = BlockStream(self).push(features)[None]
        shapes = {"features": (0, len(self.contract.filters), self.contract.seen_frames), "level": (0, 1, 1)}
        nothing = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
        last: list[Any] = []
        if self._of_windows:
            last = self._session.run(self._of_windows, {**nothing, _WINDOW: moments}, self._options)
        inner = [np.concatenate(values, axis=1) for values in zip(*self._seen, strict=True)]
        found = dict(zip(self._of_windows, last, strict=True)) | dict(zip(self._of_blocks, inner, strict=True))
        return [found[name] for name in self._outputs]


def _reached(model: onnx.ModelProto) -> set[str]:
    """The values that depend on a window's moments."""
    found = {_WINDOW}
    for node in model.graph.node:
        if found & set(node.input):
            found |= set(node.output)
    return found
