"""Whether figures of clips that were kept back agree with those of folds: if not, one of the two misleads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_runtime.errors import InputError
from evaluation.folds.figures import HIGHER_IS_BETTER, NAMES, OF_SLICES, Figure, Key

COMPARED: tuple[Key, ...] = (
    *(("", "", name) for name in NAMES),
    *(("year", period, name) for period in ("up to 2022", "2023", "2024 on") for name in OF_SLICES),
    *(("system", "never met in training", name) for name in OF_SLICES),
)
"""The figures that are compared, where both pages have them with an interval."""


@dataclass(frozen=True)
class Agreement:
    """One figure of both pages. They agree when their 95 % intervals have a value in common."""

    key: Key
    value: float
    low: float
    high: float
    folds_value: float
    folds_low: float
    folds_high: float

    @property
    def agrees(self) -> bool:
        """Whether the intervals overlap."""
        return max(self.low, self.folds_low) <= min(self.high, self.folds_high)

    @property
    def word(self) -> str:
        """`agree`, or which way the clips that were kept back differ."""
        if self.agrees:
            return "agree"
        better = (self.value > self.folds_value) == (self.key[2] in HIGHER_IS_BETTER)
        return "BETTER than on folds" if better else "WORSE than on folds"


def read_page(path: Path) -> dict[str, Any]:
    """The figures of a page of folds, as `folds score --json` or `--figures` writes it. Raises InputError."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ValueError, RecursionError) as reason:
        raise InputError(f"cannot read {path}: {reason}") from None
    if not isinstance(found, dict) or not isinstance(found.get("figures"), dict):
        raise InputError(f"{path} is no page of `benchmarks folds score --json`: it has no figures")
    if found.get("dev2"):
        raise InputError(f"{path} is a page of --dev2, not of folds")
    return found


def agreement(figures: Mapping[Key, Figure], page: Mapping[str, Any]) -> list[Agreement]:
    """Each of COMPARED that has an interval in both. Raises InputError where no figure has."""
    found = []
    for key in COMPARED:
        own, theirs = figures.get(key), _figure(page, key)
        if own is None or own.value is None or own.low is None or own.high is None or theirs is None:
            continue
        found.append(Agreement(key, own.value, own.low, own.high, *theirs))
    if not found:
        raise InputError("no figure has an interval both here and on the page of folds: there is nothing to compare")
    return found


def _figure(page: Mapping[str, Any], key: Key) -> tuple[float, float, float] | None:
    group, name, figure = key
    held: Any = page
    for step in ("slices", group, name, figure) if group else ("figures", figure):
        held = held.get(step) if isinstance(held, dict) else None
    if not isinstance(held, dict):
        return None
    values = tuple(held.get(what) for what in ("value", "low", "high"))
    if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return None
    value, low, high = map(float, values)  # type: ignore[arg-type]  # numbers all, see above
    return value, low, high


def sentence(rows: list[Agreement]) -> str:
    """The plain word."""
    apart = [row for row in rows if not row.agrees]
    if not apart:
        return f"The two agree: the intervals of all {len(rows)} figures overlap."
    return (
        f"THEY DO NOT AGREE: the intervals of {len(apart)} of {len(rows)} figures do not overlap. Either the protocol "
        "is broken or the kept-back clips are of another kind: find out which before the model ships."
    )
