"""`python -m training adapt`: adapts a trained network to a room and microphone, from an hour of human recordings.

The recordings are cut, copied through vocoders and mixed with clips that the network was trained on, half of them
heard in the same room, whose old scores the network is held to. Every fifth recording is held out to say what came of
it. What is kept of the new weights depends on dev (`training.adaptation.trial`).
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from edge_runtime.app.arguments import Parser
from edge_runtime.app.shell import entry
from edge_runtime.atomic import whole_file
from edge_runtime.errors import InputError, OutputError, UsageError
from evaluation.protocols import Clip, read_clips
from export.checkpoint import Checkpoint, load, save
from training.adaptation.card import AdaptationCard
from training.adaptation.copies import CHEAP, engines_here, make_copies
from training.adaptation.recordings import files_of, write_pieces
from training.adaptation.room import listen
from training.adaptation.trial import AdaptationTrial, as_it_came, attempt, fitted_again, keep_share
from training.adaptation.tune import TuningSettings, tune
from training.batches import Library, read_library
from training.calibrate import ErrorLimits, add_limits, cross_fitted, fit
from training.report import report
from training.synthesize.__main__ import names

MOST_KEPT = 3000
"""Clips of --keep that are read: 400 MB, and more than a few hundred steps see."""
COPY_SHARE = 1 / 3
"""Share of the time that the vocoders get, unless --copy-minutes says otherwise."""
TRIALS_AHEAD = 2.2
"""Time that is left for the trials after the descent, as a multiple of what the first took."""


def parser() -> argparse.ArgumentParser:
    command = Parser(
        prog="edge-detect train adapt",
        description="Adapt a checkpoint to a room and microphone from about an hour of human recordings.",
        epilog="Writes OUTDIR/adapted.safetensors and OUTDIR/card.md. Nothing of the recordings is kept. "
        "Exit codes: 0 done, 2 usage, 3 data, 4 checkpoint, 5 output.",
    )
    told = "(default: %(default)s)"
    settings = TuningSettings()
    command.add_argument("--model", type=Path, required=True, help="checkpoint of `python -m training`")
    command.add_argument("--bonafide", type=Path, required=True, help="human recordings of the room, of any length")
    command.add_argument("--spoof", type=Path, help="synthetic speech recorded in the room, if there is some")
    command.add_argument(
        "--keep", type=Path, action="append", required=True, help="data it was trained on, or like it; repeatable"
    )
    command.add_argument("--dev", type=Path, help="folder or CSV that tells what is forgotten; for thresholds too")
    command.add_argument("-o", "--output", type=Path, required=True, metavar="OUTDIR")
    command.add_argument("--minutes", type=float, default=25.0, help=f"time that all may take {told}")
    command.add_argument("--copy-minutes", type=float, help="of it, time of the vocoders (default: a third)")
    command.add_argument("--engines", type=names, default=list(CHEAP), help="vocoders (default: cheap ones found here)")
    command.add_argument("--steps", type=int, default=settings.steps, help=f"at most {told}")
    command.add_argument("--batch", type=int, default=settings.batch, help=f"{told}")
    command.add_argument("--learning-rate", type=float, default=settings.learning_rate, help=f"{told}")
    distillation = f"weight of the old scores, against the labels {told}"
    command.add_argument("--distillation", type=float, default=settings.distillation, help=distillation)
    command.add_argument("--seed", type=int, default=settings.seed, help=told)
    command.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help=f"cores {told}")
    add_limits(command)
    return command


def choose(clips: Sequence[Clip], most: int, seed: int) -> list[Clip]:
    """At most `most` clips, half of either label, at random; human ones that a chosen copy was made from come first."""
    rng = np.random.default_rng(seed)
    mixed = [clips[place] for place in rng.permutation(len(clips))]
    spoof = [clip for clip in mixed if not clip.is_bonafide][: most // 2]
    originals = {clip.original.resolve() for clip in spoof if clip.original}
    human = sorted((c for c in mixed if c.is_bonafide), key=lambda clip: clip.path.resolve() not in originals)
    return [*human[: most - most // 2], *spoof]


def read_kept(places: Sequence[Path], rate: int, seed: int) -> Library:
    """The clips to rehearse. Raises InputError unless both labels are there."""
    clips = [clip for place in places for clip in read_clips(place)]
    kept = Library(choose(clips, MOST_KEPT, seed), rate, tqdm)
    if len({clip.label for clip in kept.clips}) < 2:
        raise InputError("--keep needs both bonafide and spoof clips")
    return kept


def check(arguments: argparse.Namespace) -> tuple[TuningSettings, ErrorLimits]:
    """What the options ask for. Raises UsageError or InputError for what can be seen to be wrong before any work."""
    settings = TuningSettings(
        steps=arguments.steps,
        batch=arguments.batch,
        learning_rate=arguments.learning_rate,
        distillation=arguments.distillation,
        seed=arguments.seed,
    )
    settings.check()
    limits = ErrorLimits(arguments.false_alarms, arguments.misses)
    limits.check()
    if not (arguments.minutes > 0 and (arguments.copy_minutes is None or arguments.copy_minutes > 0)):
        raise UsageError("--minutes and --copy-minutes must be above 0")
    if arguments.threads < 1 or arguments.seed < 0:
        raise UsageError("--threads must be 1 or more, --seed not below 0")
    files_of(arguments.bonafide, "bonafide")
    if arguments.spoof:
        files_of(arguments.spoof, "spoof")
    for place in [*arguments.keep, *([arguments.dev] if arguments.dev else [])]:
        read_clips(place)
    return settings, limits


def split(arguments: argparse.Namespace, work: Path, rate: int) -> tuple[Library, Library]:
    """The user's clips with their copies: those to train on, and those held out."""
    train, held = write_pieces(arguments.bonafide, "bonafide", work / "bonafide", rate)
    minutes = arguments.copy_minutes or COPY_SHARE * arguments.minutes
    engines = engines_here(arguments.engines)
    print(f"{len(train)} clips of recordings to train on, {len(held)} held out; copies by {len(engines)} vocoders")
    copies = make_copies([*train, *held], engines, work / "copies", 60 * minutes, arguments.threads, arguments.seed)
    apart = {clip.path.resolve() for clip in held}  # a copy of what is held out must not be trained on either
    for clip in copies:
        (held if clip.original and clip.original.resolve() in apart else train).append(clip)
    if arguments.spoof:
        own, own_held = write_pieces(arguments.spoof, "spoof", work / "spoof", rate)
        train, held = train + own, held + own_held
    mine, aside = Library(train, rate), Library(held, rate)
    for library, what in ((mine, "to train on"), (aside, "held out")):
        if len({clip.label for clip in library.clips}) < 2 and (library is mine or not arguments.dev):
            raise InputError(f"no spoofed clips of the room {what} were made in the time: give more --copy-minutes")
    return mine, aside


def run(
    arguments: argparse.Namespace, checkpoint: Checkpoint, settings: TuningSettings, limits: ErrorLimits
) -> AdaptationCard:
    """Adapts, writes the checkpoint and the card."""
    began = time.monotonic()
    rate, old = checkpoint.model.config.sample_rate, checkpoint.model
    dev = read_library([arguments.dev], None, rate, "dev") if arguments.dev else None
    kept = read_kept(arguments.keep, rate, arguments.seed)
    with tempfile.TemporaryDirectory(dir=arguments.output, prefix=".recordings-") as work:
        mine, aside = split(arguments, Path(work), rate)
    room = listen(_humans(mine), _humans(kept))
    started = time.monotonic()
    before = attempt(old, dev, aside)
    left = began + 60 * arguments.minutes - time.monotonic() - TRIALS_AHEAD * (time.monotonic() - started)
    new, steps = tune(old, mine, kept, room, settings, left)
    if steps < settings.steps:
        print(f"the time was enough for {steps} of {settings.steps} steps", file=sys.stderr)
    share, model, after = keep_share(old, new, before, lambda network: attempt(network, dev, aside))
    card = describe(arguments, checkpoint, limits, (before, after), (mine, aside, kept), share, steps)
    card = replace(card, used={**card.used, "minutes that it took": f"{(time.monotonic() - began) / 60:.1f}"})
    adapted = {"steps": steps, "share_of_the_new_weights": share, **asdict(settings)}
    origin = {"sha256": checkpoint.sha256, "name": checkpoint.name, "figures": dict(checkpoint.figures)}
    figures = {"adapted": adapted, "adapted_from": origin, "calibration": card.verdicts.figures()}
    name = f"{checkpoint.name or arguments.model.stem} adapted"
    save(arguments.output / "adapted.safetensors", model, card.calibration, figures, name)
    with whole_file(arguments.output / "card.md") as temporary:
        temporary.write_text("\n".join([*card.lines(), ""]), encoding="utf-8")
    return card


def describe(
    arguments: argparse.Namespace,
    checkpoint: Checkpoint,
    limits: ErrorLimits,
    trials: tuple[AdaptationTrial, AdaptationTrial],
    libraries: tuple[Library, Library, Library],
    share: float,
    steps: int,
) -> AdaptationCard:
    """The card of an adaptation, with the calibration fitted on dev and what was held out."""
    before, after = trials
    mine, aside, kept = libraries
    used = {
        "checkpoint": f"{arguments.model.name}, SHA-256 {checkpoint.sha256}",
        "recordings, trained on": _amount(mine),
        "recordings, held out": _amount(aside),
        "systems of the spoofed clips": ", ".join(sorted({c.system for c in mine.clips if not c.is_bonafide})),
        "kept": f"{_amount(kept)} ({', '.join(map(str, arguments.keep))})",
        "dev": str(arguments.dev or "none"),
        "steps": f"{steps} of {arguments.batch} clips, learning rate {arguments.learning_rate:g}",
        "share of the new weights": f"{share:.0%}",
        "asked for": f"{limits.false_alarms:.1%} of human clips called spoof, {limits.misses:.1%} of spoofed bona fide",
    }
    columns = [
        as_it_came(before, checkpoint.calibration, "before, as it came"),
        fitted_again(before, limits, "before, thresholds fitted again"),
        fitted_again(after, limits, "after, thresholds fitted again"),
    ]
    name = checkpoint.name or arguments.model.stem
    found = report(cross_fitted(after.all, limits))
    return AdaptationCard(name, used, columns, share, found, fit(after.all, limits), arguments.dev is not None)


@entry("nothing was written")
def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code."""
    arguments = parser().parse_args(argv)
    settings, limits = check(arguments)
    checkpoint = load(arguments.model)
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    try:
        arguments.output.mkdir(parents=True, exist_ok=True)
    except OSError as reason:
        raise OutputError(f"cannot make the folder {arguments.output}: {reason.strerror or reason}") from None
    card = run(arguments, checkpoint, settings, limits)
    print("\n".join(["", *card.lines(), "", f"wrote {arguments.output / 'adapted.safetensors'} and card.md beside it"]))
    return 0


def _humans(library: Library) -> list[NDArray[np.int16]]:
    return [samples for clip, samples in zip(library.clips, library.samples, strict=True) if clip.is_bonafide]


def _amount(library: Library) -> str:
    human = sum(clip.is_bonafide for clip in library.clips)
    return (
        f"{human} human clips ({60 * library.hours('bonafide'):.1f} min), "
        f"{len(library.clips) - human} spoofed ({60 * library.hours('spoof'):.1f} min)"
    )


if __name__ == "__main__":
    sys.exit(main())
