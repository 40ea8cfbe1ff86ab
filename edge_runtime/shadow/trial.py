"""The trial of a candidate: what is counted, and when it has passed or failed. Pure: no clock, no file, no model."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from edge_runtime.decision.alarm import ON, Alarms, Rules
from edge_runtime.decision.verdict import Reason, Thresholds, Verdict, Window, decide

TRYING, PASSED, FAILED = "trying", "passed", "failed"
LARGEST_LOAD = 1.0
"""Hops that scoring a window may take, except for the slowest twentieth: above it the candidate cannot keep up."""
LARGEST_DROPPED = 0.1
"""Share of the sound that may pass it by: it has what processor time others leave, and will have more when it runs."""
LEAST_BONAFIDE = 0.1
"""Windows that the running model must have called bona fide, as a share of those that are asked for: of fewer a share
says nothing."""
LARGEST_SPOOF = 0.05
"""Share of the windows that the running model calls bona fide, and the candidate may call spoof."""
ALARMS_FACTOR, ALARMS_MORE = 2, 1
"""The candidate may have raised so many times the running model's alarms, and so many more."""
_STEP = math.log(1.1)
"""Times are counted in classes, each a tenth longer than the one before: constant memory, and 10 % is near enough."""


@dataclass
class TrialCounts:
    """All that was counted in one trial, also over several runs. Counts are windows, unless they say otherwise."""

    heard_seconds: float = 0.0
    dropped_seconds: float = 0.0
    offered: int = 0  # scored by the running model, with a verdict that follows from the score
    both: int = 0  # of these, scored by the candidate too
    agree: int = 0  # of both, those with the same verdict
    bonafide: int = 0  # of both, those that the running model calls bona fide
    bonafide_spoof: int = 0  # and of these those that the candidate calls spoof
    spoof: int = 0  # of both, those that the running model calls spoof
    spoof_bonafide: int = 0  # and of these those that the candidate calls bona fide
    alarms_running: int = 0  # alarms that the windows would have raised
    alarms_candidate: int = 0
    loads: dict[int, int] = field(default_factory=dict)  # class of the scoring time in hops: how many windows

    def load(self, share: float) -> float | None:
        """The scoring time, in hops, that `share` of the windows stay under; rounded up to its class."""
        wanted = share * sum(self.loads.values())
        passed = 0
        for step in sorted(self.loads):
            passed += self.loads[step]
            if passed >= wanted:
                return math.exp((step + 1) * _STEP)
        return None

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return dataclasses.asdict(self) | {"loads": {str(step): count for step, count in sorted(self.loads.items())}}

    @staticmethod
    def from_dict(told: Mapping[str, Any]) -> TrialCounts:
        """The same again. Raises ValueError for what is no tally."""
        try:
            numbers = {one.name: told[one.name] for one in dataclasses.fields(TrialCounts) if one.name != "loads"}
            if not all(isinstance(value, int | float) and math.isfinite(value) for value in numbers.values()):
                raise ValueError("a count is no number")
            return TrialCounts(**numbers, loads={int(step): int(count) for step, count in told["loads"].items()})
        except (KeyError, TypeError, AttributeError) as reason:
            raise ValueError(f"no tally: {reason}") from None


@dataclass(frozen=True)
class Judgement:
    """How a trial stands: TRYING, PASSED or FAILED, and in words what it waits for or what was wrong."""

    state: str
    reason: str = ""


def judge(tally: TrialCounts, windows: int) -> Judgement:
    """Whether the candidate may take over, once `windows` windows were scored by both and a second heard for each.

    It fails when it cannot keep up (LARGEST_LOAD, LARGEST_DROPPED, or less than every other window scored), when it
    calls spoof more than LARGEST_SPOOF of the windows that the running model calls bona fide (of these there must be
    LEAST_BONAFIDE of `windows`), or when it would have raised far more alarms. Agreement and what it calls bona fide
    are counted and decide nothing: a better model differs from the old one, and who is right nobody knows here.
    """
    if tally.both < windows:
        if tally.offered >= 2 * windows:
            return Judgement(FAILED, f"it scored {tally.both} of {tally.offered} windows: it does not keep up")
        return Judgement(TRYING, f"{tally.both} of {windows} windows scored by both")
    load = tally.load(0.95)
    if load is not None and load > LARGEST_LOAD:
        return Judgement(FAILED, f"it is too slow: 1 of 20 windows takes {load:.2g} hops or more to score")
    dropped = tally.dropped_seconds / max(tally.heard_seconds + tally.dropped_seconds, 1e-9)
    if dropped >= LARGEST_DROPPED:
        return Judgement(FAILED, f"it is too slow beside the running model: {dropped:.1%} of the sound passed it by")
    if tally.heard_seconds < windows:
        return Judgement(TRYING, f"{tally.heard_seconds:.0f} s heard of {windows}")
    needed = max(1, math.ceil(LEAST_BONAFIDE * windows))
    if tally.bonafide < needed:
        return Judgement(TRYING, f"{tally.bonafide} of {needed} windows that the running model calls bona fide")
    called = tally.bonafide_spoof / tally.bonafide
    if called > LARGEST_SPOOF:
        what = f"it calls spoof {called:.1%} of the {tally.bonafide} windows that the running model calls bona fide"
        return Judgement(FAILED, f"{what}; {LARGEST_SPOOF:.0%} are allowed")
    if tally.alarms_candidate > ALARMS_FACTOR * tally.alarms_running + ALARMS_MORE:
        return Judgement(FAILED, f"{tally.alarms_candidate} alarms, {tally.alarms_running} of the running model")
    return Judgement(PASSED, f"{tally.both} windows scored by both, {tally.agree / tally.both:.1%} alike")


class Trial:
    """Takes in what both models say of the same windows."""

    def __init__(self, tally: TrialCounts, thresholds: Thresholds, running: Rules, candidate: Rules) -> None:
        """`thresholds` are the candidate's; the rules say when each would raise an alarm. `tally` is counted on."""
        self.tally = tally
        self._thresholds = thresholds
        self._running = Alarms(running)
        self._candidate = Alarms(candidate)

    def add(self, window: Window, score: float | None, load: float | None) -> None:
        """One window of the running model, the candidate's score of it, and what that took, in hops.

        A window that the running model did not score, or whose verdict its sound decides, is not compared.
        """
        tally = self.tally
        if window.score is not None and window.reason is Reason.NONE:
            tally.offered += 1
            if load is not None:
                step = math.floor(math.log(max(load, 1e-6)) / _STEP)
                tally.loads[step] = tally.loads.get(step, 0) + 1
            if score is not None:
                self._compare(window.verdict, decide(score, self._thresholds))
        # A window that only one has scored would give the other an alarm that it has not earned.
        both = window if score is not None else dataclasses.replace(window, score=None)
        tally.alarms_running += sum(alarm.kind == ON for alarm in self._running.add(both))
        theirs = dataclasses.replace(both, score=score)
        tally.alarms_candidate += sum(alarm.kind == ON for alarm in self._candidate.add(theirs))

    def end(self, at: float) -> None:
        """The sound breaks off at `at`."""
        self._running.end(at)
        self._candidate.end(at)

    def _compare(self, running: Verdict, candidate: Verdict) -> None:
        tally = self.tally
        tally.both += 1
        tally.agree += running is candidate
        tally.bonafide += running is Verdict.BONAFIDE
        tally.bonafide_spoof += running is Verdict.BONAFIDE and candidate is Verdict.SPOOF
        tally.spoof += running is Verdict.SPOOF
        tally.spoof_bonafide += running is Verdict.SPOOF and candidate is Verdict.BONAFIDE
