"""Accuracy of a model file through the runtime itself: pooled, within sources, per source, system and condition."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import breakdown
from benchmarks.metrics import FEWEST_CLUSTERS, Estimate, Floats, cllr, eer_clustered
from benchmarks.protocols import Clip
from benchmarks.turns import silently
from edge_runtime.capture.file import read_blocks
from edge_runtime.decision.verdict import Summarizer, Summary, Verdict
from edge_runtime.detector import Detector
from edge_runtime.errors import InputError

BLOCK_BATCHES = 4
"""Batches of windows that are read at once, as `edge-detect --file` does."""


@dataclass(frozen=True)
class Judged:
    """A clip with the score (LLR) and verdict that the runtime gave it."""

    clip: Clip
    score: float
    verdict: Verdict


@dataclass(frozen=True)
class Row:
    """One line of a table: a name, counts, and an error rate (None where it cannot be said)."""

    name: str
    bonafide: int
    spoof: int
    eer: Estimate | None


@dataclass(frozen=True)
class Accuracy:
    """What is known of a model on a set of clips."""

    pooled: Estimate
    macro: float | None  # mean EER over sources that have both labels
    within: Estimate | None  # EER after each source's scores are centred on their own mean
    cllr_bits: float
    human_called_spoof: float
    human_unsure: float
    spoof_found: float
    spoof_unsure: float
    sources: list[Row]
    systems: list[Row]
    conditions: list[Row]  # none where all clips are of one
    unscored: list[str]

    def as_figures(self, data: str) -> dict[str, Any]:
        """The figures for a model's metadata, rates as fractions."""
        return {
            "data": data,
            "clips_bonafide": self.pooled.bonafide,
            "clips_spoof": self.pooled.spoof,
            "eer_pooled": round(self.pooled.value, 4),
            "eer_pooled_95": [round(self.pooled.low, 4), round(self.pooled.high, 4)],
            "eer_within_source": None if self.within is None else round(self.within.value, 4),
            "eer_macro_sources": None if self.macro is None else round(self.macro, 4),
            "cllr_bits": round(self.cllr_bits, 4),
            "human_called_spoof": round(self.human_called_spoof, 4),
            "human_unsure": round(self.human_unsure, 4),
            "spoof_found": round(self.spoof_found, 4),
            "spoof_unsure": round(self.spoof_unsure, 4),
        }


def summarize(detector: Detector, blocks: Iterable[NDArray[np.float32]]) -> Summary:
    """What the runtime says of one recording, mono blocks float32 [n] at the detector's rate.

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
    """What `edge-detect --file` says of a file. Raises InputError when it cannot be read to its end."""
    blocks = read_blocks(str(path), None, detector.sample_rate, BLOCK_BATCHES * detector.batch_seconds)
    return summarize(detector, blocks)


def judge(
    detector: Detector, clips: Sequence[Clip], progress: Callable[..., Any] = silently
) -> tuple[list[Judged], list[str]]:
    """Scores clips as `edge-detect --file` does. Returns them and a line for each clip that got no score.

    In this process, one after the other: `benchmarks.scoring.score` has many, and outlives a kill.
    """
    judged, unscored = [], []
    for clip in progress(clips, desc="scoring", unit="clip"):
        try:
            summary = judge_file(detector, clip.path)
        except InputError as reason:
            unscored.append(str(reason))
            continue
        if summary.score is None:
            unscored.append(f"{clip.path}: {summary.verdict}")
        else:
            judged.append(Judged(clip, summary.score, summary.verdict))
    return judged, unscored


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


def accuracy(judged: Sequence[Judged], unscored: Sequence[str] = ()) -> Accuracy:
    """All figures of scored clips. Raises InputError unless both labels are there."""
    scores = np.array([item.score for item in judged])
    human = np.array([item.clip.is_bonafide for item in judged], bool)
    clips = [item.clip for item in judged]
    source = [clip.source for clip in clips]
    verdict = np.array([item.verdict.value for item in judged])
    if not human.any() or human.all():
        raise InputError("accuracy needs both bona fide and spoofed clips")
    rows = [_row(name, scores, human, members) for name, members in breakdown.sources(clips)]
    known = [row.eer.value for row in rows if row.eer is not None]
    return Accuracy(
        pooled=eer_clustered(scores, human, source),
        macro=float(np.mean(known)) if known else None,
        within=within_sources(scores, human, clips, source),
        cllr_bits=cllr(scores[human], scores[~human]),
        human_called_spoof=float(np.mean(verdict[human] == Verdict.SPOOF)),
        human_unsure=float(np.mean(verdict[human] == Verdict.UNSURE)),
        spoof_found=float(np.mean(verdict[~human] == Verdict.SPOOF)),
        spoof_unsure=float(np.mean(verdict[~human] == Verdict.UNSURE)),
        sources=rows,
        systems=[_row(name, scores, human, members) for name, members in breakdown.systems(clips)],
        conditions=[_row(name, scores, human, members, source) for name, members in breakdown.conditions(clips)],
        unscored=list(unscored),
    )


def _row(
    name: str,
    scores: Floats,
    human: breakdown.Members,
    members: breakdown.Members,
    sources: Sequence[str] | None = None,
) -> Row:
    """Without `sources` [n], those of all clips, the interval is over clips."""
    bonafide, spoof = np.flatnonzero(members & human), np.flatnonzero(members & ~human)
    if not breakdown.enough(human[members]):
        return Row(name, len(bonafide), len(spoof), None)
    chosen = np.concatenate([bonafide, spoof])
    alike = [name] * len(chosen) if sources is None else [sources[i] for i in chosen]
    return Row(name, len(bonafide), len(spoof), eer_clustered(scores[chosen], human[chosen], alike, rounds=200))


def _percent(value: float | Estimate | None) -> str:
    if value is None:
        return "too few clips"
    return str(value) if isinstance(value, Estimate) else f"{value:.1%}"


def _table(what: str, rows: Sequence[Row]) -> list[str]:
    if not rows:
        return []
    return [
        "",
        f"## Per {what}",
        "",
        f"| {what} | bona fide | spoof | EER |",
        "|---|---|---|---|",
        *(f"| {row.name} | {row.bonafide} | {row.spoof} | {_percent(row.eer)} |" for row in rows),
    ]


def markdown(result: Accuracy, title: str) -> str:
    """The report as Markdown."""
    few = "" if result.pooled.over == "sources" else f", as a label has fewer than {FEWEST_CLUSTERS} sources"
    lines = [
        f"# {title}",
        "",
        f"{result.pooled.bonafide} bona fide and {result.pooled.spoof} spoofed clips; intervals are 95 %, from a "
        f"bootstrap over {result.pooled.over}{few} (of one source or system: over its clips).",
        "",
        "| measure | value |",
        "|---|---|",
        f"| EER, pooled | {result.pooled} |",
        f"| EER within sources (each centred on its own mean) | {_percent(result.within)} |",
        f"| EER, macro over sources with {breakdown.FEWEST} clips of each label | {_percent(result.macro)} |",
        f"| Cllr | {result.cllr_bits:.3f} bit |",
        f"| human clips called spoof | {_percent(result.human_called_spoof)} |",
        f"| human clips unsure | {_percent(result.human_unsure)} |",
        f"| spoofed clips called spoof | {_percent(result.spoof_found)} |",
        f"| spoofed clips unsure | {_percent(result.spoof_unsure)} |",
        f"| clips without a score | {len(result.unscored)} |",
        *_table("source", result.sources),
        *_table("condition", result.conditions),
        "",
        "## Per system, against all human clips",
        "",
        "| system | spoof | EER |",
        "|---|---|---|",
        *(
            f"| {row.name} | {row.spoof} | {_percent(row.eer)} |"
            for row in sorted(result.systems, key=lambda row: (-row.spoof, row.name))
        ),
    ]
    return "\n".join(lines) + "\n"
