"""Slices of the spoofed clips: by year, kind and language of the system, by length, and by whether it was met."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence

import numpy as np

from evaluation.breakdown import FEWEST, Members
from evaluation.folds.assignment import MODERN, system_name
from evaluation.folds.table import ONE_FOLD, UNKNOWN, FoldScores

Slices = dict[str, dict[str, Members]]
"""Spoofed clips [n] by group of slices and name of the slice."""

LANGUAGES = 8
"""Languages with slices of their own, those with the most spoofed clips; the others are one."""


def slices(of: FoldScores, knows_system: Callable[[str], bool] | None = None) -> Slices:
    """All slices that have clips.

    A system counts as met where its name, however spelt, lies in another fold too. Without folds `knows_system` says
    which names were trained on, and without it there are no such slices. Clips whose system is unknown are in neither.
    """
    spoof = ~of.human
    languages = Counter(name for name, own in zip(of.languages, spoof, strict=True) if own and name != UNKNOWN)
    kept = {name for name, clips in languages.most_common(LANGUAGES) if clips >= FEWEST} | {UNKNOWN}
    found = {
        "year": _grouped(spoof, [_period(year) for year in of.years], ["up to 2022", "2023", "2024 on", UNKNOWN]),
        "kind": _grouped(spoof, of.kinds, ["tts", "vc", "codec", "vocoder"]),
        "language": _grouped(
            spoof, [name if name in kept else OTHERS for name in of.languages], sorted(kept - {UNKNOWN})
        ),
        "length": _grouped(
            spoof, [_length(seconds) for seconds in of.seconds], ["under 2 s", "2 to 4 s", "4 s and longer"]
        ),
        "system": _grouped(spoof, _met(of, knows_system), [NEVER_MET, MET]),
    }
    for group in ("length", "system"):  # nothing known of them is no slice
        found[group].pop(UNKNOWN, None)
    return {group: members for group, members in found.items() if members}


OTHERS = "others"
"""Languages of too few clips, as one."""
NEVER_MET, MET = "never met in training", "met in training"


def _grouped(spoof: Members, names: Sequence[str], first: Sequence[str]) -> dict[str, Members]:
    held = np.array(names, str)
    order = [*first, *sorted(set(names) - set(first) - {UNKNOWN}), UNKNOWN]
    found = {name: spoof & (held == name) for name in dict.fromkeys(order)}
    return {name: members for name, members in found.items() if members.any()}


def _period(year: int | None) -> str:
    if year is None:
        return UNKNOWN
    return f"{MODERN} on" if year >= MODERN else "2023" if year == 2023 else "up to 2022"


def _length(seconds: float | None) -> str:
    if seconds is None:
        return UNKNOWN
    return "under 2 s" if seconds < 2 else "2 to 4 s" if seconds < 4 else "4 s and longer"


def _met(of: FoldScores, knows_system: Callable[[str], bool] | None) -> list[str]:
    names = ["" if clip.is_bonafide else system_name(clip.system) for clip in of.clips]
    if set(of.folds) == {ONE_FOLD}:
        if knows_system is None:
            return [UNKNOWN] * len(names)
        known = {clip.system for clip in of.clips if not clip.is_bonafide and knows_system(clip.system)}
        met = {system_name(name) for name in known}
    else:
        places: dict[str, set[str]] = defaultdict(set)
        for name, fold in zip(names, of.folds, strict=True):
            places[name].add(fold)
        met = {name for name, folds in places.items() if len(folds) > 1}
    return [UNKNOWN if not name else MET if name in met else NEVER_MET for name in names]
