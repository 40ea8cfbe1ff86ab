"""A network tried on dev and on what was held out of the room; and how much of an adaptation to keep."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edge_runtime.decision.verdict import Verdict
from evaluation.bootstrap import Estimate
from evaluation.metrics import eer
from export.checkpoint import Calibration
from export.rawnet2 import RawNet2
from training.batches import Library
from training.blend import between
from training.calibrate import ErrorLimits, cross_fitted
from training.verdicts import JudgedClip, ScoredClip, hear, judge, shares

HOP_SECONDS = 0.5
MOST_RISE = 0.01
"""By how much the EER on dev may rise before a part of the adaptation is taken back."""
SHARES = (0.75, 0.5, 0.25)
"""Points on the line between the weights that are tried then, the most adapted first."""
BLIND_SHARE = 0.5
"""The point that is taken when no dev tells what was forgotten."""


@dataclass(frozen=True)
class AdaptationTrial:
    """A network's raw scores of the dev clips (none without dev), and of the held-out recordings with their copies."""

    dev: list[ScoredClip]
    room: list[ScoredClip]

    @property
    def all(self) -> list[ScoredClip]:
        return [*self.dev, *self.room]

    @property
    def dev_eer(self) -> float | None:
        return _eer(self.dev)

    @property
    def room_eer(self) -> float | None:
        return _eer(self.room)


@dataclass(frozen=True)
class Column:
    """What a network with its thresholds does: EERs as fractions, and the shares of verdicts for clips."""

    name: str
    dev_eer: float | None
    room_eer: float | None
    dev: Mapping[tuple[str, Verdict], Estimate]
    room: Mapping[tuple[str, Verdict], Estimate]


def attempt(model: RawNet2, dev: Library | None, room: Library) -> AdaptationTrial:
    """Scores everything."""
    of_dev = [] if dev is None else hear(model, dev.clips, dev.samples, HOP_SECONDS, "dev")
    return AdaptationTrial(of_dev, hear(model, room.clips, room.samples, HOP_SECONDS, "held-out clips"))


def keep_share(
    old: RawNet2, new: RawNet2, before: AdaptationTrial, try_out: Callable[[RawNet2], AdaptationTrial]
) -> tuple[float, RawNet2, AdaptationTrial]:
    """How much of the way from `old` to `new` to go: the share, that network and its trial.

    All of it, unless the EER on dev rises by more than `MOST_RISE`; then the most adapted of `SHARES` that keeps to
    that, or nothing. Without dev, `BLIND_SHARE`.
    """
    if before.dev_eer is None:
        model = between(old, new, BLIND_SHARE)
        return BLIND_SHARE, model, try_out(model)
    for share in (1.0, *SHARES):
        model = between(old, new, share)
        trial = try_out(model)
        if trial.dev_eer is not None and trial.dev_eer <= before.dev_eer + MOST_RISE:
            return share, model, trial
    return 0.0, old, before


def as_it_came(trial: AdaptationTrial, calibration: Calibration | None, name: str) -> Column:
    """Under the checkpoint's own thresholds; no verdicts where it has none."""
    judged = [] if calibration is None else [judge(item, calibration) for item in trial.all]
    return _column(trial, judged, name)


def fitted_again(trial: AdaptationTrial, limits: ErrorLimits, name: str) -> Column:
    """Under thresholds fitted on dev and the held-out clips, except for the source that is judged."""
    return _column(trial, cross_fitted(trial.all, limits), name)


def _column(trial: AdaptationTrial, judged: Sequence[JudgedClip], name: str) -> Column:
    dev, room = judged[: len(trial.dev)], judged[len(trial.dev) :]
    found = [shares(part, "clips") if part else {} for part in (dev, room)]
    return Column(name, trial.dev_eer, trial.room_eer, *found)


def _eer(heard: Sequence[ScoredClip]) -> float | None:
    scored = [(item.clip.is_bonafide, item.mean) for item in heard if len(item.fit)]
    human = np.array([label for label, _ in scored], bool)
    if human.all() or not human.any():
        return None
    scores = np.array([score for _, score in scored])
    return eer(scores[human], scores[~human])[0]
