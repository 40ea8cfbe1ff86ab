"""What a ledger says of a time, in words: no sentence may sound better than it was."""

from __future__ import annotations

import datetime
import math

from edge_runtime.report.ledger.backlog import listed
from edge_runtime.report.ledger.totals import Coverage, Total
from edge_runtime.system.text import printable

_LISTED = 50
"""Gaps and alarms that people are shown; programs get them all."""
_LATEST = 253_402_300_000.0  # the end of the year 9999
_NAMES = {
    "heard": "heard",
    "lost": "lost",
    "not_running": "not running",
    "unaccounted": "unaccounted for",
    "silent": "silent",
    "clipped": "clipped",
    "speech": "speech",
    "judged": "judged",
    "unjudged": "not judged",
    "unsorted": "judged or not",
    "spoof": "in an alarm",
}
_PER = ("heard", "lost", "not_running", "judged", "unjudged")

Part = tuple[float, float, Total]
"""Begin, end and sums of a part of the time."""


def as_text(covered: Coverage, parts: list[Part], per: str | None) -> str:
    """The page; `parts` are a `per` each."""
    total = covered.total
    widened = ", to the minute" if covered.longest <= 120 else ", to the hour"
    time = f"{local_time(covered.since)} to {local_time(covered.until)}, {length(total.asked)}"
    lines = [time + (widened if covered.widened else "")]
    if covered.begins is not None and covered.begins > covered.since:
        lines.append(f"The ledger begins at {local_time(covered.begins)}; the time before counts as not running.")
    lines.append("")
    for key, name in _NAMES.items():
        seconds = getattr(total, key)
        # The clocks of the sound card and of the machine are not quite the same.
        if key == "unaccounted" and (abs(seconds) < 1 or abs(seconds) < 0.005 * total.elapsed):
            seconds = 0.0
        if key != "unsorted" or seconds:
            lines.append(f"{name:<16}{length(seconds):>16}{_percent(seconds, total.asked):>10}")
    if total.unwritten >= 1:
        last = f"The last {length(total.unwritten)} may not be in the ledger yet (it is written once a minute)"
        lines.append(f"{last}, or are lost where the program was killed.")
    if parts:
        lines += ["", *_table(parts, per or "", (*_PER, *(["unsorted"] if total.unsorted else [])))]
    if covered.gaps:
        lines += ["", f"Nothing heard for more than 10 s: {_times(len(covered.gaps))}"]
        for gap in covered.gaps[-_LISTED:]:
            reason = f": {printable(gap.reason)}" if gap.reason else ""
            between = f"{local_time(gap.begin)} to {local_time(gap.end)}"
            lines.append(f"  {between}  {length(gap.seconds):>14}  {gap.kind}{reason}")
    if covered.alarms:
        lines += ["", f"Alarms: {len(covered.alarms)}"]
        for alarm in covered.alarms[-_LISTED:]:
            until = "no end noted" if alarm.end is None else f"to {local_time(alarm.end)}"
            lines.append(f"  {local_time(alarm.begin)} {until}  {printable(alarm.text)}")
    return "\n".join([*lines, *_missing(covered), "", _verdict(covered), ""])


def _table(parts: list[Part], per: str, keys: tuple[str, ...]) -> list[str]:
    lines = [f"{per:<22}" + "".join(f"{_NAMES[key]:>14}" for key in keys) + f"{'alarms':>8}"]
    for begin, _, part in parts:
        cells = "".join(f"{length(getattr(part, key)):>14}" for key in keys)
        lines.append(f"{local_time(begin):<22}{cells}{part.alarms:>8}")
    return lines


def _missing(covered: Coverage) -> list[str]:
    """What the ledger knows that it does not have."""
    lines = []
    if covered.total.unsorted:
        lines.append(
            f"Of {length(covered.total.unsorted)}, written by an older version, it is not known whether they could be "
            "judged: it counted noisy and clipped sound as scored."
        )
    if covered.left_out:
        what = _events(covered.left_out.total(), printable(listed(covered.left_out)))
        lines.append(f"{what} of this time had to be left out while the ledger could not be written.")
    if covered.forgotten and covered.forgotten_until is not None:
        what = _events(covered.forgotten.total(), printable(listed(covered.forgotten)))
        lines.append(f"{what} until {local_time(covered.forgotten_until)} are no longer kept.")
    if covered.damaged:
        lines.append(f"Damaged rows, which count nowhere: {covered.damaged}.")
    return ["", *lines] if lines else []


def _verdict(covered: Coverage) -> str:
    """The sentences at the end."""
    total = covered.total
    words = _found(total)
    if covered.damaged:
        words += " Damaged rows are left out, so there may have been more."
    return f"{words} This holds up to {local_time(covered.until - total.unwritten)}." if total.unwritten > 0 else words


def _found(total: Total) -> str:
    heard, asked, alarms = total.heard, total.asked, total.alarms
    if heard <= 0:
        words = "Nothing was heard in this time, so it cannot be said whether there was a synthetic voice."
        return f"{words} {_alarm_count(alarms)} in the ledger." if alarms else words
    share = f"{_percent(heard, asked)} of the time asked for"
    listened = f"{length(heard)} of listening, "
    listened += f"which is only {share}: of the rest nothing can be said." if heard < 0.5 * asked else f"{share}."
    judged = total.judged + total.unsorted
    could = f"{length(judged)} that were judged"
    if total.unsorted > 0:
        could = f"{length(judged)} that were scored (not all of them may have been fit to be judged)"
    if alarms:
        sentence = f"{_alarm_count(alarms)} in {could}, in {listened}"
    elif total.spoof > 0:
        sentence = f"No alarm began, but {length(total.spoof)} of an alarm lie in {listened}"
    elif judged > 0:
        sentence = f"No alarm in {could}, in {listened}"
    elif total.unjudged > 0:
        sentence = f"It cannot be said whether there was a synthetic voice: nothing could be judged in {listened}"
    else:
        sentence = f"No alarm, and nothing to judge, in {listened}"
    if total.unjudged >= 1 and total.unjudged > 0.01 * judged:
        more = " more" if judged else ""
        sentence += f" {length(total.unjudged)}{more} could not be judged (noise, clipping or damaged samples)"
        sentence += ", and no alarm was possible in them."
    if total.silent > 0.5 * heard:
        sentence += f" {length(total.silent)} of it were silent: is the microphone in order?"
    return sentence


def _alarm_count(alarms: int) -> str:
    return "No alarm" if not alarms else "1 alarm" if alarms == 1 else f"{alarms} alarms"


def _events(count: int, kinds: str) -> str:
    return f"{count} event{'' if count == 1 else 's'} ({kinds})"


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _percent(part: float, whole: float) -> str:
    """Towards nothing to the tenth: 99.99 % is not all."""
    return f"{math.trunc(1000 * min(part / whole, 1) + 1e-6) / 10:.1f} %"


def length(seconds: float) -> str:
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


def local_time(wall: float) -> str:
    """Date and time of day by the local clock."""
    return datetime.datetime.fromtimestamp(min(wall, _LATEST)).strftime("%Y-%m-%d %H:%M:%S")
