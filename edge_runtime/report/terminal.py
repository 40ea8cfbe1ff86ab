"""The view for people: a line that is drawn again with level, score and verdict, and above it what changed."""

from __future__ import annotations

import re
import textwrap
import time
from collections.abc import Callable

from edge_runtime.capture.block import CHANNELS, CLOCK, DROPPED, HOP, IDENTITY, OUTAGE, OVERFLOW, STATE, Event, Losses
from edge_runtime.capture.liveness import State
from edge_runtime.decision.alarm import ON, Alarm
from edge_runtime.decision.pace import SLOW, Pace
from edge_runtime.decision.summary import Summary, foremost
from edge_runtime.decision.verdict import Reason, Thresholds, Verdict, Window
from edge_runtime.report import Report
from edge_runtime.report.output import Output
from edge_runtime.system.queued import Rank
from edge_runtime.system.text import printable

_REDRAW_SECONDS = 0.1
_QUIETEST_DBFS = -60.0
_LABELS = {
    Verdict.BONAFIDE: "human",
    Verdict.SPOOF: "SYNTHETIC",
    Verdict.UNSURE: "unsure",
    Verdict.SILENT: "silent",
    Verdict.NO_SPEECH: "no speech",
}
_COLOURS = {Verdict.BONAFIDE: "32", Verdict.SPOOF: "1;31", Verdict.UNSURE: "33"}
_ENDS = {
    "scores": "the voice is human again",
    "no-speech": "nobody speaks any more",
    "break": "the sound broke off or the run ended",
}
_MOST_STRETCHES = 20
_SCALE_LLR = 6.0
"""The scale of scores goes from minus to plus so much; what lies beyond stands at its end."""
_SCALE_CELLS = 21
_NARROWEST = 20
"""Columns below which lines are not broken between words any more."""
_ESCAPES = re.compile(r"\x1b\[[0-9;]*m")


class Terminal(Report):
    """Text for people. With `live` one line is redrawn in place; without, only changes and the end appear."""

    def __init__(
        self,
        output: Output,
        title: str,
        *,
        live: bool,
        colour: bool,
        unicode: bool,
        columns: Callable[[], int],
        length_seconds: float | None = None,
        thresholds: Thresholds | None = None,
        wall: Callable[[], float] | None = None,
    ) -> None:
        """`columns` tells the terminal's width now; `length_seconds` of a file gives a figure of progress.

        `thresholds` are marked on the scale of scores; `wall`, seconds since 1970, puts the time of day before lines.
        """
        self._output = output
        self._live = live
        self._colour = colour
        self._full, self._empty, self._arrow = ("█", "░", "→") if unicode else ("#", ".", "->")
        self._dash, self._mark, self._dot = ("─", "┼", "●") if unicode else ("-", "|", "o")
        self._thresholds = thresholds
        self._wall = wall
        self._alarm = 0  # the number of the one that is on
        self._absent = 0.0  # seconds without a microphone, since it was there last
        self._columns = columns
        self._length = length_seconds
        self._window: Window | None = None
        self._state = ""  # of a microphone that does not listen
        self._at = 0.0
        self._level = self._peak = -120.0
        self._drawn = 0.0
        output.gap = lambda count: f"{self._wipe()}({count} lines were not shown in time)\n"
        self._output.write(printable(title) + "\n")

    def level(self, at_seconds: float, level_dbfs: float, peak_dbfs: float) -> None:
        """Moves the meter, ten times a second at most."""
        self._at = at_seconds
        self._level = level_dbfs
        self._peak = max(self._peak - 1.0, peak_dbfs)
        if self._live and time.monotonic() - self._drawn >= _REDRAW_SECONDS:
            self._draw()

    def window(self, window: Window) -> None:
        """Shows the verdict; a change of it stays in the history above."""
        before, self._window = self._window, window
        if before is None:
            self._history(f"{clock(window.end)}  {self._paint(window.verdict)}{_why(window)}{_score(window.score)}")
        elif before.verdict is not window.verdict:
            change = f"{_LABELS[before.verdict]} {self._arrow} {self._paint(window.verdict)}"
            self._history(f"{clock(window.end)}  {change}{_why(window)}{_score(window.score)}")
        elif self._live:
            self._draw()

    def event(self, at_seconds: float, event: Event) -> None:
        """Says what was lost, or how often is scored from now on, or what the microphone does."""
        if event.kind == OVERFLOW:
            text = f"the sound card lost input ({event.count} overflow{'s' if event.count > 1 else ''})"
        elif event.kind == DROPPED:
            text = f"the analysis is too slow: {event.seconds:.1f} s of sound skipped"
        elif event.kind == HOP:
            why = "the box is too slow for more" if event.reason == SLOW else "the box keeps up again"
            text = f"from now on a verdict every {event.seconds:.2g} s: {why}"
        elif event.kind == STATE:
            text = f"the source: {event.state}" + (f" ({event.reason})" if event.reason else "")
            listening = event.state == State.LISTENING
            if listening and self._state:
                self._window = None  # from before: it says nothing about what is heard now
            self._state = "" if listening else event.state
            self._absent = 0.0 if listening else self._absent
        elif event.kind == OUTAGE:
            text = f"{event.seconds:.1f} s without sound are over"
        elif event.kind in (IDENTITY, CHANNELS):
            text = event.reason
        elif event.kind == CLOCK:
            text = f"the clock of this machine was set by {event.seconds:+.1f} s"
        else:
            text = f"{event.seconds:.1f} s of sound never arrived"
        self._history(f"{clock(at_seconds)}  {printable(text)}")

    def alarm(self, alarm: Alarm) -> None:
        """Stays in the history, and on the live line while it lasts."""
        self._alarm = alarm.number if alarm.kind == ON else 0
        if alarm.kind == ON:
            text = self._paint(Verdict.SPOOF, f"ALARM {alarm.number}: a synthetic voice")
        else:
            why = _ENDS.get(alarm.reason)
            text = f"alarm {alarm.number} is over" + (f": {why}" if why else "")
        self._history(f"{clock(alarm.at)}  {text}{_score(alarm.score)}", Rank.LASTING)

    def moment(self, absent_seconds: float) -> None:
        """A clock runs while there is no microphone."""
        self._absent += absent_seconds
        if self._live and self._state and time.monotonic() - self._drawn >= _REDRAW_SECONDS:
            self._draw()

    def summary(self, summary: Summary, losses: Losses, pace: Pace, error: str | None) -> None:
        """The verdict on the whole, and when the sound was called synthetic."""
        if summary.verdict is None:
            # With an error its line on standard error says why.
            self._output.write(self._wipe() + ("" if error else "No verdict: nothing was heard.\n"))
            return
        counts = ", ".join(
            f"{summary.windows[verdict]} {label}" for verdict, label in _LABELS.items() if summary.windows.get(verdict)
        )
        mean = "" if summary.score is None else f" (mean score {summary.score:+.2f})"
        lines = [f"Verdict: {self._paint(summary.verdict)}{mean} in {summary.seconds:.1f} s of sound"]
        if summary.alarms:
            lines.append(f"Alarms: {summary.alarms}")
        if counts:
            lines.append(f"Windows: {counts}")
        if summary.stretches:
            lines.append("Called synthetic:")
            shown = foremost(summary.stretches, _MOST_STRETCHES)
            if summary.stretch_count > len(shown):
                lines.append(f"  ({summary.stretch_count - len(shown)} others)")
            lines += [
                f"  {clock(stretch.start)} to {clock(stretch.end)}  (score {stretch.score:+.2f})"
                + (f"  alarm {stretch.alarm}" if stretch.alarm else "")
                for stretch in shown
            ]
            lines += self._timeline(summary)
        if losses != Losses():
            lines.append(
                f"Lost: {losses.overflows} overflows, {losses.dropped_seconds:.1f} s skipped, "
                f"{losses.lost_seconds:.1f} s never arrived"
            )
        if pace.hop_changes:
            lines.append(
                f"Hop: changed {pace.hop_changes} times, at most {pace.widest_hop_seconds:.2g} s; "
                f"{pace.coarse_seconds:.1f} s of sound were scored less often than every {pace.hop_seconds:.2g} s"
            )
        if error:
            lines.append("The sound broke off before its end; this is what was heard until then.")
        self._output.write(self._wipe() + "\n".join(lines) + "\n")

    def _timeline(self, summary: Summary) -> list[str]:
        width = min(60, self._columns() - 4)
        if width < 10 or summary.seconds <= 0:
            return []
        cells = [self._empty] * width
        for stretch in summary.stretches:
            first = min(width - 1, int(stretch.start / summary.seconds * width))
            last = min(width, max(first + 1, round(stretch.end / summary.seconds * width)))
            cells[first:last] = self._full * (last - first)
        return ["  " + "".join(cells), "  0:00" + clock(summary.seconds).rjust(width - 4)]

    def _history(self, line: str, rank: Rank = Rank.EVENT) -> None:
        if self._wall:
            line = f"{time.strftime('%H:%M:%S', time.localtime(self._wall()))}  {line}"
        self._output.write(f"{self._wipe()}{self._broken(line)}\n", rank)
        if self._live:
            self._draw()

    def _broken(self, line: str) -> str:
        """A line broken between words where the terminal is narrower than it, and not through an escape sequence."""
        width = self._columns()
        plain = _ESCAPES.sub("", line)
        if not self._live or len(plain) <= width or width < _NARROWEST:
            return line
        return "\n".join(textwrap.wrap(plain, width, subsequent_indent="    ", break_on_hyphens=False))

    def _draw(self) -> None:
        """The live line: the parts that matter most come first into a narrow terminal."""
        width = self._columns() - 1
        if self._state:
            parts = [self._state.ljust(10), clock(self._at)]
            if self._absent:
                parts.append(f"for {clock(self._absent)}")
            self._redraw("  ".join(parts), width, self._state, Verdict.UNSURE)
            return
        verdict = self._window.verdict if self._window else None
        label = (_LABELS[verdict] if verdict else "listening").ljust(9)
        if self._alarm:
            label, verdict = "ALARM".ljust(9), Verdict.SPOOF
        place = clock(self._at)
        if self._length:
            place += f" {min(1.0, self._at / self._length):4.0%}"
        score = f"{self._window.score:+7.2f}" if self._window and self._window.score is not None else " " * 7
        dbfs = f"{max(self._level, -99):4.0f} dBFS"
        parts = [label]
        for part in (score, place, dbfs):
            if len("  ".join([*parts, part])) <= width:
                parts.append(part)
        score_seen = self._window.score if self._window else None
        if self._thresholds and score in parts and width - len("  ".join(parts)) >= _SCALE_CELLS + 2:
            parts.insert(2, self._scale(score_seen))
        room = min(30, width - len("  ".join(parts)) - 2)
        meter = "level " if room >= 16 else ""
        if room - len(meter) >= 5:
            parts.insert(-1 if dbfs in parts else len(parts), meter + self._meter(room - len(meter)))
        self._redraw("  ".join(parts), width, label, verdict)

    def _redraw(self, text: str, width: int, label: str, colour: Verdict | None) -> None:
        text = text[: max(0, width)]
        if colour and text.startswith(label):
            text = self._paint(colour, label) + text[len(label) :]
        self._output.write("\r" + text + "\x1b[K", Rank.FRAME)
        self._drawn = time.monotonic()

    def _scale(self, score: float | None) -> str:
        """Scores from synthetic (left) to human (right), both thresholds marked, and where the score is."""

        def place(value: float) -> int:
            share = (min(_SCALE_LLR, max(-_SCALE_LLR, value)) + _SCALE_LLR) / (2 * _SCALE_LLR)
            return round(share * (_SCALE_CELLS - 1))

        assert self._thresholds
        cells = [self._dash] * _SCALE_CELLS
        for threshold in (self._thresholds.spoof, self._thresholds.bonafide):
            cells[place(threshold)] = self._mark
        if score is not None:
            cells[place(score)] = self._dot
        return "".join(cells)

    def _meter(self, width: int) -> str:
        def cells(dbfs: float) -> int:
            return round(min(1.0, max(0.0, 1 - dbfs / _QUIETEST_DBFS)) * width)

        filled = cells(self._level)
        bar = list(self._full * filled + self._empty * (width - filled))
        peak = cells(self._peak)
        if peak > filled:
            bar[peak - 1] = "|"
        return "".join(bar)

    def _wipe(self) -> str:
        return "\r\x1b[K" if self._live else ""

    def _paint(self, verdict: Verdict, text: str | None = None) -> str:
        text = text or _LABELS[verdict]
        return f"\x1b[{_COLOURS.get(verdict, '2')}m{text}\x1b[0m" if self._colour else text


def clock(seconds: float) -> str:
    """12.3 -> 0:12.3, an hour and more -> 1:02:03."""
    tenths = round(seconds * 10)
    minutes, rest = divmod(tenths, 600)
    if minutes >= 60:
        return f"{minutes // 60}:{minutes % 60:02d}:{rest // 10:02d}"
    return f"{minutes}:{rest / 10:04.1f}"


def _why(window: Window) -> str:
    """What makes a window unsure whatever its score, such as `: noisy`."""
    objected = window.verdict is Verdict.UNSURE and window.reason is not Reason.NONE
    return f": {window.reason}" if objected else ""


def _score(score: float | None) -> str:
    return "" if score is None else f" (score {score:+.2f})"
