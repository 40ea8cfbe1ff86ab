"""Whether a live source lives: a state machine that gets facts and times, and has neither clock nor sound card."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from edge_runtime.capture.block import OUTAGE, STATE, Event
from edge_runtime.capture.wanted import WORDS, Kind, Words


class State(StrEnum):
    """What a live source is doing."""

    CONNECTING = "connecting"
    """Nothing was heard yet since the start."""
    LISTENING = "listening"
    """Sound comes in."""
    STALLED = "stalled"
    """The microphone is there and open, and gives nothing."""
    SILENT = "silent"
    """It gives one and the same value all the time, which no working microphone does."""
    RECOVERING = "recovering"
    """It was there, and cannot be opened or has ended; it is tried again and again."""
    FAILED = "failed"
    """Given up, after the time that the limits allow. The end."""


@dataclass(frozen=True)
class LivenessLimits:
    """All thresholds of a live source, in seconds."""

    stall: float = 4.0
    """A stream that gives nothing for so long is taken for dead, and opened again."""
    silent: float = 10.0
    """So long only zeros, or one constant value, and the microphone is called silent."""
    reopen_silent: float = 60.0
    """A silent microphone is opened again after so long, and each time after twice as long ..."""
    reopen_silent_longest: float = 900.0
    """... up to this."""
    retry_first: float = 1.0
    """One that cannot be opened is tried at once, then after so long, and each time after twice as long ..."""
    retry_longest: float = 15.0
    """... up to this."""
    steady: float = 5.0
    """A stream that gave sound for so long works: trouble after it is new, and is met with the first retry again."""
    opening: float = 20.0
    """An attempt to open that takes longer hangs, and is ended. It holds the start of a process on a slow board."""
    connect_timeout: float = 0.0
    """How long to try at the start: 0 fails with the first attempt, math.inf never."""
    recover_timeout: float = math.inf
    """How long to try in an outage: 0 fails with the outage itself, math.inf never."""
    identity_check: float = 5.0
    """How often it is looked at which source the sound comes from."""
    keep_open: bool = False
    """One that gives nothing stays open, as what is in it would be lost (a pipe). Open, it counts as there."""


class Liveness:
    """The state machine. Its owner tells what happens and asks, several times a second, what is to be done.

    All times are seconds of one monotonic clock. A stream is closed, opening or open; `state` is what people see,
    and says more: whether sound was ever heard, and what is wrong.
    """

    def __init__(self, limits: LivenessLimits, now: float, words: Words = WORDS[Kind.MICROPHONE]) -> None:
        """Begins at `now`, as connecting and with a first attempt due. `words` tell people what is wrong."""
        self.state = State.CONNECTING
        self.reason = ""
        self._limits = limits
        self._words = words
        self._open: bool | None = False  # None: opening
        self._open_since = now
        self._next_try = now
        self._retry = 0.0
        self._patience = limits.stall
        self._ever_heard = False
        self._heard_until = now  # before anything is heard: the start
        self._steady = 0.0  # seconds of sound from this stream
        self._flat = 0.0  # seconds of one value until now, over streams
        self._reopen = limits.reopen_silent
        self._told: set[str] = set()
        self._news = [Event(STATE, state=State.CONNECTING)]

    def news(self) -> tuple[Event, ...]:
        """The events since the last call."""
        news, self._news = tuple(self._news), []
        return news

    def limit(self, limits: LivenessLimits) -> None:
        """From now on these thresholds hold."""
        self._limits = limits

    def due(self, now: float) -> bool:
        """Whether the stream shall be opened now."""
        return self._open is False and self.state is not State.FAILED and now >= self._next_try

    def opening(self, now: float) -> None:
        """An attempt to open begins."""
        self._open, self._open_since = None, now

    def opened(self, now: float) -> None:
        """It succeeded; whether sound comes is another question."""
        self._open, self._open_since, self._steady = True, now, 0.0

    def sound(self, now: float, seconds: float, flat: bool) -> None:
        """`seconds` of sound came; `flat`: all of it one value, the same as before it."""
        outage = now - seconds - self._heard_until
        self._flat = self._flat + seconds if flat else 0.0
        self._steady += seconds
        if self._steady >= self._limits.steady:
            self._retry, self._patience = 0.0, self._limits.stall
        if not flat:
            self._reopen = self._limits.reopen_silent
        if self.state not in (State.LISTENING, State.SILENT):
            if self._ever_heard:
                self._news.append(Event(OUTAGE, seconds=max(0.0, outage), reason=self.reason))
            self._enter(State.LISTENING, "")
        elif self.state is State.SILENT and not flat:
            self._enter(State.LISTENING, "")
        elif self.state is State.LISTENING and self._flat >= self._limits.silent:
            self._enter(State.SILENT, self._words.silent.format(f"{self._limits.silent:g}"))
            self._open_since = now
        self._ever_heard = True
        self._heard_until = now

    def closed(self, now: float, reason: str, lasting: bool = False) -> None:
        """The stream ended, or could not be opened; `lasting`: for a reason that time does not mend."""
        self._open = False
        self._next_try = now + self._retry
        self._back_off()
        if lasting:
            self._enter(State.FAILED, reason)
        elif self._ever_heard:
            self._trouble(State.RECOVERING, reason)
        else:
            self._trouble(State.CONNECTING, reason)
        self._give_up(now)

    def look(self, now: float) -> bool:
        """Whether the stream, or the attempt to open it, has to be ended now; it counts as closed then.

        To be called after all that has come was told.
        """
        if self._open is None and now - self._open_since > self._limits.opening:
            self.closed(now, self._words.opening.format(f"{self._limits.opening:g}"))
            return True
        patience = self._limits.stall if self._steady else self._patience
        if self._open is True and now - max(self._heard_until, self._open_since) > patience:
            if not self._limits.keep_open:
                self._open = False
                self._next_try = now  # an open source hears at once when it works again: no pause, but more patience
                self._back_off()
                self._patience = max(self._limits.stall, self._retry)
            if not (self._limits.keep_open and self.state is State.RECOVERING):  # what has ended is known to be away
                self._trouble(State.STALLED, self._words.stalled.format(f"{self._limits.stall:g}"))
            self._give_up(now)
            return not self._limits.keep_open
        silent = self.state is State.SILENT and not self._limits.keep_open
        if self._open is True and silent and now - self._open_since > self._reopen:
            self._reopen = min(2 * self._reopen, self._limits.reopen_silent_longest)
            self.reopen(now)
            return True
        if self._open is False:
            self._give_up(now)
        return False

    def reopen(self, now: float) -> None:
        """The stream was closed on purpose, and is opened again at once."""
        self._open, self._next_try = False, now

    def _back_off(self) -> None:
        self._retry = min(max(2 * self._retry, self._limits.retry_first), self._limits.retry_longest)

    def _give_up(self, now: float) -> None:
        there = self._ever_heard or (self._limits.keep_open and self._open is True)
        limit = self._limits.recover_timeout if there else self._limits.connect_timeout
        in_trouble = self.state in (State.CONNECTING, State.STALLED, State.RECOVERING) and self.reason
        if in_trouble and now - self._heard_until >= limit:
            self._enter(State.FAILED, self.reason)

    def _trouble(self, state: State, reason: str) -> None:
        """The same reason is reported once in an outage, however often it returns."""
        if state is self.state and reason in self._told:
            self.reason = reason
        else:
            self._enter(state, reason)
            self._told.add(reason)

    def _enter(self, state: State, reason: str) -> None:
        self.state, self.reason = state, reason
        if state in (State.LISTENING, State.SILENT):
            self._told.clear()
        self._news.append(Event(STATE, state=state, reason=reason))
