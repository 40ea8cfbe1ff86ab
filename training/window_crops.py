"""`python -m training.window_crops START --data DIR … --windows FILE -o CROPS`: clips as they are, as crops.

What judging sees of clips is learnt from as well: windows of unaugmented streams, with the context and the level that
a stream has. The encoder looks at each window once, for this and for `training.folds` with the same `--windows`, so
that they cost nothing more.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from edge_runtime.app.arguments import Parser
from edge_runtime.app.shell import entry
from edge_runtime.errors import InputError, OutputError, UsageError
from export.checkpoint import load
from training.batches import BALANCES, Library, read_library
from training.heads.crop_features import DIGEST, Origin, Summaries
from training.heads.window_features import WindowFeatures, add_whole_blocks, see

MATCHED = 0.8
"""Share of spoofed windows beside which there is a human one of the same source, where the source has one."""


def parser() -> argparse.ArgumentParser:
    command = Parser(
        prog="edge-detect train window-crops",
        description="Make crops to learn from, out of the windows that judging sees of clips as they are.",
        epilog="Exit codes: 0 done, 2 usage, 3 data, 4 checkpoint, 5 output.",
    )
    command.add_argument("start", type=Path, help="checkpoint with an encoder")
    command.add_argument("--data", type=Path, action="append", required=True, help="folder or CSV; repeatable")
    command.add_argument(
        "--windows",
        type=Path,
        metavar="FILE",
        required=True,
        help="read, or written if not there",
    )
    command.add_argument("-o", "--output", type=Path, required=True, metavar="CROPS", help="for --also")
    command.add_argument("--hop", type=float, default=0.5, help="seconds between windows (default: %(default)s)")
    command.add_argument("--crops", type=int, default=40_000, help="crops to draw (default: %(default)s)")
    command.add_argument("--balance", choices=BALANCES, default="source", help="as in training.head")
    command.add_argument("--seed", type=int, default=1)
    add_whole_blocks(command)
    command.add_argument("--bfloat16", action="store_true", help="as in training")
    return command


@entry("no crops were written")
def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 done, 2 usage, 3 data, 4 checkpoint, 5 output, 130 stopped."""
    options = parser().parse_args(argv)
    _check(options)
    start = load(options.start)
    library = read_library(options.data, None, start.model.config.sample_rate, "training")
    clips = [replace(clip, source=library.home(index)) for index, clip in enumerate(library.clips)]
    seen = see(
        start.model,
        clips,
        library.samples,
        start.sha256,
        options.hop,
        options.bfloat16,
        options.windows,
        options.whole_blocks,
    )
    crops = drawn(library, seen, start.sha256, options.crops, options.balance, options.seed)
    crops.save(options.output)
    print(f"{len(crops)} crops of {len(seen.summaries)} windows of {len(clips)} clips; wrote {options.output}")
    return 0


def drawn(library: Library, seen: WindowFeatures, encoder: str, count: int, balance: str, seed: int) -> Summaries:
    """`count` windows in pairs, a spoofed and then a human one, drawn by `balance` and then evenly within a clip.

    Raises InputError where a label has no window, as where all its clips are silent.
    """
    rng = np.random.default_rng(seed)
    heard = np.diff(seen.first) > 0
    by_label = {label: np.cumsum(library.weights(label, balance) * heard) for label in ("spoof", "bonafide")}
    if missing := [label for label, total in by_label.items() if total[-1] <= 0]:
        raise InputError(f"no {missing[0]} clip has a window with sound in it")
    homes = np.array([library.home(index) for index in range(len(library.clips))])
    human = library.weights("bonafide", balance) * heard
    near = {name: np.cumsum(human * (homes == name)) for name in np.unique(homes)}
    clips: list[int] = []
    for _ in range(count // 2):
        spoof = _drawn(by_label["spoof"], rng)
        own = near[homes[spoof]]
        of_own = own[-1] > 0 and rng.random() < MATCHED
        clips += [spoof, _drawn(own if of_own else by_label["bonafide"], rng)]
    places = torch.tensor([int(rng.integers(seen.first[clip], seen.first[clip + 1])) for clip in clips])
    inputs = seen.summaries[places]
    made = {"crops": len(clips), "unchanged": True, "balance": balance, "seed": seed}
    made[DIGEST] = hashlib.sha256(inputs.numpy().tobytes()).hexdigest()
    systems = tuple(library.clips[clip].system for clip in clips[::2] for _ in range(2))
    origins = tuple(Origin((str(homes[c]),), library.clips[c].kind, library.clips[c].year) for c in clips)
    return Summaries(inputs, torch.arange(len(clips)) % 2, systems, encoder, (made,), origins)


def _drawn(cumulative: np.ndarray, rng: np.random.Generator) -> int:
    return min(int(np.searchsorted(cumulative, rng.random() * cumulative[-1], "right")), len(cumulative) - 1)


def _check(options: argparse.Namespace) -> None:
    """Raises UsageError or OutputError for what could not end well, before minutes of work."""
    if options.crops < 2:
        raise UsageError("--crops must be 2 or more")
    if not 0.01 <= options.hop <= 60:
        raise UsageError("--hop must lie between 0.01 and 60 seconds")
    if not 0 <= options.seed < 1 << 63:
        raise UsageError("--seed cannot be negative, or 2^63 and more")
    if len({path.resolve() for path in (options.start, options.windows, options.output)}) < 3:
        raise UsageError("START, --windows and --output must be three files")
    for path in (options.windows, options.output):
        if not path.parent.is_dir():
            raise OutputError(f"cannot write {path}: there is no folder {path.parent}")


if __name__ == "__main__":
    sys.exit(main())
