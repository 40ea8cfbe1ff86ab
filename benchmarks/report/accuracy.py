"""The report of `accuracy`, as Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from edge_runtime.system.markdown import table
from evaluation import breakdown
from evaluation.accuracy import Accuracy, GroupErrors
from evaluation.bootstrap import FEWEST_CLUSTERS, Estimate
from evaluation.false_alarms import FalseAlarms, SourceAlarms
from evaluation.trained import Unseen

_FEW = "too few clips"


def markdown(result: Accuracy, title: str) -> str:
    """The report."""
    few = "" if result.pooled.over == "sources" else f", as a label has fewer than {FEWEST_CLUSTERS} sources"
    of_each = f"{breakdown.FEWEST} clips of each label"
    said = result.alarms
    figures = [
        ("EER, pooled", str(result.pooled)),
        ("EER within sources (each centred on its own mean)", percent(result.within)),
        (f"EER, macro over sources with {of_each}", percent(result.macro)),
        ("AUC within sources: a human clip above a spoofed one of its source", percent(result.auc_within)),
        ("Cllr", f"{result.cllr_bits:.3f} bit"),
        ("human clips called spoof", percent(said.human_called_spoof)),
        ("human clips unsure", percent(said.human_unsure)),
        ("spoofed clips called spoof", percent(said.spoof_found)),
        ("spoofed clips unsure", percent(result.spoof_unsure)),
        ("clips without a score", str(len(result.unscored))),
    ]
    lines = [
        f"# {title}",
        "",
        f"{result.pooled.bonafide} bona fide and {result.pooled.spoof} spoofed clips; intervals are 95 %, from a "
        f"bootstrap over {result.pooled.over}{few} (of one source or system: over its clips).",
        "",
        *table(["measure", "value"], figures),
        "",
        "Figures within sources and over them are of the sources with "
        f"{of_each}. Centred: the middle between the means of a source's two labels is taken from its scores, so that "
        "what only tells sources apart counts for nothing. An AUC of 50 % is guessing.",
        *(_unseen(result.unseen) if result.unseen else []),
        *_alarms(said),
        *_rates("source", result.sources),
        *_rates("condition", result.conditions),
        *_systems(result.systems),
    ]
    return "\n".join(lines) + "\n"


def percent(value: float | Estimate | None) -> str:
    """A rate, with its interval where it has one."""
    if value is None:
        return _FEW
    return str(value) if isinstance(value, Estimate) else f"{value:.1%}"


def _unseen(result: Unseen) -> list[str]:
    rows = [
        [
            split.name,
            str(split.bonafide),
            str(split.spoof),
            *map(percent, (split.pooled, split.within, split.auc_within, split.human_called_spoof, split.spoof_found)),
        ]
        for split in result.splits
    ]
    heads = ["clips", "bona fide", "spoof", "EER", "EER within", "AUC within", "human called spoof", "spoof found"]
    return [
        "",
        "## What the training data lacks",
        "",
        f"By the names in {', '.join(result.lists)}: {len(result.systems_seen)} of {result.systems} systems and "
        f"{len(result.sources_seen)} of {result.sources} sources were trained on. A system counts as trained on when a "
        "part of its name holds, or is held in, one of a training system; one under a wholly other name is not "
        "noticed.",
        "",
        *table(heads, rows),
        "",
        f"Systems taken for trained on: {', '.join(result.systems_seen) or 'none'}.",
        "",
        f"Sources trained on: {', '.join(result.sources_seen) or 'none'}.",
    ]


def _alarms(result: FalseAlarms) -> list[str]:
    """False alarms, source by source, the most first."""
    if result.human_called_spoof is None or result.largest is None or result.mean_of_sources is None:
        return []
    largest = result.largest
    rows = [_alarm(row) for row in result.sources]
    without = result.without_largest
    rest = "there is no other source" if without is None else f"without it {without:.1%}"
    return [
        "",
        "## Human speech at the model's thresholds, per source",
        "",
        f"Of all human clips {result.human_called_spoof} are called spoof; in the mean of the sources "
        f"{result.mean_of_sources:.1%}. The largest source is {largest.name} with {largest.human} human clips, "
        f"{largest.called_spoof} of them called spoof ({largest.share:.1%}); {rest}.",
        "",
        *table(["source", "human clips", "called spoof", "share", "unsure"], rows),
    ]


def _alarm(row: SourceAlarms) -> list[str]:
    unsure = f"{row.unsure} ({row.unsure / row.human:.1%})"
    return [row.name, str(row.human), str(row.called_spoof), f"{row.share:.1%}", unsure]


def _rates(what: str, rows: Sequence[GroupErrors]) -> list[str]:
    if not rows:
        return []
    cells = [[row.name, str(row.bonafide), str(row.spoof), percent(row.eer)] for row in rows]
    return ["", f"## Per {what}", "", *table([what, "bona fide", "spoof", "EER"], cells)]


def _systems(rows: Sequence[GroupErrors]) -> list[str]:
    ordered = sorted(rows, key=lambda row: (-row.spoof, row.name))
    cells = [[row.name, str(row.spoof), percent(row.eer)] for row in ordered if row.eer is not None]
    few = [f"{row.name} ({row.spoof})" for row in ordered if row.eer is None]
    return [
        "",
        "## Per system, against all human clips",
        "",
        *table(["system", "spoof", "EER"], cells),
        *(["", f"Fewer than {breakdown.FEWEST} clips: {', '.join(few)}."] if few else []),
    ]
