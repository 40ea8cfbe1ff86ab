"""Blocks: how a network with an encoder looks at a stream piece by piece, so that a device pays for new sound only.

A block of new frames goes through the encoder together with a few frames before it, the context, which it attends to
and which are seen again. Positions are counted from the first frame given, so that what a block gives does not depend
on when the stream began. Of its own frames the mean and the variance are kept, and a window is summed up from the
moments of its blocks, which is exact: the law of total variance, for blocks of equal length. The level that frames are
related to is the mean envelope of the newest blocks, which a device can keep as well. (Attention in chunks with context
to their left: for speech Shi et al., "Emformer", ICASSP 2021.)
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from export.encoder import REACH, VARIANCE_FLOOR

LEVEL_FLOOR = 1e-5
"""Mean envelope below which a window counts as empty; keeps the logarithm finite on digital silence."""
RELATIVE_FLOOR = 1e-3
"""Envelope relative to the level below which differences count no more (-60 dB)."""


def related(envelopes: Tensor, level: Tensor) -> Tensor:
    """The logarithm of envelopes relative to a level that they are broadcast with."""
    return torch.log(envelopes / (level + LEVEL_FLOOR) + RELATIVE_FLOOR)


def running_levels(envelopes: Tensor, block_frames: int, level_blocks: int) -> Tensor:
    """The level at each block, [batch, blocks], of envelopes [batch, filters, blocks * block_frames].

    It is the mean over the block and those before it, `level_blocks` in all, fewer where the stream begins.
    """
    means = envelopes.unflatten(2, (-1, block_frames)).mean(dim=(1, 3))
    levels = [means[:, max(0, end - level_blocks) : end].mean(dim=1) for end in range(1, means.shape[1] + 1)]
    return torch.stack(levels, 1)


def block_moments(
    envelopes: Tensor,
    encode: Callable[[Tensor], Tensor],
    block_frames: int,
    context_frames: int,
    level_blocks: int,
) -> Tensor:
    """Mean and variance of each block's frames, [batch, blocks, 2, channels], of streams from their start.

    `envelopes`, [batch, filters, REACH + context_frames + frames], begin with the silence before the streams; an
    unfinished block at the end is left out. `encode` makes of blocks' related envelopes what `Encoder.block` does.
    """
    lead = REACH + context_frames
    count = (envelopes.shape[2] - lead) // block_frames
    levels = running_levels(envelopes[:, :, lead : lead + count * block_frames], block_frames, level_blocks)
    seen = envelopes[:, :, : lead + count * block_frames].unfold(2, lead + block_frames, block_frames)
    # Blocks know nothing of each other, so all go through the encoder at once.
    seen = related(seen.transpose(1, 2), levels[:, :, None, None]).flatten(0, 1)
    return moments(encode(seen)).unflatten(0, (-1, count))


def moments(read: Tensor) -> Tensor:
    """Mean and variance over the frames, [batch, 2, channels], of [batch, frames, channels]."""
    read = read.float()  # the encoder may be computed in bfloat16, in which no mean is to be taken
    mean = read.mean(dim=1, keepdim=True)
    return torch.cat((mean, (read - mean).square().mean(dim=1, keepdim=True)), 1)


def summary(window: Tensor) -> Tensor:
    """Mean and standard deviation over a window, [batch, 2 * channels], of its blocks' moments [batch, n, 2, channels].

    The variance is the mean of the blocks' own plus that of their means.
    """
    means, variances = window[:, :, 0], window[:, :, 1]
    mean = means.mean(dim=1, keepdim=True)
    variance = variances.mean(dim=1) + (means - mean).square().mean(dim=1)
    return torch.cat((mean.squeeze(1), torch.sqrt(variance + VARIANCE_FLOOR)), 1)
