"""What becomes of the time of one run, second by second: the rows and events of its ledger."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from edge_runtime.capture.block import CLOCK, DROPPED, HOP, LOST, OVERFLOW, STATE, Event
from edge_runtime.decision.alarm import ON, Alarm
from edge_runtime.decision.verdict import Reason, Verdict, Window
from edge_runtime.report import Report
from edge_runtime.report.ledger.backlog import ALARM_OFF, ALARM_ON, Minute
from edge_runtime.report.ledger.writer import Ledger

_JUMP_SECONDS = 2.0
_OF_HEARD = ("silent", "clipped", "speech", "scored", "judged", "unjudged", "spoof")
_NOTHING_TO_JUDGE = (Verdict.SILENT, Verdict.NO_SPEECH)


class LedgerReport(Report):
    """Counts what becomes of the time of one run, for its ledger."""

    def __init__(self, ledger: Ledger, tell: Callable[[float, Event], object], began_seconds_ago: float = 0.0) -> None:
        """`tell` is called with the seconds of sound and an event CLOCK when the wall clock has jumped.

        The time that is accounted for began `began_seconds_ago`: what the microphone did until now is still to come.
        """
        self._ledger = ledger
        self._tell = tell
        self._heard_until = self._judged_until = 0.0  # seconds of sound
        self._alarmed = False
        self._losses: dict[str, tuple[float, int]] = {}  # kind: seconds and count, of the row
        self._committed = self._until = ledger.clock() - began_seconds_ago
        wall = ledger.wall() - began_seconds_ago
        self._minute = Minute(wall, wall)
        self._asleep = ledger.asleep()

    def sound(self, at_seconds: float, samples: NDArray[np.float32]) -> None:
        """Counts as heard."""
        seconds = max(0.0, at_seconds - self._heard_until)
        self._heard_until = at_seconds
        self._minute.heard += seconds
        self._minute.spoof += seconds if self._alarmed else 0.0

    def window(self, window: Window) -> None:
        """Only what no window before it has covered counts."""
        seconds = max(0.0, window.end - max(self._judged_until, window.start))
        self._judged_until = max(self._judged_until, window.end)
        minute = self._minute
        minute.scored += seconds if window.score is not None else 0.0
        # The same question as the alarm's: what it passes over cannot raise one.
        if window.score is not None and not window.reason:
            minute.judged += seconds
        elif window.verdict not in _NOTHING_TO_JUDGE:
            minute.unjudged += seconds
        minute.silent += seconds if window.verdict is Verdict.SILENT else 0.0
        minute.clipped += seconds if window.reason is Reason.CLIPPED else 0.0
        minute.speech += seconds * (window.speech or 0.0)

    def event(self, at_seconds: float, event: Event) -> None:
        """Losses are counted, and noted once a minute, for they may come in storms; others are noted as they come."""
        if event.kind in (LOST, DROPPED):
            self._minute.lost += event.seconds
        if event.kind in (LOST, DROPPED, OVERFLOW):
            seconds, count = self._losses.get(event.kind, (0.0, 0))
            self._losses[event.kind] = (seconds + event.seconds, count + max(event.count, 1))
        elif event.kind != HOP:
            text = ": ".join(part for part in (event.state if event.kind == STATE else "", event.reason) if part)
            self._ledger.note(self._ledger.wall(), event.kind, event.seconds, text)

    def alarm(self, alarm: Alarm) -> None:
        """Noted with the time at which its sound was heard, and on the disk at once, with all that was counted."""
        self._alarmed = alarm.kind == ON
        self._minute.alarms += alarm.kind == ON
        heard = alarm.start if alarm.kind == ON else alarm.at
        wall = self._ledger.wall() - max(0.0, self._heard_until - heard)
        kind = ALARM_ON if alarm.kind == ON else ALARM_OFF
        self._ledger.note(wall, kind, alarm.at - alarm.start, f"alarm {alarm.number}, score {alarm.score:+.2f}")
        self._pass(cut=True)

    def moment(self, absent_seconds: float) -> None:
        """Lets the time pass."""
        self._minute.lost += absent_seconds
        self._pass()

    def close(self) -> None:
        """Writes all that was counted."""
        self._pass()
        self._finish(self._minute.until)
        self._ledger.close()

    def _pass(self, cut: bool = False) -> None:
        """Ends the row with the minute, where the clock jumps, and where it is to be `cut` and written."""
        wall, now = self._ledger.wall(), self._ledger.clock()
        self._minute.elapsed += now - self._until
        self._minute.until = self._minute.start + self._minute.elapsed
        self._until = now
        jump = wall - self._minute.until
        jumped = abs(jump) > _JUMP_SECONDS
        over = wall // 60 != self._minute.start // 60
        if not (jumped or over or cut):
            return
        self._finish(wall if jumped or over else self._minute.until)
        before, self._asleep = self._asleep, self._ledger.asleep()
        asleep = self._asleep - before
        event = Event(CLOCK, seconds=jump, reason=f"the machine slept for {asleep:.0f} s" if asleep > 1 else "")
        if jumped:
            ahead = "ahead" if jump > 0 else "back"
            text = event.reason or f"the clock was set {ahead} by {abs(jump):.1f} s"
            self._ledger.note(wall, CLOCK, jump, text)
        # A clock that jumps all the time makes many rows, but no more commits.
        if cut or not jumped or now - self._committed >= 60:
            self._committed = now
            self._ledger.commit()
        if jumped:
            self._tell(self._heard_until, event)

    def _finish(self, following: float) -> None:
        """Ends the row; the next starts at `following`."""
        row, self._minute = self._minute, Minute(following, following)
        for kind, (seconds, count) in self._losses.items():
            self._ledger.note(row.until, kind, seconds, f"{count} times")
        self._losses.clear()
        # A window is counted when it ends: what of it does not fit into this row goes to the next.
        for name in _OF_HEARD:
            rest = max(0.0, getattr(row, name) - row.heard)
            setattr(row, name, getattr(row, name) - rest)
            setattr(self._minute, name, rest)
        self._ledger.add(row)
