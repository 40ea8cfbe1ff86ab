"""The page's tables, for Markdown and HTML alike. A cell may have a heat: how bad it is, from 0 to 1."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.report import words
from benchmarks.report.page import Group, Interval, Model, Page, Rates

_ABOVE_SUMMARY = """\
Each model against the first, the float one. EER with its 95 % interval; its rise in percentage points with the bound
(one-sided, 95 %) of a paired bootstrap, and whether that bound lies below the margin. Latency: from a window's last
samples to its score, at the median and the 90th percentile; speed: the float model's time over this one's, median
[quartiles] within rounds. Memory of the running program at its peak."""
_ABOVE_ACCURACY = """\
Intervals are 95 %, from a bootstrap over {over}. Within sources: each source's scores centred on their own mean;
macro: mean over the sources with enough clips of both labels. DCF as in ASVspoof 5 (minimal / at the threshold that
the costs demand of calibrated scores), Cllr (minimal / actual). The last columns are verdicts at the model's own
thresholds, in brackets those that are unsure."""
_ABOVE_AGAINST = """\
Clip by clip. Differences of log-likelihood ratios: the largest and the 99th percentile. Flips: verdicts that differ,
in brackets from bona fide to spoof or back. McNemar's test at the float model's frozen EER threshold: clips that only
the float model / only this one gets right. Unmatched: scored by one of the two models only."""
_ABOVE_TIMING = """\
From a window's last samples to its score, all models in turns, in fresh processes. A percentile that the number of
samples cannot carry (MLPerf's early stopping: 64, 130 and 662 for p90, p95 and p99) has a dash. Median by process:
its smallest and largest. Energy where the machine exposes it."""
_ONE_THREAD = " The memory is that of `edge-detect`, which has one thread."
_ABOVE_CONDITIONS = """\
EER when the sound of both labels is changed alike; after it the rise to the float model in percentage points."""

WORST_RATE = 0.5
"""An EER of so much has the full heat: it is chance."""


@dataclass(frozen=True)
class TableCell:
    """A text, the colour that HTML gives it, and what HTML shows in its place, the text being a tooltip then."""

    text: str
    heat: float | None = None
    short: str = ""


@dataclass(frozen=True)
class Table:
    """`text` stands above it and says what its columns mean."""

    title: str
    text: str
    heads: list[str]
    rows: list[list[TableCell]]


def tables(page: Page) -> list[Table]:
    """All that the page has figures for, the most important first."""
    made = [_summary(page)]
    rated = [(model, model.rates) for model in page.models if model.rates]
    if rated:
        made += [_accuracy(rated), *_against(page), _groups(rated, "source"), _groups(rated, "system")]
        if any(rates.by_condition for _, rates in rated):
            made.append(_groups(rated, "condition of the list"))
    if page.conditions:
        made.append(_conditions(page))
    if any(model.timing for model in page.models):
        made += [_timing(page), _stages(page), *_sweep(page)]
    notes = [[TableCell(model.name), TableCell(note)] for model in page.models for note in model.notes]
    if notes:
        made.append(Table("Notes", "", ["model", "note"], notes))
    return made


def _cells(texts: Sequence[str]) -> list[TableCell]:
    return [TableCell(text) for text in texts]


def _summary(page: Page) -> Table:
    rows = []
    for model in page.models:
        rates, against, timing = model.rates, model.against, model.timing
        reference = model is page.models[0]
        rows.append(
            _cells(
                [
                    model.name,
                    f"{model.level}, {model.target}",
                    words.size(model),
                    words.interval(rates.eer) if rates else words.NOT_KNOWN,
                    words.percent(rates.human_called_spoof) if rates else words.NOT_KNOWN,
                    words.percent(rates.spoof_found) if rates else words.NOT_KNOWN,
                    "reference" if reference else words.delta(against) if against else words.NOT_KNOWN,
                    "" if reference else words.verdict(against) if against else words.NOT_KNOWN,
                    words.milliseconds(timing.p50_ms) if timing else words.NOT_KNOWN,
                    words.milliseconds(timing.p90_ms) if timing else words.NOT_KNOWN,
                    words.speedup(timing) if timing else words.NOT_KNOWN,
                    words.megabytes(timing.peak_mb) if timing else words.NOT_KNOWN,
                ]
            )
        )
    text = f"{_ABOVE_SUMMARY} Hop: {page.hop_seconds:g} s."
    heads = [
        *("model", "level, target", "size (of float)", "EER", "human called spoof", "spoof found"),
        *("rise, points", "within the margin"),
        *("latency p50", "p90", "speed", "memory"),
    ]
    return Table("Summary", text, heads, rows)


def _accuracy(rated: Sequence[tuple[Model, Rates]]) -> Table:
    forms = sorted({form for _, rates in rated for form in rates.min_tdcf})
    rows = [
        [
            TableCell(model.name),
            TableCell(f"{rates.bonafide} / {rates.spoof}"),
            TableCell(words.interval(rates.eer), rates.eer.value / WORST_RATE),
            TableCell(words.interval(rates.eer_within)),
            TableCell(words.percent(rates.eer_macro)),
            TableCell(f"{rates.min_dcf:.4f} / {rates.act_dcf:.4f}"),
            *(
                TableCell(f"{rates.min_tdcf[form]:.4f}" if form in rates.min_tdcf else words.NOT_KNOWN)
                for form in forms
            ),
            TableCell(f"{rates.min_cllr_bits:.3f} / {rates.cllr_bits:.3f} bit"),
            TableCell(f"{rates.human_called_spoof:.1%} ({rates.human_unsure:.1%})"),
            TableCell(f"{rates.spoof_found:.1%} ({rates.spoof_unsure:.1%})"),
        ]
        for model, rates in rated
    ]
    text = _ABOVE_ACCURACY.format(over=rated[0][1].eer_over)
    heads = [
        *("model", "bona fide / spoof", "EER pooled", "EER within sources", "EER macro", "DCF min / act"),
        *(f"min t-DCF, {form}" for form in forms),
        *("Cllr min / act", "human called spoof", "spoof found"),
    ]
    return Table("Accuracy", text, heads, rows)


def _against(page: Page) -> list[Table]:
    rows = [
        _cells(
            [
                model.name,
                words.correlation(found.correlation),
                words.differences(found),
                f"{found.flipped:.2%} ({found.flipped_hard:.2%})",
                f"{found.mcnemar_worse} / {found.mcnemar_better}, p = {found.mcnemar_p:.3g}",
                words.delta(found),
                words.verdict(found),
                str(found.unmatched),
            ]
        )
        for model in page.models
        if (found := model.against)
    ]
    heads = [
        *("model", "correlation", "LLR difference, max / p99", "flips", "McNemar: worse / better"),
        *("EER rise, points", "within the margin", "unmatched"),
    ]
    return [Table("Against the float model", _ABOVE_AGAINST, heads, rows)] * bool(rows)


def _groups(rated: Sequence[tuple[Model, Rates]], kind: str) -> Table:
    """A row a group of that kind, a column a model; the largest groups first."""

    def groups(rates: Rates) -> list[Group]:
        return {"source": rates.sources, "system": rates.systems}.get(kind, rates.by_condition)

    by_model = [{group.name: group for group in groups(rates)} for _, rates in rated]
    first = groups(rated[0][1])
    rows = []
    for group in sorted(first, key=lambda item: (item.eer is None, -item.spoof, -item.bonafide, item.name)):
        row = [TableCell(group.name), TableCell(str(group.bonafide)), TableCell(str(group.spoof))]
        for known in by_model:
            eer = known[group.name].eer if group.name in known else None
            row.append(_heat(eer))
        rows.append(row)
    what = "its clips against all human ones" if kind == "system" else "its spoofed against its own human clips"
    over = "sources, or its clips where these are few" if kind.startswith("condition") else "clips"
    text = f"EER of each ({what}), 95 % interval over its {over}; a dash where there are too few clips of a label."
    heads = [kind.split()[0], "bona fide", "spoof", *(model.name for model, _ in rated)]
    return Table(f"Per {kind}", text, heads, rows)


def _heat(eer: Interval | None, behind: str = "") -> TableCell:
    if eer is None:
        return TableCell(words.NOT_KNOWN)
    return TableCell(words.interval(eer) + behind, eer.value / WORST_RATE, words.percent(eer.value) + behind)


def _conditions(page: Page) -> Table:
    names = [model.name for model in page.models if any(model.name in item.eer for item in page.conditions)]
    rows = []
    for item in page.conditions:
        row = [TableCell(item.axis), TableCell(item.name)]
        for name in names:
            eer, rise = item.eer.get(name), item.delta_points.get(name)
            row.append(_heat(eer, "" if rise is None else f", {rise:+.2f}"))
        rows.append(row)
    return Table("Robustness", _ABOVE_CONDITIONS, ["axis", "condition", *names], rows)


def _timing(page: Page) -> Table:
    rows = []
    for model in page.models:
        timing = model.timing
        if timing is None:
            continue
        low, high = timing.between_processes_ms
        rows.append(
            _cells(
                [
                    model.name,
                    str(timing.threads),
                    f"{timing.count} in {timing.processes}",
                    words.milliseconds(timing.p50_ms),
                    f"{low:.2f} to {high:.2f} ms",
                    *(words.milliseconds(value) for value in (timing.p90_ms, timing.p95_ms, timing.p99_ms)),
                    words.speedup(timing),
                    f"{timing.cpu_ms_per_second:.1f} ms",
                    words.NOT_KNOWN if timing.energy_mj is None else f"{timing.energy_mj:.1f} mJ",
                    f"{words.megabytes(timing.peak_mb)} / {words.megabytes(timing.steady_mb)}",
                    f"{timing.ready_s:.2f} / {timing.first_window_s:.2f} s",
                ]
            )
        )
    heads = [
        *("model", "threads", "samples in processes", "p50", "p50 by process", "p90", "p95", "p99", "speed"),
        *("CPU per second of sound", "energy per window", "memory peak / steady", "ready / first window"),
    ]
    several = any(model.timing and model.timing.threads > 1 for model in page.models)
    return Table("Latency", _ABOVE_TIMING + (_ONE_THREAD if several else ""), heads, rows)


def _stages(page: Page) -> Table:
    timed = [(model, model.timing) for model in page.models if model.timing and model.timing.stages_ms]
    names = list(dict.fromkeys(name for _, timing in timed for name in timing.stages_ms))
    rows = [
        _cells(
            [
                model.name,
                *(words.milliseconds(timing.stages_ms.get(name)) for name in names),
                words.milliseconds(sum(timing.stages_ms.values())),
            ]
        )
        for model, timing in timed
    ]
    text = "CPU time of a hop by stage, medians, each timed alone."
    return Table("Where a hop's time goes", text, ["model", *names, "together"], rows)


def _sweep(page: Page) -> list[Table]:
    timed = [(model, model.timing.sweep_p50_ms) for model in page.models if model.timing and model.timing.sweep_p50_ms]
    counts = sorted({count for _, sweep in timed for count in sweep}, key=int)
    rows = [_cells([model.name, *(words.milliseconds(sweep.get(count)) for count in counts)]) for model, sweep in timed]
    text = "Median latency by the number of threads."
    return [Table("Threads", text, ["model", *counts], rows)] * bool(rows)
