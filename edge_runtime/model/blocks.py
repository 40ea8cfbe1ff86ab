"""The blocks of a stream, for a model of the `blocks` form: each one's moments are computed once."""

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
        """Moments, float32 [1, 2, channels]: see `Network.moments`."""


class BlockStream:
    """Frames in, in any pieces, and the moments of every block that they complete out.

    Kept are the frames of the unfinished block, those before it that it is seen with, and the mean envelope of the
    newest blocks.
    """

    def __init__(self, network: BlockNetwork) -> None:
        contract = network.contract
        self._network = network
        self._block, self._seen = contract.block_frames, contract.seen_frames
        self._means: deque[float] = deque(maxlen=contract.level_blocks)
        self._frames = np.empty((len(contract.filters), 0), np.float32)

    def reset(self) -> None:
        """Begins a new stream, whose first frames, before a block's own, are of the silence before it."""
        self._frames = self._frames[:, :0]
        self._means.clear()

    def push(self, frames: Floats) -> Floats:
        """Moments, float32 [blocks, 2, channels], of the blocks that `frames`, float32 [filters, n], complete.

        Raises ModelError when the model fails on them.
        """
        self._frames = np.concatenate((self._frames, frames), axis=1)
        found = [np.empty((0, 2, self._network.moment_channels), np.float32)]
        while self._frames.shape[1] >= self._seen:
            seen = np.ascontiguousarray(self._frames[:, : self._seen])
            self._means.append(float(seen[:, -self._block :].mean(dtype=np.float64)))
            level = np.full((1, 1, 1), sum(self._means) / len(self._means), np.float32)
            found.append(self._network.moments(seen[None], level))
            self._frames = self._frames[:, self._block :]
        return np.concatenate(found)
