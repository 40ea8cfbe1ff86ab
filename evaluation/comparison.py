"""How far a model's scores are from the float model's on the same clips: the proof that stands with a file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from decimal import ROUND_DOWN, Decimal
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge_runtime.decision.verdict import Verdict
from edge_runtime.errors import InputError
from edge_runtime.model.contract import Contract
from edge_runtime.system.markdown import table
from evaluation.accuracy import ClipVerdict
from evaluation.bootstrap import Indices, resample, units
from evaluation.metrics import eer
from evaluation.progress import silently

Floats = NDArray[np.float64]
_DECIMALS = {"largest_difference": 4, "eer_reference": 5, "eer_other": 5}


@dataclass(frozen=True)
class Comparison:
    """What differs between two models on the same clips; None where a figure cannot be said.

    EERs and shares are fractions, differences of EER are percentage points, other minus reference, and
    `largest_difference` is a log-likelihood ratio.
    """

    clips: int  # scored by both
    unmatched: int  # scored by one of the two only; no figure below counts them
    correlation: float | None  # Pearson's, of the scores; None when either model's are all alike
    largest_difference: float
    flipped: float | None  # share whose verdict differs
    flipped_hard: float | None  # share that went from bona fide to spoof or back
    eer_reference: float | None  # None, as all that follows, unless there are clips of both labels
    eer_other: float | None
    eer_delta_points: float | None
    eer_delta_low_points: float | None  # two-sided 95 % interval
    eer_delta_high_points: float | None
    eer_delta_upper_points: float | None  # one-sided: with 95 % confidence the EER rose by no more
    over: str | None  # what the bootstrap drew: sources or clips

    def as_figures(self) -> dict[str, Any]:
        """The figures for a model's metadata: rounded, the correlation cut, and of JSON's types, so never NaN."""
        figures = {
            name: round(value, _DECIMALS.get(name, 4)) if isinstance(value, float) else value
            for name, value in asdict(self).items()
        }
        return figures | {"correlation": None if self.correlation is None else float(_cut(self.correlation, 6))}


@dataclass(frozen=True)
class ComparedModel:
    """One line of the table: a model file, and how it compares with the float one.

    `comparison` is None for the float file itself, and for one that is not measured: `refusal` says why then.
    """

    model: str
    level: str
    target: str
    size_bytes: int
    size_ratio: float  # size of the float file divided by this file's
    comparison: Comparison | None
    refusal: str | None = None


def compare(
    reference: Sequence[ClipVerdict], other: Sequence[ClipVerdict], rounds: int = 1000, seed: int = 0
) -> Comparison:
    """Compares the scores and verdicts of clips that both models scored, matched by the clip's path.

    Raises InputError when there is no such clip. See `compare_scores` for the method.
    """
    pairs, unmatched = matched(reference, other)
    return compare_scores(
        [item.score for item, _ in pairs],
        [item.score for _, item in pairs],
        [item.clip.is_bonafide for item, _ in pairs],
        [item.clip.source for item, _ in pairs],
        verdicts=([item.verdict for item, _ in pairs], [item.verdict for _, item in pairs]),
        unmatched=unmatched,
        rounds=rounds,
        seed=seed,
    )


def matched(
    reference: Sequence[ClipVerdict], other: Sequence[ClipVerdict]
) -> tuple[list[tuple[ClipVerdict, ClipVerdict]], int]:
    """What both models made of each clip that both scored, and how many clips only one of them scored.

    Raises InputError when there is no clip with both.
    """
    ours = {item.clip.path: item for item in reference}
    theirs = {item.clip.path: item for item in other}
    pairs = [(item, theirs[path]) for path, item in ours.items() if path in theirs]
    if not pairs:
        raise InputError("nothing to compare: no clip has a score from both models")
    return pairs, len(ours.keys() ^ theirs.keys())


def compare_scores(
    reference: ArrayLike,
    other: ArrayLike,
    is_bonafide: ArrayLike | None = None,
    sources: Sequence[str] | None = None,
    *,
    verdicts: tuple[Sequence[Verdict], Sequence[Verdict]] | None = None,
    unmatched: int = 0,
    rounds: int = 1000,
    seed: int = 0,
    progress: Callable[..., Any] = silently,
) -> Comparison:
    """Compares two models' scores (LLRs), each [n], of the same clips or windows.

    `is_bonafide` [n] is None where labels are not known, and there is no EER then. `sources` [n] names what is
    alike: of clips where each came from, of windows their clip or its source. Without `verdicts`, the models'
    in the same order, no flips are counted.

    The intervals are from a paired bootstrap: each round draws once and takes both EERs on that draw. Drawn are
    sources, or clips within each label (`bootstrap.Units`), as `metrics.eer_clustered` does; percentiles are plain,
    and widened to the difference where they leave it out.

    Raises ValueError when lengths differ, nothing is given, or a score is not finite.
    """
    first, second = np.asarray(reference, np.float64), np.asarray(other, np.float64)
    if first.ndim != 1 or first.shape != second.shape or not first.size:
        raise ValueError(f"two rows of scores of the same clips are needed, not {first.shape} and {second.shape}")
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise ValueError("a score is not a finite number")
    flipped = flipped_hard = None
    if verdicts is not None:
        before, after = (np.array([str(verdict) for verdict in side]) for side in verdicts)
        _same_length(first, before, after)
        plain = np.isin(before, (Verdict.BONAFIDE, Verdict.SPOOF)) & np.isin(after, (Verdict.BONAFIDE, Verdict.SPOOF))
        flipped = float(np.mean(before != after))
        flipped_hard = float(np.mean((before != after) & plain))
    rates = _Rates()
    if is_bonafide is not None:
        human = np.asarray(is_bonafide, bool)
        names = list(sources) if sources is not None else ["unknown"] * first.size
        _same_length(first, human, np.asarray(names))
        if human.any() and not human.all():
            rates = _rates(first, second, human, names, rounds, seed, progress)
    return Comparison(
        clips=first.size,
        unmatched=unmatched,
        correlation=_correlation(first, second),
        largest_difference=float(np.max(np.abs(second - first))),
        flipped=flipped,
        flipped_hard=flipped_hard,
        eer_reference=rates.reference,
        eer_other=rates.other,
        eer_delta_points=rates.delta,
        eer_delta_low_points=rates.low,
        eer_delta_high_points=rates.high,
        eer_delta_upper_points=rates.upper,
        over=rates.over,
    )


class _Rates(NamedTuple):
    """EERs as fractions; their difference and its bounds in points."""

    reference: float | None = None
    other: float | None = None
    delta: float | None = None
    low: float | None = None
    high: float | None = None
    upper: float | None = None
    over: str | None = None


def _same_length(scores: Floats, *others: NDArray[Any]) -> None:
    for other in others:
        if other.shape != scores.shape:
            raise ValueError(f"{scores.size} scores, but {other.shape} labels, sources or verdicts")


def _correlation(first: Floats, second: Floats) -> float | None:
    """Pearson's correlation; None where it is not defined, for one clip or scores that are all alike."""
    if not (np.ptp(first) and np.ptp(second)):
        return None
    if np.array_equal(first, second):
        return 1.0  # what rounding leaves of it would be cut to 0.99999
    # Brought to a largest value of 1 before they are squared, which neither overflows nor vanishes then.
    centred = [side / np.abs(side).max() for side in (first - first.mean(), second - second.mean())]
    left, right = (side / np.linalg.norm(side) for side in centred)
    return float(np.clip(left @ right, -1.0, 1.0))


def _rates(
    first: Floats,
    second: Floats,
    human: NDArray[np.bool_],
    sources: Sequence[str],
    rounds: int,
    seed: int,
    progress: Callable[..., Any],
) -> _Rates:
    def rise(sample: Indices) -> float:
        return _eer(second[sample], human[sample]) - _eer(first[sample], human[sample])

    clips = units(human, sources)
    drawn = resample(clips, rise, rounds, seed, progress, "rise of the EER")
    before, after, over = _eer(first, human), _eer(second, human), clips.over
    delta = 100 * (after - before)
    if not drawn:
        return _Rates(before, after, delta, over=over)
    low, high, upper = (100 * float(bound) for bound in np.percentile(drawn, [2.5, 97.5, 95]))
    return _Rates(before, after, delta, min(low, delta), max(high, delta), max(upper, delta), over)


def _eer(scores: Floats, human: NDArray[np.bool_]) -> float:
    return eer(scores[human], scores[~human])[0]


def describe(
    path: Path,
    reference: Path,
    contract: Contract,
    comparison: Comparison | None,
    refusal: str | None = None,
) -> ComparedModel:
    """The table's line for the model file `path`, whose metadata is `contract`, compared with the file `reference`.

    Other tools quantize a file and leave its metadata at fp32: such a file's level goes by the file's name.
    Operators' names stand in an ONNX file as plain text, so no parser is needed to see that.
    """
    content = path.read_bytes()
    contradicted = contract.level == "fp32" and any(name in content for name in _QUANTIZED_OPERATORS)
    level = path.stem if contradicted else contract.level
    ratio = reference.stat().st_size / len(content)
    return ComparedModel(path.stem, level, contract.target, len(content), ratio, comparison, refusal)


_QUANTIZED_OPERATORS = (
    *(b"QuantizeLinear", b"DequantizeLinear", b"DynamicQuantize"),
    *(b"MatMulInteger", b"QLinear", b"NBits"),
)


_HEADS = (
    *("model", "level", "target", "size (of float)", "correlation", "flips"),
    *("EER difference, points [upper 95 %]", "largest LLR difference"),
)


def comparison_table(rows: Sequence[ComparedModel]) -> str:
    """The rows as a Markdown table, with what its columns mean above it."""
    compared = [row.comparison for row in rows if row.comparison is not None]
    lines = []
    if compared:
        rate = "" if compared[0].eer_reference is None else f" (EER {compared[0].eer_reference:.2%})"
        lines.append(f"{compared[0].clips} clips, scored by the float model{rate} and by each other one.")
    if any(item.over for item in compared):
        drawn = " or ".join(sorted({item.over for item in compared if item.over}))
        lines.append(f"The upper bound of the EER's rise (one-sided, 95 %) is from a paired bootstrap over {drawn}.")
    lines.append("Flips: clips whose verdict differs; in brackets from bona fide to spoof or back.")
    lines += ["", *table(_HEADS, [_line(row) for row in rows])]
    notes = []
    for row in rows:
        if row.refusal:
            notes.append(f"- {row.model} has no figures: {row.refusal}")
        if row.comparison and row.comparison.unmatched:
            lost = row.comparison.unmatched
            notes.append(f"- {row.model}: {lost} clips have a score from one of the two models only.")
    if notes:
        lines += ["", *notes]
    return "\n".join(lines) + "\n"


def _line(row: ComparedModel) -> list[str]:
    cells = [row.model, row.level, row.target, f"{row.size_bytes / 1e6:.2f} MB (1/{row.size_ratio:.2f})"]
    item = row.comparison
    if item is None:
        return [*cells, "not measured" if row.refusal else "reference", "", "", ""]
    cells.append(correlation_text(item.correlation))
    if item.flipped is None or item.flipped_hard is None:
        cells.append("unknown")
    else:
        cells.append(f"{item.flipped:.2%} ({item.flipped_hard:.2%})")
    upper = "unknown" if item.eer_delta_upper_points is None else f"{item.eer_delta_upper_points:+.2f}"
    cells.append("needs both labels" if item.eer_delta_points is None else f"{item.eer_delta_points:+.2f} [{upper}]")
    cells.append(f"{item.largest_difference:.3f}")
    return cells


def correlation_text(value: float | None) -> str:
    """Five decimals, cut and not rounded: what is short of 1 must not read as 1. None is undefined."""
    return "undefined" if value is None else str(_cut(value, 5))


def _cut(value: float, decimals: int) -> Decimal:
    """In decimal digits, since a product with 1e5 may itself be rounded up to a whole number."""
    return Decimal(repr(float(value))).quantize(Decimal(1).scaleb(-decimals), ROUND_DOWN)
