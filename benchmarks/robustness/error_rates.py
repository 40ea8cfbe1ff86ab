"""How the error rate of model files changes with noise, codecs, rooms, length and level, beside the float model's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import UsageError
from edge_runtime.system.markdown import table
from evaluation.acoustics.conditions import CONDITIONS, Condition
from evaluation.bootstrap import Estimate
from evaluation.comparison import Comparison, compare_scores
from evaluation.metrics import eer_clustered
from evaluation.progress import silently
from evaluation.protocols import Clip
from evaluation.scoring.perturbation import hear


@dataclass(frozen=True)
class ModelErrors:
    """A model under a condition; None where the clips do not have both labels."""

    model: str
    eer: Estimate | None
    difference: Comparison | None  # from the first model, on the same clips; None for the first itself


@dataclass(frozen=True)
class ConditionLine:
    """A condition, with a cell for each model."""

    axis: str
    condition: str
    clips: int  # that all models scored: the figures are of these
    unscored: int  # that at least one did not, because nothing but silence was left
    cells: tuple[ModelErrors, ...]


@dataclass(frozen=True)
class Robustness:
    """All conditions, in the order of the report."""

    models: tuple[str, ...]  # the first is what the others are compared with
    bonafide: int
    spoof: int
    hop_seconds: float
    seed: int
    lines: tuple[ConditionLine, ...]
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
    """EERs of `models` under `conditions`, by `perturbation.hear`, which says what is raised.

    Intervals and differences are from bootstraps of `rounds` rounds, by `metrics.eer_clustered` and
    `comparison.compare_scores`.
    """
    heard = hear(models, clips, conditions, seed, hop_seconds, jobs, cluster, progress)
    stems = tuple(path.stem for path in models)
    return Robustness(
        models=stems,
        bonafide=sum(clip.is_bonafide for clip in heard.clips),
        spoof=sum(not clip.is_bonafide for clip in heard.clips),
        hop_seconds=heard.hop_seconds,
        seed=seed,
        lines=tuple(
            _line(item, heard.clips, heard.scores[:, i], stems, rounds) for i, item in enumerate(heard.conditions)
        ),
        unread=heard.unread,
        left_out=heard.left_out,
    )


def _line(
    condition: Condition, clips: Sequence[Clip], scores: NDArray[np.float64], models: Sequence[str], rounds: int
) -> ConditionLine:
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
        cells.append(ModelErrors(model, estimate, difference))
    return ConditionLine(condition.axis, condition.name, int(scored.sum()), int((~scored).sum()), tuple(cells))


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
    ]
    rows = []
    for line in result.lines:
        cells = [line.axis, line.condition]
        for index, cell in enumerate(line.cells):
            cells.append("needs both labels" if cell.eer is None else str(cell.eer))
            if index:
                cells.append(points(cell.difference))
        rows.append(cells)
    heads = ["axis", "condition", first, *(head for name in others for head in (name, f"- {first}, points"))]
    lines += table(heads, rows)
    notes = [
        f"- {line.condition}: {line.unscored} clips were left without a score" for line in result.lines if line.unscored
    ]
    notes += _times_clean(result)
    notes += [f"- {text}" for text in (*result.left_out, *(f"not used: {text}" for text in result.unread))]
    return "\n".join(lines + (["", *notes] if notes else [])) + "\n"


def _times_clean(result: Robustness) -> list[str]:
    """How many times the EER of clean sound each model has when it is played and recorded: what a user meets first."""
    by_name = {line.condition: line for line in result.lines}
    if not {"clean", "replay"} <= by_name.keys():
        return []
    told = [
        f"{name} {played.eer.value / clean.eer.value:.2f} times"
        for name, clean, played in zip(result.models, by_name["clean"].cells, by_name["replay"].cells, strict=True)
        if clean.eer and played.eer and clean.eer.value
    ]
    return [f"- replay, EER over that of clean sound: {', '.join(told)}"] if told else []


def points(item: Comparison | None) -> str:
    """A difference of EER with its interval, as cells of tables have it."""
    if item is None or item.eer_delta_points is None:
        return "unknown"
    if item.eer_delta_low_points is None:
        return f"{item.eer_delta_points:+.1f}"
    return f"{item.eer_delta_points:+.1f} [{item.eer_delta_low_points:+.1f}, {item.eer_delta_high_points:+.1f}]"
