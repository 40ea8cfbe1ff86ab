"""A detector's errors by attack, condition and source, the t-DCF beside them: what a pooled figure hides."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import InputError
from evaluation.metrics import Floats, eer, min_dcf
from evaluation.protocols import Clip
from evaluation.tdcf import AsvScores, min_tdcf

Members = NDArray[np.bool_]
"""Which of the clips [n] are in a part."""
Parts = Iterator[tuple[str, Members]]
"""Names of parts, in their order, with their clips; one at a time, as a key has hundreds of speakers."""

FEWEST = 5
"""Clips of either label that a part needs before it gets figures of its own."""


@dataclass(frozen=True)
class BreakdownPart:
    """Figures of a part of the clips, as fractions and normalized costs; None where one cannot be said."""

    name: str
    bonafide: int
    spoof: int
    eer: float | None = None
    min_dcf: float | None = None
    min_tdcf_legacy: float | None = None  # ASVspoof 2019
    min_tdcf_revised: float | None = None  # ASVspoof 2021
    lacks: str | None = None  # why a figure is None


def enough(is_bonafide: Members) -> bool:
    """Whether clips with these labels [n] are enough for figures of their own."""
    return min(int(is_bonafide.sum()), int((~is_bonafide).sum())) >= FEWEST


def systems(clips: Sequence[Clip]) -> Parts:
    """The clips of each system together with all bona fide ones, as the challenges do."""
    human = _humans(clips)
    for name, members in _alike([clip.system for clip in clips]):
        if not human[members].all():
            yield name, human | members


def conditions(clips: Sequence[Clip]) -> Parts:
    """The clips of each condition; none where there is only one, which is all clips."""
    names = [clip.condition for clip in clips]
    return _alike(names if len(set(names)) > 1 else [])


def sources(clips: Sequence[Clip]) -> Parts:
    """The clips of each source."""
    return _alike([clip.source for clip in clips])


def centred(scores: Floats, is_bonafide: Members, parts: Parts) -> tuple[Floats, Members]:
    """Scores [n] less the centre of their part, and which of them are in a part with enough clips of both labels.

    The centre is the mean of both labels' means: the share of spoof in a part must not move it. An EER of these
    tells errors within parts from those that come of parts differing in level. Other scores stay as they are.
    """
    moved, known = scores.copy(), np.zeros(len(scores), bool)
    for _, members in parts:
        if enough(is_bonafide[members]):
            moved[members] -= (scores[members & is_bonafide].mean() + scores[members & ~is_bonafide].mean()) / 2
            known |= members
    return moved, known


def by_system(clips: Sequence[Clip], scores: Floats, asv: AsvScores | None = None) -> list[BreakdownPart]:
    """Each system's clips against all bona fide ones, and the t-DCF against its own ASV scores, as the challenges do.

    `scores` is [n], of `clips`. Systems come in the order of their names.
    """
    human = _humans(clips)
    return [_part(name, scores, human, members, asv, (name, None)) for name, members in systems(clips)]


def by_condition(clips: Sequence[Clip], scores: Floats, asv: AsvScores | None = None) -> list[BreakdownPart]:
    """Each condition's clips by themselves, with the ASV scores of that condition; none where there is only one."""
    human = _humans(clips)
    return [_part(name, scores, human, members, asv, (None, name)) for name, members in conditions(clips)]


def by_source(clips: Sequence[Clip], scores: Floats) -> list[BreakdownPart]:
    """Each source's clips by themselves; none where there is only one. ASV scores know no sources: there is no t-DCF.

    `scores` is [n], of `clips`. Sources come in the order of their names.
    """
    if len({clip.source for clip in clips}) < 2:
        return []
    human = _humans(clips)
    return [_part(name, scores, human, members) for name, members in sources(clips)]


def macro(parts: Sequence[BreakdownPart]) -> BreakdownPart:
    """The mean of each figure over the parts that have it, all counting alike; the counts are of those with an EER."""

    def mean(figures: Sequence[float | None]) -> float | None:
        known = [figure for figure in figures if figure is not None]
        return float(np.mean(known)) if known else None

    judged = [part for part in parts if part.eer is not None]
    return BreakdownPart(
        f"mean of {len(judged)}",
        sum(part.bonafide for part in judged),
        sum(part.spoof for part in judged),
        mean([part.eer for part in parts]),
        mean([part.min_dcf for part in parts]),
        mean([part.min_tdcf_legacy for part in parts]),
        mean([part.min_tdcf_revised for part in parts]),
    )


def _humans(clips: Sequence[Clip]) -> Members:
    return np.array([clip.is_bonafide for clip in clips], bool)


def _alike(names: Sequence[str]) -> Parts:
    found, place = np.unique(np.array(names, str), return_inverse=True)
    for number, name in enumerate(found.tolist()):
        yield name, place == number


def _part(
    name: str,
    scores: Floats,
    human: Members,
    members: Members,
    asv: AsvScores | None = None,
    of: tuple[str | None, str | None] = (None, None),
) -> BreakdownPart:
    """`of` is the system and the condition whose ASV scores belong to these clips."""
    bonafide, spoof = scores[members & human], scores[members & ~human]
    if not enough(human[members]):
        return BreakdownPart(
            name, len(bonafide), len(spoof), lacks=f"No figures for fewer than {FEWEST} clips of a label"
        )
    legacy = revised = lacks = None
    if asv is not None:
        try:
            rates = asv.rates(*of)
            legacy, revised = (min_tdcf(bonafide, spoof, rates, form)[0] for form in ("legacy", "revised"))
        except InputError as reason:  # the other parts' figures must not be lost with this one's
            lacks = f"No t-DCF: {reason}"
    return BreakdownPart(
        name, len(bonafide), len(spoof), eer(bonafide, spoof)[0], min_dcf(bonafide, spoof)[0], legacy, revised, lacks
    )
