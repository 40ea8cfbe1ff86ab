"""From windows to one verdict: of a whole recording or stream, in constant memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from edge_runtime.decision.alarm import Alarm, Alarms
from edge_runtime.decision.verdict import Thresholds, Verdict, Window, decide

STRETCHES_KEPT = 100
"""Spoofed stretches that a summary names (see `foremost`); it counts them all."""
SPOOFED_SHARE = 0.5
"""Share of the judged windows from which a recording is spoof, whatever its mean score."""


@dataclass(frozen=True)
class Stretch:
    """A time in which windows called spoof follow or overlap each other; `score` is their mean.

    An alarm that no such window led to, which takes an unusual threshold for alarms, has a stretch of its own: from the
    first window that led to it until it began, with the score that the alarm began with.
    """

    start: float
    end: float
    score: float
    alarm: int = 0  # number of the first alarm that was on in it; 0: none


@dataclass(frozen=True)
class Summary:
    """What was heard, from the first window to the last one so far."""

    verdict: Verdict | None  # None, which a run says: nothing was heard at all
    score: float | None  # mean log-likelihood ratio of the windows fit to be judged, else of all scored ones
    windows: Mapping[Verdict, int]  # how many had which verdict
    seconds: float  # end of the last window
    stretches: tuple[Stretch, ...]  # the foremost spoofed ones, in the order of their time
    stretch_count: int  # all of them
    alarms: int = 0  # how many began


@dataclass
class _Mean:
    count: int = 0
    total: float = 0.0

    def add(self, value: float) -> None:
        self.count += 1
        self.total += value

    @property
    def value(self) -> float | None:
        return self.total / self.count if self.count else None


@dataclass
class _Open:
    """The latest stretch, which may still grow."""

    start: float
    end: float
    scores: _Mean = field(default_factory=_Mean)
    alarm: int = 0

    def closed(self) -> Stretch:
        return Stretch(self.start, self.end, self.scores.value or 0.0, self.alarm)


class Summarizer:
    """Adds windows, in the order of their time, up to a summary; memory does not grow with the stream.

    A recording is spoof when an alarm began in it, whatever its other windows say: an alarm is what we call a
    synthetic voice. It is also spoof when at least half of its judged windows are, as a short one has not the time
    that an alarm takes. Otherwise the verdict follows the mean score, for a recording of one origin gives one kind of
    evidence; but it is unsure, never bona fide, when spoofed windows without a break reach over two window lengths,
    for then there is a moment that every window which heard it called spoof. Nor is it bona fide when more windows were
    unfit to be judged than were judged: too little of it is known.

    The stretches say where that was. A stretch reaches from the start of its first window to the end of its last, so it
    may exceed the spoofed sound by up to a window at either end.
    """

    def __init__(self, thresholds: Thresholds, alarms: Alarms | None = None) -> None:
        """`alarms` are given every window. Without them the windows alone decide."""
        self._thresholds = thresholds
        self._alarms = alarms
        self._counts = dict.fromkeys(Verdict, 0)
        self._fit = _Mean()
        self._doubtful = _Mean()
        self._seconds = 0.0
        self._past: list[Stretch] = []
        self._stretch_count = 0
        self._open: _Open | None = None
        self._run_start: float | None = None
        self._solid = False
        self._alarm_count = 0
        self._ringing = 0  # number of the alarm that is on

    def add(self, window: Window) -> list[Alarm]:
        """Takes the next window in, and gives the alarms that it begins or ends."""
        self._counts[window.verdict] += 1
        self._seconds = max(self._seconds, window.end)
        if window.score is not None:
            (self._doubtful if window.reason else self._fit).add(window.score)
        if window.verdict is Verdict.SPOOF and window.score is not None:
            self._run_start = window.start if self._run_start is None else self._run_start
            self._solid |= window.end - self._run_start >= 2 * (window.end - window.start)
            self._add_spoofed(window.start, window.end, window.score)
        else:
            self._run_start = None
        return self._rung(self._alarms.add(window) if self._alarms else [])

    def end(self, at: float) -> list[Alarm]:
        """The sound ends, or breaks off for a time, at `at` seconds: gives the alarm that ends with it, if any."""
        self._run_start = None
        return self._rung(self._alarms.end(at) if self._alarms else [])

    def summary(self) -> Summary:
        """The summary so far; more windows may follow."""
        score = self._fit.value if self._fit.count else self._doubtful.value
        stretches = [*self._past, self._open.closed()] if self._open else self._past
        return Summary(
            verdict=self._verdict(),
            score=score,
            windows=dict(self._counts),
            seconds=self._seconds,
            stretches=tuple(foremost(stretches, STRETCHES_KEPT)),
            stretch_count=self._stretch_count,
            alarms=self._alarm_count,
        )

    def _verdict(self) -> Verdict:
        if not self._fit.count:
            if self._counts[Verdict.UNSURE]:
                return Verdict.UNSURE
            return Verdict.NO_SPEECH if self._counts[Verdict.NO_SPEECH] else Verdict.SILENT
        if self._alarm_count or self._counts[Verdict.SPOOF] >= SPOOFED_SHARE * self._fit.count:
            return Verdict.SPOOF
        verdict = decide(self._fit.value, self._thresholds)
        objected = self._solid or self._doubtful.count > self._fit.count
        return Verdict.UNSURE if verdict is Verdict.BONAFIDE and objected else verdict

    def _rung(self, alarms: list[Alarm]) -> list[Alarm]:
        """Counts alarms that begin, and finds the stretch that each belongs to."""
        for alarm in alarms:
            self._ringing = alarm.number if alarm.begins else 0
            if not alarm.begins:
                continue
            self._alarm_count += 1
            if self._open is None or self._open.end < alarm.start:
                self._add_spoofed(alarm.start, alarm.at, alarm.score)
            elif not self._open.alarm:
                self._open.alarm = alarm.number
        return alarms

    def _add_spoofed(self, start: float, end: float, score: float) -> None:
        if self._open is None or start > self._open.end:
            if self._open is not None:
                self._past = foremost([*self._past, self._open.closed()], STRETCHES_KEPT)
            self._open = _Open(start, end)
            self._stretch_count += 1
        self._open.end = end
        self._open.scores.add(score)
        self._open.alarm = self._open.alarm or self._ringing


def foremost(stretches: Sequence[Stretch], most: int) -> list[Stretch]:
    """At most so many of them: those with an alarm before the others, of both the most recent, in their order."""
    if len(stretches) <= most:
        return list(stretches)
    ranked = sorted(range(len(stretches)), key=lambda place: (stretches[place].alarm > 0, place))
    return [stretches[place] for place in sorted(ranked[-most:])]
