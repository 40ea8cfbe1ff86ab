"""Spreading work: each item ends with exactly one result, however the processes die that work on it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.errors import InputError
from evaluation.scoring.workers import LocalPool, spread

# Worker processes import this module: nothing heavy is imported here.


def deadly(batch: list[int]) -> list[int]:
    """Doubles numbers; 3 kills whoever touches it."""
    if 3 in batch:
        os.kill(os.getpid(), signal.SIGKILL)
    return [2 * number for number in batch]


def nothing(_: Any) -> None:
    """No setup."""


def test_a_clip_that_kills_its_worker_costs_that_clip_only() -> None:
    pool = LocalPool(2, nothing, None)
    try:
        results = [value for batch in spread(pool, deadly, range(12), lambda number: -number, 2) for value in batch]
    finally:
        pool.close()
    assert sorted(results) == sorted([-3, *(2 * number for number in range(12) if number != 3)])


def hopeless(_: Any) -> None:
    """A setup that no process survives, as where there is no memory for it."""
    os.kill(os.getpid(), signal.SIGKILL)


def test_processes_that_cannot_even_start_end_the_run_and_no_clip_is_blamed() -> None:
    pool = LocalPool(1, hopeless, b"a model" * 100_000)
    try:
        with pytest.raises(InputError, match="die as they start"):
            list(spread(pool, deadly, range(100), lambda number: pytest.fail(f"{number} was blamed")))
    finally:
        pool.close()


class Unreliable:
    """A pool in this process in which the runs whose turn is in `deaths_at` die."""

    deaths: tuple[type[BaseException], ...] = (BrokenProcessPool,)
    tries_alone = 2

    def __init__(self, slots: int, deaths_at: set[int]) -> None:
        self._slots, self._deaths_at, self.runs = slots, deaths_at, 0

    def slots(self) -> int:
        return self._slots

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """Runs at once."""
        self.runs += 1
        future: Future[Any] = Future()
        if self.runs in self._deaths_at:
            future.set_exception(BrokenProcessPool("died"))
        else:
            future.set_result(function(*arguments))
        return future

    def check(self) -> None:
        raise AssertionError("nothing ever waits here")

    def gone(self) -> InputError:
        return InputError("gone")

    def recover(self) -> None:
        pass

    def close(self) -> None:
        pass


@given(items=st.integers(0, 40), batch=st.integers(1, 7), slots=st.integers(1, 4), deaths=st.sets(st.integers(1, 40)))
def test_each_item_has_one_result_however_workers_die(items: int, batch: int, slots: int, deaths: set[int]) -> None:
    pool = Unreliable(slots, deaths)
    results = [
        r
        for b in spread(pool, lambda b: [("done", i) for i in b], range(items), lambda i: ("lost", i), batch)
        for r in b
    ]
    assert sorted(number for _, number in results) == list(range(items))
    if not any({run, run + 1} <= deaths for run in deaths):
        assert all(kind == "done" for kind, _ in results), "an item was given up though its worker died once"
