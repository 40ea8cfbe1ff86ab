"""The state machine of a live source, told times and facts."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.capture.block import OUTAGE, STATE
from edge_runtime.capture.liveness import Liveness, LivenessLimits, State

FOREVER = LivenessLimits(connect_timeout=math.inf)


def listening(limits: LivenessLimits, at: float = 0.0) -> Liveness:
    """A machine that has heard ten seconds of sound until `at` + 10."""
    machine = Liveness(limits, at)
    assert machine.due(at)
    machine.opening(at)
    machine.opened(at)
    for tenth in range(1, 101):
        machine.sound(at + tenth / 10, 0.1, flat=False)
    assert [event.state for event in machine.news()] == ["connecting", "listening"]
    return machine


def attempts(machine: Liveness, start: float, seconds: float, reason: str) -> list[float]:
    """When it is tried, while every attempt fails at once."""
    tried = []
    for step in range(int(seconds * 10)):
        now = start + step / 10
        machine.look(now)
        if machine.due(now):
            tried.append(round(now - start, 1))
            machine.opening(now)
            machine.closed(now, reason)
    return tried


def test_a_missing_microphone_fails_at_once_unless_it_may_be_waited_for() -> None:
    machine = Liveness(LivenessLimits(), 0)
    machine.opening(0)
    machine.closed(0.3, "not there")
    assert machine.state is State.FAILED and machine.reason == "not there"

    machine = Liveness(replace(FOREVER, connect_timeout=20), 0)
    attempts(machine, 0, 19.5, "not there")
    assert machine.state.value == "connecting"
    attempts(machine, 19.5, 2, "not there")
    assert machine.state is State.FAILED
    assert not machine.due(1000)


def test_what_waiting_does_not_mend_is_not_waited_for() -> None:
    machine = Liveness(FOREVER, 0)
    machine.opening(0)
    machine.closed(0, "no PyAudio", lasting=True)
    assert machine.state is State.FAILED


def test_attempts_come_at_once_then_ever_more_seldom_and_a_reason_is_told_once() -> None:
    machine = listening(FOREVER)
    machine.closed(10, "gone")
    assert attempts(machine, 10, 60, "not there") == [0, 1, 3, 7, 15, 30, 45]
    assert [(event.state, event.reason) for event in machine.news()] == [
        ("recovering", "gone"),
        ("recovering", "not there"),
    ]


def test_an_outage_is_told_with_its_length_when_sound_is_back() -> None:
    machine = listening(FOREVER)
    machine.closed(12, "gone")
    machine.opening(20)
    machine.opened(21)
    machine.sound(22, 0.5, flat=False)
    gone, outage, back = machine.news()
    assert (gone.state, outage.kind, outage.seconds, back.state) == ("recovering", OUTAGE, 11.5, "listening")
    assert machine.state is State.LISTENING


def test_a_stream_that_dies_again_soon_does_not_start_the_waits_anew() -> None:
    machine = listening(FOREVER)
    waits = []
    now = 10.0
    for _ in range(5):
        machine.closed(now, "gone")
        died = now
        while not machine.due(now):
            now += 0.5
        waits.append(now - died)
        machine.opening(now)
        machine.opened(now)
        machine.sound(now, 0.5, flat=False)
    assert waits == [0, 1, 2, 4, 8]


def test_a_stalled_stream_is_opened_anew_and_given_more_time_to_speak() -> None:
    machine = listening(FOREVER)
    assert not machine.look(14)
    ended = []
    for tenth in range(140, 900):
        now = tenth / 10
        if machine.look(now):
            ended.append(now)
        if machine.due(now):
            machine.opening(now)
            machine.opened(now)
    gaps = [round(later - earlier, 1) for earlier, later in pairwise(ended)]
    assert ended[0] == pytest.approx(14.1) and gaps == sorted(gaps) and max(gaps) < 16
    assert [event.state for event in machine.news()] == ["stalled"]


def test_opening_that_hangs_is_ended() -> None:
    machine = Liveness(FOREVER, 0)
    machine.opening(0)
    assert not machine.look(20)
    assert machine.look(20.1)
    assert "hangs" in machine.reason and machine.state is State.CONNECTING


def test_one_value_only_is_silence_through_ever_rarer_openings() -> None:
    machine = listening(FOREVER)
    opened = []
    for tenth in range(101, 40000):
        now = tenth / 10
        if machine.look(now):
            assert machine.due(now)
            machine.opening(now)
            machine.opened(now)
            opened.append(now)
        machine.sound(now, 0.1, flat=True)
    gaps = [round(later - earlier) for earlier, later in pairwise(opened)]
    assert gaps[:5] == [120, 240, 480, 900, 900]
    machine.sound(4000, 0.1, flat=False)
    assert [event.state for event in machine.news()] == ["silent", "listening"]


def test_an_outage_may_not_last_longer_than_allowed() -> None:
    machine = listening(replace(FOREVER, recover_timeout=30))
    machine.closed(10.5, "gone")
    attempts(machine, 10.5, 29, "gone")
    assert machine.state.value == "recovering"
    attempts(machine, 39.5, 2, "gone")
    assert machine.state is State.FAILED


STEPS = st.lists(st.sampled_from(["wait", "sound", "flat", "close", "opened", "look"]), max_size=200)


@given(STEPS, st.sampled_from([0.0, 30.0, math.inf]), st.sampled_from([0.0, 30.0, math.inf]))
def test_whatever_happens_states_are_told_when_they_change_and_failed_is_the_end(
    steps: list[str], connect: float, recover: float
) -> None:
    machine = Liveness(LivenessLimits(connect_timeout=connect, recover_timeout=recover), 0)
    now = 0.0
    opening = opened = False
    told: list[str] = []
    for step in steps:
        now += 5 if step == "wait" else 0.1
        if machine.due(now):
            machine.opening(now)
            opening, opened = True, False
        if step in ("sound", "flat") and opened:
            machine.sound(now, 0.1, flat=step == "flat")
        elif step == "opened" and opening and not opened:
            machine.opened(now)
            opened = True
        elif step == "close" and opening:
            machine.closed(now, "gone")
            opening = opened = False
        elif step == "look" and machine.look(now):
            opening = opened = False
        told += [event.state for event in machine.news() if event.kind == STATE]
        assert machine.state == told[-1]
        if machine.state is State.FAILED:
            assert not machine.due(now + 1e6)
            break
        assert opening or machine.due(now + 16), "it would never be tried again"
    if connect == recover == math.inf:
        assert "failed" not in told
