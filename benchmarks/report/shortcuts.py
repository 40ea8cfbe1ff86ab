"""The report of `shortcuts`, as Markdown: tables, and what moved in words."""

from __future__ import annotations

from benchmarks.report.accuracy import percent
from benchmarks.robustness.error_rates import points
from benchmarks.robustness.features import FeatureAlone
from benchmarks.robustness.shortcuts import InterventionLine, Shift, Shortcuts
from edge_runtime.system.markdown import table
from evaluation.comparison import Comparison

NOTED = 0.1
"""Standard deviations that a mean has to move to be spoken of, beside being beyond chance."""
FLIPPED = 0.1
"""Share of the verdicts that have to flip to be spoken of where no mean moves."""
CORRELATED = 0.2
"""Rank correlation of a feature with the scores from which on it is spoken of."""


def markdown(result: Shortcuts) -> str:
    """The report."""
    lines = [
        f"# What {result.model} listens to",
        "",
        f"{result.bonafide} bona fide and {result.spoof} spoofed clips of {result.sources} sources; hop "
        f"{result.hop_seconds:g} s, seed {result.seed}. Without a change: EER {result.pooled}, within sources "
        f"{percent(result.within)}, {result.human_called_spoof:.1%} of human clips called spoof. Intervals are 95 %, "
        f"from a bootstrap over {result.pooled.over}, paired where a change is told.",
        "",
        "## Interventions, on both labels alike",
        "",
        *table(
            [
                *("intervention", "EER", "change, points", "EER within", "change within, points"),
                *("bona fide moves, SD", "spoof moves, SD", "verdicts flipped (to the opposite)", "human called spoof"),
            ],
            [_row(line) for line in result.lines],
        ),
        "",
        f"SD: the scores' standard deviation within the labels, {result.deviation:.2f}, pooled. Up is towards bona "
        "fide. A shift of both labels alike is a matter of calibration: thresholds are off, and the EER stays. A shift "
        "of one label is a shortcut, or evidence that the intervention takes away or adds.",
        "",
        "## Features alone",
        "",
        *table(
            [
                *("feature", "median, bona fide", "median, spoof", "EER", "EER within"),
                "rank correlation with the score",
            ],
            [_feature(item) for item in result.features],
        ),
        "",
        "Higher or lower counts as bona fide, whichever is better on these very clips, so that an EER is on the low "
        "side. The correlation is within sources and labels: what is left of it, the labels do not explain.",
        "",
        "## In words",
        "",
        *(f"- {text}" for text in words(result)),
    ]
    notes = [
        f"- {line.name}: {line.unscored} clips were left without a score" for line in result.lines if line.unscored
    ]
    notes += [f"- {text}" for text in (*result.left_out, *(f"not used: {text}" for text in result.unread))]
    return "\n".join(lines + (["", *notes] if notes else [])) + "\n"


def _row(line: InterventionLine) -> list[str]:
    within = "too few clips" if line.change_within is None else points(line.change_within)
    flips = f"{line.change.flipped or 0:.1%} ({line.change.flipped_hard or 0:.1%})"
    change, moves = points(line.change), (str(line.bonafide), str(line.spoof))
    return [
        line.name,
        f"{line.pooled.value:.1%}",
        change,
        _bare(line),
        within,
        *moves,
        flips,
        f"{line.human_called_spoof:.1%}",
    ]


def _bare(line: InterventionLine) -> str:
    return percent(None if line.within is None else line.within.value)


def _feature(item: FeatureAlone) -> list[str]:
    correlation = "too few clips" if item.correlation is None else f"{item.correlation:+.2f}"
    return [
        f"{item.name} ({item.unit})",
        f"{item.bonafide:.4g}",
        f"{item.spoof:.4g}",
        str(item.pooled),
        percent(item.within),
        correlation,
    ]


def words(result: Shortcuts) -> list[str]:
    """What moved, in plain sentences."""
    apart = [line for line in result.lines if _noted(line.gap)]
    alike = [line for line in result.lines if line not in apart and (_noted(line.bonafide) or _noted(line.spoof))]
    rest = [line for line in result.lines if line not in apart and line not in alike]
    scattered = [line for line in rest if (line.change.flipped or 0) >= FLIPPED]
    told = [_apart(line) for line in sorted(apart, key=lambda line: -abs(line.gap.value))]
    if alike:
        names = ", ".join(f"{line.name} ({line.bonafide.value:+.2f} and {line.spoof.value:+.2f} SD)" for line in alike)
        told.append(
            "Labels move by amounts that cannot be told apart, a matter of calibration as far as these clips say: "
            f"{names} (human and spoofed)."
        )
    if rest:
        told.append(
            f"No mean moves that can be told from chance, or by less than {NOTED:g} SD: "
            f"{', '.join(line.name for line in rest)}."
        )
    if scattered:
        names = ", ".join(f"{line.name} ({line.change.flipped or 0:.0%} of the verdicts flip)" for line in scattered)
        told.append(f"Of those, single clips move in no common direction under {names}.")
    told += _eers(result)
    told += _of_features(result)
    count = 5 * len(result.lines)
    told.append(
        f"{count} intervals of 95 % are looked at: with nothing to find, about {max(1, round(count / 20))} would be "
        "beyond chance. What one intervention says alone, another that works alike should say too."
    )
    return told


def _noted(shift: Shift) -> bool:
    return abs(shift.value) >= NOTED and (shift.low > 0 or shift.high < 0)


def _apart(line: InterventionLine) -> str:
    more = "human" if abs(line.bonafide.value) > abs(line.spoof.value) else "spoofed"
    most = line.bonafide if more == "human" else line.spoof
    where = "bona fide" if most.value > 0 else "spoof"
    meaning = "a control, which no channel does" if line.axis == "control" else "the score leans on what this changes"
    nearer = "come nearer to each other" if line.gap.value < 0 else "part further"
    return (
        f"{line.name} moves one label more than the other: human clips {line.bonafide.value:+.2f} SD, spoofed ones "
        f"{line.spoof.value:+.2f} SD, so the labels {nearer} by {abs(line.gap.value):.2f} SD. It is the {more} clips "
        f"that go farther, towards {where}: {meaning}."
    )


def _eers(result: Shortcuts) -> list[str]:
    told = []
    for what, changes in (
        ("The EER", [(line.name, line.change) for line in result.lines]),
        ("The EER within sources", [(line.name, line.change_within) for line in result.lines if line.change_within]),
    ):
        for verb, sign in (("rises", 1), ("falls", -1)):
            names = [f"{name} ({change.eer_delta_points:+.1f})" for name, change in changes if _beyond(change, sign)]
            if names:
                told.append(f"{what} {verb} beyond chance, in points: {', '.join(names)}.")
    return told or ["No intervention changes an EER beyond chance."]


def _beyond(change: Comparison, sign: int) -> bool:
    if change.eer_delta_low_points is None or change.eer_delta_high_points is None:
        return False
    return change.eer_delta_low_points > 0 if sign > 0 else change.eer_delta_high_points < 0


def _of_features(result: Shortcuts) -> list[str]:
    told = []
    best = min(result.features, key=lambda item: item.pooled.value)
    beaten = "above" if best.pooled.value > result.pooled.high else "not clearly above"
    told.append(
        f"The best feature alone, {best.name}, has an EER of {best.pooled.value:.1%}, {beaten} the model's "
        f"{result.pooled}: that much a shortcut gives on all clips."
    )
    inside = [(item.name, item.within) for item in result.features if item.within]
    if inside and result.within:
        name, figure = min(inside, key=lambda item: item[1].value)
        told.append(f"Within sources it is {name} with {figure.value:.1%}, where the model has {result.within}.")
    with_score = [item for item in result.features if item.correlation is not None]
    strong = [item for item in with_score if abs(item.correlation or 0) >= CORRELATED]
    if strong:
        names = ", ".join(f"{item.name} ({item.correlation:+.2f})" for item in strong)
        told.append(f"Among clips of one source and label, scores go with: {names} (rank correlation).")
    elif with_score:
        told.append(f"Among clips of one source and label, scores go with no feature (below {CORRELATED:g}).")
    return told
