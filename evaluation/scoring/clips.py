"""Scores of many clips, on all cores or a cluster, in a store from which a run that was killed goes on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from edge_runtime.decision.verdict import Verdict
from edge_runtime.errors import EdgeDetectError, InputError, ModelError, UsageError
from evaluation.accuracy import ClipVerdict, judge_file
from evaluation.progress import silently
from evaluation.protocols import Clip, trial_name
from evaluation.scoring import payload
from evaluation.scoring.store import Identity, Store, StoredOutcome, names, open_store
from evaluation.scoring.workers import Pool, spread, workers

Job = tuple[str, str]
"""A clip as it is sent: its name in the store and its path."""
KINDS = {
    "missing": "no such file",
    "unreadable": "damaged, cut short or no sound file",
    "silent": "nothing but silence",
    "unsure": "no window that can be scored",
    "crashed": "the process that scored it died each time",
    "failed": "an error of the program",
}
"""Why a clip has no score."""
_COMPARED = 100  # clips whose files' sizes are compared with those of an earlier run


@dataclass(frozen=True)
class Unscored:
    """A clip without a score, by its name in the list, with its kind (of `KINDS`) and the reason in one line."""

    clip: str
    kind: str
    reason: str


@dataclass(frozen=True)
class ScoringResult:
    """What a run gave, and how much of it was there before."""

    judged: list[ClipVerdict]
    unscored: list[Unscored]
    resumed: int  # clips whose outcome an earlier run had recorded

    def kinds(self) -> dict[str, int]:
        """How many clips have no score, for each reason that there is."""
        return dict(Counter(item.kind for item in self.unscored).most_common())


def score(
    model: Path,
    clips: Sequence[Clip],
    store: Path | None = None,
    hop_seconds: float = 0.5,
    jobs: int | None = None,
    cluster: str | None = None,
    progress: Callable[..., Any] = silently,
    *,
    anywhere: bool = False,
) -> tuple[list[ClipVerdict], list[str]]:
    """What `accuracy.judge` gives, the same numbers in the order of `clips`, by `score_clips`."""
    scored = score_clips(model, clips, store, hop_seconds, jobs, cluster, progress, anywhere=anywhere)
    return scored.judged, [item.reason for item in scored.unscored]


def score_clips(
    model: Path,
    clips: Sequence[Clip],
    store: Path | None = None,
    hop_seconds: float = 0.5,
    jobs: int | None = None,
    cluster: str | None = None,
    progress: Callable[..., Any] = silently,
    *,
    missing: Sequence[str] = (),
    retry: bool = False,
    anywhere: bool = False,
) -> ScoringResult:
    """Scores the clips that have no outcome in `store` yet, and gives all, in the order of `clips`.

    Whatever ends a run, each outcome that was recorded stays, and a run with the same arguments goes on after them.
    A clip without a score has an outcome too, and is tried again only with `retry`. `store` None keeps nothing.
    `jobs` and `cluster` are those of `evaluation.scoring.workers.workers`; the scores do not depend on them. `missing`
    are the clips that a list names and that are not there (`protocols.ClipList`); once they are there, they are scored.
    `anywhere` opens a file made for another processor with exact sums.

    Raises ModelError for the model, UsageError for a store of something else (another model, hop, version, or list of
    clips), OutputError when the store cannot be written, InputError when the cluster cannot be had.
    """
    packed, detector = payload.pack(model, hop_seconds, anywhere=anywhere)
    sums = ", exact sums" if packed.exact else ""
    identity = Identity(packed.sha256, f"{detector.hop_samples} samples", packed.versions + sums)
    called = dict(zip(names(clips), clips, strict=True))
    with open_store(store, identity) as kept:
        if retry:
            kept.forget_failures()
        done = kept.outcomes()
        _same_clips(kept, done, called, missing)
        resumed = len(done.keys() & called.keys())
        rest = [(name, str(clip.path)) for name, clip in called.items() if name not in done]
        if rest:
            with workers(jobs, cluster, payload.unpack, (packed,)) as pool:
                recorded = _record(kept, pool, partial(_score_batch, packed.key), rest)
                for outcome in progress(recorded, total=len(clips), initial=resumed, desc="scoring", unit="clip"):
                    done[outcome.clip] = outcome
    judged, unscored = [], [Unscored(name, "missing", f"{name}: {KINDS['missing']}") for name in missing]
    for name, clip in called.items():
        outcome = done[name]
        if outcome.score is None:
            unscored.append(Unscored(name, outcome.kind, outcome.reason))
        else:
            judged.append(ClipVerdict(clip, outcome.score, Verdict(outcome.verdict)))
    return ScoringResult(judged, unscored, resumed)


def _same_clips(
    store: Store, done: Mapping[str, StoredOutcome], called: Mapping[str, Clip], missing: Sequence[str]
) -> None:
    """Raises UsageError when the store was begun with other clips than these.

    All that it has must be in the list, which may have grown. Other clips under the same names, such as those of the
    same challenge after a codec, betray themselves by their files' sizes, of which some are compared.
    """
    known = called.keys() | {trial_name(name) for name in missing}
    strange = [name for name in done if name not in known]
    if strange:
        raise UsageError(
            f"{store.place} was begun with another list of clips: {len(strange)} of those that it has are not in this "
            f"one ({strange[0]}): go on with that list, or name another file"
        )
    there = [name for name, outcome in done.items() if outcome.score is not None and name in called]
    for name in there[:: max(1, len(there) // _COMPARED)]:
        path, size_bytes = called[name].path, done[name].size_bytes
        if path.is_file() and path.stat().st_size != size_bytes:
            raise UsageError(
                f"{store.place} was begun with other clips of the same names: {path} has {path.stat().st_size} bytes, "
                f"the one that was scored had {size_bytes}: go on with those, or name another file"
            )


def _record(
    store: Store, pool: Pool, function: Callable[[list[Job]], list[StoredOutcome]], jobs: Sequence[Job]
) -> Iterator[StoredOutcome]:
    for outcomes in spread(pool, function, jobs, _crashed):
        store.add(outcomes)
        yield from outcomes


def _score_batch(key: str, batch: list[Job]) -> list[StoredOutcome]:
    """Runs on a worker, which knows the model as `key`."""
    return [_outcome(key, name, Path(path)) for name, path in batch]


def _outcome(key: str, name: str, path: Path) -> StoredOutcome:
    detector = payload.detector(key)
    try:
        summary = judge_file(detector, path)
        size_bytes = path.stat().st_size
    except InputError as reason:
        return StoredOutcome(name, None, kind="unreadable" if path.exists() else "missing", reason=str(reason))
    except ModelError:
        raise  # no clip's fault, and every clip's fate
    except Exception as reason:  # a surprise from one clip of 600,000 is recorded and named, and spares the others
        said = str(reason) if isinstance(reason, EdgeDetectError) else f"{type(reason).__name__}: {reason}"
        return StoredOutcome(name, None, kind="failed", reason=f"{path}: {' '.join(said.split())}")
    verdict = str(summary.verdict)
    if summary.score is None:
        return StoredOutcome(name, None, verdict, verdict, f"{path}: {verdict}", size_bytes)
    return StoredOutcome(name, summary.score, verdict, size_bytes=size_bytes)


def _crashed(job: Job) -> StoredOutcome:
    name, path = job
    return StoredOutcome(name, None, kind="crashed", reason=f"{path}: {KINDS['crashed']}")
