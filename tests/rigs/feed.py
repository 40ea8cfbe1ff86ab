"""Writes samples at the pace of a real microphone."""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_STEP_SECONDS = 0.02


class PacedFeed:
    """A thread that writes s16le samples into a FIFO, zeros when none are queued, until it is paused."""

    def __init__(self, fifo: Path, rate: int, pipe_bytes: int = 1 << 16) -> None:
        """`pipe_bytes` wait in the FIFO for a server that does not read while nobody listens."""
        self._fifo = fifo
        self._handle = os.open(fifo, os.O_RDWR | os.O_NONBLOCK)
        fcntl.fcntl(self._handle, fcntl.F_SETPIPE_SZ, pipe_bytes)
        self._rate = rate
        self._idle = np.zeros(int(rate * _STEP_SECONDS), dtype="<i2")
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

    def hear(self, level: int, spread: int = 0) -> None:
        """What comes while nothing is queued: `level`, and noise of up to `spread` around it."""
        noise = np.random.default_rng(0).integers(-spread, spread + 1, len(self._idle))
        with self._guard:
            self._idle = (level + noise).astype("<i2")

    def reopen(self) -> None:
        """The FIFO was made again, or its reader was: what waits in it is old, and goes."""
        with self._guard:
            os.close(self._handle)
            self._handle = os.open(self._fifo, os.O_RDWR | os.O_NONBLOCK)
            with contextlib.suppress(BlockingIOError):
                while os.read(self._handle, 1 << 16):
                    pass

    def pause(self) -> None:
        """The microphone goes on to exist, and gives nothing."""
        self._paused.set()

    def resume(self) -> None:
        """It goes on with what is queued, or with what comes when nothing is."""
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
                    chunk = np.concatenate([chunk, self._idle[len(chunk) :]])
                    with contextlib.suppress(BlockingIOError):  # nobody listens, and the FIFO is full
                        os.write(self._handle, chunk.tobytes())
            due += _STEP_SECONDS
            time.sleep(max(0.0, due - time.monotonic()))
