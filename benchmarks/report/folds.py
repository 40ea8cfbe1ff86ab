"""The page of the protocol of folds, as Markdown and as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from edge_runtime.system.markdown import table
from evaluation.breakdown import FEWEST
from evaluation.folds.agreement import Agreement, sentence
from evaluation.folds.calls import Calls
from evaluation.folds.figures import NAMES, OF_SLICES, Figure, JudgedFolds, Key
from evaluation.folds.table import FoldScores

SOURCES_SHOWN = 15
"""Sources of human clips on the page, the most false alarms first; JSON has all."""


@dataclass(frozen=True)
class FoldsPage:
    """All of a page. `against` names the other table, `dev2` the model file that made the scores."""

    name: str
    of: FoldScores
    judged: JudgedFolds
    calls: Calls
    against: str | None = None
    further: int = 0  # clips that only the other table has
    dev2: str | None = None
    agreements: Sequence[Agreement] = ()


def as_json(page: FoldsPage) -> dict[str, Any]:
    """Everything, rates as fractions; what is unknown is null."""
    found: dict[str, Any] = {
        "scores": page.name,
        "dev2": page.dev2,
        "clips": len(page.of.clips),
        "folds": sorted(set(page.of.folds)),
        "sources": len(set(page.of.sources)),
        **_nested(page.judged.figures),
        "verdicts": {
            "by": page.calls.by,
            **asdict(page.calls.alarms),
            "languages": {
                name: {"human": human, "called_spoof": asdict(estimate)}
                for name, (human, estimate) in page.calls.languages.items()
            },
            "found_by_year": {name: asdict(estimate) for name, estimate in page.calls.found.items()},
        },
    }
    if page.judged.other is not None and page.judged.difference is not None:
        found["against"] = {
            "scores": page.against,
            "further_clips": page.further,
            "other": _nested(page.judged.other),
            "difference": _nested(page.judged.difference),
        }
    if page.agreements:
        found["agreement"] = {
            "all": all(row.agrees for row in page.agreements),
            "figures": [asdict(row) | {"word": row.word} for row in page.agreements],
        }
    return found


def _nested(figures: Mapping[Key, Figure]) -> dict[str, Any]:
    found: dict[str, Any] = {"figures": {}, "slices": {}}
    for (group, name, figure), value in figures.items():
        held = found["slices"].setdefault(group, {}).setdefault(name, {}) if group else found["figures"]
        held[figure] = asdict(value) | {"folds": value.folds}
    found["figures"] = {name: found["figures"][name] for name in NAMES if name in found["figures"]}
    return found


def markdown(page: FoldsPage) -> str:
    """The page."""
    of = page.of
    folds = sorted(set(of.folds))
    human, sources = int(of.human.sum()), len(set(of.sources))
    lines = [
        f"# {'dev2' if page.dev2 else 'Folds'}: {page.name}",
        "",
        f"{human} human and {len(of.clips) - human} spoofed clips of {sources} sources, "
        + (f"scored by {page.dev2}." if page.dev2 else f"in {len(folds)} folds."),
    ]
    if not page.dev2:
        lines += [
            "The clips of a fold are scored by a head that learnt from the other folds. Each figure is the mean of "
            "those taken within each fold, all folds counting alike, as the scores of two folds come from two heads. "
            "*As one*: the scores of all folds as one set.",
        ]
    over = next(iter(page.judged.figures.values())).over
    lines += [
        f"In brackets: 95 % intervals over {over}. Thresholds at 1, 2 and 3 % are of the human clips of the same fold. "
        f"A fold with fewer than {FEWEST} clips of a label is left out of a mean.",
        "",
        "## All clips",
        "",
        *_all(page.judged.figures, of=page, folds=folds),
        "",
        "Sources with one label count in the pooled figures, not within sources nor in their mean. Cllr means "
        "something for scores that are LLRs.",
        "",
        *_slices(page),
        *_calls(page.calls),
        *_against(page),
        *_agreement(page),
    ]
    return "\n".join(lines).rstrip("\n") + "\n"


def _all(figures: Mapping[Key, Figure], of: FoldsPage, folds: Sequence[str]) -> list[str]:
    several = not of.dev2
    heads = ["figure", "mean over folds" if several else "value", "human", "spoofed"]
    heads += ["as one", *(f"fold {name}" for name in folds)] if several else []
    rows = []
    for name, label in NAMES.items():
        figure = figures.get(("", "", name))
        if figure is not None:
            row = [label, _interval(figure, name), str(figure.bonafide), str(figure.spoof)]
            if several:
                row += [_number(figure.as_one, name), *(_number(figure.by_fold[fold], name) for fold in folds)]
            rows.append(row)
    return table(heads, rows)


def _slices(page: FoldsPage) -> list[str]:
    figures = page.judged.figures
    groups = list(dict.fromkeys(group for group, _, _ in figures if group))
    lines = [
        "## Slices of the spoofed clips",
        "",
        "The human clips are all those of the same folds, whatever their language or length. No interval where the "
        "spoofed clips are of fewer than five sources.",
        "",
    ]
    for group in groups:
        rows = []
        for name in dict.fromkeys(key[1] for key in figures if key[0] == group):
            held = [figures[group, name, figure] for figure in OF_SLICES]
            counts = [str(held[0].spoof), str(held[0].spoof_sources), str(held[0].folds)]
            rows.append([name, *counts, *map(_interval, held, OF_SLICES)])
        heads = [_GROUPS.get(group, group), "spoofed", "sources", "folds", *(NAMES[name] for name in OF_SLICES)]
        lines += [*table(heads, rows), ""]
    return lines


_GROUPS = {"year": "year of the system", "length": "length of the clip"}


def _calls(calls: Calls) -> list[str]:
    said = calls.alarms
    lines = [
        "## Verdicts",
        "",
        f"By {calls.by}. Human clips called spoof: {said.human_called_spoof or 'unknown'}; unsure: "
        f"{said.human_unsure or 'unknown'}. Spoof found: {said.spoof_found or 'unknown'}"
        + "".join(f"; {name}: {estimate}" for name, estimate in calls.found.items())
        + ".",
        "",
        *table(
            ["language", "human clips", "called spoof"],
            [[name, str(human), str(estimate)] for name, (human, estimate) in calls.languages.items()],
        ),
        "",
        *table(
            ["source of human clips", "human clips", "called spoof", "unsure"],
            [
                [row.name, str(row.human), f"{row.called_spoof} ({row.share:.1%})", str(row.unsure)]
                for row in said.sources[:SOURCES_SHOWN]
            ],
        ),
        "",
    ]
    if len(said.sources) > SOURCES_SHOWN:
        rest = said.sources[SOURCES_SHOWN:]
        human, called = sum(row.human for row in rest), sum(row.called_spoof for row in rest)
        lines += [f"And {len(rest)} sources with {human} human clips, {called} of them called spoof.", ""]
    return lines


def _against(page: FoldsPage) -> list[str]:
    other, difference = page.judged.other, page.judged.difference
    if other is None or difference is None:
        return []
    rows = []
    for key in (*(("", "", name) for name in NAMES), *_SHOWN_AGAINST):
        if key in difference:
            _, name, what = key
            cells = [_interval(held[key], what) for held in (page.judged.figures, other)]
            cells += [_interval(difference[key], what, signed=True), _apart(difference[key])]
            rows.append([f"{NAMES[what]}, {name}" if name else NAMES[what], *cells])
    lines = [
        f"## Against {page.against}",
        "",
        "The same clips; the difference is this minus the other, its interval from a paired bootstrap.",
        "",
        *table(["figure", "this", "the other", "difference", "differs from 0"], rows),
        "",
    ]
    if page.further:
        lines += [f"{page.further} further clips have a score in {page.against} alone.", ""]
    return lines


_SHOWN_AGAINST: tuple[Key, ...] = (
    *(("year", period, name) for period in ("up to 2022", "2023", "2024 on") for name in OF_SLICES),
    ("system", "never met in training", "eer"),
)


def _apart(figure: Figure) -> str:
    if figure.low is None or figure.high is None:
        return "unknown"
    return "yes" if figure.low > 0 or figure.high < 0 else "no"


def _agreement(page: FoldsPage) -> list[str]:
    if not page.agreements:
        return []
    rows = [
        [
            NAMES[row.key[2]] + (f", {row.key[1]}" if row.key[0] else ""),
            _bounds(row.value, row.low, row.high, row.key[2]),
            _bounds(row.folds_value, row.folds_low, row.folds_high, row.key[2]),
            row.word,
        ]
        for row in page.agreements
    ]
    heads = ["figure", "dev2", "folds", "intervals"]
    return ["## Agreement with the folds", "", sentence(list(page.agreements)), "", *table(heads, rows)]


def _number(value: float | None, name: str, *, signed: bool = False) -> str:
    if value is None:
        return "-"
    if name in ("cllr", "min_cllr"):
        return f"{value:+.3f}" if signed else f"{value:.3f}"
    return f"{100 * value:+.1f}" if signed else f"{value:.1%}"


def _bounds(value: float, low: float, high: float, name: str, *, signed: bool = False) -> str:
    inner = ", ".join(_number(bound, name, signed=signed) for bound in (low, high))
    return f"{_number(value, name, signed=signed)} [{inner}]"


def _interval(figure: Figure, name: str, *, signed: bool = False) -> str:
    if figure.value is None or figure.low is None or figure.high is None:
        return _number(figure.value, name, signed=signed)
    return _bounds(figure.value, figure.low, figure.high, name, signed=signed)
