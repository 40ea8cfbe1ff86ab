"""Accuracy of a model file through the runtime itself: pooled, within sources, per source, system and condition."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.capture.file import read_blocks
from edge_runtime.decision.summary import Summarizer, Summary
from edge_runtime.decision.verdict import Verdict
from edge_runtime.detector import Detector
from edge_runtime.errors import InputError
from evaluation import breakdown
from evaluation.bootstrap import Estimate
from evaluation.false_alarms import FalseAlarms, alarms
from evaluation.metrics import Floats, cllr, eer_clustered
from evaluation.progress import silently
from evaluation.protocols import Clip
from evaluation.trained import Trained, Unseen, unseen
from evaluation.within import auc_within, macro_eer, within_sources

BLOCK_BATCHES = 4
"""Batches of windows that are read at once, as `edge-detect --file` does."""


@dataclass(frozen=True)
class ClipVerdict:
    """A clip with the score (LLR) and verdict that the runtime gave it."""

    clip: Clip
    score: float
    verdict: Verdict


@dataclass(frozen=True)
class GroupErrors:
    """One line of a table: a name, counts, and an error rate (None where it cannot be said)."""

    name: str
    bonafide: int
    spoof: int
    eer: Estimate | None


@dataclass(frozen=True)
class Accuracy:
    """What is known of a model on a set of clips."""

    pooled: Estimate
    macro: Estimate | None  # mean EER over sources with enough clips of both labels
    within: Estimate | None  # EER after each source's scores are centred on their own mean
    auc_within: Estimate | None  # a bona fide clip above a spoofed one of the same source, mean over sources
    cllr_bits: float
    human_called_spoof: float
    human_unsure: float
    spoof_found: float
    spoof_unsure: float
    alarms: FalseAlarms  # the same rates with their intervals, and source by source
    sources: list[GroupErrors]
    systems: list[GroupErrors]
    conditions: list[GroupErrors]  # none where all clips are of one
    unscored: list[str]
    unseen: Unseen | None = None  # where the lists of training data are known

    def as_figures(self, data: str) -> dict[str, Any]:
        """The figures for a model's metadata, rates as fractions."""
        return {
            "data": data,
            "clips_bonafide": self.pooled.bonafide,
            "clips_spoof": self.pooled.spoof,
            "eer_pooled": round(self.pooled.value, 4),
            "eer_pooled_95": _bounds(self.pooled),
            "eer_within_source": _rounded(self.within),
            "eer_within_source_95": _bounds(self.within),
            "auc_within_source": _rounded(self.auc_within),
            "auc_within_source_95": _bounds(self.auc_within),
            "eer_macro_sources": _rounded(self.macro),
            "eer_macro_sources_95": _bounds(self.macro),
            "cllr_bits": round(self.cllr_bits, 4),
            "human_called_spoof": round(self.human_called_spoof, 4),
            "human_called_spoof_95": _bounds(self.alarms.human_called_spoof),
            "human_unsure": round(self.human_unsure, 4),
            "spoof_found": round(self.spoof_found, 4),
            "spoof_unsure": round(self.spoof_unsure, 4),
        }


def _rounded(figure: Estimate | None) -> float | None:
    return None if figure is None else round(figure.value, 4)


def _bounds(figure: Estimate | None) -> list[float] | None:
    return None if figure is None else [round(figure.low, 4), round(figure.high, 4)]


def summarize(detector: Detector, blocks: Iterable[NDArray[np.float32]]) -> Summary:
    """What the runtime says of one recording, mono blocks float32 [n] at the detector's rate, by its windows alone.

    Alarms, which need 6 s of sound and are part of the verdict of `edge-detect --file`, have no say here: verdicts are
    those that thresholds are calibrated for, whatever the length of a clip. `benchmarks files` looks at long ones.

    Raises what `blocks` raises, ModelError when the model fails.
    """
    summarizer = Summarizer(detector.thresholds)
    detector.reset()
    for block in blocks:
        for window in detector.push(block):
            summarizer.add(window)
    for window in detector.flush():
        summarizer.add(window)
    return summarizer.summary()


def judge_file(detector: Detector, path: Path) -> Summary:
    """What `edge-detect --file --no-gate` says of a file, by its windows alone (see `summarize`).

    Raises InputError when it cannot be read to its end.
    """
    blocks = read_blocks(str(path), None, detector.sample_rate, BLOCK_BATCHES * detector.batch_seconds)
    return summarize(detector, blocks)


def judge(
    detector: Detector, clips: Sequence[Clip], progress: Callable[..., Any] = silently
) -> tuple[list[ClipVerdict], list[str]]:
    """Scores clips as `edge-detect --file --no-gate` does. Returns them and a line for each clip that got no score.

    In this process, one after the other: `evaluation.scoring.clips.score` has many, and outlives a kill.
    """
    judged, unscored = [], []
    for clip in progress(clips, desc="scoring", unit="clip"):
        try:
            summary = judge_file(detector, clip.path)
        except InputError as reason:
            unscored.append(str(reason))
            continue
        if summary.score is None or summary.verdict is None:
            unscored.append(f"{clip.path}: {summary.verdict}")
        else:
            judged.append(ClipVerdict(clip, summary.score, summary.verdict))
    return judged, unscored


def accuracy(judged: Sequence[ClipVerdict], unscored: Sequence[str] = (), known: Trained | None = None) -> Accuracy:
    """All figures of scored clips; with what is `known` of the training data, those of what it lacks apart.

    Raises InputError unless both labels are there.
    """
    scores = np.array([item.score for item in judged])
    human = np.array([item.clip.is_bonafide for item in judged], bool)
    clips = [item.clip for item in judged]
    source = [clip.source for clip in clips]
    verdicts = [item.verdict for item in judged]
    verdict = np.array([item.value for item in verdicts])
    if not human.any() or human.all():
        raise InputError("accuracy needs both bona fide and spoofed clips")
    rows = [_row(name, scores, human, members) for name, members in breakdown.sources(clips)]
    return Accuracy(
        pooled=eer_clustered(scores, human, source),
        macro=macro_eer(scores, human, clips),
        within=within_sources(scores, human, clips, source),
        auc_within=auc_within(scores, human, clips),
        cllr_bits=cllr(scores[human], scores[~human]),
        human_called_spoof=float(np.mean(verdict[human] == Verdict.SPOOF)),
        human_unsure=float(np.mean(verdict[human] == Verdict.UNSURE)),
        spoof_found=float(np.mean(verdict[~human] == Verdict.SPOOF)),
        spoof_unsure=float(np.mean(verdict[~human] == Verdict.UNSURE)),
        alarms=alarms(clips, verdicts),
        sources=rows,
        systems=[_row(name, scores, human, members) for name, members in breakdown.systems(clips)],
        conditions=[_row(name, scores, human, members, source) for name, members in breakdown.conditions(clips)],
        unscored=list(unscored),
        unseen=None if known is None else unseen(known, clips, scores, verdicts),
    )


def _row(
    name: str,
    scores: Floats,
    human: breakdown.Members,
    members: breakdown.Members,
    sources: Sequence[str] | None = None,
) -> GroupErrors:
    """Without `sources` [n], those of all clips, the interval is over clips."""
    bonafide, spoof = np.flatnonzero(members & human), np.flatnonzero(members & ~human)
    if not breakdown.enough(human[members]):
        return GroupErrors(name, len(bonafide), len(spoof), None)
    chosen = np.concatenate([bonafide, spoof])
    alike = [name] * len(chosen) if sources is None else [sources[i] for i in chosen]
    return GroupErrors(name, len(bonafide), len(spoof), eer_clustered(scores[chosen], human[chosen], alike, rounds=200))
