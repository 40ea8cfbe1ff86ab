"""The blocks of a stream, for a model of the `blocks` form: each one's frames go through the encoder once."""

from __future__ import annotations

from collections import deque
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edge_runtime.model.contract import Contract

Floats = NDArray[np.float32]


class BlockNetwork(Protocol):
    """What gives a block's moments: `Network`, of a model of the form `blocks`."""

    contract: Contract
    moment_channels: int

    def moments(self, features: Floats, level: Floats) -> Floats:
        """Float32 [1, 2, channels] of features [1, filters, frames] and their level [1, 1, 1]."""


class BlockStream:
    """Frames in, in any pieces, and the moments of every block that they complete out.

    Kept are the frames of the context and of the unfinished block, and the mean envelope of the newest blocks.
    """

    def __init__(self, network: BlockNetwork) -> None:
        contract = network.contract
        self._network = network
        self._block, self._context = contract.block_frames, contract.context_frames
        self._frames = np.empty((len(contract.filters), 0), np.float32)
        self._means: deque[float] = deque(maxlen=contract.level_blocks)
        self.reset()

    def reset(self) -> None:
        """Begins a new stream."""
        self._frames = self._frames[:, :0]
        self._before = 0  # of the frames that are kept, those of the context
        self._means.clear()

    def push(self, frames: Floats) -> Floats:
        """Moments, float32 [blocks, 2, channels], of the blocks that `frames`, float32 [filters, n], complete.

        Raises ModelError when the model fails on them.
        """
        self._frames = np.concatenate((self._frames, frames), axis=1)
        channels = self._network.moment_channels
        found = [np.empty((0, 2, channels), np.float32)]
        while self._frames.shape[1] >= self._before + self._block:
            end = self._before + self._block
            self._means.append(float(self._frames[:, self._before : end].mean(dtype=np.float64)))
            level = np.full((1, 1, 1), sum(self._means) / len(self._means), np.float32)
            seen = np.ascontiguousarray(self._frames[:, :end])
            found.append(self._network.moments(seen[None], level))
            kept = min(end, self._context)
            self._frames = self._frames[:, end - kept :]
            self._before = kept
        return np.concatenate(found)
