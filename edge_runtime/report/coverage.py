"""`edge-detect coverage`: what a ledger says of a time, for people and for programs."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import math
import re
import time
from collections.abc import Iterator

from edge_runtime.errors import UsageError
from edge_runtime.report.covered import Coverage, Total, read
from edge_runtime.report.jsonl import to_json, utc
from edge_runtime.report.output import Output, printable

__all__ = ["Coverage", "Total", "moment", "read", "show"]

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_FORMS = ("%Y-%m-%d", "%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S")
_TIMES = ("%H:%M", "%H:%M:%S")
_LISTED = 50
"""Gaps and alarms that people are shown; programs get them all."""
_LATEST = 253_402_300_000.0  # the end of the year 9999


def show(ledger: str, since: str, until: str | None, per: str | None, json: bool, output: Output) -> int:
    """Writes what the ledger has from `since` to `until` (None: now), each as `moment` takes it; gives exit code 0.

    With `per` (minute, hour or day) a line for each as well. Raises UsageError for times that are none, InputError
    for a ledger that cannot be read, OutputError or ReaderGone.
    """
    now = time.time()
    begin = moment(since, now)
    end = now if until is None else moment(until, now)
    if end <= begin:
        raise UsageError(f"the time to look at ends before it begins: {_local(begin)} to {_local(end)}")
    covered = read(ledger, begin, end)
    parts = [(first, last, covered.between(first, last)) for first, last in _parts(covered, per)]
    output.write(_as_json(covered, parts) if json else _as_text(covered, parts, per))
    return 0


def moment(text: str, now: float) -> float:
    """Seconds since 1970 of a time as people write it: so long before `now`, or a local date, or a local time alone,
    which is the last one that is not after `now`. Raises UsageError."""
    text = text.strip()
    ago = re.fullmatch(r"(\d{1,12}(?:\.\d{1,6})?)([smhd])", text)
    if text == "now":
        return now
    if ago:
        return max(0.0, now - float(ago[1]) * _UNITS[ago[2]])
    for form in _FORMS:
        try:
            return max(0.0, datetime.datetime.strptime(text.replace("T", " "), form).timestamp())
        except (ValueError, OverflowError, OSError):
            continue
    for form in _TIMES:
        with contextlib.suppress(ValueError, OverflowError, OSError):
            time_of_day = datetime.datetime.strptime(text, form).time()
            today = datetime.datetime.combine(datetime.datetime.fromtimestamp(now), time_of_day)
            last = today if today.timestamp() <= now else today - datetime.timedelta(days=1)
            return max(0.0, last.timestamp())
    raise UsageError(
        f"{text!r} is no time: write 24h, 7d, 90m, 30s, 10:00, 2026-11-24, '2026-11-24 10:00', "
        "'2026-11-24 10:00:30' or now"
    )


def _parts(covered: Coverage, per: str | None) -> Iterator[tuple[float, float]]:
    """Begin and end of each minute, hour or day, by the local clock, from where the ledger begins."""
    if per is None or covered.begins is None:
        return
    at = max(covered.since, min(covered.begins, covered.until))
    while at < covered.until:
        local = datetime.datetime.fromtimestamp(at)
        if per == "day":
            following = datetime.datetime(local.year, local.month, local.day) + datetime.timedelta(days=1)
            end = following.timestamp()
        else:
            # Not by the local hours, of which one may come twice; offsets from UTC are whole quarters of an hour.
            length = 3600 if per == "hour" else 60
            offset = round((local.astimezone().utcoffset() or datetime.timedelta()).total_seconds())
            end = ((at + offset) // length + 1) * length - offset
        end = min(end if end > at else at + 60, covered.until)
        yield at, end
        at = end


Part = tuple[float, float, Total]


def _as_json(covered: Coverage, parts: list[Part]) -> str:
    line = {
        "type": "coverage",
        "since": utc(covered.since),
        "until": utc(covered.until),
        "ledger_begins": None if covered.begins is None else utc(covered.begins),
        "total": dataclasses.asdict(covered.total),
        "gaps": [
            {
                "kind": gap.kind.replace(" ", "-"),
                "begin": utc(gap.begin),
                "end": utc(gap.end),
                "seconds": gap.seconds,
                "reason": gap.reason,
            }
            for gap in covered.gaps
        ],
        "alarms": [
            {"begin": utc(alarm.begin), "end": None if alarm.end is None else utc(alarm.end), "text": alarm.text}
            for alarm in covered.alarms
        ],
        "per": [{"begin": utc(begin), "end": utc(end), **dataclasses.asdict(total)} for begin, end, total in parts],
    }
    return to_json(line) + "\n"


def _as_text(covered: Coverage, parts: list[Part], per: str | None) -> str:
    total = covered.total
    asked = total.asked
    widened = ", to the minute" if covered.longest <= 120 else ", to the hour"
    lines = [
        f"{_local(covered.since)} to {_local(covered.until)}, {_length(asked)}{widened if covered.widened else ''}"
    ]
    if covered.begins is not None and covered.begins > covered.since:
        lines.append(f"The ledger begins at {_local(covered.begins)}; the time before counts as not running.")
    lines.append("")
    rows = [("heard", "heard"), ("lost", "lost"), ("not running", "not_running"), ("unaccounted for", "unaccounted")]
    rows += [("silent", "silent"), ("clipped", "clipped"), ("speech", "speech"), ("scored", "scored")]
    rows += [("in an alarm", "spoof")]
    for name, key in rows:
        seconds = getattr(total, key)
        # The clocks of the sound card and of the machine are not quite the same.
        if key == "unaccounted" and (abs(seconds) < 1 or abs(seconds) < 0.005 * total.elapsed):
            seconds = 0.0
        lines.append(f"{name:<16}{_length(seconds):>16}{_percent(seconds, asked):>10}")
    if total.unwritten >= 1:
        last = f"The last {_length(total.unwritten)} may not be in the ledger yet (it is written once a minute)"
        lines.append(f"{last}, or are lost where the program was killed.")
    if parts:
        lines += ["", f"{per or '':<22}{'heard':>14}{'lost':>14}{'not running':>14}{'scored':>14}{'alarms':>8}"]
        for begin, _, part in parts:
            cells = "".join(f"{_length(getattr(part, key)):>14}" for key in ("heard", "lost", "not_running", "scored"))
            lines.append(f"{_local(begin):<22}{cells}{part.alarms:>8}")
    if covered.gaps:
        lines += ["", f"Nothing heard for more than 10 s: {_times(len(covered.gaps))}"]
        for gap in covered.gaps[-_LISTED:]:
            reason = f": {printable(gap.reason)}" if gap.reason else ""
            lines.append(f"  {_local(gap.begin)} to {_local(gap.end)}  {_length(gap.seconds):>14}  {gap.kind}{reason}")
    if covered.alarms:
        lines += ["", f"Alarms: {len(covered.alarms)}"]
        for alarm in covered.alarms[-_LISTED:]:
            until = "no end noted" if alarm.end is None else f"to {_local(alarm.end)}"
            lines.append(f"  {_local(alarm.begin)} {until}  {printable(alarm.text)}")
    return "\n".join([*lines, "", _verdict(covered), ""])


def _verdict(covered: Coverage) -> str:
    """The sentences at the end, which must not sound better than it was."""
    total = covered.total
    words = _found(total)
    return f"{words} This holds up to {_local(covered.until - total.unwritten)}." if total.unwritten > 0 else words


def _found(total: Total) -> str:
    heard, asked, alarms = total.heard, total.asked, total.alarms
    if heard <= 0:
        words = "Nothing was heard in this time, so it cannot be said whether there was a synthetic voice."
        return f"{words} {_alarm_count(alarms)} in the ledger." if alarms else words
    sentence = f"{_alarm_count(alarms)} in {_length(heard)} of listening"
    if not alarms and total.spoof > 0:
        sentence = f"No alarm began, but {_length(total.spoof)} of an alarm lie in {_length(heard)} of listening"
    share = f"{_percent(heard, asked)} of the time asked for"
    if heard < 0.5 * asked:
        sentence += f", which is only {share}: of the rest nothing can be said."
    else:
        sentence += f", {share}."
    if total.silent > 0.5 * heard:
        sentence += f" {_length(total.silent)} of it were silent: is the microphone in order?"
    if total.scored < 0.1 * heard:
        sentence += f" Only {_length(total.scored)} were scored; the rest was without speech or could not be judged."
    return sentence


def _alarm_count(alarms: int) -> str:
    return "No alarm" if not alarms else "1 alarm" if alarms == 1 else f"{alarms} alarms"


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _percent(part: float, whole: float) -> str:
    """Towards nothing to the tenth: 99.99 % is not all."""
    return f"{math.trunc(1000 * min(part / whole, 1) + 1e-6) / 10:.1f} %"


def _length(seconds: float) -> str:
    """The two largest units that there are: 23 h 58 min."""
    if abs(seconds) < 60:
        return f"{round(seconds, 1) + 0.0:.1f} s"  # no -0.0
    whole = round(abs(seconds))
    sign = "-" if seconds < 0 else ""
    if whole < 3600:
        return f"{sign}{whole // 60} min {whole % 60} s"
    if whole < 2 * 86_400:
        return f"{sign}{whole // 3600} h {whole % 3600 // 60} min"
    return f"{sign}{whole // 86_400} d {whole % 86_400 // 3600} h"


def _local(wall: float) -> str:
    return datetime.datetime.fromtimestamp(min(wall, _LATEST)).strftime("%Y-%m-%d %H:%M:%S")
