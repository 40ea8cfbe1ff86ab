"""`edge-detect coverage`: what a ledger says of a time, for people and for programs."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import re
import time
from collections.abc import Iterator

from edge_runtime.errors import InputError, UsageError
from edge_runtime.report.coverage.text import Part, as_text, local_time
from edge_runtime.report.jsonl import to_json, utc
from edge_runtime.report.ledger.read import read
from edge_runtime.report.ledger.totals import Coverage, Total
from edge_runtime.report.output import Output

__all__ = ["Coverage", "Total", "moment", "read", "show"]

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_FORMS = ("%Y-%m-%d", "%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S")
_TIMES = ("%H:%M", "%H:%M:%S")
_LATEST = 253_370_000_000.0  # late in the year 9998, so that no time zone leads beyond what `datetime` has
_MOST_PARTS = 100_000
"""Minutes of 69 days, of which a ledger has 31."""


def show(ledger: str, since: str, until: str | None, per: str | None, json: bool, output: Output) -> int:
    """Writes what the ledger has from `since` to `until` (None: now), each as `moment` takes it; gives exit code 0.

    With `per` (minute, hour or day) a line for each as well. Raises UsageError for times that are none, or for too
    many lines, InputError for a ledger that cannot be read, OutputError or ReaderGone. Of a ledger with damaged rows
    it writes what the others say, and raises InputError then.
    """
    now = time.time()
    begin = moment(since, now)
    end = now if until is None else moment(until, now)
    if end <= begin:
        raise UsageError(f"the time to look at ends before it begins: {local_time(begin)} to {local_time(end)}")
    covered = read(ledger, begin, end)
    parts = [(first, last, covered.between(first, last)) for first, last in _parts(covered, per)]
    output.write(_as_json(covered, parts) if json else as_text(covered, parts, per))
    if covered.damaged:
        rows = "1 row is" if covered.damaged == 1 else f"{covered.damaged} rows are"
        raise InputError(f"the ledger {ledger} is damaged: {rows} left out of what was shown")
    return 0


def moment(text: str, now: float) -> float:
    """Seconds since 1970 of a time as people write it: so long before `now`, or a local date, or a local time alone,
    which is the last one that is not after `now`. Raises UsageError."""
    text = text.strip()
    ago = re.fullmatch(r"(\d{1,12}(?:\.\d{1,6})?)([smhd])", text, re.ASCII)
    if text == "now":
        return now
    if ago:
        return max(0.0, now - float(ago[1]) * _UNITS[ago[2]])
    for form in _FORMS:
        try:
            moment = datetime.datetime.strptime(text.replace("T", " "), form).timestamp()
            return min(max(0.0, moment), _LATEST)
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
    """Begin and end of each minute, hour or day, by the local clock, from where the ledger begins. Raises UsageError
    for more than anybody reads, as of a ledger that begins in 1970."""
    if per is None or covered.begins is None:
        return
    at = max(covered.since, min(covered.begins, covered.until))
    count = (covered.until - at) / _UNITS[per[0]]
    if count > _MOST_PARTS:
        shorter = (
            "a shorter time" if per == "day" else f"a shorter time, or --per {'hour' if per == 'minute' else 'day'}"
        )
        raise UsageError(f"{count:.0f} lines, one for each {per}, are too many: ask for {shorter}")
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
        "events_left_out": dict(covered.left_out),
        "events_forgotten": dict(covered.forgotten),
        "damaged_rows": covered.damaged,
        "per": [{"begin": utc(begin), "end": utc(end), **dataclasses.asdict(total)} for begin, end, total in parts],
    }
    return to_json(line) + "\n"
