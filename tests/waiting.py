"""Waits for a condition and not for a time, with a bound that a busy machine does not reach."""

from __future__ import annotations

import time
from collections.abc import Callable

LONGEST_SECONDS = 180.0


def until(found: Callable[[], object], missing: Callable[[], str] = str, *, seconds: float = LONGEST_SECONDS) -> None:
    """Returns as soon as `found()`. Raises AssertionError, with what is `missing()`, when that takes too long."""
    deadline = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < deadline, f"waited {seconds:g} s in vain {missing()}"
        time.sleep(0.01)
