"""A reader of a live source, who keeps the account of its seconds."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from edge_runtime.capture.block import DROPPED, LOST, STATE, Event
from edge_runtime.capture.source import LiveSource

RATE = 16000
PATIENCE_SECONDS = 240


class Listener:
    """Reads a LiveSource as the program does, and keeps the account."""

    def __init__(self, source: LiveSource) -> None:
        self.source = source
        self.events: list[Event] = []
        self.heard = self.lost = self.absent = self.waiting = 0.0
        self.recent = np.zeros(0, np.float32)  # the last second
        self._stopped_at: float | None = None
        self._began = time.monotonic()
        self._blocks = source.blocks(lambda: self._stopped_at is not None)

    def until(self, found: Callable[[], bool]) -> None:
        """Reads on until `found()`."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not found():
            assert time.monotonic() < deadline, f"waited in vain; {self.source.state}: {self.events}"
            self._read()

    def until_event(self, kind: str, state: str = "") -> Event:
        """Reads on until a new event of the kind comes."""
        seen = len(self.events)
        news: list[Event] = []

        def found() -> bool:
            news[:] = [event for event in self.events[seen:] if event.kind == kind and event.state == state]
            return bool(news)

        self.until(found)
        return news[0]

    def until_heard(self, seconds: float) -> None:
        """Reads on until so much more was heard."""
        goal = self.heard + seconds
        self.until(lambda: self.heard >= goal)

    def stop(self) -> float:
        """Stops, reads the rest, and gives the seconds that are in no account (negative: in two)."""
        self._stopped_at = time.monotonic()
        while self._read():
            pass
        took = time.monotonic() - self._stopped_at
        assert took < 1.5, "a stop has to end within a second, and this machine may be busy"
        return self._stopped_at - self._began - self.heard - self.lost - self.absent

    def states(self) -> list[str]:
        return [event.state for event in self.events if event.kind == STATE]

    def _read(self) -> bool:
        block = next(self._blocks, None)
        if block is None:
            return False
        self.heard += len(block.samples) / RATE
        self.absent += block.absent_seconds
        self.waiting = block.waiting_seconds
        self.lost += sum(event.seconds for event in block.events if event.kind in (LOST, DROPPED))
        self.events += block.events
        self.recent = np.concatenate([self.recent, block.samples])[-RATE:]
        return True


def assert_adds_up(listener: Listener) -> None:
    unaccounted = listener.stop()
    account = f"heard {listener.heard:.2f}, lost {listener.lost:.2f}, absent {listener.absent:.2f}"
    print(account, f"unaccounted {unaccounted:.3f}", listener.events)
    assert abs(unaccounted) < 1.0, account  # a busy machine's PulseAudio comes back with old sound
