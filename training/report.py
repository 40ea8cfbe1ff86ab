"""What verdicts and log-likelihood ratios are worth on clips that their calibration did not see."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.decision.verdict import Reason, Verdict
from edge_runtime.system.markdown import table
from evaluation.bootstrap import Estimate
from evaluation.metrics import cllr, min_cllr
from evaluation.protocols import Clip
from export.checkpoint import Calibration
from training.verdicts import SAID, JudgedClip, groups, shares

WORST = 5
"""Sources with false alarms that are named."""
PLAUSIBLE_LLR = 15.0
"""Beyond this, odds of three million to one, no number of clips at hand can tell. Labels that do not overlap do it."""


@dataclass(frozen=True)
class CalibrationReport:
    """What verdicts and LLRs are worth on clips whose sources the calibration did not see."""

    clips: Mapping[tuple[str, Verdict], Estimate]
    windows: Mapping[tuple[str, Verdict], Estimate]
    cllr: Mapping[str, tuple[float, float]]  # by level: Cllr and the least that any scale could give, in bits
    over: str  # what was left out and drawn: so many sources, or clips
    alarms: Sequence[tuple[str, int, int]]  # source, its human clips called spoof, all its human clips
    languages: Sequence[tuple[str, int, int]] = ()  # the same by language, where languages are known

    def lines(self) -> list[str]:
        """The report in Markdown."""
        some = self.clips["human", Verdict.SPOOF]
        named = _named([row for row in self.alarms if row[1]][:WORST])
        return [
            f"Cross-fitted over {self.over}, {some.bonafide} human and {some.spoof} spoofed clips, 95 % intervals:",
            "",
            *table(
                ("", "called spoof", "unsure", "called bona fide"),
                [
                    (f"{label} {level}", *(str(found[label, verdict]) for verdict in SAID))
                    for level, found in (("clips", self.clips), ("windows", self.windows))
                    for label in ("human", "spoofed")
                ],
            ),
            "",
            *(f"Cllr of {level}: {own:.3f} bit (least: {least:.3f})" for level, (own, least) in self.cllr.items()),
            f"Human clips called spoof, by source: {named or 'none'}",
            *([f"Human clips called spoof, by language: {_named(self.languages)}"] if self.languages else []),
        ]

    def figures(self) -> dict[str, Any]:
        """The same for a checkpoint's metadata."""
        found: dict[str, Any] = {"cross_fitted_over": self.over}
        if self.languages:
            found["human_clips_called_spoof_by_language"] = {name: [hit, of] for name, hit, of in self.languages}
        for level, rates in (("clips", self.clips), ("windows", self.windows)):
            found |= {f"{label}_{level}_called_{said}": rate.value for (label, said), rate in rates.items()}
            found |= {f"{label}_{level}_called_{said}_95": [r.low, r.high] for (label, said), r in rates.items()}
            found[f"cllr_bits_{level}"], found[f"min_cllr_bits_{level}"] = self.cllr[level]
        return found


def report(judged: Sequence[JudgedClip], over: str | None = None) -> CalibrationReport:
    """Figures of clips that were judged, of both labels. `over` says what was left out, where it was not a source."""
    clips = [item.clip for item in judged]
    alone = len(set(groups(clips))) == len(clips)
    scored = [(i.clip.is_bonafide, i.summary.score) for i in judged if i.summary.score is not None]
    fit_windows = [(i.clip.is_bonafide, w.score) for i in judged for w in i.windows if w.reason is Reason.NONE]
    named = over or ("clips" if alone else f"{len({clip.source for clip in clips})} sources")
    known = any(clip.language for clip in clips)
    return CalibrationReport(
        shares(judged, "clips"),
        shares(judged, "windows"),
        {"clips": _cllrs(scored), "windows": _cllrs([(label, s) for label, s in fit_windows if s is not None])},
        named,
        [row for row in _alarms(judged, lambda clip: clip.source) if row[1]],
        _alarms(judged, lambda clip: clip.language or "unknown") if known else (),
    )


def _alarms(judged: Sequence[JudgedClip], what: Callable[[Clip], str]) -> list[tuple[str, int, int]]:
    """Human clips called spoof, and all human clips, by what a clip is; the most false alarms first."""
    human = Counter(what(item.clip) for item in judged if item.clip.is_bonafide)
    hits = Counter(
        what(item.clip) for item in judged if item.clip.is_bonafide and item.summary.verdict is Verdict.SPOOF
    )
    rows = [(name, hits[name], clips) for name, clips in human.items()]
    return sorted(rows, key=lambda row: (-row[1], row[2], row[0]))


def _named(rows: Sequence[tuple[str, int, int]]) -> str:
    return ", ".join(f"{name} {alarms} of {clips}" for name, alarms, clips in rows)


def _cllrs(scores: Sequence[tuple[bool, float]]) -> tuple[float, float]:
    human: NDArray[np.bool_] = np.array([label for label, _ in scores], bool)
    llr = np.array([score for _, score in scores])
    return cllr(llr[human], llr[~human]), min_cllr(llr[human], llr[~human])


def thresholds_line(calibration: Calibration) -> str:
    """Scale, offset and thresholds in one line, and another one where they cannot be trusted."""
    line = (
        f"LLR = {calibration.scale:.4f} * raw {calibration.offset:+.4f}; spoof below {calibration.threshold:.3f}, "
        f"bona fide from {calibration.threshold_bonafide:.3f}"
    )
    if max(abs(calibration.threshold), abs(calibration.threshold_bonafide)) <= PLAUSIBLE_LLR:
        return line
    return (
        f"{line}\nwarning: hardly a clip of one label scored like the other's, so how sure a score is cannot be told: "
        "these are too few clips, or too easy. Calibrate on more before you rely on a verdict"
    )
