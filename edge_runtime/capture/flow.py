"""Sound that comes as bytes, from a pipe or from ffmpeg: parsed, mixed, at our rate, and no faster than the clock."""

from __future__ import annotations

import collections
import os
import select
import threading
import time

import numpy as np
from numpy.typing import NDArray

from edge_runtime.capture.channels import Mixer
from edge_runtime.capture.device.microphone import CapturedSound
from edge_runtime.capture.pcm import RawFormat
from edge_runtime.capture.piped import PipedSound
from edge_runtime.capture.resample import Resampler
from edge_runtime.capture.throttle import Throttle
from edge_runtime.capture.wanted import MIX
from edge_runtime.errors import InputError

_READ_BYTES = 1 << 16
_PIECE_SECONDS = 0.1
_LOOK_SECONDS = 0.2
_HELD_SECONDS = 60.0
"""So much waits for a reader that is held up, as with a microphone; then the oldest goes, and is counted."""


class Flow:
    """Reads a pipe in a thread of its own. `rate` in Hz and `channels` are its sound's, 0 until they are known."""

    def __init__(
        self,
        handle: int,
        target_rate: int,
        longest_gap_seconds: float,
        channel: str | int = MIX,
        raw: RawFormat | None = None,
        lasting: bool = False,
    ) -> None:
        """`target_rate` in Hz is that of the sound given. `raw`: the bytes have no header; without it they are a WAV.

        `lasting`: of a FIFO, in which nobody may write yet, so that an end before the first byte is none.
        """
        self.rate, self.channels = (raw.rate, raw.channels) if raw else (0, 0)
        self.over = False
        """True when no sound comes any more."""
        self.trouble: str | None = None
        """Why it is over, if that is no good end."""
        self._handle = handle
        self._target_rate = target_rate
        self._channel = channel
        self._throttle: Throttle | None = None
        self._longest_gap = longest_gap_seconds
        self._lasting = lasting
        self._sound = PipedSound(raw)
        self._resampler: Resampler | None = None
        self._mixer: Mixer | None = None
        self._said: list[str] = []
        self._held: collections.deque[CapturedSound] = collections.deque()
        self._held_samples = 0
        self._dropped_samples = 0
        self._news = threading.Condition()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def read(self) -> CapturedSound | None:
        """The next piece; None when none comes for a moment, or it is `over`."""
        with self._news:
            self._news.wait_for(lambda: self._held or self.over, _LOOK_SECONDS)
            if not self._held:
                return None
            heard = self._held.popleft()
            self._held_samples -= len(heard.samples)
            dropped, self._dropped_samples = self._dropped_samples, 0
        return CapturedSound(heard.samples, heard.arrived, 0, dropped / self._target_rate, heard.lowest, heard.highest)

    def close(self) -> None:
        """Takes nothing more from the pipe; what was taken can still be read."""
        self._closing.set()
        self._thread.join()

    def news(self) -> list[str]:
        """What people should know of the channels, as `Mixer.news` has it."""
        with self._news:
            said, self._said = self._said, []
        return said

    def rest(self) -> CapturedSound:
        """What the resampler still holds; to be called when it is `over` or closed, and all has been read."""
        samples = self._resampler.flush() if self._resampler else np.zeros(0, np.float32)
        return CapturedSound(samples, time.monotonic(), 0, 0.0, 0.0, 0.0)

    def _run(self) -> None:
        try:
            self._follow()
        except InputError as reason:
            self.trouble = str(reason)
        except Exception as reason:  # whatever a library may raise, whoever waits must hear of it
            self.trouble = f"cannot be read: {getattr(reason, 'strerror', None) or reason or type(reason).__name__}"
        with self._news:
            self.over = True
            self._news.notify_all()

    def _follow(self) -> None:
        poll = select.poll()
        poll.register(self._handle, select.POLLIN)
        begun = False
        while not self._closing.is_set():
            if not poll.poll(_LOOK_SECONDS * 1000):
                continue
            try:
                data = os.read(self._handle, _READ_BYTES)
            except BlockingIOError:
                continue
            if not data and self._lasting and not begun:
                self._closing.wait(_LOOK_SECONDS)
                continue
            if not data:
                self._finish()
                return
            begun = True
            for rate, frames in self._sound.push(data):
                if len(frames):
                    self._take(frames, rate)

    def _finish(self) -> None:
        for rate, frames in self._sound.flush():
            if len(frames):
                self._take(frames, rate)

    def _take(self, frames: NDArray[np.float32], rate: int) -> None:
        """Lets float32 [n, channels] pass in pieces, each when it is due."""
        if self._resampler is None or (rate, frames.shape[1]) != (self.rate, self.channels):
            self._begin(rate, frames.shape[1])
        assert self._resampler and self._throttle and self._mixer
        if self._channel == MIX:
            mono = self._mixer.push(frames)
            with self._news:
                self._said += self._mixer.news()
        else:
            mono = np.ascontiguousarray(frames[:, int(self._channel) - 1])
        size = max(1, int(rate * _PIECE_SECONDS))
        for first in range(0, len(mono), size):
            piece = mono[first : first + size]
            while wait := self._throttle.wait(time.monotonic(), len(piece)):
                if self._closing.wait(min(wait, _LOOK_SECONDS)):
                    return
            samples = self._resampler.push(piece)
            self._hold(CapturedSound(samples, time.monotonic(), 0, 0.0, float(piece.min()), float(piece.max())))

    def _begin(self, rate: int, channels: int) -> None:
        """The first sound, or the first of another rate or number of channels."""
        self.rate, self.channels = rate, channels
        if self._channel != MIX and int(self._channel) > channels:
            raise InputError(f"has {channels} channel{'s' if channels > 1 else ''}, and no channel {self._channel}")
        if self._resampler is not None:
            self._hold(self.rest())
        self._resampler = Resampler(rate, self._target_rate)
        self._mixer = Mixer(rate)
        self._throttle = Throttle(rate, self._longest_gap)

    def _hold(self, heard: CapturedSound) -> None:
        with self._news:
            self._held.append(heard)
            self._held_samples += len(heard.samples)
            while self._held_samples > _HELD_SECONDS * self._target_rate and len(self._held) > 1:
                gone = len(self._held.popleft().samples)
                self._held_samples -= gone
                self._dropped_samples += gone
            self._news.notify_all()
