"""What the network takes for each window, each part of it computed once for each new sample.

The forms of a model share different depths: `waveform` nothing but the samples, `streaming` the filter bank's
features, `shared` the first residual block as well, `blocks` all but the head. `shared` is exact because a column of
that block depends on seven frames: only the first and the last column of a window see the zeros that the convolutions
put beyond its ends, and those two are computed apart. RawNet2's feature map scaling, a mean over the window, ends the
sharing.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.model.blocks import BlockStream
from edge_runtime.model.contract import COLUMN_FRAMES
from edge_runtime.model.frontend import FilterBank
from edge_runtime.model.network import Network

_REACH = 2
"""Frames beyond a column's own on which it depends: two convolutions of three taps."""

Floats = NDArray[np.float32]


class Tape:
    """The recent part of a signal, time on the last axis; twice the room makes appending cheap."""

    def __init__(self, shape: tuple[int, ...], dtype: Any = np.float32) -> None:
        """`shape` ends in the largest length that is ever held."""
        self._array = np.zeros((*shape[:-1], 2 * shape[-1]), dtype)
        self.reset()

    def reset(self) -> None:
        """Forgets all."""
        self._first = self._end = 0

    @property
    def length(self) -> int:
        """How much is held."""
        return self._end - self._first

    @property
    def data(self) -> NDArray[Any]:
        """What is held, as a view that the next `append` may overwrite."""
        return self._array[..., self._first : self._end]

    def push(self, block: NDArray[Any]) -> None:
        """Adds to the end."""
        added = block.shape[-1]
        if self._end + added > self._array.shape[-1]:
            held = self.data.copy()
            self._first, self._end = 0, held.shape[-1]
            self._array[..., : self._end] = held
        self._array[..., self._end : self._end + added] = block
        self._end += added

    def drop(self, count: int) -> None:
        """Forgets the oldest `count`."""
        self._first += count

    def shorten(self, length: int) -> None:
        """Forgets the newest, so that `length` are left."""
        self._end = self._first + length


class Inputs:
    """Of the windows of one stream. Positions count samples from the oldest that was not dropped.

    The owner lets it see the stream only up to the ends of windows (`push`), takes the window that ends there
    (`write`), and drops what lies before the start of the newest window: so what is computed does not depend on how
    the sound came in.
    """

    def __init__(self, network: Network, window_samples: int, longest_samples: int) -> None:
        """`longest_samples` bounds what lies between the oldest sample not dropped and the newest."""
        contract = network.contract
        self._network = network
        self._window_samples = window_samples
        sizes = (contract.filters, contract.pool, contract.leading_zeros)
        self._bank = None if contract.form == "waveform" else FilterBank(*sizes)
        self._shares_block = contract.form == "shared"
        frames = longest_samples // contract.pool + 1
        self._blocks = BlockStream(network) if contract.form == "blocks" else None
        self._block_samples = contract.hop_multiple
        blocks = longest_samples // self._block_samples + 1 if self._blocks else 0
        self._moments = Tape((2, network.moment_channels, blocks))
        self._frames = Tape((len(contract.filters), frames if self._bank and not self._blocks else 0))
        channels = network.input_shape(window_samples)[0] if self._shares_block else 0
        self._columns = Tape((channels, 1, frames // COLUMN_FRAMES + 1 if self._shares_block else 0))
        self.reset()

    def reset(self) -> None:
        """Begins a new stream."""
        self._fed = 0  # samples that the filter bank has seen
        self._seen = 0  # frames that the columns were computed from
        if self._bank:
            self._bank.reset()
        if self._blocks:
            self._blocks.reset()
        self._moments.reset()
        self._frames.reset()
        self._columns.reset()

    def push(self, samples: Floats, end: int) -> None:
        """Computes what lies before `end`; `samples`, float32 [n], begin with the oldest that was not dropped."""
        if self._bank is None:
            return
        frames = self._bank.push(samples[self._fed : end])
        self._fed = end
        if self._blocks:
            self._moments.push(np.moveaxis(self._blocks.push(frames), 0, 2))
            return
        self._frames.push(frames)
        if self._shares_block:
            self._extend_columns()

    def write(self, samples: Floats, start: int, out: Floats) -> None:
        """Writes what the network takes for the window at `start`, whose end was fed last, into `out`."""
        if self._bank is None:
            out[...] = samples[start : start + self._window_samples]
            return
        if self._blocks:
            block = start // self._block_samples
            out[...] = np.moveaxis(self._moments.data[..., block : block + len(out)], 2, 0)
            return
        first = start // self._bank.pool
        if not self._shares_block:
            out[...] = self._frames.data[:, first : first + out.shape[-1]]
            return
        column = first // COLUMN_FRAMES
        out[...] = self._columns.data[..., column : column + out.shape[-1]]
        # The last column was computed with nothing after it; the first one must see nothing before it either.
        beginning = self._frames.data[:, first : first + 2 * COLUMN_FRAMES]
        out[..., :1] = self._network.first_block(np.ascontiguousarray(beginning)[None])[0, ..., :1]

    def drop(self, samples: int) -> None:
        """Forgets the oldest `samples`, a multiple of the model's hop multiple."""
        if self._bank is None:
            return
        self._fed -= samples
        if self._blocks:
            self._moments.drop(samples // self._block_samples)
            return
        self._frames.drop(samples // self._bank.pool)
        if self._shares_block:
            self._seen -= samples // self._bank.pool
            self._columns.drop(samples // self._bank.pool // COLUMN_FRAMES)

    def whole(self, samples: Floats) -> Floats:
        """What the network takes for a window, float32 [n], that stands alone; the stream's state is not touched."""
        if self._bank is None:
            return samples
        features = self._bank.whole(samples)
        if self._blocks:
            return BlockStream(self._network).push(features)
        return self._network.first_block(features[None])[0] if self._shares_block else features

    def _extend_columns(self) -> None:
        """Columns of all frames. The last one is a window's last, with nothing after it; the next call replaces it."""
        settled = max(0, (self._seen - _REACH) // COLUMN_FRAMES)
        context = 1 if settled else 0  # a column to the left, whose own left side is not seen
        part = np.ascontiguousarray(self._frames.data[:, (settled - context) * COLUMN_FRAMES :])
        columns = self._network.first_block(part[None])[0]
        self._columns.shorten(settled)
        self._columns.push(columns[..., context:])
        self._seen = self._frames.length
