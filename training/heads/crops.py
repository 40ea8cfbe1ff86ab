"""Which crops a head learns, and how an encoder that is held looks at them: options and work of several programs.

The crops are of a window's length and of shorter ones: the encoder's channels tell how far into the sound a frame
lies, and a head that had seen one length alone would take any other for a spoof. Some go over from clip to clip.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Sequence
from pathlib import Path

from edge_runtime.errors import InputError, OutputError, UsageError
from export.rawnet2 import RawNet2
from training.augmentation.augment import NAMES
from training.batches import BALANCES, SHORTEST_SECONDS, Crops, Library, Strengths
from training.blocks import crop_samples
from training.heads.crop_features import DIGEST, Summaries, check_systems, look

BATCH = 32
LENGTHS = (1.0, 1.0, 0.5, 0.675)
"""Of the crops, in windows, one batch after the other."""
PARTIAL, JOINED = 0.15, 0.25
MOST_NODES = 1 << 16
"""Of all members' hidden layers: some 800 MB of weights behind Whisper tiny's layers."""


def add_crops(command: argparse.ArgumentParser) -> None:
    """The options that say which crops are learnt, how they are made, and how the head is fitted to them."""
    command.add_argument("--crops", type=int, default=48_000, help="crops to look at, by 32 (default: 48000)")
    command.add_argument(
        "--keep", type=Path, metavar="FILE", help="write down what was seen of these crops, for --also"
    )
    command.add_argument(
        "--also", type=Path, action="append", default=[], metavar="FILE", help="crops that --keep wrote; repeatable"
    )
    command.add_argument(
        "--without", action="append", default=[], metavar="SYSTEM", help="leave out systems named so; repeatable"
    )
    command.add_argument(
        "--without-sources",
        type=Path,
        metavar="FILE",
        help="leave out what has sound of these sources, of which FILE names one a line",
    )
    command.add_argument(
        "--balance",
        choices=BALANCES,
        default=BALANCES[0],
        help="what clips are drawn by: a human source or a system; a source, then a system in it; or all sources "
        "alike (default: %(default)s)",
    )
    command.add_argument("--augmentation", type=float, default=0.6, help="as in training (default: 0.6)")
    command.add_argument(
        "--waiting", type=float, default=0.3, help="share of crops that begin with silence (default: 0.3)"
    )
    command.add_argument(
        "--share",
        type=_share,
        action="append",
        default=[],
        metavar="NAME=P",
        help="share of crops, 0 to 1, that pass one augmentation, in place of the scaled one; "
        f"repeatable: {', '.join(NAMES)}",
    )
    command.add_argument("--nodes", type=int, default=256, help="of a member's hidden layer (default: 256)")
    command.add_argument(
        "--members", type=int, default=1, help="heads trained by themselves, whose mean is kept (default: 1)"
    )
    command.add_argument("--epochs", type=int, default=8, help="times that each crop is learnt (default: 8)")
    command.add_argument("--dropout", type=float, default=0.3, help="share of inputs left out (default: 0.3)")
    command.add_argument("--seed", type=int, default=1)
    command.add_argument("--bfloat16", action="store_true", help="as in training")


def _share(text: str) -> tuple[str, float]:
    name, _, share = text.partition("=")
    if name not in NAMES:
        raise argparse.ArgumentTypeError(f"there is no augmentation {name!r}: {', '.join(NAMES)}")
    try:
        probability = float(share)
    except ValueError:
        probability = -1.0
    if not 0 <= probability <= 1:
        raise argparse.ArgumentTypeError(f"{name} needs a share between 0 and 1, as in {name}=0.4")
    return name, probability


def check_crops(options: argparse.Namespace, others: Sequence[Path], written: Sequence[Path | None]) -> None:
    """Raises UsageError, InputError or OutputError for options of `add_crops` that could not end well, before any work.

    `others` are files and checkpoints that are read beside --also, `written` the files to be written.
    """
    if options.crops < 2 or not options.augmentation >= 0 or min(options.nodes, options.members, options.epochs) < 1:
        raise UsageError(
            "--crops must be 2 or more, --nodes, --members and --epochs 1 or more, "
            "and --augmentation cannot be negative"
        )
    if len(dict(options.share)) < len(options.share):
        raise UsageError("--share names one augmentation twice")
    if options.nodes * options.members > MOST_NODES:
        raise UsageError(f"--nodes times --members is {MOST_NODES} at most")
    if not 0 <= options.waiting <= 1:
        raise UsageError("--waiting lies between 0 and 1")
    if not 0 <= options.seed < 1 << 63:
        raise UsageError("--seed cannot be negative, or 2^63 and more")
    if options.without_sources is not None and not options.without_sources.is_file():
        raise InputError(f"cannot read {options.without_sources}: there is no such file")
    if not 0 <= options.dropout < 1:
        raise UsageError("--dropout lies between 0 and 1")
    files = [*others, *options.also, *filter(None, written)]
    if len({path.resolve() for path in files}) < len(files):
        raise UsageError(
            "one file is named twice, as START, --output, --keep, --also, --teacher or --windows: "
            "it would be lost or count twice"
        )
    for file in filter(None, written):
        if file.exists() and not file.is_file():
            raise OutputError(f"cannot write {file}: it is a folder or a device, not a file")
        if not file.parent.is_dir():
            raise OutputError(f"cannot write {file}: there is no folder {file.parent}")


def look_at(
    model: RawNet2, encoder: str, parts: Sequence[Summaries], library: Library, options: argparse.Namespace
) -> Summaries:
    """Cuts and augments crops of `library` and keeps what the encoder sums up of them.

    `options` are those of `add_crops`. Raises UsageError for what cannot be asked of it.
    """
    if any(run.get("seed") == options.seed for part in parts for run in part.made):
        raise UsageError(f"crops of --also were looked at with --seed {options.seed}: give this run another")
    spoken = {clip.system for clip in library.clips if not clip.is_bonafide}
    check_systems(spoken.union(*(part.systems for part in parts)), options.without)
    strengths = Strengths(
        augmentation=options.augmentation,
        ramp=0,
        matched=0.8,
        partial=PARTIAL,
        joined=JOINED,
        waiting=options.waiting,
        shares=dict(options.share),
        balance=options.balance,
    )
    config = model.config
    lengths = {share: crop_samples(config, config.window_samples * share) for share in dict.fromkeys(LENGTHS)}
    if min(lengths.values()) < SHORTEST_SECONDS * config.sample_rate:
        raise UsageError(f"{options.start}: its window is too short to be cut into")
    by_length = {
        share: Crops(library, BATCH, samples, options.seed, number * options.crops, strengths)
        for number, (share, samples) in enumerate(lengths.items())
    }
    seen, labels, systems, origins = look(model, [by_length[s] for s in LENGTHS], options.crops, options.bfloat16)
    made = {name: getattr(options, name) for name in ("crops", "augmentation", "waiting", "seed", "bfloat16")}
    if options.balance != BALANCES[0]:
        made["balance"] = options.balance
    made |= {"shares": dict(options.share), DIGEST: hashlib.sha256(seen.numpy().tobytes()).hexdigest()}
    return Summaries(seen, labels, systems, encoder, (made,), origins)
