"""What model files make of clips under conditions: read once, changed once for all models, spread over processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.capture.file import read_blocks
from edge_runtime.errors import InputError, UsageError
from evaluation.accuracy import summarize
from evaluation.acoustics.conditions import Condition, generator, possible
from evaluation.acoustics.effects import RATE, Samples
from evaluation.metrics import Floats
from evaluation.progress import silently
from evaluation.protocols import Clip
from evaluation.scoring import payload
from evaluation.scoring.workers import Pool, spread, workers

Job = tuple[int, str]
"""A clip as it is sent: its number in the list and its path."""
_BATCH_CLIPS = 1
"""A clip is scored some hundred times: no need to send several at once."""


@dataclass(frozen=True)
class PerturbedScores:
    """What models said of clips; `clips` are those that could be read, in the order of the list."""

    clips: list[Clip]
    scores: Floats  # LLR, [clips, conditions, models]; NaN where nothing can be scored
    verdicts: NDArray[np.str_]  # of the same shape
    conditions: list[Condition]  # those that this machine can make
    hop_seconds: float
    unread: tuple[str, ...]  # clips that could not be read or scored at all, with the reason
    left_out: tuple[str, ...]  # conditions that this machine cannot make, with the reason


@dataclass(frozen=True)
class _PerturbedClip:
    """A clip's scores and verdicts, [conditions][models]; without them, the reason."""

    number: int
    scores: tuple[tuple[float | None, ...], ...]
    verdicts: tuple[tuple[str, ...], ...] = ()
    trouble: str = ""


def hear(
    models: Sequence[Path],
    clips: Sequence[Clip],
    conditions: Sequence[Condition],
    seed: int = 0,
    hop_seconds: float = 0.5,
    jobs: int | None = None,
    cluster: str | None = None,
    progress: Callable[..., Any] = silently,
) -> PerturbedScores:
    """Scores `clips` under `conditions` with all `models`, which hear the same sound.

    `jobs` and `cluster` are those of `evaluation.scoring.workers.workers`. A file made for another processor is opened
    with exact sums. Raises ModelError for a file that cannot be used, UsageError for one of another sample rate,
    InputError when no clip can be scored.
    """
    packed = [payload.pack(path, hop_seconds, anywhere=True) for path in models]
    for path, (_, detector) in zip(models, packed, strict=True):
        if detector.sample_rate != RATE:
            raise UsageError(f"{path} hears {detector.sample_rate} Hz: conditions are made for {RATE} Hz")
    able, left_out = possible(conditions)
    boxes = tuple(payload for payload, _ in packed)
    function = partial(_hear_batch, [payload.key for payload in boxes], able, seed)
    with workers(jobs, cluster, payload.unpack, boxes) as pool:
        work = [(number, str(clip.path)) for number, clip in enumerate(clips)]
        told = list(progress(_told(pool, function, work), total=len(work), desc="conditions", unit="clip"))
    told.sort(key=lambda item: item.number)
    good = [item for item in told if not item.trouble]
    unread = tuple(item.trouble for item in told if item.trouble)
    if not good:
        raise InputError(f"no clip can be scored: {unread[0] if unread else 'there is none'}")
    return PerturbedScores(
        clips=[clips[item.number] for item in good],
        scores=np.array([item.scores for item in good], np.float64),  # None is NaN
        verdicts=np.array([item.verdicts for item in good]),
        conditions=able,
        hop_seconds=packed[0][1].hop_seconds,
        unread=unread,
        left_out=tuple(left_out),
    )


def read_samples(path: Path) -> Samples:
    """A clip as conditions take it: mono, float32 [n] at RATE, finite, within full scale. Raises InputError."""
    samples = np.concatenate(list(read_blocks(str(path), None, RATE)))
    return np.clip(np.nan_to_num(samples, nan=0.0), -1, 1)


def _told(
    pool: Pool, function: Callable[[list[Job]], list[_PerturbedClip]], work: Sequence[Job]
) -> Iterator[_PerturbedClip]:
    for batch in spread(pool, function, work, _crashed, _BATCH_CLIPS):
        yield from batch


def _crashed(job: Job) -> _PerturbedClip:
    return _PerturbedClip(job[0], (), trouble=f"{job[1]}: the process that scored it died each time")


def _hear_batch(
    keys: Sequence[str], conditions: Sequence[Condition], seed: int, batch: list[Job]
) -> list[_PerturbedClip]:
    """Runs on a worker, which knows the models by `keys`."""
    return [_hear(keys, conditions, seed, number, Path(path)) for number, path in batch]


def _hear(keys: Sequence[str], conditions: Sequence[Condition], seed: int, number: int, path: Path) -> _PerturbedClip:
    try:
        samples = read_samples(path)
    except InputError as reason:
        return _PerturbedClip(number, (), trouble=str(reason))
    rows = []
    for condition in conditions:
        changed = condition.apply(samples, generator(seed, path.name, condition.name))
        rows.append([summarize(payload.detector(key), [changed]) for key in keys])
    return _PerturbedClip(
        number,
        tuple(tuple(item.score for item in row) for row in rows),
        tuple(tuple(str(item.verdict) for item in row) for row in rows),
    )
