"""One JSON object a line, each written as soon as it is known."""

from __future__ import annotations

import datetime
import json
import math
from collections.abc import Callable, Mapping
from typing import Any

from edge_runtime.capture.block import STATE, UNREAD, Event, Losses
from edge_runtime.decision.alarm import Alarm
from edge_runtime.decision.pace import Pace
from edge_runtime.decision.summary import Stretch, Summary
from edge_runtime.decision.verdict import Window
from edge_runtime.report import Report
from edge_runtime.report.output import Output
from edge_runtime.system.queued import Rank
from edge_runtime.system.text import without_surrogates


class JsonLines(Report):
    """Lines of `type` window, event, alarm and, last of each input, summary. Seconds count from its start."""

    def __init__(self, output: Output, about: Mapping[str, Any], wall: Callable[[], float] | None = None) -> None:
        """`about` is added to every line (the `file`, when there are several).

        With `wall`, seconds since 1970, every line has the `time` at which it was written, in UTC.
        """
        self._output = output
        self._about = dict(about)
        self._wall = wall
        self._at = 0.0
        self._lost_before = output.lost or 0
        output.gap = self._gap

    def level(self, at_seconds: float, level_dbfs: float, peak_dbfs: float) -> None:
        """No line; but so far the sound has come."""
        self._at = at_seconds

    def window(self, window: Window) -> None:
        """A line `window`."""
        line = {
            "type": "window",
            **self._about,
            "start": window.start,
            "end": window.end,
            "score": window.score,
            "verdict": str(window.verdict),
            "level_dbfs": window.level_dbfs,
            "peak_dbfs": window.peak_dbfs,
            "clipped": window.clipped,
            "invalid": window.invalid,
        }
        if window.speech is not None:
            line["speech"] = window.speech
        if window.reason:
            line["reason"] = str(window.reason)
        self._line(line, Rank.WINDOW)

    def event(self, at_seconds: float, event: Event) -> None:
        """A line `event`."""
        self._line(self._event(at_seconds, event), Rank.EVENT)

    def _event(self, at_seconds: float, event: Event) -> dict[str, Any]:
        line = {"type": "event", **self._about, "event": event.kind, "at": at_seconds}
        if event.count:
            line["count"] = event.count
        elif event.kind == STATE:
            line["state"] = event.state
        elif event.seconds:
            line["seconds"] = event.seconds
        if event.reason:
            line["reason"] = event.reason
        return line

    def alarm(self, alarm: Alarm) -> None:
        """A line `alarm`."""
        self._line(alarm_line(alarm, self._about))

    def summary(self, summary: Summary, losses: Losses, pace: Pace, error: str | None) -> None:
        """A line `summary`."""
        line = {
            "type": "summary",
            **self._about,
            "verdict": None if summary.verdict is None else str(summary.verdict),
            "score": summary.score,
            "seconds": summary.seconds,
            "windows": {str(verdict): count for verdict, count in summary.windows.items()},
            "alarms": summary.alarms,
            "stretches": [_stretch(stretch) for stretch in summary.stretches],
            "stretch_count": summary.stretch_count,
            "overflows": losses.overflows,
            "dropped_seconds": losses.dropped_seconds,
            "lost_seconds": losses.lost_seconds,
            "hop_seconds": pace.hop_seconds,
            "hop_changes": pace.hop_changes,
            "widest_hop_seconds": pace.widest_hop_seconds,
            "coarse_seconds": pace.coarse_seconds,
        }
        if self._output.lost is not None:
            line["unread_lines"] = self._output.lost - self._lost_before
        if error:
            line["error"] = error
        self._line(line)

    def _gap(self, count: int) -> str:
        """The line in the place of those that nobody read in time."""
        return self._text(self._event(self._at, Event(UNREAD, count=count)))

    def _line(self, line: Mapping[str, Any], rank: Rank = Rank.LASTING) -> None:
        self._output.write(self._text(line), rank)

    def _text(self, line: Mapping[str, Any]) -> str:
        stamped = dict(line) if self._wall is None else {**line, "time": utc(self._wall())}
        return to_json(stamped) + "\n"


def _stretch(stretch: Stretch) -> dict[str, Any]:
    line = {"start": stretch.start, "end": stretch.end, "score": stretch.score}
    return line | {"alarm": stretch.alarm} if stretch.alarm else line


def alarm_line(alarm: Alarm, about: Mapping[str, Any]) -> dict[str, Any]:
    """An alarm as programs read it, with `about` in it."""
    line = {
        "type": "alarm",
        **about,
        "alarm": alarm.kind,
        "number": alarm.number,
        "start": alarm.start,
        "at": alarm.at,
        "score": alarm.score,
    }
    return line | {"reason": alarm.reason} if alarm.reason else line


def utc(seconds: float) -> str:
    """Seconds since 1970 as ISO 8601 in UTC, to the millisecond."""
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def to_json(line: Mapping[str, Any]) -> str:
    """One line of strict JSON: numbers rounded to what they are worth, those that are none become null.

    Text that UTF-8 cannot hold is escaped.
    """
    return json.dumps(_plain(line), allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, str):
        return without_surrogates(value)
    if isinstance(value, float):
        return round(float(value), 4) if math.isfinite(value) else None
    return value
