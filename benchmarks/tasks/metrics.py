"""`metrics`: every measure of a score file against a key; no model and no sound are needed."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from benchmarks.tasks.common import add_report
from edge_runtime.errors import InputError, UsageError
from edge_runtime.system.extras import demand
from edge_runtime.system.markdown import table
from evaluation.bootstrap import Estimate
from evaluation.breakdown import FEWEST, BreakdownPart, by_condition, by_source, by_system, macro
from evaluation.comparison import correlation_text
from evaluation.metrics import BAYES_THRESHOLD, Floats, Measures, eer, eer_clustered, measures
from evaluation.paired import MARGIN_POINTS, Paired, paired
from evaluation.percentiles import needed
from evaluation.protocols import ClipList, read_list
from evaluation.scorefiles import Matched, contradicted, first_of, match, read_scores
from evaluation.tdcf import FORM_NAMES, FORMS, AsvRates, Form, min_tdcf, read_asv
from evaluation.within import within_sources


@dataclass(frozen=True)
class MetricsReport:
    """What is known of one set of scores; minimum t-DCFs are named by their form."""

    measures: Measures
    eer: Estimate
    eer_within: (
        Estimate | None
    )  # within sources; None where there is one only, or none with enough clips of both labels
    min_tdcf: dict[Form, float | None] | None  # None without ASV scores; of a form, where it is not defined
    min_tdcf_lacks: list[str]  # why one is not
    systems: list[BreakdownPart]
    conditions: list[BreakdownPart]
    sources: list[BreakdownPart]
    paired: Paired | None
    missing: list[str]  # trials of the key without a score
    unknown: list[str]  # trials with a score that the key does not have
    warnings: list[str]  # what speaks against taking the figures at their word


CHANCE = 0.5
"""EER of a coin: what lies above it has its scores, or its labels, the wrong way round."""


def declare(tasks: Any) -> None:
    """Adds the command."""
    task = tasks.add_parser("metrics", help="EER, DCF, Cllr and t-DCF of a score file, and a test against another")
    task.add_argument("scores", metavar="SCORES", type=Path, help="score file of ASVspoof 2019, 2021 or 5")
    task.add_argument("key", metavar="KEY", type=Path, help="key or protocol of ASVspoof, CSV, or folders of clips")
    task.add_argument("--subset", help="part of a key that has subsets: eval, progress, hidden (default: all)")
    task.add_argument("--asv-scores", metavar="FILE", type=Path, help="scores of an ASV system, for the t-DCF")
    task.add_argument("--asv-key", metavar="FILE", type=Path, help="their trial_metadata.txt (files of 2021)")
    task.add_argument("--against", metavar="SCORES", type=Path, help="scores of another model, such as a quantized one")
    task.add_argument(
        "--margin",
        type=float,
        help=f"rise of the EER in points that --against may have, set in advance (default: {MARGIN_POINTS})",
    )
    task.add_argument(
        "--over",
        choices=("source", "speaker"),
        default="source",
        help="what is alike, and so is drawn as one for the intervals (default: %(default)s)",
    )
    task.add_argument("--rounds", type=int, default=1000, help="rounds of the bootstrap (default: %(default)s)")
    add_report(task)
    task.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> str:
    """The report."""
    demand("bench", "scipy")
    if arguments.rounds < 1:
        raise UsageError("--rounds must be at least 1")
    if arguments.margin is not None and not 0 <= arguments.margin < np.inf:
        raise UsageError("--margin must be a number of points, 0 or more")
    for other, option, name in (
        (arguments.against, arguments.margin, "--margin needs --against"),
        (arguments.asv_scores, arguments.asv_key, "--asv-key needs --asv-scores"),
    ):
        if option is not None and other is None:
            raise UsageError(name)
    report = evaluate(arguments)
    for names, what in ((report.missing, "of the key have no score"), (report.unknown, "are not in the key")):
        if names:
            print(f"note: {len(names)} trials {what}: {first_of(names)}", file=sys.stderr)
    for warning in report.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    if arguments.json:
        return json.dumps(_as_json(report), indent=1, allow_nan=False) + "\n"
    return markdown(report, arguments.scores, arguments.key, arguments.over)


def evaluate(arguments: argparse.Namespace) -> MetricsReport:
    """All files are read before anything is computed: a wrong name costs no hour."""
    listed = read_list(arguments.key, subset=arguments.subset, needs_audio=False)
    warnings: list[str] = []
    found = _scored(arguments.scores, listed, warnings)
    other = None if arguments.against is None else _scored(arguments.against, listed, warnings)
    asv = None
    if arguments.asv_scores is not None:
        subset = arguments.subset if arguments.asv_key else None
        asv = read_asv(arguments.asv_scores, arguments.asv_key, subset)
    human = np.array([clip.is_bonafide for clip in found.clips], bool)
    if not human.any() or human.all():
        raise InputError("measures need scores of both bona fide and spoofed clips")
    tandem, lacks = (None, []) if asv is None else _tandem(found.scores[human], found.scores[~human], asv.rates())
    alike = [getattr(clip, arguments.over) for clip in found.clips]
    sources = by_source(found.clips, found.scores)
    within = None
    if sources:
        within = within_sources(found.scores, human, found.clips, alike, arguments.rounds, tqdm)
    return MetricsReport(
        measures=measures(found.scores, human),
        eer=eer_clustered(found.scores, human, alike, arguments.rounds, progress=tqdm),
        eer_within=within,
        min_tdcf=tandem,
        min_tdcf_lacks=lacks,
        systems=by_system(found.clips, found.scores, asv),
        conditions=by_condition(found.clips, found.scores, asv),
        sources=sources,
        paired=None if other is None else _paired(found, other, arguments),
        missing=found.missing,
        unknown=found.unknown,
        warnings=warnings,
    )


def _scored(file: Path, listed: ClipList, warnings: list[str]) -> Matched:
    """The scores of a file by the key; adds to `warnings`."""
    read = read_scores(file)
    found = match(read.scores, listed.clips, listed.left_out)
    if wrong := contradicted(read.labels, found.clips):
        warnings.append(
            f"{file} and the key give {len(wrong)} trials different labels, the key's are used: {first_of(wrong)}"
        )
    human = np.array([clip.is_bonafide for clip in found.clips], bool)
    if human.any() and not human.all():
        if found.scores.min() == found.scores.max():
            warnings.append(f"all scores of {file} are equal: they say nothing")
        elif (rate := eer(found.scores[human], found.scores[~human])[0]) > CHANCE:
            warnings.append(
                f"the EER of {file} is {rate:.2%}, worse than chance: a higher score must mean more bona fide, "
                "so negate the scores where theirs means spoof"
            )
    return found


def _tandem(bonafide: Floats, spoof: Floats, rates: AsvRates) -> tuple[dict[Form, float | None], list[str]]:
    """The minimum t-DCF of each form, and why there is none: the other measures must not be lost with it."""
    found: dict[Form, float | None] = dict.fromkeys(FORMS)
    lacks = []
    for form in FORMS:
        try:
            found[form] = min_tdcf(bonafide, spoof, rates, form)[0]
        except InputError as reason:
            lacks.append(str(reason))
    return found, list(dict.fromkeys(lacks))


def _paired(reference: Matched, other: Matched, arguments: argparse.Namespace) -> Paired:
    """The comparison on the clips that both scored."""
    theirs = dict(zip((clip.trial for clip in other.clips), other.scores, strict=True))
    both = [number for number, clip in enumerate(reference.clips) if clip.trial in theirs]
    clips = [reference.clips[number] for number in both]
    human = np.array([clip.is_bonafide for clip in clips], bool)
    if not human.any() or human.all():
        raise InputError(f"{arguments.scores} and {arguments.against} must share clips of both labels")
    alone = len(reference.clips) + len(other.clips) - 2 * len(both)
    if alone:
        print(f"note: {alone} trials have a score from one of the two models only", file=sys.stderr)
    margin = MARGIN_POINTS if arguments.margin is None else arguments.margin
    return paired(
        reference.scores[both],
        [theirs[clip.trial] for clip in clips],
        human,
        [getattr(clip, arguments.over) for clip in clips],
        margin,
        arguments.rounds,
        progress=tqdm,
    )


def _as_json(report: MetricsReport) -> dict[str, Any]:
    values = asdict(report)
    parts = {"systems": report.systems, "conditions": report.conditions, "sources": report.sources}
    values |= {f"macro_{name}": asdict(macro(found)) if found else None for name, found in parts.items()}
    if report.paired:
        values["paired"]["comparison"] = report.paired.comparison.as_figures()
    return values


def markdown(report: MetricsReport, scores: Path, key: Path, over: str) -> str:
    """The report as Markdown."""
    found = report.measures
    drawn = f"{over}s" if report.eer.over == "sources" else f"clips, as a label has too few {over}s"
    rows = [("EER, pooled", _interval(report.eer))]
    if report.sources:
        rows.append(("EER within sources (each centred on its own mean)", _interval(report.eer_within)))
        rows.append((f"EER, macro over sources with {FEWEST} clips of each label", _rate(macro(report.sources).eer)))
    rows += [
        ("threshold of the EER", f"{found.eer_threshold:.4f}"),
        ("min DCF (ASVspoof 5)", f"{found.min_dcf:.4f}"),
        (f"act DCF (ASVspoof 5), at the LLR {BAYES_THRESHOLD:.3f}", f"{found.act_dcf:.4f}"),
        ("Cllr", f"{found.cllr_bits:.4f} bit"),
        ("min Cllr", f"{found.min_cllr_bits:.4f} bit"),
    ]
    if report.min_tdcf:
        rows += [(f"min t-DCF ({FORM_NAMES[form]})", _plain(report.min_tdcf[form]) or "none") for form in FORMS]
    rows += [
        ("trials of the key without a score", _counted(report.missing)),
        ("scored trials that are not in the key", _counted(report.unknown)),
    ]
    lines = [
        f"# Measures of {scores.name} by {key.name}",
        "",
        f"{found.bonafide} bona fide and {found.spoof} spoofed trials; the interval is 95 %, from a bootstrap over "
        f"{drawn}. Act DCF and Cllr take the scores for LLRs; the other measures look at their order only.",
        "",
        *(line for warning in report.warnings for line in (f"**Warning:** {warning}.", "")),
        *table(("measure", "value"), rows),
        *(line for reason in report.min_tdcf_lacks for line in ("", f"No min t-DCF: {reason}.")),
        *_table("Per system, against all bona fide trials", "system", report.systems, report.min_tdcf is not None),
        *_table("Per condition", "condition", report.conditions, report.min_tdcf is not None),
        *_table("Per source", "source", report.sources, False),
    ]
    if report.paired:
        lines += ["", "## Against the other scores", "", *_verdict(report.paired, over)]
    return "\n".join(lines) + "\n"


def _counted(names: Sequence[str]) -> str:
    return f"{len(names)}: {first_of(names)}" if names else "0"


def _table(title: str, first: str, parts: Sequence[BreakdownPart], tandem: bool) -> list[str]:
    if not parts:
        return []
    columns = [first, "bona fide", "spoof", "EER", "min DCF"]
    if tandem:
        columns += [f"min t-DCF ({FORM_NAMES[form]})" for form in FORMS]
    mean = macro(parts)
    rows = []
    for part in (*parts, mean):
        counts = ["", ""] if part is mean else [str(part.bonafide), str(part.spoof)]
        figures = ["" if part.eer is None else f"{part.eer:.2%}", _plain(part.min_dcf)]
        if tandem:
            figures += [_plain(part.min_tdcf_legacy), _plain(part.min_tdcf_revised)]
        rows.append([part.name, *counts, *figures])
    lines = ["", f"## {title}", "", *table(columns, rows)]
    for reason in dict.fromkeys(part.lacks for part in parts if part.lacks):
        lines += ["", f"{reason}: {', '.join(part.name for part in parts if part.lacks == reason)}."]
    return lines


def _rate(figure: float | None) -> str:
    return "too few clips" if figure is None else f"{figure:.2%}"


def _interval(found: Estimate | None) -> str:
    return "too few clips" if found is None else f"{found.value:.2%} [{found.low:.2%}, {found.high:.2%}]"


def _plain(figure: float | None) -> str:
    return "" if figure is None else f"{figure:.4f}"


def _verdict(result: Paired, over: str) -> list[str]:
    """What the paired tests say, in sentences."""
    found, test = result.comparison, result.mcnemar
    points = (found.eer_delta_points, found.eer_delta_low_points, found.eer_delta_high_points)
    delta, low, high = ("unknown" if value is None else f"{value:+.2f}" for value in points)
    upper = "unknown" if found.eer_delta_upper_points is None else f"{found.eer_delta_upper_points:+.2f}"
    answer = {True: "not inferior", False: "not shown to be as good", None: "unknown"}[result.not_inferior]
    drawn = f"{over}s" if found.over == "sources" else "clips"
    p99 = f"fewer than {needed(99)} clips" if result.p99_difference is None else f"{result.p99_difference:.3f}"
    rows = [
        ("trials scored by both", str(found.clips)),
        ("EER, these scores and the other ones", f"{found.eer_reference:.2%}, {found.eer_other:.2%}"),
        ("EER difference, points", f"{delta} [{low}, {high}]"),
        ("upper bound of the rise (one-sided, 95 %), points", upper),
        (f"verdict, with a margin of {result.margin_points:g} points", answer),
        (
            f"right at {result.threshold:.4f}: only these scores, only the other ones",
            f"{test.only_reference}, {test.only_other}",
        ),
        ("McNemar, exact and mid-p", f"{test.p_exact:.4f}, {test.p_mid:.4f}"),
        ("correlation of the scores", correlation_text(found.correlation)),
        ("difference of scores: 99th percentile, largest", f"{p99}, {found.largest_difference:.3f}"),
    ]
    return [
        f"The difference's bounds are from a paired bootstrap over {drawn}. Both models are judged at the threshold of "
        "the EER of these scores. McNemar's test takes trials for independent.",
        "",
        *table(("measure", "value"), rows),
    ]
