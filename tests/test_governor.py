"""The governor: sound is covered and none is dropped while any hop can be sustained, and the hop comes back."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_runtime import Detector
from edge_runtime.decision.pace import RECOVERED, SLOW
from edge_runtime.governor import (
    COMFORTABLE,
    LONGEST_PATIENCE_SECONDS,
    SILENCE_SECONDS,
    STEP,
    TOO_MUCH,
    Governor,
    ladder,
    shortest_sustained,
)
from edge_runtime.model.network import Network

WINDOW = 4.0
RING_SECONDS = 20.0
BLOCK_SECONDS = 0.5
hops = st.floats(0.1, WINDOW)


@dataclass
class Box:
    """A box that hears in real time: its clock, what waits in its ring, and what it lost."""

    governor: Governor
    cost: Callable[[float], float]  # seconds for a window, at a time; 0 is a silent one, which is not scored
    per_second: float = 0.01  # seconds for a second of sound, whatever the hop
    now: float = 0.0
    heard: float = 0.0
    dropped: float = 0.0
    most_waiting: float = 0.0
    next_window: float = WINDOW

    def run(self, until: float) -> list[tuple[float, float]]:
        """Listens up to a time; gives when the hop changed and to what."""
        changes = []
        while self.now < until:
            waiting = self.now - self.heard - self.dropped
            lost = max(0.0, waiting - RING_SECONDS)
            self.dropped, waiting = self.dropped + lost, waiting - lost
            self.most_waiting = max(self.most_waiting, waiting)
            if waiting < 0.1:
                self.now += 0.1
                continue
            sound = min(waiting, BLOCK_SECONDS)
            self.heard += sound
            busy, windows = self.per_second * sound, 0
            while self.next_window <= self.heard:
                busy += self.cost(self.now)
                windows += self.cost(self.now) > 0
                self.next_window += self.governor.hop_seconds
            self.now += busy
            change = self.governor.heard(sound, busy, waiting - sound, windows)
            if change:
                assert change.hop_seconds == self.governor.hop_seconds
                changes.append((self.now, change.hop_seconds))
        return changes


@given(shortest=hops, costs=st.lists(st.floats(0, 3), min_size=1, max_size=8), spell=st.floats(1, 60))
def test_the_hop_stays_between_the_one_asked_for_and_the_window(
    shortest: float, costs: list[float], spell: float
) -> None:
    box = Box(Governor(shortest, WINDOW), lambda now: costs[int(now / spell) % len(costs)])
    changes = box.run(400)
    assert all(shortest <= hop <= WINDOW for _, hop in changes)
    pace = box.governor.pace
    assert (pace.hop_seconds, pace.hop_changes) == (shortest, len(changes))
    assert pace.widest_hop_seconds == max([shortest, *(hop for _, hop in changes)])


@given(shortest=hops, costs=st.lists(st.floats(0, 0.4), min_size=1, max_size=8), spell=st.floats(1, 60))
def test_a_box_that_sustains_some_hop_drops_nothing(shortest: float, costs: list[float], spell: float) -> None:
    """0.4 s a window is 10 % of a box's time at the widest hop, and four times all of it at 0.1 s."""
    box = Box(Governor(shortest, WINDOW), lambda now: costs[int(now / spell) % len(costs)])
    box.run(400)
    assert box.dropped == 0 and box.most_waiting < RING_SECONDS / 2


def fitting(shortest: float, cost: float) -> tuple[float, float]:
    """The narrowest hop of the ladder that is comfortable at a cost, and the next wider one, which may be kept to."""
    steps = ladder(shortest, WINDOW)
    place = next((n for n, hop in enumerate(steps) if cost / hop <= COMFORTABLE), len(steps) - 1)
    return steps[place], steps[min(place + 1, len(steps) - 1)]


@given(shortest=hops, cost=st.floats(0.005, 2), spell=st.floats(0.3, 4), minutes=st.floats(0, 5))
def test_the_hop_ends_where_the_cost_says_after_a_worse_spell_too(
    shortest: float, cost: float, spell: float, minutes: float
) -> None:
    box = Box(Governor(shortest, WINDOW), lambda now: max(cost, spell) if now < 60 * minutes else cost, per_second=0)
    box.run(60 * minutes)
    box.run(box.now + 600)
    narrowest, next_wider = fitting(shortest, cost)
    # A box that was not too slow keeps the hop that was asked for, comfortable or not.
    assert box.governor.hop_seconds <= next_wider
    assert box.governor.hop_seconds >= narrowest or cost / box.governor.hop_seconds <= TOO_MUCH


@given(shortest=hops, cost=st.floats(0.2, 0.8), minutes=st.floats(0.2, 5))
def test_when_a_load_ends_the_hop_is_soon_the_one_asked_for_again(shortest: float, cost: float, minutes: float) -> None:
    box = Box(Governor(shortest, WINDOW), lambda now: cost if now < 60 * minutes else 0.004)
    box.run(60 * minutes)
    box.run(box.now + 400)
    assert box.governor.hop_seconds == shortest


def test_a_short_silence_is_no_reason_to_narrow() -> None:
    """What is not scored costs nothing, and says nothing of what speech will cost."""
    box = Box(Governor(0.5, WINDOW), lambda now: 1.1 if now % 120 < 60 else 0.0)
    changes = box.run(1200)
    assert [hop for _, hop in changes] == [pytest.approx(0.5 * STEP**4)], "it went up once and stayed"


@given(shortest=hops, cost=st.floats(0.2, 1.5), minutes=st.floats(0.2, 5))
def test_a_long_silence_leads_back_to_the_hop_asked_for(shortest: float, cost: float, minutes: float) -> None:
    box = Box(Governor(shortest, WINDOW), lambda now: cost if now < 60 * minutes else 0.0)
    box.run(60 * minutes)
    box.run(box.now + SILENCE_SECONDS * (len(ladder(shortest, WINDOW)) + 1))
    assert box.governor.hop_seconds == shortest


@given(shortest=hops, cost=st.floats(0.05, 0.9), spell=st.floats(5, 300), silence=st.floats(120, 900))
@settings(max_examples=15)
def test_speech_and_silence_in_turns_drop_no_sound(shortest: float, cost: float, spell: float, silence: float) -> None:
    box = Box(Governor(shortest, WINDOW), lambda now: cost if now % (spell + silence) < spell else 0.0)
    box.run(3600)
    assert box.dropped == 0 and box.most_waiting < RING_SECONDS / 2


@pytest.mark.parametrize(("cost", "speech", "silence"), [(1.1, 100, 900), (0.5, 30, 300), (2.5, 600, 1200)])
def test_a_box_that_does_not_sustain_the_hop_leaves_it_alone_in_silence_after_some_tries(
    cost: float, speech: float, silence: float
) -> None:
    box = Box(Governor(0.5, WINDOW), lambda now: cost if now % (speech + silence) < speech else 0.0)
    early, late = box.run(3 * 3600), box.run(6 * 3600)
    assert early and late == [], (early, late)


def test_what_an_hour_of_silence_costs_is_not_the_first_words_fault() -> None:
    box = Box(Governor(0.5, WINDOW), lambda now: 0.0 if now < 3600 else 0.05, per_second=0.1)
    assert box.run(3700) == []


@given(shortest=hops, share=st.floats(0, 0.4))
def test_a_box_that_keeps_up_never_changes_the_hop(shortest: float, share: float) -> None:
    box = Box(Governor(shortest, WINDOW), lambda now: share * shortest)
    assert box.run(600) == []
    assert box.governor.pace.coarse_seconds == 0


@given(shortest=hops, cost=st.floats(0.01, 1.5))
def test_under_a_steady_load_the_hop_settles(shortest: float, cost: float) -> None:
    changes = Box(Governor(shortest, WINDOW), lambda now: cost).run(3600)
    assert len(changes) <= 24
    late = [hop for now, hop in changes if now > 1800]
    assert len(late) <= 2 * 1800 / LONGEST_PATIENCE_SECONDS + 1


def test_a_moment_of_silence_from_the_box_is_caught_up_without_a_wider_hop() -> None:
    """Five seconds stopped (a laptop's lid, a signal): much waits, but what waits is cheap to score."""
    box = Box(Governor(0.5, WINDOW), lambda now: 0.01)
    box.run(30)
    box.now += 5
    assert box.run(60) == [] and box.dropped == 0


def test_work_that_follows_the_sound_is_no_load_of_the_windows_that_are_scored() -> None:
    """Of a model with blocks: two windows of three have no speech, and their sound is paid for all the same."""
    governor = Governor(0.5, WINDOW, grain_seconds=0.5, by_sound=True)
    box = Box(governor, lambda now: 0.001 if int(2 * now) % 3 == 0 else 0.0, per_second=0.4)
    assert box.run(600) == [] and box.dropped == 0


def test_after_a_slow_spell_the_hop_comes_back_where_work_follows_the_sound() -> None:
    box = Box(Governor(0.5, WINDOW, grain_seconds=0.5, by_sound=True), lambda now: 0.001, per_second=0.45)
    assert box.run(60) == []
    box.per_second = 1.1
    widest = max(hop for _, hop in box.run(120))
    assert widest > 2
    box.per_second = 0.45
    assert box.run(400)[-1][1] == 0.5


def test_reasons_and_counters_tell_what_happened() -> None:
    governor = Governor(0.5, WINDOW)
    wide = governor.heard(2.0, 3.0, 1.0, windows=4)
    assert wide and wide.reason == SLOW and wide.hop_seconds == pytest.approx(0.5 * STEP**3)
    narrow = next(change for _ in range(100) if (change := governor.heard(2.0, 0.02, 0.0, windows=4)))
    assert narrow.reason == RECOVERED and narrow.hop_seconds == pytest.approx(0.5 * STEP**2)
    assert governor.pace.hop_changes == 2
    assert governor.pace.coarse_seconds == pytest.approx(10.0)


@given(shortest=st.floats(0.01, 4), grain=st.floats(0.001, 0.5))
def test_the_ladder_keeps_to_the_multiples_that_a_model_demands(shortest: float, grain: float) -> None:
    steps = ladder(shortest, 4.0, grain)
    assert all(hop == pytest.approx(round(hop / grain) * grain) and 0 < hop <= 4.0 + 1e-6 for hop in steps)
    assert steps == sorted(set(steps))
    assert abs(steps[0] - shortest) <= grain and steps[-1] > 4.0 - grain - 1e-6


@given(shortest=st.floats(0.01, 60), factor=st.floats(1, 1000))
def test_the_ladder_has_both_ends_and_no_large_gaps(shortest: float, factor: float) -> None:
    steps = ladder(shortest, shortest * factor)
    assert (steps[0], steps[-1]) == (shortest, shortest * factor)
    assert all(one < other <= one * STEP**1.5 * (1 + 1e-9) for one, other in itertools.pairwise(steps))


@pytest.mark.parametrize(("cost", "expected"), [(0.0001, 0.1), (0.06, 0.15), (0.5, 1.139), (50.0, 1.0)])
def test_auto_takes_the_shortest_hop_within_the_comfortable_load(
    cost: float, expected: float, network: Network
) -> None:
    """The clock is one on which every push that scores takes `cost`; the windows here are 1 s long."""
    times = itertools.count()
    detector = Detector(network)
    found = shortest_sustained(detector, lambda: next(times) * cost)
    assert found.hop_seconds == pytest.approx(min(expected, 1.0), rel=0.02)
    assert found.load == pytest.approx(cost / found.hop_seconds, rel=0.05)
    assert found.load <= COMFORTABLE or found.hop_seconds > 0.99
    assert detector.flush() == []  # nothing of what was measured with is left
