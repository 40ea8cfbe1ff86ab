"""The blocks of a stream, for a model of the `blocks` form: each one's frames go through the encoder once."""

from __future__ import annotations

from collections import deque
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edge_runtime.model.contract import BLOCK_REACH, Contract

Floats = NDArray[np.float32]


class BlockNetwork(Protocol):
    """What gives a block's moments: `Network`, of a model of the form `blocks`."""

    contract: Contract
    moment_channels: int
    past_shape: tuple[int, int]

    def moments(self, features: Floats, level: Floats, past: Floats) -> tuple[Floats, Floats]:
        """Moments, float32 [1, 2, channels], and what is kept of the block's frames: see `Network.moments`."""


class BlockStream:
    """Frames in, in any pieces, and the moments of every block that they complete out.

    Kept are the frames of the unfinished block, what the network keeps of the newest blocks (as many frames as the
    context has), and the mean envelope of the newest blocks.
    """

    def __init__(self, network: BlockNetwork) -> None:
        contract = network.contract
        self._network = network
        self._block = contract.block_frames
        self._kept = contract.context_frames // 2  # the encoder halves the frames
        self._means: deque[float] = deque(maxlen=contract.level_blocks)
        self._frames = np.empty((len(contract.filters), 0), np.float32)
        rows, width = network.past_shape
        # A ring: attention does not ask in which order frames lie, and what stays in its place is not copied.
        self._past = np.zeros((1, rows, self._kept, width), np.float32)
        self.reset()

    def reset(self) -> None:
        """Begins a new stream, whose first BLOCK_REACH frames are of the silence before it."""
        self._frames = self._frames[:, :0]
        self._filled = self._next = 0
        self._means.clear()

    def push(self, frames: Floats) -> Floats:
        """Moments, float32 [blocks, 2, channels], of the blocks that `frames`, float32 [filters, n], complete.

        Raises ModelError when the model fails on them.
        """
        self._frames = np.concatenate((self._frames, frames), axis=1)
        found = [np.empty((0, 2, self._network.moment_channels), np.float32)]
        while self._frames.shape[1] >= BLOCK_REACH + self._block:
            seen = np.ascontiguousarray(self._frames[:, : BLOCK_REACH + self._block])
            self._means.append(float(seen[:, BLOCK_REACH:].mean(dtype=np.float64)))
            level = np.full((1, 1, 1), sum(self._means) / len(self._means), np.float32)
            past = np.ascontiguousarray(self._past[:, :, : self._filled])  # a copy only while the stream is young
            moments, present = self._network.moments(seen[None], level, past)
            found.append(moments)
            self._keep(present)
            self._frames = self._frames[:, self._block :]
        return np.concatenate(found)

    def _keep(self, present: Floats) -> None:
        """Puts the newest frames in the place of the oldest."""
        newest = present[:, :, max(0, present.shape[2] - self._kept) :]
        count = newest.shape[2]
        fitting = min(count, self._kept - self._next)
        self._past[:, :, self._next : self._next + fitting] = newest[:, :, :fitting]
        self._past[:, :, : count - fitting] = newest[:, :, fitting:]
        self._next = (self._next + count) % max(1, self._kept)
        self._filled = min(self._kept, self._filled + count)
