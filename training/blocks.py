"""`python -m training.blocks START -o OUT`: a checkpoint whose encoder sees a stream block by block.

The encoder's weights stay as they are: a Whisper's layers, or those of a checkpoint that saw whole windows. What it
sums up of a window changes with the blocks, so a head that was fitted to whole windows is of no use any more: fit
another one with `python -m training.head`. (`export.blocks` has the mathematics.)
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from edge_runtime.app.arguments import Parser
from edge_runtime.app.shell import entry
from edge_runtime.errors import OutputError, UsageError
from export import blocks
from export.checkpoint import check_window, load, save
from export.encoder import REACH
from export.rawnet2 import LONGEST_FRAMES, Config, RawNet2

BLOCK_FRAMES, CONTEXT_FRAMES, LEVEL_BLOCKS = 50, 24, 8
"""Blocks of half a second with the quarter before them seen again, and the level of four seconds: the default."""


def with_blocks(config: Config, block_frames: int, context_frames: int, level_blocks: int) -> Config:
    """`config` with blocks of so many frames; with whole windows where all three are 0. Raises UsageError."""
    found = replace(config, block_frames=block_frames, context_frames=context_frames, level_blocks=level_blocks)
    if block_frames or context_frames or level_blocks:
        if not config.has_encoder or config.compression != "log":
            raise UsageError("only a network with an encoder has blocks")
        if block_frames < 2 or block_frames % 2 or context_frames < 0 or context_frames % 2 or level_blocks < 1:
            raise UsageError(
                "--block-frames must be even and 2 or more, --context-frames even and not negative, "
                "--level-blocks 1 or more"
            )
        if REACH + block_frames + context_frames > LONGEST_FRAMES:
            longest = LONGEST_FRAMES - REACH
            raise UsageError(f"--block-frames and --context-frames are {longest} together at most")
        if level_blocks > LONGEST_FRAMES:
            raise UsageError(f"--level-blocks is {LONGEST_FRAMES} at most")
    check_window(found)
    return found


def crop_samples(config: Config, wanted: float) -> int:
    """The length of crops, in samples, next to `wanted`: of a network with blocks, one or more whole blocks."""
    if not config.has_blocks:
        return round(wanted)
    block = config.block_frames * config.pool
    return max(1, round(wanted / block)) * block


def related_frames(model: RawNet2, features: Tensor) -> Tensor:
    """Features [batch, filters, frames] of windows as the encoder sees each frame when it is new, of the same shape.

    With blocks, each frame is related to the level of its own block, and those of the silence before to the first's.
    """
    config = model.config
    if not config.has_blocks:
        return model.relate(features)
    lead = config.lead_frames
    levels = blocks.running_levels(features[:, :, lead:], config.block_frames, config.level_blocks)
    of_frames = levels.repeat_interleave(config.block_frames, 1)
    return blocks.related(features, torch.cat((levels[:, :1].expand(-1, lead), of_frames), 1)[:, None])


def add_sizes(command: argparse.ArgumentParser, defaults: tuple[int, int, int]) -> None:
    """The options of `with_blocks`."""
    what = (
        "new feature frames of 10 ms in a block; 0: the encoder sees whole windows",
        "frames before a block that are seen again with it",
        "newest blocks whose mean is the level",
    )
    for name, default, said in zip(
        ("--block-frames", "--context-frames", "--level-blocks"), defaults, what, strict=True
    ):
        command.add_argument(name, type=int, default=default, metavar="N", help=f"{said} (default: %(default)s)")


def parser() -> argparse.ArgumentParser:
    command = Parser(
        prog="edge-detect train blocks",
        description="Give the encoder of a checkpoint blocks, or take them from it. Then fit a head to it.",
        epilog="Exit codes: 0 done, 2 usage, 4 checkpoint, 5 output.",
    )
    command.add_argument("start", type=Path, help="checkpoint with an encoder")
    command.add_argument("-o", "--output", type=Path, required=True, help="the checkpoint to fit a head to")
    add_sizes(command, (BLOCK_FRAMES, CONTEXT_FRAMES, LEVEL_BLOCKS))
    return command


@entry()
def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 done, 2 usage, 4 checkpoint, 5 output."""
    options = parser().parse_args(argv)
    if options.output.resolve() == options.start.resolve():
        raise UsageError(f"{options.output} is START: it would be lost")
    if not options.output.parent.is_dir():
        raise OutputError(f"cannot write {options.output}: there is no folder {options.output.parent}")
    start = load(options.start)
    config = with_blocks(start.model.config, options.block_frames, options.context_frames, options.level_blocks)
    if config == start.model.config:
        raise UsageError(f"{options.start} has these blocks already")
    model = RawNet2(config)
    model.load_state_dict(start.model.state_dict())
    save(options.output, model, figures={"blocks_of": {"sha256": start.sha256, "name": start.name}}, name="start")
    seconds = [frames * config.pool / config.sample_rate for frames in (config.block_frames, config.context_frames)]
    shape = f"blocks of {seconds[0]:g} s after {seconds[1]:g} s" if config.has_blocks else "whole windows"
    print(f"the encoder sees {shape}; its head is of no use until it is fitted again; wrote {options.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
