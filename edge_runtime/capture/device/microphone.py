"""One stream of one microphone through PyAudio: the callback fills a bounded ring, whoever reads takes from it.

PortAudio's calls can hang, and even abort the process, when the sound server dies under them. So this runs in a
process of its own, `child`, which can be ended from outside; `capture.source` does that.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.capture.channels import Mixer
from edge_runtime.capture.device.devices import Device, devices_of, load_pyaudio, resolve_again
from edge_runtime.capture.device.identity import Known, SoundCard, card_of, read_cards
from edge_runtime.capture.device.ring import Ring
from edge_runtime.capture.resample import Resampler
from edge_runtime.capture.wanted import MIX
from edge_runtime.errors import InputError

_RING_SECONDS = 60.0  # twelve programs on its core hold the program up for 25 s
_CALLBACK_SECONDS = 0.1
_READ_SECONDS = 0.5
_LOOK_SECONDS = 0.25
COMMON_RATES = (48000, 44100, 32000, 96000, 22050, 8000)
_MOST_LIKELY_CHANNELS = 16  # ALSA's plugins claim 32 and more, and make them up
_BUSY = -9985
_OVERFLOW_FLAG = 2  # paInputOverflow


@dataclass(frozen=True)
class CapturedSound:
    """Sound, mono float32 [n] at the rate asked for, and what is known of it."""

    samples: NDArray[np.float32]
    arrived: float  # when its last frame came, on the monotonic clock
    overflows: int  # times that the driver said since the last read that input was lost
    dropped_seconds: float  # thrown away before this, since nobody read for too long
    lowest: float  # at the microphone's own rate, where a constant is a constant
    highest: float


class Microphone:
    """An open stream. `device`, `card`, `native_rate` and `channels` are what was agreed on."""

    device: Device
    card: SoundCard | None
    native_rate: int
    channels: int

    def __init__(self, name: str, sample_rate: int, channel: str | int = MIX, known: Known | None = None) -> None:
        """Opens the stream of `name`, which `devices.resolve` understands; with `known`, the one heard before.

        `sample_rate` in Hz is what `read` shall give. `channel` counts from 1. Raises InputError: no PyAudio, no such
        device or channel, busy, or no rate fits.
        """
        self._pyaudio = load_pyaudio()
        self._sample_rate = sample_rate
        self._channel = channel
        self._overflows = 0
        self._news: list[str] = []
        self._arrived = time.monotonic()
        self._guard = threading.Lock()
        try:
            self._portaudio = self._pyaudio.PyAudio()
        except OSError as reason:
            raise InputError(f"the sound system does not start: {reason}") from None
        cards = read_cards()
        self.device = resolve_again(name, known, devices_of(self._portaudio), cards)
        self.card = card_of(self.device.name, cards)
        self._negotiate()

    def read(self) -> CapturedSound | None:
        """What came since the last call, at most half a second of it; None when nothing comes for a quarter.

        Raises InputError when the stream has ended.
        """
        frames, dropped = self._ring.take(int(self.native_rate * _READ_SECONDS), _LOOK_SECONDS)
        if not len(frames):
            if not self._alive():
                raise InputError(f"the microphone {self.device.name!r} is gone: unplugged, or its sound server ended")
            return None
        with self._guard:
            overflows, self._overflows = self._overflows, 0
            arrived = self._arrived
        mono = np.ascontiguousarray(frames[:, 0])
        return CapturedSound(
            self._resampler.push(mono),
            arrived - self.held / self.native_rate,
            overflows,
            dropped / self.native_rate,
            float(mono.min()),
            float(mono.max()),
        )

    @property
    def held(self) -> int:
        """Frames that wait to be read."""
        return self._ring.held

    def news(self) -> list[str]:
        """What people should know of the channels, as `Mixer.news` has it."""
        with self._guard:
            news, self._news = self._news, []
        return news

    def rest(self) -> NDArray[np.float32]:
        """What the resampler still holds, float32 [n]; nothing can be read any more."""
        return self._resampler.flush()

    def _negotiate(self) -> None:
        refusal = ""
        for rate in dict.fromkeys((self._sample_rate, self.device.rate, *COMMON_RATES)):
            for channels in self._counts():
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

    def _counts(self) -> tuple[int, ...]:
        """Numbers of channels to try. A channel chosen must be the card's, not one that a plugin mixed for fewer.

        For a mix two come first: a plugin that gives one has taken the mean, in which a balanced line cancels.
        """
        there = self.device.channels
        if self._channel == MIX:
            return tuple(dict.fromkeys((min(2, there), 1, there)))
        chosen = int(self._channel)
        if chosen > there:
            has = f"{there} channel{'s' if there > 1 else ''}"
            raise InputError(f"the microphone {self.device.name!r} has {has}, and no channel {chosen}")
        counts = (there, max(2, chosen), chosen) if there <= _MOST_LIKELY_CHANNELS else (max(2, chosen), chosen, there)
        return tuple(dict.fromkeys(counts))

    def _start(self, rate: int, channels: int) -> None:
        self._ring = Ring(int(rate * _RING_SECONDS), 1)
        mixer = Mixer(rate)
        chosen = None if self._channel == MIX else int(self._channel) - 1
        self._resampler = Resampler(rate, self._sample_rate)
        ring = self._ring
        go_on = (None, self._pyaudio.paContinue)

        def arrived(data: bytes, _count: int, _times: object, status: int) -> tuple[None, int]:
            frames = np.frombuffer(data, dtype=np.float32).reshape(-1, channels)
            # Mixed here: a minute of the eight channels of a large card would take 92 MB.
            ring.push(mixer.push(frames)[:, None] if chosen is None else frames[:, chosen : chosen + 1])
            with self._guard:
                self._news += mixer.news()
                self._arrived = time.monotonic()
                self._overflows += 1 if status & _OVERFLOW_FLAG else 0
            return go_on

        self._stream: Any = self._portaudio.open(
            format=self._pyaudio.paFloat32,
            channels=channels,
            rate=rate,
            input=True,
            input_device_index=self.device.index,
            frames_per_buffer=int(rate * _CALLBACK_SECONDS),
            stream_callback=arrived,
        )
        self.native_rate, self.channels = rate, channels

    def _alive(self) -> bool:
        try:
            return bool(self._stream.is_active())
        except OSError:
            return False
