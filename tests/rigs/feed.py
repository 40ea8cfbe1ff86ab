"""Writes samples at the pace of a real microphone."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_STEP_SECONDS = 0.02


class PacedFeed:
    """A thread that writes s16le samples into a FIFO, silence when none are queued, until it is paused."""

    def __init__(self, fifo: Path, rate: int) -> None:
        self._handle = os.open(fifo, os.O_RDWR)
        self._rate = rate
        self._queue = np.zeros(0, dtype="<i2")
        self._guard = threading.Lock()
        self._paused = threading.Event()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def play(self, samples: NDArray[np.int16]) -> None:
        """Queues int16 [n] at the feed's rate."""
        with self._guard:
            self._queue = np.concatenate([self._queue, samples.astype("<i2")])

    def pause(self) -> None:
        """The microphone goes on to exist, and gives nothing."""
        self._paused.set()

    def resume(self) -> None:
        """It goes on with silence, or with what is queued."""
        self._paused.clear()

    def close(self) -> None:
        self._ended.set()
        self._thread.join(5)
        os.close(self._handle)

    def _run(self) -> None:
        step = int(self._rate * _STEP_SECONDS)
        due = time.monotonic()
        while not self._ended.is_set():
            if not self._paused.is_set():
                with self._guard:
                    chunk, self._queue = self._queue[:step], self._queue[step:]
                chunk = np.concatenate([chunk, np.zeros(step - len(chunk), dtype="<i2")])
                try:
                    os.set_blocking(self._handle, False)
                    os.write(self._handle, chunk.tobytes())
                except BlockingIOError:
                    pass  # nobody listens, and the FIFO is full
            due += _STEP_SECONDS
            time.sleep(max(0.0, due - time.monotonic()))
