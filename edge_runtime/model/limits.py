"""What a model file may ask for, said in one place, and the memory that its contract will need.

A contract is text that somebody wrote. Its numbers are the lengths of arrays, so each has a limit, and so has their
sum: `needed_bytes` follows the arrays that `Detector`, `Inputs` and `FilterBank` make. The public baselines (64,600
samples, up to 128 filters of up to 1,025 taps, a pool of 3) need up to 150 MB.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from edge_runtime.errors import ModelError

RATES = (1_000, 384_000)  # Hz
LONGEST_WINDOW_SECONDS = 60.0
MOST_FILTERS = 2_048
MOST_TAPS = 32_768
LARGEST_POOL = 65_536  # samples
LARGEST_NUMBER = 1e9
"""Of calibration and thresholds, which are log-likelihood ratios and their scale."""
LARGEST_MEMORY = 512 << 20
"""Bytes of the arrays around the network: what was heard, features, batches, the filters' transfer functions."""
MOST_FIGURES = 1 << 20
"""Characters of `figures`."""
DEEPEST_FIGURES = 32
"""Objects and lists within each other."""
LONGEST_TEXT = 1_000
"""Characters of a name."""

# As in `frontend`, which has the reasons.
_LARGEST_FFT = 9216
_GROUP = 16


def needed_bytes(
    *,
    window_samples: int,
    pool: int,
    filters: int,
    taps: int,
    form: str,
    channels: int,
    batch: int,
    held_samples: int,
    block_frames: int = 0,
    lead_frames: int = 0,
) -> int:
    """Bytes around the network for windows of `window_samples`, `batch` at once; an upper bound.

    `held_samples` is the longest stretch of sound that is kept: two windows, or more where sound may wait. `channels`
    are those of a column of the `shared` form, or of the moments of the `blocks` form, whose `lead_frames` are seen
    again before each block.
    """
    # The samples as they came and as they are judged, and which of them are invalid; tapes have twice the room.
    needed = (2 * 4 + 2 * 4 + 2 * 1) * held_samples
    if form == "waveform":
        return needed + 4 * batch * window_samples
    frames, held = window_samples // pool + 1, held_samples // pool + 1
    needed += 2 * 4 * filters * held + 4 * filters * frames
    size = max(taps + pool - 1, 2 * taps) * 2
    size = max(size, _LARGEST_FFT)
    # Transfer functions of all lengths in both precisions, and the filters themselves, in float64 too.
    needed += filters * (3 * (size // 2 + 1) * (16 + 8) + taps * (8 + 4 + 4))
    needed += _GROUP * size * (16 + 8 + 4 + 4 + 8)
    if form == "blocks":
        step = max(1, block_frames)
        # The silence before the stream and its frames, those of a block with it, and a copy while new ones are added.
        needed += 3 * 4 * (lead_frames * pool + filters * (lead_frames + step))
        return needed + 4 * 2 * channels * (2 * (held // step + 2) + batch * (frames // step + 1))
    if form == "shared":
        columns = frames // 3 + 1
        return needed + 4 * channels * (2 * (held // 3 + 1) + (batch + 2) * columns)
    return needed + 4 * filters * batch * frames


def check_blocks(sizes: tuple[int, int, int], window_samples: int, pool: int, sample_rate: int) -> None:
    """Raises ModelError unless the blocks of the `blocks` form are of a possible length and make up a window.

    `sizes` are the contract's block_frames, context_frames and level_blocks.
    """
    longest = int(LONGEST_WINDOW_SECONDS * sample_rate / pool)
    names, least = ("block_frames", "context_frames", "level_blocks"), (2, 0, 1)
    for what, value, lowest in zip(names, sizes, least, strict=True):
        if not lowest <= value <= longest:
            raise ModelError(f"the model's {what} is {number(value)}, allowed are {lowest} to {longest}")
    if sizes[0] % 2 or sizes[1] % 2:
        raise ModelError("the model's block_frames and context_frames must be even")
    if window_samples % (sizes[0] * pool):
        raise ModelError(
            f"the model's window of {window_samples} samples is no whole number of its blocks of {sizes[0] * pool}"
        )


def number(value: int) -> str:
    """A number of any length, in a few characters."""
    return str(value) if abs(value) < 10**12 else f"about 10^{int(value.bit_length() * math.log10(2))}"


def depth(value: object) -> int:
    """How deep objects and lists of JSON lie within each other, at most one more than is allowed."""
    level, found = [value], 0
    while level and found <= DEEPEST_FIGURES:
        below = [item for item in level if isinstance(item, Mapping | list | tuple)]
        found += bool(below)
        level = [part for item in below for part in (item.values() if isinstance(item, Mapping) else item)]
    return found


def check_memory(needed: int, what: str) -> None:
    """Raises ModelError when `what` asks for more than there is for it."""
    if needed > LARGEST_MEMORY:
        raise ModelError(
            f"{what} would take {needed / 1e6:,.0f} MB of memory beside the network, more than the "
            f"{LARGEST_MEMORY / 1e6:.0f} MB that a model may ask for"
        )
