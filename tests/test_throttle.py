"""Sound that comes faster than it can have been made waits, and none is held back for long."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from edge_runtime.capture.loss import LossMeter
from edge_runtime.capture.throttle import LONGEST_GAP_SECONDS, Throttle

RATE = 16000
PIECE = RATE // 10


class Pipe:
    """A reader of a pipe with a clock of its own."""

    def __init__(self, longest_gap: float = LONGEST_GAP_SECONDS) -> None:
        self.now = 1000.0
        self.throttle = Throttle(RATE, longest_gap)
        self.meter = LossMeter(RATE)
        self.began: float | None = None
        self.passed = self.lost = 0.0

    def take(self, frames: int = PIECE) -> None:
        """One piece, after the wait that it needs."""
        while wait := self.throttle.wait(self.now, frames):
            self.now += wait
        first = self.began is None
        if first:
            self.began = self.now - frames / RATE
        self.lost += self.meter.add(self.now, 0 if first else frames)
        self.passed += frames / RATE

    @property
    def elapsed(self) -> float:
        assert self.began is not None
        return self.now - self.began


def test_a_file_in_a_pipe_passes_as_fast_as_the_clock() -> None:
    pipe = Pipe()
    for _ in range(36000):
        pipe.take()
    assert abs(pipe.passed - pipe.elapsed) < 0.0015 * pipe.elapsed
    assert pipe.lost == 0


def test_a_burst_makes_good_for_a_short_gap() -> None:
    pipe = Pipe()
    for _ in range(100):
        pipe.take()
    pipe.now += 2.5
    before = pipe.now
    for _ in range(24):
        pipe.take()
    assert pipe.now == before, "what was late waits no longer"
    for _ in range(200):
        pipe.take()
    assert abs(pipe.elapsed - pipe.passed) < 0.05 and pipe.lost == 0


def test_after_a_long_gap_sound_comes_at_the_pace_of_the_clock() -> None:
    pipe = Pipe()
    for _ in range(100):
        pipe.take()
    pipe.now += 3.5
    for _ in range(300):
        pipe.take()
    assert abs(pipe.elapsed - pipe.passed - pipe.lost) < 0.3 and pipe.lost > 3


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 3.9), st.integers(1, 120)), min_size=1, max_size=25))
def test_gaps_and_bursts_of_any_kind_never_add_up_to_more_than_the_time(bursts: list[tuple[float, int]]) -> None:
    """heard + lost is never above the time that passed, except for what the clock's tolerance lets through."""
    pipe = Pipe()
    for gap, pieces in bursts:
        pipe.now += gap
        for _ in range(pieces):
            pipe.take()
    for _ in range(100):  # for the meter, which looks back over seconds
        pipe.take()
    assert pipe.passed + pipe.lost <= pipe.elapsed + 0.002 * pipe.elapsed + 0.3


@settings(max_examples=20, deadline=None)
@given(st.floats(0.9995, 1.0005))
def test_a_clock_that_differs_from_ours_is_followed(speed: float) -> None:
    """A live source's sound never waits for long, however long the run."""
    pipe = Pipe()
    due = pipe.now
    for _ in range(20000):
        due += 0.1 / speed
        pipe.now = max(pipe.now, due)
        pipe.take()
    assert pipe.now - due < 0.1
