"""A microphone through PyAudio: the callback fills a bounded ring, the analysis takes from it.

Nothing here waits for ever. PortAudio's calls can hang when the sound server dies under them, so each runs in
a thread of its own with a time limit; a stream that stops or gives nothing for seconds is an error.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any

import numpy as np

from edge_runtime.capture.block import DROPPED, LOST, OVERFLOW, Block, Event
from edge_runtime.capture.bounded import OPEN_SECONDS, abandon, bounded
from edge_runtime.capture.devices import Device, devices_of, load_pyaudio, resolve
from edge_runtime.capture.file import mix
from edge_runtime.capture.loss import LossMeter
from edge_runtime.capture.quiet import quiet_c
from edge_runtime.capture.resample import Resampler
from edge_runtime.capture.ring import Ring
from edge_runtime.errors import InputError

STALL_SECONDS = 4.0
"""A stream that gives no frames for so long is taken for dead."""
_RING_SECONDS = 20.0
_CALLBACK_SECONDS = 0.1
_BLOCK_SECONDS = 0.5
_CLOSE_SECONDS = 0.7
_SUSPICIOUS_SECONDS = 1.0
_COMMON_RATES = (48000, 44100, 32000, 96000, 22050, 8000)
_BUSY = -9985
_OVERFLOW_FLAG = 2  # paInputOverflow


class Microphone:
    """A context manager: inside it, `read` gives mono float32 blocks at `sample_rate`.

    `device` is the stream's Device, `native_rate` and `channels` what was agreed on with it.
    """

    device: Device
    native_rate: int
    channels: int

    def __init__(self, name: str, sample_rate: int, stall_seconds: float = STALL_SECONDS) -> None:
        """`name` as `devices.resolve` takes it; `sample_rate` in Hz is what `read` shall give."""
        self._name = name
        self._sample_rate = sample_rate
        self._stall_seconds = stall_seconds
        self._portaudio: Any = None
        self._stream: Any = None
        self._lost = 0.0
        self._overflows = 0
        self._guard = threading.Lock()
        self._last_sound = 0.0

    def __enter__(self) -> Microphone:
        """Opens the stream. Raises InputError: no PyAudio, no such device, busy, or no rate fits."""
        self._pyaudio = load_pyaudio()
        self._quiet = quiet_c(keep_python=True)
        self._quiet.__enter__()
        try:
            bounded(self._open, OPEN_SECONDS, "opening the microphone")
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()
        self._quiet.__exit__(None, None, None)

    def blocks(self, stopped: Callable[[], bool]) -> Iterator[Block]:
        """Blocks until `stopped()`, and then all that was already waiting. Raises InputError like `read`."""
        while not stopped():
            yield self.read(0.1)
        waiting = self._ring.held  # what comes from now on is not asked for any more
        while waiting > 0:
            waiting -= int(self.native_rate * _BLOCK_SECONDS)
            yield self.read(0.0)

    def read(self, timeout_seconds: float) -> Block:
        """What came since, at most half a second of it; empty when nothing came within `timeout_seconds`.

        Raises InputError when the stream has ended or has given nothing for `stall_seconds`.
        """
        frames, dropped = self._ring.take(int(self.native_rate * _BLOCK_SECONDS), timeout_seconds)
        now = time.monotonic()
        if len(frames):
            self._last_sound = now
        elif not self._alive():
            raise InputError(f"the microphone {self.device.name!r} is gone: unplugged, or its sound server ended")
        elif now - self._last_sound > self._stall_seconds:
            raise InputError(
                f"the microphone {self.device.name!r} has given no sound for {self._stall_seconds:g} s: "
                "check the cable, or that no other program has taken it"
            )
        events = []
        with self._guard:
            overflows, self._overflows = self._overflows, 0
            lost, self._lost = self._lost, 0.0
        if overflows:
            events.append(Event(OVERFLOW, count=overflows))
        if dropped:
            events.append(Event(DROPPED, seconds=dropped / self.native_rate))
        if lost:
            events.append(Event(LOST, seconds=lost))
        waiting_seconds = self._ring.held / self.native_rate
        return Block(self._resampler.push(mix(frames)), tuple(events), waiting_seconds)

    def _open(self) -> None:
        try:
            self._portaudio = self._pyaudio.PyAudio()
        except OSError as reason:
            raise InputError(f"the sound system does not start: {reason}") from None
        self.device = resolve(self._name, devices_of(self._portaudio))
        refusal = ""
        for rate in dict.fromkeys((self._sample_rate, self.device.rate, *_COMMON_RATES)):
            for channels in dict.fromkeys((1, min(2, self.device.channels), self.device.channels)):
                try:
                    self._start(rate, channels)
                except (OSError, ValueError) as reason:
                    if _BUSY in reason.args:
                        raise InputError(
                            f"the microphone {self.device.name!r} is busy: another program uses it"
                        ) from None
                    refusal = " ".join(str(part) for part in reason.args)
                else:
                    return
        raise InputError(f"the microphone {self.device.name!r} cannot be opened at any common rate: {refusal}")

    def _start(self, rate: int, channels: int) -> None:
        self._ring = Ring(int(rate * _RING_SECONDS), channels)
        self._resampler = Resampler(rate, self._sample_rate)
        meter = LossMeter(rate)
        ring = self._ring
        go_on = (None, self._pyaudio.paContinue)

        def arrived(data: bytes, frame_count: int, _times: object, status: int) -> tuple[None, int]:
            ring.push(np.frombuffer(data, dtype=np.float32).reshape(-1, channels))
            lost = meter.add(time.monotonic(), frame_count)
            if lost or status & _OVERFLOW_FLAG:
                with self._guard:
                    self._lost += lost
                    self._overflows += 1 if status & _OVERFLOW_FLAG else 0
            return go_on

        self._stream = self._portaudio.open(
            format=self._pyaudio.paFloat32,
            channels=channels,
            rate=rate,
            input=True,
            input_device_index=self.device.index,
            frames_per_buffer=int(rate * _CALLBACK_SECONDS),
            stream_callback=arrived,
        )
        self.native_rate, self.channels = rate, channels
        self._last_sound = time.monotonic()

    def _alive(self) -> bool:
        try:
            return bool(self._stream.is_active())
        except OSError:
            return False

    def _close(self) -> None:
        stream, portaudio = self._stream, self._portaudio
        self._stream = self._portaudio = None
        if stream is not None and time.monotonic() - self._last_sound > _SUSPICIOUS_SECONDS:
            # Not closed: on a dead JACK server that aborts the process, inside the C library.
            abandon("a stalled microphone")
            return

        def close() -> None:
            if stream is not None:
                stream.close()
            if portaudio is not None:
                portaudio.terminate()

        # What was heard is safe: a dead sound server may keep its end of it.
        with contextlib.suppress(InputError, OSError):
            bounded(close, _CLOSE_SECONDS, "closing the microphone")
