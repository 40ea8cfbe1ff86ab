"""What an operator would live through: false alarms, found and missed turns on hours of mixed sound."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.alarms.mixed_stream import HUMAN, SPOOF, StreamPiece
from edge_runtime.decision.alarm import LIVE_SMOOTHING_SECONDS, OFF, ON, Alarms, Rules
from edge_runtime.decision.verdict import Thresholds, Window
from edge_runtime.detector import Detector
from edge_runtime.errors import UsageError
from edge_runtime.settings.schema import FIELDS
from evaluation.acoustics.effects import RATE, Samples
from evaluation.bootstrap import FEWEST_CLUSTERS, drawn_sums, interval
from evaluation.progress import silently

BLOCK_SECONDS = 5.0
"""Sound pushed at once: a batch's worth, as a file is read."""

_ROUNDS = 1000


@dataclass(frozen=True)
class ScoredStream:
    """A stream as a detector heard it."""

    pieces: list[StreamPiece]
    windows: list[Window]
    seconds: float  # of sound
    cpu_seconds: float  # for the front end, the gate and the network


@dataclass(frozen=True)
class Rate:
    """A figure with its 95 % interval, from a bootstrap that draws sources (or turns, where those are few)."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"


@dataclass(frozen=True)
class AlarmOutcome:
    """What alarms came of a stream under one set of rules."""

    rules: Rules
    hours: float
    human_hours: float  # turns with their inner pauses
    false_alarms: dict[str, int]  # by the kind of sound that they began in
    false_per_human_hour: Rate  # of those in turns of human speech
    false_per_hour: float  # of all, by all hours of the stream
    spoofed_turns: int
    found: int
    found_share: Rate
    delay_seconds: float | None  # median, from a turn's start to the alarm that began in it


def hear(
    detector: Detector, stream: Iterable[tuple[StreamPiece, Samples]], progress: Callable[..., Any] = silently
) -> ScoredStream:
    """Scores a stream, float32 [n] a piece. Raises UsageError for a model of another rate than RATE, ModelError."""
    if detector.sample_rate != RATE:
        raise UsageError(f"the model hears {detector.sample_rate} Hz: the stream is made for {RATE} Hz")
    detector.reset()
    pieces: list[StreamPiece] = []
    windows: list[Window] = []
    samples, cpu = 0, 0.0
    block = round(BLOCK_SECONDS * RATE)
    for piece, sound in progress(stream, desc="stream", unit="piece"):
        pieces.append(piece)
        began = time.process_time()
        for start in range(0, sound.size, block):
            windows += detector.push(sound[start : start + block])
        cpu += time.process_time() - began
        samples += sound.size
    windows += detector.flush()
    return ScoredStream(pieces, windows, samples / RATE, cpu)


def usual_rules(thresholds: Thresholds, **other: float) -> Rules:
    """The usual rules of `edge-detect` with a microphone, except for `other`, fields of Rules.

    An `off` below `on` is raised to it. Raises UsageError for what cannot be.
    """
    named = {"duration": "alarm_duration", "hold": "alarm_hold", "refractory": "refractory"}
    values: dict[str, Any] = {f"{name}_seconds": FIELDS[setting].default for name, setting in named.items()}
    values["smoothing_seconds"] = LIVE_SMOOTHING_SECONDS
    on, off = FIELDS["alarm_on"].default, FIELDS["alarm_off"].default
    values["on"] = thresholds.spoof if on is None else on
    values["off"] = thresholds.bonafide if off is None else off
    values |= other
    values["off"] = max(values["on"], values["off"])
    return Rules(**values)


def judge(heard: ScoredStream, rules: Rules, seed: int = 0) -> AlarmOutcome:
    """Makes alarms of the windows and counts them.

    An alarm belongs to a spoofed turn when it begins within it, or after its end while windows and the least duration
    may still be of it; all others are false, and count for the piece in which the middle of the deciding window lies. A
    turn is found when an alarm begins in it, or when one of an earlier spoofed turn still rings at its start.
    """
    window = max((item.end - item.start for item in heard.windows), default=0.0)
    grace = window + rules.duration_seconds
    starts = np.array([piece.start for piece in heard.pieces])
    false: Counter[int] = Counter()
    first: dict[int, float] = {}  # by spoofed turn: how late its alarm was; 0 where it already rang
    late: list[float] = []
    for began, ended in _alarms(heard, rules):
        own = _turn_of(heard.pieces, starts, began, grace)
        if own is None:
            false[max(0, int(np.searchsorted(starts, began - window / 2, side="right")) - 1)] += 1
            continue
        if own not in first:
            first[own] = began - heard.pieces[own].start
            late.append(first[own])
        for index in range(own + 1, len(heard.pieces)):
            if heard.pieces[index].start >= ended:
                break
            if heard.pieces[index].kind == SPOOF:
                first.setdefault(index, 0.0)
    human = [index for index, piece in enumerate(heard.pieces) if piece.kind == HUMAN]
    spoofed = [index for index, piece in enumerate(heard.pieces) if piece.kind == SPOOF]
    kinds = Counter(heard.pieces[index].kind for index in false.elements())
    lengths = [(heard.pieces[index].end - heard.pieces[index].start) / 3600 for index in human]
    hits = [float(index in first) for index in spoofed]
    return AlarmOutcome(
        rules=rules,
        hours=heard.seconds / 3600,
        human_hours=sum(lengths),
        false_alarms=dict(sorted(kinds.items())),
        false_per_human_hour=_rate([false[i] for i in human], lengths, [heard.pieces[i].group for i in human], seed),
        false_per_hour=sum(kinds.values()) / (heard.seconds / 3600),
        spoofed_turns=len(spoofed),
        found=int(sum(hits)),
        found_share=_rate(hits, [1.0] * len(hits), [heard.pieces[i].group.split(":")[0] for i in spoofed], seed),
        delay_seconds=float(np.median(late)) if late else None,
    )


def verdicts(heard: ScoredStream) -> dict[str, dict[str, float]]:
    """For each kind of sound the share of each verdict, and of windows with a score, among those wholly within."""
    counts: dict[str, Counter[str]] = {}
    scored: Counter[str] = Counter()
    ends = np.array([piece.start for piece in heard.pieces])
    for item in heard.windows:
        piece = heard.pieces[max(0, int(np.searchsorted(ends, item.start, side="right")) - 1)]
        if item.end <= piece.end:
            counts.setdefault(piece.kind, Counter())[item.verdict.value] += 1
            scored[piece.kind] += item.score is not None
    told = {}
    for kind, own in sorted(counts.items()):
        total = own.total()
        told[kind] = {"windows": total, "scored": scored[kind] / total}
        told[kind] |= {verdict: count / total for verdict, count in sorted(own.items())}
    return told


def scored_share(heard: ScoredStream) -> float:
    """Of all windows, those that the network was run on."""
    return sum(item.score is not None for item in heard.windows) / max(1, len(heard.windows))


def _alarms(heard: ScoredStream, rules: Rules) -> list[tuple[float, float]]:
    """When alarms began and ended."""
    deciding = Alarms(rules)
    told = [alarm for window in heard.windows for alarm in deciding.add(window)]
    told += deciding.end(heard.seconds)
    began = [alarm.at for alarm in told if alarm.kind == ON]
    ended = [alarm.at for alarm in told if alarm.kind == OFF]
    return list(zip(began, ended, strict=True))


def _turn_of(pieces: Sequence[StreamPiece], starts: Any, at: float, grace: float) -> int | None:
    """The spoofed turn that an alarm at this time belongs to: the latest that began and is not long over."""
    for index in range(int(np.searchsorted(starts, at, side="left")) - 1, -1, -1):
        piece = pieces[index]
        if piece.kind == SPOOF and at <= piece.end + grace:
            return index
        if piece.end + grace < at:
            break
    return None


def _rate(counts: Sequence[float], sizes: Sequence[float], groups: Sequence[str], seed: int) -> Rate:
    """Counts by sizes, both summed over turns [n]; an interval of nothing found follows the rule of three."""
    total = sum(sizes)
    if not total:
        return Rate(0.0, 0.0, 0.0)
    names, member = np.unique(np.asarray(groups), return_inverse=True)
    if len(names) < FEWEST_CLUSTERS:
        names, member = np.arange(len(sizes)), np.arange(len(sizes))
    count, size = np.bincount(member, counts), np.bincount(member, sizes)
    drawn_counts, drawn_sizes = drawn_sums((count, size), _ROUNDS, seed)
    value = sum(counts) / total
    low, high = interval(value, drawn_counts / drawn_sizes)
    return Rate(value, low, high if sum(counts) else 3 / total)
