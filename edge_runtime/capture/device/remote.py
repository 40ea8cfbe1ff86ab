"""The process that holds a live source, seen from outside: it is started, asked, and ended whatever state it is in.

What it is to do goes to its standard input, in a line of JSON that no command line shows. What it says comes through a
pipe, as messages of a kind (one byte), a length (four) and a content.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import select
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from edge_runtime.capture.device.devices import Device
from edge_runtime.capture.device.identity import Facts, Known, SoundCard
from edge_runtime.capture.device.microphone import CapturedSound
from edge_runtime.capture.pcm import RawFormat
from edge_runtime.capture.throttle import LONGEST_GAP_SECONDS
from edge_runtime.capture.wanted import Kind, Wanted
from edge_runtime.errors import InputError
from edge_runtime.system import process

_HEAD = struct.Struct("<cI")
_SOUND = struct.Struct("<didff")
_READ_BYTES = 1 << 16
_LARGEST_BYTES = 1 << 24


@dataclass(frozen=True)
class SourceRequest:
    """What the process shall listen to."""

    wanted: Wanted
    sample_rate: int  # Hz, of the sound that it gives
    identity_check: float  # seconds between two looks at where a microphone's sound comes from
    longest_gap: float = LONGEST_GAP_SECONDS  # of `Throttle`
    known: Known | None = None  # of a microphone: what was heard before
    handle: int | None = None  # of a pipe: its number in the process
    once: bool = False  # of a pipe: its first end is the end of the run


@dataclass(frozen=True)
class Opened:
    """The stream is open."""

    device: Device
    card: SoundCard | None
    native_rate: int
    channels: int


@dataclass(frozen=True)
class Trouble:
    """There is no stream, or no longer; `lasting`: waiting does not help."""

    reason: str
    lasting: bool = False


@dataclass(frozen=True)
class Channels:
    """Something about the stream's channels that people should know."""

    reason: str


@dataclass(frozen=True)
class Finished:
    """The sound has come to its end, as it should."""


Message: TypeAlias = Opened | CapturedSound | Facts | Trouble | Channels | Finished


def pack(message: Message) -> bytes:
    """A message as it goes through the pipe."""
    if isinstance(message, CapturedSound):
        head = _SOUND.pack(message.arrived, message.overflows, message.dropped_seconds, message.lowest, message.highest)
        content = head + message.samples.astype("<f4").tobytes()
    else:
        content = json.dumps(dataclasses.asdict(message)).encode()
    return _HEAD.pack(_KINDS[type(message)], len(content)) + content


def unpack(kind: bytes, content: bytes) -> Message:
    """The message of a kind and a content. Raises ValueError, KeyError or TypeError when it is none."""
    if kind == _KINDS[CapturedSound]:
        arrived, overflows, dropped, lowest, highest = _SOUND.unpack_from(content)
        samples = np.frombuffer(content, dtype="<f4", offset=_SOUND.size).astype(np.float32)
        return CapturedSound(samples, arrived, overflows, dropped, lowest, highest)
    told = json.loads(content)
    if kind == _KINDS[Opened]:
        return Opened(Device(**told.pop("device")), _card(told.pop("card")), **told)
    if kind == _KINDS[Facts]:
        return Facts(told["source"], tuple(told["sources"]), tuple(SoundCard(**card) for card in told["cards"]))
    if kind == _KINDS[Trouble]:
        return Trouble(**told)
    if kind == _KINDS[Channels]:
        return Channels(**told)
    if kind == _KINDS[Finished]:
        return Finished()
    raise ValueError(f"a message of the kind {kind!r}")


def order_from(text: str) -> SourceRequest:
    """The order in the JSON that the process reads."""
    told = json.loads(text)
    known, wanted = told.pop("known"), told.pop("wanted")
    raw, kind = wanted.pop("raw"), Kind(wanted.pop("kind"))
    return SourceRequest(
        Wanted(kind, **wanted, raw=RawFormat(**raw) if raw else None),
        **told,
        known=Known(known["name"], _card(known["card"])) if known else None,
    )


class Remote:
    """One such process, from its start to its end."""

    def __init__(self, order: SourceRequest) -> None:
        """Starts it. Raises InputError when the machine cannot start processes."""
        handles = () if order.handle is None else (order.handle,)
        try:
            self._process = process.start("edge_runtime.capture.device.child", handles=handles)
        except OSError as reason:
            raise InputError(f"no process can be started for the {order.wanted.kind}: {reason}") from None
        assert self._process.stdin
        with contextlib.suppress(OSError):  # it has ended already: that shows at its output
            self._process.stdin.write(json.dumps(dataclasses.asdict(order)).encode() + b"\n")
        assert self._process.stdout
        self._pipe = self._process.stdout.fileno()
        os.set_blocking(self._pipe, False)
        self._poll = select.poll()
        self._poll.register(self._pipe, select.POLLIN)
        self._bytes = bytearray()
        self.ended = False
        """True when nothing comes any more: the process has closed its end, or told nonsense."""

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._process.pid

    def messages(self, wait_seconds: float) -> Iterator[Message]:
        """What it has said, one after the other; waits so long for the first byte when nothing is there yet."""
        message = self._next()
        if message is None and not self.ended:
            self._poll.poll(wait_seconds * 1000)
            with contextlib.suppress(BlockingIOError):
                data = os.read(self._pipe, _READ_BYTES)
                self.ended = not data
                self._bytes += data
            message = self._next()
        while message is not None:
            yield message
            message = self._next()

    def finish(self) -> None:
        """Asks it to hear no more, to say what it has, and to end."""
        if self._process.stdin:
            self._process.stdin.close()

    def kill(self) -> str:
        """Ends it at once. Gives in words how it ended, if it had already."""
        if self.ended:  # it has closed its end of the pipe, and is about to go by itself
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(process.KILL_SECONDS)
        had_ended = self._process.poll()
        process.kill(self._process)
        self.ended = True
        if had_ended is None:
            return "it had to be ended"
        return f"signal {-had_ended}" if had_ended < 0 else f"exit code {had_ended}"

    def _next(self) -> Message | None:
        if len(self._bytes) < _HEAD.size:
            return None
        kind, length = _HEAD.unpack_from(self._bytes)
        end = _HEAD.size + length
        if length > _LARGEST_BYTES:
            return self._nonsense()
        if len(self._bytes) < end:
            return None
        content = bytes(self._bytes[_HEAD.size : end])
        del self._bytes[:end]
        try:
            return unpack(kind, content)
        except (ValueError, KeyError, TypeError, struct.error):
            return self._nonsense()

    def _nonsense(self) -> Trouble:
        self._bytes.clear()
        self.ended = True
        return Trouble("the process that listens says what nobody understands")


_KINDS: dict[type[Any], bytes] = {
    Opened: b"O",
    CapturedSound: b"S",
    Facts: b"F",
    Trouble: b"T",
    Channels: b"C",
    Finished: b"E",
}


def _card(told: dict[str, Any] | None) -> SoundCard | None:
    return SoundCard(**told) if told else None
