"""How the error rate of model files changes with noise, codecs, rooms, length and level, beside the float model's."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import parcels
from benchmarks.accuracy import summarize
from benchmarks.comparison import Comparison, compare_scores
from benchmarks.conditions import CONDITIONS, RATE, Condition, generator, possible
from benchmarks.metrics import Estimate, eer_clustered
from benchmarks.protocols import Clip
from benchmarks.turns import silently
from benchmarks.workers import Pool, spread, workers
from edge_runtime.capture.file import read_blocks
from edge_runtime.errors import InputError, UsageError

Job = tuple[int, str]
"""A clip as it is sent: its number in the list and its path."""
_BATCH_CLIPS = 1
"""A clip is scored some hundred times: no need to send several at once."""


@dataclass(frozen=True)
class Heard:
    """A clip's scores (LLR), [conditions][models], None where nothing can be scored; without them, the reason."""

    number: int
    scores: tuple[tuple[float | None, ...], ...]
    trouble: str = ""


@dataclass(frozen=True)
class Cell:
    """A model under a condition; None where the clips do not have both labels."""

    model: str
    eer: Estimate | None
    difference: Comparison | None  # from the first model, on the same clips; None for the first itself


@dataclass(frozen=True)
class Line:
    """A condition, with a cell for each model."""

    axis: str
    condition: str
    clips: int  # that all models scored: the figures are of these
    unscored: int  # that at least one did not, because nothing but silence was left
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Robustness:
    """All conditions, in the order of the report."""

    models: tuple[str, ...]  # the first is what the others are held against
    bonafide: int
    spoof: int
    hop_seconds: float
    seed: int
    lines: tuple[Line, ...]
    unread: tuple[str, ...]  # clips that could not be read or scored at all, with the reason
    left_out: tuple[str, ...]  # conditions that this machine cannot make, with the reason

    def as_json(self) -> dict[str, Any]:
        """Of JSON's types; EERs and intervals are fractions, differences percentage points."""
        told = asdict(self)
        for line, written in zip(self.lines, told["lines"], strict=True):
            for cell, one in zip(line.cells, written["cells"], strict=True):
                one["difference"] = cell.difference.as_figures() if cell.difference else None
        return told


def subset(clips: Sequence[Clip], limit: int | None, seed: int) -> list[Clip]:
    """At most `limit` clips, drawn, half of either label where there are as many, in their old order.

    Raises UsageError for fewer than 2.
    """
    if limit is None:
        return list(clips)
    if limit < 2:
        raise UsageError(f"at least 2 clips are needed, one of each label, not {limit}")
    random = np.random.default_rng(seed)
    sides = [np.flatnonzero([clip.is_bonafide == human for clip in clips]) for human in (True, False)]
    fewer = min(len(side) for side in sides)
    counts = [min(len(side), max(limit // 2, limit - fewer)) for side in sides]
    return [
        clips[i]
        for i in sorted(np.concatenate([random.permutation(s)[:n] for s, n in zip(sides, counts, strict=True)]))
    ]


def robustness(
    models: Sequence[Path],
    clips: Sequence[Clip],
    conditions: Sequence[Condition] = tuple(CONDITIONS.values()),
    seed: int = 0,
    hop_seconds: float = 0.5,
    jobs: int | None = None,
    cluster: str | None = None,
    progress: Callable[..., Any] = silently,
    rounds: int = 1000,
) -> Robustness:
    """EERs of `models` under `conditions`; all models hear the same sound, which is read and changed once.

    Intervals and differences are from bootstraps of `rounds` rounds, by `metrics.eer_clustered` and
    `comparison.compare_scores`. `jobs` and `cluster` are those of `benchmarks.workers.workers`. A file made for another
    processor is opened with exact sums.

    Raises ModelError for a file that cannot be used, UsageError for one of another sample rate, InputError when no clip
    can be scored.
    """
    packed = [parcels.pack(path, hop_seconds, anywhere=True) for path in models]
    for path, (_, detector) in zip(models, packed, strict=True):
        if detector.sample_rate != RATE:
            raise UsageError(f"{path} hears {detector.sample_rate} Hz: conditions are made for {RATE} Hz")
    able, left_out = possible(conditions)
    boxes = tuple(parcel for parcel, _ in packed)
    names = [condition.name for condition in able]
    function = partial(_hear_batch, [parcel.key for parcel in boxes], names, seed)
    with workers(jobs, cluster, parcels.unpack, boxes) as pool:
        work = [(number, str(clip.path)) for number, clip in enumerate(clips)]
        heard = list(progress(_heard(pool, function, work), total=len(work), desc="conditions", unit="clip"))
    heard.sort(key=lambda item: item.number)
    good = [item for item in heard if not item.trouble]
    unread = tuple(item.trouble for item in heard if item.trouble)
    if not good:
        raise InputError(f"no clip can be scored: {unread[0] if unread else 'there is none'}")
    known = [clips[item.number] for item in good]
    scores = np.array([item.scores for item in good], np.float64)  # [clips, conditions, models], None is NaN
    stems = tuple(path.stem for path in models)
    return Robustness(
        models=stems,
        bonafide=sum(clip.is_bonafide for clip in known),
        spoof=sum(not clip.is_bonafide for clip in known),
        hop_seconds=packed[0][1].hop_seconds,
        seed=seed,
        lines=tuple(_line(item, known, scores[:, i], stems, rounds) for i, item in enumerate(able)),
        unread=unread,
        left_out=tuple(left_out),
    )


def _heard(pool: Pool, function: Callable[[list[Job]], list[Heard]], work: Sequence[Job]) -> Iterator[Heard]:
    for batch in spread(pool, function, work, _crashed, _BATCH_CLIPS):
        yield from batch


def _crashed(job: Job) -> Heard:
    return Heard(job[0], (), f"{job[1]}: the process that scored it died each time")


def _hear_batch(keys: Sequence[str], names: Sequence[str], seed: int, batch: list[Job]) -> list[Heard]:
    """Runs on a worker, which knows the models by `keys` and the conditions by `names`."""
    return [_hear(keys, names, seed, number, Path(path)) for number, path in batch]


def _hear(keys: Sequence[str], names: Sequence[str], seed: int, number: int, path: Path) -> Heard:
    try:
        samples = np.concatenate(list(read_blocks(str(path), None, RATE)))
    except InputError as reason:
        return Heard(number, (), str(reason))
    samples = np.clip(np.nan_to_num(samples, nan=0.0), -1, 1)
    rows = []
    for name in names:
        changed = CONDITIONS[name].apply(samples, generator(seed, path.name, name))
        rows.append(tuple(summarize(parcels.detector(key), [changed]).score for key in keys))
    return Heard(number, tuple(rows))


def _line(
    condition: Condition, clips: Sequence[Clip], scores: NDArray[np.float64], models: Sequence[str], rounds: int
) -> Line:
    """`scores` [clips, models] under the condition."""
    scored = np.all(np.isfinite(scores), axis=1)
    human = np.array([clip.is_bonafide for clip in clips], bool)[scored]
    sources = [clip.source for clip, fit in zip(clips, scored.tolist(), strict=True) if fit]
    cells = []
    for index, model in enumerate(models):
        mine, first = scores[scored, index], scores[scored, 0]
        estimate = difference = None
        if human.any() and not human.all():
            estimate = eer_clustered(mine, human, sources, rounds)
            difference = compare_scores(first, mine, human, sources, rounds=rounds) if index else None
        cells.append(Cell(model, estimate, difference))
    return Line(condition.axis, condition.name, int(scored.sum()), int((~scored).sum()), tuple(cells))


def markdown(result: Robustness) -> str:
    """The table, with what its columns mean above it and what it lacks below."""
    first, *others = result.models
    over = sorted({cell.eer.over for line in result.lines for cell in line.cells if cell.eer})
    lines = [
        f"{result.bonafide} bona fide and {result.spoof} spoofed clips; hop {result.hop_seconds:g} s, "
        f"seed {result.seed}. EER with its 95 % interval, "
        f"from a bootstrap over {' or '.join(over) or 'nothing'}; of each other model also "
        f"the difference from {first} in percentage points, from a paired one. All models hear the same sound.",
        "",
        f"| axis | condition | {first} |" + "".join(f" {name} | - {first}, points |" for name in others),
        "|---|---|---|" + "---|---|" * len(others),
    ]
    for line in result.lines:
        cells = [line.axis, line.condition]
        for index, cell in enumerate(line.cells):
            cells.append("needs both labels" if cell.eer is None else str(cell.eer))
            if index:
                cells.append(_points(cell.difference))
        lines.append("| " + " | ".join(cells) + " |")
    notes = [
        f"- {line.condition}: {line.unscored} clips were left without a score" for line in result.lines if line.unscored
    ]
    notes += [f"- {text}" for text in (*result.left_out, *(f"not used: {text}" for text in result.unread))]
    return "\n".join(lines + (["", *notes] if notes else [])) + "\n"


def _points(item: Comparison | None) -> str:
    if item is None or item.eer_delta_points is None:
        return "unknown"
    if item.eer_delta_low_points is None:
        return f"{item.eer_delta_points:+.1f}"
    return f"{item.eer_delta_points:+.1f} [{item.eer_delta_low_points:+.1f}, {item.eer_delta_high_points:+.1f}]"
