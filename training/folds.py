"""`python -m training.folds START --data DIR … -o SCORES.csv`: clips scored by heads that never met their sources.

For each fold (`python -m benchmarks folds assign`) a head is fitted on the crops of the other folds' sources, and
the fold's clips are scored with it as the runtime would: the mean over a clip's windows. A copy belongs to the fold of
its original; a pair of crops is left out if any of the clips that it has sound of belongs to the fold. Crops of sources
that no fold has are learnt for all of them. Raw scores become log-likelihood ratios, and verdicts, by calibrations that
were fitted on the other folds' scores. `python -m benchmarks folds score SCORES.csv` makes the page.

The encoder is held, so that it looks at crops and clips once for all folds, and with `--windows FILE` and `--also FILE`
once for many such runs.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from edge_runtime.app.arguments import Parser
from edge_runtime.app.shell import entry
from edge_runtime.errors import InputError, UsageError
from evaluation.folds.assignment import FoldClip, assign
from evaluation.folds.table import read_rows
from evaluation.protocols import read_clips
from export.checkpoint import load
from export.rawnet2 import RawNet2
from training.batches import Library, read_library
from training.calibrate import ErrorLimits, add_limits, judged_by_others
from training.head import SMOOTHING, fit_head, judged, without_head
from training.heads.crop_features import (
    Summaries,
    check_distinct,
    check_systems,
    chosen,
    read,
    together,
    without,
    without_sources,
)
from training.heads.crops import add_crops, check_crops, look_at
from training.heads.distillation import Teacher, soft_targets
from training.heads.fold_scores import write
from training.heads.window_features import WindowFeatures, add_whole_blocks, see
from training.report import report
from training.verdicts import ScoredClip

FOLDS = 5


def parser() -> argparse.ArgumentParser:
    command = Parser(
        prog="edge-detect train folds",
        description="Score clips by heads of one encoder that never met the clips' sources.",
        epilog="Exit codes: 0 done, 2 usage, 3 data, 4 checkpoint, 5 output.",
    )
    command.add_argument("start", type=Path, help="checkpoint with an encoder")
    command.add_argument(
        "--data", type=Path, action="append", required=True, help="clips to judge, and to learn from; repeatable"
    )
    command.add_argument(
        "--learn", type=Path, action="append", default=[], help="clips to learn from alone, as copies; repeatable"
    )
    command.add_argument("--folds", type=Path, metavar="FOLDS.csv", help="source,fold (default: assigned here)")
    command.add_argument("-o", "--output", type=Path, required=True, metavar="SCORES.csv")
    command.add_argument(
        "--windows",
        type=Path,
        metavar="FILE",
        help="what the encoder sees in the clips: read, or written if not there",
    )
    command.add_argument("--hop", type=float, default=0.5, help="seconds between windows (default: %(default)s)")
    command.add_argument(
        "--distillation",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="weight, against labels, of what heads of single runs say of other runs' crops (default: 0)",
    )
    add_whole_blocks(command)
    add_crops(command)
    add_limits(command)
    return command


@entry("no scores were written")
def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 done, 2 usage, 3 data, 4 checkpoint, 5 output, 130 stopped."""
    options = parser().parse_args(argv)
    limits = ErrorLimits(options.false_alarms, options.misses)
    looks = _check(options, limits)
    start = load(options.start)
    model = without_head(start.model, options.nodes * options.members)
    parts = [read(path) for path in options.also]
    _check_crops_of(parts, start.sha256, model)
    places = [*options.data, *options.learn] if looks else options.data
    library = read_library(places, None, model.config.sample_rate, "training")
    own = judged_clips(library, options.data)
    fold_of = read_folds(options.folds) if options.folds else assigned(library, own)
    if missing := sorted({library.home(index) for index in own} - fold_of.keys()):
        raise InputError(f"{options.folds} has no fold for {len(missing)} sources, such as {missing[0]}")
    if not looks:
        check_systems(set().union(*(part.systems for part in parts)), options.without)
    else:
        parts.append(look_at(model, start.sha256, parts, library, options))
        if options.keep:
            parts[-1].save(options.keep)
    parts = without_sources(without(parts, options.without), options.without_sources)
    clips = [replace(library.clips[index], source=library.home(index)) for index in own]
    samples = [library.samples[index] for index in own]
    seen = see(
        model, clips, samples, start.sha256, options.hop, options.bfloat16, options.windows, options.whole_blocks
    )
    folds = [fold_of[clip.source] for clip in clips]
    heard = judged_by_fold(start.model, parts, seen, folds, fold_of, options)
    said = judged_by_others(heard, limits, folds, strictly=True)
    seconds = [len(sound) / model.config.sample_rate for sound in samples]
    count = write(options.output, heard, said, folds, seconds)
    lines = report(said, f"{len(set(folds))} folds").lines()
    if count < len(clips):
        print(f"left out {len(clips) - count} of {len(clips)} clips: they are silent", file=sys.stderr)
    print("\n".join([*lines, "", f"wrote {options.output}"]))
    return 0


def _check(options: argparse.Namespace, limits: ErrorLimits) -> bool:
    """Whether crops are to be looked at. Raises UsageError or OutputError for what could not end well."""
    looks = not options.also or options.keep is not None
    limits.check()
    others = [options.start, *filter(None, [options.folds])]
    check_crops(options, others, [options.output, options.keep, options.windows])
    if not 0.01 <= options.hop <= 60:
        raise UsageError("--hop must lie between 0.01 and 60 seconds")
    if not 0 <= options.distillation <= 1:
        raise UsageError("--distillation lies between 0 and 1")
    if options.distillation and len(options.also) + (options.keep is not None) < 2:
        raise UsageError("--distillation needs crops of two runs or more: name them with --also")
    if not looks and (options.learn or options.share):
        raise UsageError("--also alone looks at no crops: --learn and --share need --keep with it")
    return looks


def _check_crops_of(parts: Sequence[Summaries], encoder: str, model: RawNet2) -> None:
    """Raises UsageError or InputError for crops that this run cannot learn from."""
    if any(part.inputs.shape[1] != model.fc1.in_features or part.encoder != encoder for part in parts):
        raise UsageError("crops of --also were looked at by another encoder than START: look at them again")
    if any(not origin.sources for part in parts for origin in part.origins):
        raise InputError("a file of --also does not say of which sources its crops are: look at them again with --keep")
    check_distinct(parts)


def judged_clips(library: Library, locations: Sequence[Path]) -> list[int]:
    """The clips of `library` that `locations` list. Raises InputError where one is listed twice, or none is left."""
    wanted = [clip.path.resolve() for location in locations for clip in read_clips(location)]
    if len(set(wanted)) < len(wanted):
        twice = next(path for path in wanted if wanted.count(path) > 1)
        raise InputError(f"--data lists {twice} twice: it would count twice")
    found = [index for index, clip in enumerate(library.clips) if clip.path.resolve() in set(wanted)]
    if len({library.clips[index].label for index in found}) < 2:
        raise InputError("the clips to judge need both labels")
    return found


def read_folds(path: Path) -> dict[str, str]:
    """The fold of each source. Raises InputError for another table, and for a source in two folds."""
    found: dict[str, str] = {}
    for line, row in read_rows(path, ("source", "fold")):
        if found.setdefault(row["source"], row["fold"]) != row["fold"]:
            raise InputError(f"{path}, line {line}: {row['source']} lies in two folds")
    return found


def assigned(library: Library, own: Sequence[int]) -> dict[str, str]:
    """Folds of the sources of the clips `own`. Raises InputError when they are too few."""
    records = []
    for index in own:
        clip = library.clips[index]
        year = int(clip.year) if clip.year.isdecimal() else None
        records.append(FoldClip(library.home(index), clip.label, clip.system, year))
    try:
        found = assign(records, FOLDS)
    except ValueError as reason:
        raise InputError(f"--data: {reason}") from None
    return {record.source: str(fold) for record, fold in zip(records, found, strict=True)}


def apart(crops: Summaries, fold_of: Mapping[str, str], fold: str) -> list[int]:
    """The places of pairs of crops of which no clip belongs to `fold`."""
    own = [any(fold_of.get(source) == fold for source in origin.sources) for origin in crops.origins]
    return [place for place in range(len(own)) if not (own[place // 2 * 2] or own[place // 2 * 2 + 1])]


def judged_by_fold(
    start: RawNet2,
    parts: Sequence[Summaries],
    seen: WindowFeatures,
    folds: Sequence[str],
    fold_of: Mapping[str, str],
    options: argparse.Namespace,
) -> list[ScoredClip]:
    """Each clip with raw scores by the head of its fold. Raises InputError where a fold leaves nothing to learn."""
    heard: dict[int, ScoredClip] = {}
    for fold in sorted(set(folds)):
        places = [apart(part, fold_of, fold) for part in parts]
        left = [chosen(part, own) for part, own in zip(parts, places, strict=True) if own]
        if not left:
            raise InputError(f"no crops are left to learn from without the sources of fold {fold}")
        clips = [place for place, own in enumerate(folds) if own == fold]
        count, of = sum(map(len, left)), sum(map(len, parts))
        print(f"fold {fold}: {count} of {of} crops to learn from, {len(clips)} clips to judge")
        model = _head(start, left, options)
        for place in clips:
            heard[place] = seen.scored(place, judged(model, seen.of(place)))
    return [heard[place] for place in range(len(folds))]


def _head(start: RawNet2, parts: Sequence[Summaries], options: argparse.Namespace) -> RawNet2:
    """One that learnt the crops of `parts` and, with --distillation, what heads of single parts say of the others."""
    torch.manual_seed(options.seed)
    sizes = (options.epochs, options.dropout, options.members, options.bfloat16)
    crops = together(parts)
    wanted = crops.labels
    if options.distillation and len(parts) > 1:
        teachers = []
        for number, part in enumerate(parts):
            teacher = without_head(start, options.nodes * options.members)
            fit_head(teacher, part.inputs, part.labels, *sizes)
            teachers.append(Teacher(teacher, str(number), part.made))
        wanted = soft_targets(parts, teachers, options.distillation, SMOOTHING)
    model = without_head(start, options.nodes * options.members)
    fit_head(model, crops.inputs, wanted, *sizes)
    return model


if __name__ == "__main__":
    sys.exit(main())
