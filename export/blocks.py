"""Blocks: how a network with an encoder looks at each frame of a stream once, so that a device pays for new sound only.

The encoder sees a block of new frames and some context before it, as a short window that stands alone; positions are
counted from the context's first frame. Of the block's frames the mean and the variance are kept, and a window is
summed up from the moments of its blocks, which is exact: the law of total variance, for blocks of equal length. The
level that frames are related to is the mean envelope of the newest blocks, which a device can keep as well. (Block
processing with left context: Dong et al., "Self-attention aligner", ICASSP 2019; Shi et al., "Emformer", ICASSP 2021,
who keep the context's keys instead of computing them a second time.)
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from export.encoder import VARIANCE_FLOOR

LEVEL_FLOOR = 1e-5
"""Mean envelope below which a window counts as empty; keeps the logarithm finite on digital silence."""
RELATIVE_FLOOR = 1e-3
"""Envelope relative to the level below which nothing is told apart (-60 dB)."""


def related(envelopes: Tensor, level: Tensor) -> Tensor:
    """The logarithm of envelopes relative to a level that they are broadcast with."""
    return torch.log(envelopes / (level + LEVEL_FLOOR) + RELATIVE_FLOOR)


def running_levels(envelopes: Tensor, block_frames: int, level_blocks: int) -> Tensor:
    """The level at each block, [batch, blocks], of envelopes [batch, filters, blocks * block_frames].

    It is the mean over the block and those before it, `level_blocks` in all, fewer where the stream begins.
    """
    means = envelopes.unflatten(2, (-1, block_frames)).mean(dim=(1, 3))
    first = torch.arange(means.shape[1]).sub(level_blocks - 1).clamp(min=0)
    levels = [means[:, start : end + 1].mean(dim=1) for end, start in enumerate(first.tolist())]
    return torch.stack(levels, 1)


def block_moments(
    envelopes: Tensor,
    read_frames: Callable[[Tensor], Tensor],
    block_frames: int,
    context_frames: int,
    level_blocks: int,
) -> Tensor:
    """Mean and variance of each block's frames, [batch, blocks, 2, channels], of a stream from its start.

    `envelopes` are [batch, filters, frames]; an unfinished block at the end is left out. `read_frames` makes of related
    envelopes [B, filters, n] the encoder's [B, n / 2, channels]. Blocks that have equally many frames before them go
    through it together.
    """
    blocks = envelopes.shape[2] // block_frames
    envelopes = envelopes[:, :, : blocks * block_frames]
    levels = running_levels(envelopes, block_frames, level_blocks)
    found: list[Tensor] = [envelopes.new_empty(0)] * blocks
    by_context: dict[int, list[int]] = {}
    for block in range(blocks):
        by_context.setdefault(min(block * block_frames, context_frames), []).append(block)
    for context, members in by_context.items():
        ends = [(block + 1) * block_frames for block in members]
        seen = torch.stack([envelopes[:, :, end - block_frames - context : end] for end in ends], 1)
        level = levels[:, members, None, None]
        read = read_frames(related(seen, level).flatten(0, 1)).unflatten(0, (len(envelopes), len(members)))
        for place, block in enumerate(members):
            found[block] = moments(read[:, place], block_frames // 2)
    return torch.stack(found, 1)


def moments(read: Tensor, frames: int) -> Tensor:
    """Mean and variance over the last `frames`, [batch, 2, channels], of [batch, all frames, channels]."""
    new = read[:, -frames:]
    mean = new.mean(dim=1, keepdim=True)
    return torch.cat((mean, (new - mean).square().mean(dim=1, keepdim=True)), 1)


def summary(window: Tensor) -> Tensor:
    """Mean and standard deviation over a window, [batch, 2 * channels], of its blocks' moments [batch, n, 2, channels].

    The variance is the mean of the blocks' own plus that of their means.
    """
    means, variances = window[:, :, 0], window[:, :, 1]
    mean = means.mean(dim=1, keepdim=True)
    variance = variances.mean(dim=1) + (means - mean).square().mean(dim=1)
    return torch.cat((mean.squeeze(1), torch.sqrt(variance + VARIANCE_FLOOR)), 1)
