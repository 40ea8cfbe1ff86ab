"""`compare A.json B.json`: what changed between two pages, of two boards or two commits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.report.measures import MEASURES, measured
from benchmarks.report.page import Interval, Model, Page
from benchmarks.report.words import NOT_KNOWN
from edge_runtime.system.markdown import table

_SETTINGS = ("data", "hop_seconds")
_OF_THE_MOMENT = ("load", "waited", "before", "after", "warning")
"""Keys of the machine's record that differ from run to run: load, frequencies, temperatures. Warnings stand apart."""


@dataclass(frozen=True)
class MeasureChange:
    """One measure of one model in both pages; `certain` says that what is known of its spread tells them apart."""

    model: str
    measure: str
    before: float | None
    after: float | None
    certain: bool | None  # None: no spread is known

    @property
    def ratio(self) -> float | None:
        """After divided by before."""
        return None if self.before in (None, 0) or self.after is None else self.after / self.before


@dataclass(frozen=True)
class Changes:
    """What differs between two pages."""

    differences: list[str]  # of machine, data and settings: what speaks against comparing, or is what is compared
    rows: list[MeasureChange]
    only_before: list[str]
    only_after: list[str]

    def as_json(self) -> dict[str, object]:
        """As JSON takes it."""
        return asdict(self) | {"rows": [asdict(row) | {"ratio": row.ratio} for row in self.rows]}


def changes(before: Page, after: Page) -> Changes:
    """Matches the models of two pages by name."""
    first, second = ({model.name: model for model in page.models} for page in (before, after))
    rows = [
        MeasureChange(name, measure, old, new, _certain(measure, model, second[name]))
        for name, model in first.items()
        if name in second
        for measure, old, new in _pairs(measured(model, before), measured(second[name], after))
    ]
    return Changes(
        differences=_differences(before, after, [(first[name], second[name]) for name in first if name in second]),
        rows=rows,
        only_before=[name for name in first if name not in second],
        only_after=[name for name in second if name not in first],
    )


def _pairs(
    old: Mapping[str, float | None], new: Mapping[str, float | None]
) -> list[tuple[str, float | None, float | None]]:
    return [(name, old[name], new[name]) for name in MEASURES if old[name] is not None or new[name] is not None]


def _differences(before: Page, after: Page, models: Sequence[tuple[Model, Model]]) -> list[str]:
    found = [
        f"{name}: {getattr(before, name)} -> {getattr(after, name)}"
        for name in _SETTINGS
        if getattr(before, name) != getattr(after, name)
    ]
    old_machine, new_machine = (_scalars(page.machine) for page in (before, after))
    for key in dict.fromkeys([*old_machine, *new_machine]):
        sides = [machine.get(key) for machine in (old_machine, new_machine)]
        if key not in _SETTINGS and sides[0] != sides[1]:
            found.append(f"{key}: {' -> '.join('not known' if side is None else str(side) for side in sides)}")
    found += [f"{old.name}: another file of this name" for old, new in models if old.sha256 != new.sha256]
    return found + [f"{side}: {line}" for side, page in (("A", before), ("B", after)) for line in page.warnings]


def _scalars(machine: Mapping[str, Any]) -> dict[str, Any]:
    """What a record says of its machine that stays from one run to the next; `a.b` is what `a` says of b."""
    found: dict[str, Any] = {}
    for key, value in machine.items():
        if key in _OF_THE_MOMENT:
            continue
        if isinstance(value, dict):
            found |= {f"{key}.{inner}": part for inner, part in _scalars(value).items()}
        else:
            found[key] = value
    return found


def _certain(measure: str, before: Model, after: Model) -> bool | None:
    """Whether the intervals that are known do not overlap."""
    old, new = (_interval(measure, model) for model in (before, after))
    if old is None or new is None:
        return None
    return old.high < new.low or new.high < old.low


def _interval(measure: str, model: Model) -> Interval | None:
    timing, rates = model.timing, model.rates
    if measure == "eer" and rates:
        return rates.eer
    if measure == "eer_within" and rates:
        return rates.eer_within
    if measure == "speedup" and timing:
        return timing.speedup
    if measure == "latency_p50_ms" and timing:
        return Interval(timing.p50_ms, *timing.between_processes_ms)
    return None


def markdown(found: Changes, before: str, after: str) -> str:
    """The rows as a table, with what makes the two sides unlike above it."""
    lines = [f"# {before} (A) against {after} (B)", ""]
    lines += ["What differs beside the figures:", "", *(f"- {line}" for line in found.differences), ""] * bool(
        found.differences
    )
    lines += [
        "A change is certain where the intervals of both sides (EER: 95 %; median latency: its range over processes;",
        "speedup: quartiles) do not overlap; where no interval is known there is a dash.",
        "",
    ]
    rows = []
    for row in found.rows:
        unit = MEASURES[row.measure].unit
        sides = [NOT_KNOWN if side is None else f"{side:.4g}{unit}" for side in (row.before, row.after)]
        ratio = NOT_KNOWN if row.ratio is None else f"{row.ratio:.3f}"
        certain = NOT_KNOWN if row.certain is None else "yes" if row.certain else "no"
        rows.append([row.model, row.measure, *sides, ratio, certain])
    lines += table(["model", "measure", "A", "B", "B / A", "certain"], rows)
    for side, names in (("A", found.only_before), ("B", found.only_after)):
        if names:
            lines += ["", f"Only in {side}: {', '.join(names)}."]
    return "\n".join(lines) + "\n"
