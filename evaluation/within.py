"""Errors within sources: a source's spoofed clips against its own human ones, where room, level and page are alike.

What tells sources apart (a codec, a level, a silence) can lower a pooled EER when some sources are mostly spoof and
others mostly human. It cannot lower these figures: a score that only knows the source has an EER and an AUC of 1/2.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from evaluation import breakdown
from evaluation.bootstrap import FEWEST_CLUSTERS, Estimate, drawn_sums, interval
from evaluation.metrics import Floats, auc, eer, eer_clustered
from evaluation.progress import silently
from evaluation.protocols import Clip

Figure = Callable[[Floats, Floats], float]
"""Of the bona fide and the spoofed scores of a source."""


def within_sources(
    scores: Floats,
    is_bonafide: breakdown.Members,
    clips: Sequence[Clip],
    alike: Sequence[str],
    rounds: int = 1000,
    progress: Callable[..., Any] = silently,
) -> Estimate | None:
    """The EER after the scores [n] of each source are centred on their own mean (`breakdown.centred`).

    Only sources with `breakdown.FEWEST` clips of each label count; None where there is none. The interval is over
    what is `alike` [n], such as speakers.
    """
    moved, known = breakdown.centred(scores, is_bonafide, breakdown.sources(clips))
    if not known.any():
        return None
    drawn = [alike[i] for i in np.flatnonzero(known).tolist()]
    return eer_clustered(moved[known], is_bonafide[known], drawn, rounds, progress=progress)


def macro_eer(scores: Floats, is_bonafide: breakdown.Members, clips: Sequence[Clip]) -> Estimate | None:
    """The mean EER of the sources, all counting alike, each at a threshold of its own: see `mean_of_sources`."""
    return mean_of_sources(lambda bonafide, spoof: eer(bonafide, spoof)[0], scores, is_bonafide, clips)


def auc_within(scores: Floats, is_bonafide: breakdown.Members, clips: Sequence[Clip]) -> Estimate | None:
    """How likely a bona fide clip scores above a spoofed one of the same source: the mean over sources.

    No threshold is needed, so it holds for a few clips a source too, where an EER moves in steps. See
    `mean_of_sources`.
    """
    return mean_of_sources(auc, scores, is_bonafide, clips)


def mean_of_sources(
    figure: Figure,
    scores: Floats,
    is_bonafide: breakdown.Members,
    clips: Sequence[Clip],
    rounds: int = 1000,
    seed: int = 0,
) -> Estimate | None:
    """The mean of a figure of scores [n] over the sources with `breakdown.FEWEST` clips of each label.

    None where there is no such source. The interval is from a bootstrap that draws sources; where they are fewer than
    FEWEST_CLUSTERS, it draws clips within each source and label.
    """
    sides = [
        (scores[members & is_bonafide], scores[members & ~is_bonafide])
        for _, members in breakdown.sources(clips)
        if breakdown.enough(is_bonafide[members])
    ]
    if not sides:
        return None
    figures = np.array([figure(*side) for side in sides])
    over = "sources" if len(sides) >= FEWEST_CLUSTERS else "clips"
    if over == "sources":
        drawn = drawn_sums((figures,), rounds, seed)[0] / len(figures)
    else:
        rng = np.random.default_rng(seed)
        drawn = np.array(
            [np.mean([figure(*(rng.choice(s, len(s)) for s in side)) for side in sides]) for _ in range(rounds)]
        )
    value = float(figures.mean())
    low, high = interval(value, drawn)
    counts = [sum(len(side[label]) for side in sides) for label in (0, 1)]
    return Estimate(value, low, high, counts[0], counts[1], over)
