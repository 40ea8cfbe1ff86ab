"""Verdicts of a table: human clips called spoof by language and source, and spoof found by year."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edge_runtime.decision.verdict import Verdict
from evaluation.bootstrap import Estimate
from evaluation.breakdown import FEWEST
from evaluation.false_alarms import FalseAlarms, alarms, share
from evaluation.folds.figures import threshold_at
from evaluation.folds.slices import OTHERS, Slices
from evaluation.folds.table import UNKNOWN, FoldScores

RATE = 0.02
"""Share of a fold's human clips called spoof where neither verdicts nor a threshold are given."""


@dataclass(frozen=True)
class Calls:
    """What clips are called, all folds together: a source lies in one fold, so its clips have one threshold."""

    by: str  # where the verdicts come from
    alarms: FalseAlarms
    languages: dict[str, tuple[int, Estimate]]  # human clips of each, and the share called spoof
    found: dict[str, Estimate]  # spoofed clips called spoof, by the slice of years


def calls(of: FoldScores, cuts: Slices, threshold: float | None = None) -> Calls:
    """The verdicts of the table; else those of `threshold`, an LLR below which a clip is spoof; else at RATE by fold.

    The last knows the labels of the clips that it judges: a shipped threshold does not.
    """
    if threshold is not None:
        by, verdicts = f"the threshold {threshold:g}", _below(of, [threshold] * len(of.clips))
    elif of.verdicts is not None:
        by, verdicts = "the verdicts in the table", of.verdicts
    else:
        by = f"a threshold of each fold at {RATE:.0%} of its human clips, which knows their labels"
        fold = np.array(of.folds, str)
        own = {name: threshold_at(of.scores[(fold == name) & of.human], RATE) for name in _judged(of)}
        verdicts = _below(of, [own.get(name, -np.inf) for name in of.folds])
    hits = np.array([verdict == Verdict.SPOOF for verdict in verdicts], bool)
    sources = np.array(of.sources, str)
    clips = Counter(name for name, human in zip(of.languages, of.human, strict=True) if human)
    languages = np.array([name if clips[name] >= FEWEST else OTHERS for name in of.languages], str)
    by_language = {}
    for name in sorted(set(languages[of.human].tolist()), key=lambda name: (name in (UNKNOWN, OTHERS), name)):
        chosen = of.human & (languages == name)
        estimate = share(hits[chosen], sources[chosen].tolist())
        if estimate is not None:
            by_language[name] = int(chosen.sum()), estimate
    found = {}
    for name, chosen in cuts.get("year", {}).items():
        estimate = share(hits[chosen], sources[chosen].tolist(), bonafide=False)
        if estimate is not None:
            found[name] = estimate
    return Calls(by, alarms(of.clips, verdicts), by_language, found)


def _judged(of: FoldScores) -> set[str]:
    """Folds that have human clips, and so a threshold."""
    return {name for name, human in zip(of.folds, of.human, strict=True) if human}


def _below(of: FoldScores, thresholds: Sequence[float]) -> list[Verdict]:
    return [
        Verdict.SPOOF if score < threshold else Verdict.BONAFIDE
        for score, threshold in zip(of.scores.tolist(), thresholds, strict=True)
    ]
