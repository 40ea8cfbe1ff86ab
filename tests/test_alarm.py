"""When windows become an alarm, and when it ends."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.decision.alarm import BREAK, NO_SPEECH, OFF, ON, SCORES, Alarm, Alarms, Rules
from edge_runtime.decision.verdict import Reason, Verdict, Window
from edge_runtime.errors import UsageError

HOP = 0.5
PLAIN = Rules(on=-1.0, off=1.0, smoothing_seconds=0, duration_seconds=2, hold_seconds=3, refractory_seconds=10)


def window(index: int, score: float | None, reason: Reason = Reason.NONE) -> Window:
    start = index * HOP
    return Window(start, start + 4.0, score, Verdict.UNSURE, -20.0, -10.0, 0.0, 0, reason)


def alarms(rules: Rules, scores: Sequence[float | None]) -> list[Alarm]:
    deciding = Alarms(rules)
    found = [alarm for index, score in enumerate(scores) for alarm in deciding.add(window(index, score))]
    return found + deciding.end(len(scores) * HOP + 4.0)


def test_a_lasting_spoof_raises_one_alarm_which_ends_after_the_hold() -> None:
    on, off = alarms(PLAIN, [5.0] * 10 + [-5.0] * 10 + [5.0] * 20)
    assert (on.kind, off.kind, on.number, off.number) == (ON, OFF, 1, 1)
    assert on.start == 10 * HOP, "it begins with the first window that led to it"
    assert on.at == (10 * HOP + 4.0) + 2.0 and on.score == -5.0
    assert off.at == (19 * HOP + 4.0) + 3.0 and off.start == on.start
    assert (on.reason, off.reason) == ("", SCORES)


def test_what_is_too_short_or_between_the_thresholds_raises_none() -> None:
    assert not alarms(PLAIN, [5.0] * 10 + [-5.0] * 4 + [5.0] * 10)
    assert not alarms(PLAIN, [0.0] * 100)


def test_between_the_thresholds_an_alarm_goes_on() -> None:
    on, off = alarms(PLAIN, [-5.0] * 10 + [0.0] * 50)
    assert on.at < off.at == 60 * HOP + 4.0, "it lasts to the end of the sound"
    assert off.reason == BREAK


def test_an_alarm_ends_when_nobody_speaks_any_more() -> None:
    on, off = alarms(PLAIN, [-5.0] * 10 + [None] * 50)
    assert on.at < off.at <= (9 * HOP + 4.0) + 3.0 + 2 * HOP
    assert off.reason == NO_SPEECH


def test_unfit_sound_neither_raises_nor_ends_an_alarm() -> None:
    deciding = Alarms(PLAIN)
    assert not [
        deciding.add(window(index, -9.0, Reason.CLIPPED))
        for index in range(20)
        if deciding.add(window(index, -9.0, Reason.CLIPPED))
    ]


def test_smoothing_needs_more_than_one_bad_window() -> None:
    smooth = Rules(on=-1.0, off=1.0, smoothing_seconds=5)
    assert not alarms(smooth, [4.0] * 20 + [-6.0] + [4.0] * 20)
    assert [alarm.kind for alarm in alarms(smooth, [4.0] * 20 + [-6.0] * 20)] == [ON, OFF]


@pytest.mark.parametrize(
    "wrong",
    [
        {"on": math.nan, "off": 0.0},
        {"on": 1.0, "off": 0.0},
        {"on": 0.0, "off": 0.0, "smoothing_seconds": -1.0},
        {"on": 0.0, "off": 0.0, "hold_seconds": math.inf},
    ],
)
def test_rules_that_cannot_be_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        Rules(**wrong)


times = st.sampled_from([0.0, 0.5, 1.0, 4.0, 10.0])
rules = st.builds(
    Rules,
    on=st.sampled_from([-2.0, -1.0, 0.0]),
    off=st.sampled_from([0.0, 1.0]),
    smoothing_seconds=times,
    duration_seconds=times,
    hold_seconds=times,
    refractory_seconds=times,
)
scores = st.lists(st.one_of(st.none(), st.floats(-10, 10)), max_size=150)


@given(rules=rules, scores=scores)
def test_alarms_alternate_and_keep_their_times(rules: Rules, scores: list[float | None]) -> None:
    found = alarms(rules, scores)
    assert [alarm.kind for alarm in found] == [ON, OFF] * (len(found) // 2)
    assert [alarm.number for alarm in found[::2]] == list(range(1, len(found) // 2 + 1))
    for on, off in zip(found[::2], found[1::2], strict=True):
        assert on.number == off.number and on.start == off.start < on.at <= off.at
        assert on.score < rules.on and on.at - (on.start + 4.0) >= rules.duration_seconds
    for off, on in zip(found[1::2], found[2::2], strict=False):
        assert on.at - off.at >= rules.refractory_seconds


@given(rules=rules, scores=st.lists(st.floats(0, 10), max_size=100))
def test_human_scores_never_raise_an_alarm(rules: Rules, scores: list[float | None]) -> None:
    assert not alarms(rules, scores)


def test_the_hold_counts_from_the_last_low_score_also_when_nobody_speaks_then() -> None:
    on, off = alarms(PLAIN, [-5.0] * 10 + [5.0] * 4 + [None] * 20)
    assert off.at == on.at + (9 * HOP + 4.0 - on.at) + 3.0


def test_the_next_run_goes_on_with_numbers_and_rest() -> None:
    first = Alarms(PLAIN)
    for index in range(10):
        first.add(window(index, -5.0))
    first.end(9.0)
    following = first.carried_on(PLAIN, 9.0)
    found = [alarm for index in range(60) for alarm in following.add(window(index, -5.0))]
    assert [(alarm.kind, alarm.number) for alarm in found] == [(ON, 2)] and found[0].at >= 10.0
