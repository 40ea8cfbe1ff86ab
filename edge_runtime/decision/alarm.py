"""When windows become an alarm: smoothing, hysteresis, least duration and a time of rest, all in seconds."""

from __future__ import annotations

import math
from dataclasses import dataclass

from edge_runtime.decision.verdict import Window
from edge_runtime.errors import UsageError

ON = "on"
OFF = "off"
SCORES = "scores"
"""An alarm's end: the voice is human again."""
NO_SPEECH = "no-speech"
"""Nobody speaks any more, or nothing that could be judged: what that would have shown is not known."""
BREAK = "break"
"""The sound broke off, or the run ended: the same."""

LIVE_SMOOTHING_SECONDS = 5.0
"""Over which scores are averaged where nothing else is asked for: a microphone listens for years."""
FILE_SMOOTHING_SECONDS = 0.0
"""The same for a file, which ends: some seconds of a synthetic voice in it are to be found. See
benchmarks/results/edge-6-files.md for what either finds, and its false alarms."""


@dataclass(frozen=True)
class Alarm:
    """An alarm begins (`kind` ON) or ends (OFF). Times are seconds of sound from the run's start."""

    kind: str
    number: int  # 1 is the run's first; both ends have the same
    start: float  # of the first window that led to it
    at: float  # end of the window that decided
    score: float  # smoothed log-likelihood ratio then; of OFF: the mean while it lasted
    reason: str = ""  # why it ended: SCORES, NO_SPEECH or BREAK; of ON nothing

    @property
    def begins(self) -> bool:
        """Whether this is the alarm's beginning."""
        return self.kind == ON


@dataclass(frozen=True)
class Rules:
    """When an alarm begins and ends. Scores are log-likelihood ratios, times seconds of sound.

    It begins when the smoothed score has been below `on` for `duration_seconds`; it ends when none was below `off` for
    `hold_seconds`, also since nobody spoke. For `refractory_seconds` after that no other begins.
    """

    on: float
    off: float
    smoothing_seconds: float = 0.0
    duration_seconds: float = 0.0
    hold_seconds: float = 0.0
    refractory_seconds: float = 0.0

    def __post_init__(self) -> None:
        """Raises UsageError for what cannot be."""
        if not (math.isfinite(self.on) and math.isfinite(self.off)):
            raise UsageError("the alarm's thresholds must be numbers")
        if self.off < self.on:
            raise UsageError(
                f"the alarm would end at a score ({self.off:g}) below the one at which it begins ({self.on:g}): "
                "give --alarm-on and --alarm-off that fit the model's thresholds, or --threshold"
            )
        for name in ("smoothing", "duration", "hold", "refractory"):
            seconds = getattr(self, f"{name}_seconds")
            if not (math.isfinite(seconds) and seconds >= 0):
                raise UsageError(f"the alarm's {name} must be a time of at least 0 s, not {seconds:g}")


class Alarms:
    """Takes windows in the order of their time, and tells when an alarm begins and ends; in constant memory.

    Windows that were not scored, or whose sound is unfit to be judged, neither raise nor end an alarm; time passes.
    Scores are smoothed by an average whose weights fall by e in `smoothing_seconds`. After a long time without any it
    begins again.
    """

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._number = 0
        self._rest_until = -math.inf
        self._forget()

    def _forget(self) -> None:
        self._smoothed: float | None = None
        self._last_end = -math.inf  # of the last scored window
        self._below_since: float | None = None  # end of the first window since which all were below `on`
        self._start = 0.0  # and its start; while an alarm is on, the alarm's
        self._ringing = False
        self._low_until = -math.inf  # while it rings: end of the last window with a smoothed score below `off`
        self._total, self._count = 0.0, 0

    def add(self, window: Window) -> list[Alarm]:
        """The alarms that this window begins or ends."""
        if window.score is None or window.reason:
            return self._wait(window.end)
        smoothed = self._smooth(window.score, window.end)
        if self._ringing:
            return self._go_on(smoothed, window.end)
        if smoothed >= self._rules.on:
            self._below_since = None
            return []
        if self._below_since is None:
            self._below_since, self._start = window.end, window.start
        long_enough = window.end - self._below_since >= self._rules.duration_seconds
        if long_enough and window.end >= self._rest_until:
            return self._begin(smoothed, window.end)
        return []

    def end(self, at: float) -> list[Alarm]:
        """The sound ends, or breaks off, at `at`: an alarm that is on ends, and what comes is judged for itself."""
        ended = [self._finish(at, BREAK)] if self._ringing else []
        self._forget()
        return ended

    def carried_on(self, rules: Rules, seconds: float) -> Alarms:
        """For the next run, whose times begin `seconds` later: numbers go on, and so does the time of rest."""
        following = Alarms(rules)
        following._number = self._number
        following._rest_until = self._rest_until - seconds
        return following

    def _smooth(self, score: float, end: float) -> float:
        tau = self._rules.smoothing_seconds
        if self._smoothed is None or tau == 0:
            self._smoothed = score
        else:
            weight = -math.expm1(-(end - self._last_end) / tau)
            self._smoothed += weight * (score - self._smoothed)
        self._last_end = end
        return self._smoothed

    def _wait(self, now: float) -> list[Alarm]:
        """Time passes without a score."""
        held = now - self._low_until
        ended = [self._finish(now, NO_SPEECH)] if self._ringing and held >= self._rules.hold_seconds else []
        since = now - self._last_end
        if since > self._rules.duration_seconds:
            self._below_since = None  # nobody knows whether it has stayed there
        if not self._ringing and since > max(self._rules.hold_seconds, self._rules.smoothing_seconds):
            self._forget()
        return ended

    def _begin(self, smoothed: float, at: float) -> list[Alarm]:
        self._number += 1
        self._ringing, self._low_until = True, at
        self._total, self._count = smoothed, 1
        return [Alarm(ON, self._number, self._start, at, smoothed)]

    def _go_on(self, smoothed: float, at: float) -> list[Alarm]:
        self._total += smoothed
        self._count += 1
        if smoothed < self._rules.off:
            self._low_until = at
        elif at - self._low_until >= self._rules.hold_seconds:
            return [self._finish(at, SCORES)]
        return []

    def _finish(self, at: float, reason: str) -> Alarm:
        ended = Alarm(OFF, self._number, self._start, at, self._total / self._count, reason)
        self._rest_until = at + self._rules.refractory_seconds
        self._ringing, self._below_since = False, None
        return ended
