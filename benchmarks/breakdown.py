"""A detector's errors by attack and by condition, the t-DCF beside them: what a pooled figure hides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.metrics import Floats, eer, min_dcf
from benchmarks.protocols import Clip
from benchmarks.tdcf import AsvScores, min_tdcf
from edge_runtime.errors import InputError

FEWEST = 5
"""Clips of either label that a part needs before it gets figures of its own."""


@dataclass(frozen=True)
class Part:
    """Figures of a part of the clips, as fractions and normalized costs; None where one cannot be said."""

    name: str
    bonafide: int
    spoof: int
    eer: float | None = None
    min_dcf: float | None = None
    min_tdcf_legacy: float | None = None  # ASVspoof 2019
    min_tdcf_revised: float | None = None  # ASVspoof 2021
    lacks: str | None = None  # why a figure is None


def by_system(clips: Sequence[Clip], scores: Floats, asv: AsvScores | None = None) -> list[Part]:
    """Each system's clips against all bona fide ones, and the t-DCF against its own ASV scores, as the challenges do.

    `scores` is [n], of `clips`. Systems come in the order of their names.
    """
    human, system = _humans(clips), np.array([clip.system for clip in clips])
    return [
        _part(str(name), scores[human], scores[~human & (system == name)], asv, (str(name), None))
        for name in np.unique(system[~human])
    ]


def by_condition(clips: Sequence[Clip], scores: Floats, asv: AsvScores | None = None) -> list[Part]:
    """Each condition's clips by themselves, with the ASV scores of that condition; none where there is only one."""
    human, condition = _humans(clips), np.array([clip.condition for clip in clips])
    names = np.unique(condition)
    if len(names) < 2:
        return []
    return [
        _part(
            str(name), scores[human & (condition == name)], scores[~human & (condition == name)], asv, (None, str(name))
        )
        for name in names
    ]


def macro(parts: Sequence[Part]) -> Part:
    """The mean of each figure over the parts that have it, all counting alike; the counts are of those with an EER."""

    def mean(figures: Sequence[float | None]) -> float | None:
        known = [figure for figure in figures if figure is not None]
        return float(np.mean(known)) if known else None

    judged = [part for part in parts if part.eer is not None]
    return Part(
        f"mean of {len(judged)}",
        sum(part.bonafide for part in judged),
        sum(part.spoof for part in judged),
        mean([part.eer for part in parts]),
        mean([part.min_dcf for part in parts]),
        mean([part.min_tdcf_legacy for part in parts]),
        mean([part.min_tdcf_revised for part in parts]),
    )


def _humans(clips: Sequence[Clip]) -> NDArray[np.bool_]:
    return np.array([clip.is_bonafide for clip in clips], bool)


def _part(name: str, bonafide: Floats, spoof: Floats, asv: AsvScores | None, of: tuple[str | None, str | None]) -> Part:
    if min(len(bonafide), len(spoof)) < FEWEST:
        return Part(name, len(bonafide), len(spoof), lacks=f"No figures for fewer than {FEWEST} clips of a label")
    legacy = revised = lacks = None
    if asv is not None:
        try:
            rates = asv.rates(*of)
            legacy, revised = (min_tdcf(bonafide, spoof, rates, form)[0] for form in ("legacy", "revised"))
        except InputError as reason:  # the other parts' figures must not be lost with this one's
            lacks = f"No t-DCF: {reason}"
    return Part(
        name, len(bonafide), len(spoof), eer(bonafide, spoof)[0], min_dcf(bonafide, spoof)[0], legacy, revised, lacks
    )
