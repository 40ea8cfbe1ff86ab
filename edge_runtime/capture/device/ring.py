"""A bounded ring of samples between the sound card's thread and the analysis."""

from __future__ import annotations

import threading

import numpy as np
from numpy.typing import NDArray


class Ring:
    """Keeps the newest frames; when it is full the oldest go, and their number is remembered.

    One thread pushes and never waits, another takes. Memory is claimed once.
    """

    def __init__(self, capacity_frames: int, channels: int) -> None:
        self._frames = np.zeros((capacity_frames, channels), dtype=np.float32)
        self._first = 0
        self._held = 0
        self._dropped = 0
        self._news = threading.Condition()

    @property
    def held(self) -> int:
        """Frames that wait to be taken."""
        with self._news:
            return self._held

    def push(self, frames: NDArray[np.float32]) -> None:
        """Adds float32 [n, channels]."""
        capacity = len(self._frames)
        with self._news:
            excess = max(0, self._held + len(frames) - capacity)
            self._dropped += excess
            frames = frames[-capacity:]
            gone = min(excess, self._held)
            self._first = (self._first + gone) % capacity
            self._held -= gone
            start = (self._first + self._held) % capacity
            head = min(len(frames), capacity - start)
            self._frames[start : start + head] = frames[:head]
            self._frames[: len(frames) - head] = frames[head:]
            self._held += len(frames)
            self._news.notify()

    def take(self, at_most: int, timeout_seconds: float) -> tuple[NDArray[np.float32], int]:
        """The oldest frames, float32 [n, channels] with n <= `at_most`, and how many were dropped before.

        Waits up to `timeout_seconds` for the first; n is 0 when none came.
        """
        with self._news:
            self._news.wait_for(lambda: self._held > 0, timeout_seconds)
            count = min(at_most, self._held)
            capacity = len(self._frames)
            places = np.arange(self._first, self._first + count) % capacity
            frames = self._frames[places]
            self._first = (self._first + count) % capacity
            self._held -= count
            dropped, self._dropped = self._dropped, 0
            return frames, dropped
