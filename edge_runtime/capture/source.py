"""A live source for years: blocks of sound from a stream that is opened again whenever it dies, and an account of time.

The stream of a microphone, an address or a pipe lives in a process of its own (`device.child`), `capture.liveness`
judges it, `device.identity` knows which microphone it is; here all three are put together. Every second of a run ends
up in one of four places: heard, lost, dropped or absent.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from edge_runtime.capture.block import CHANNELS, DROPPED, IDENTITY, LOST, OVERFLOW, Block, Event
from edge_runtime.capture.device.devices import Device
from edge_runtime.capture.device.identity import Facts, Watch
from edge_runtime.capture.device.microphone import CapturedSound
from edge_runtime.capture.device.remote import Channels, Finished, Opened, Remote, SourceRequest, Trouble
from edge_runtime.capture.liveness import Liveness, LivenessLimits, State
from edge_runtime.capture.loss import LossMeter
from edge_runtime.capture.pipe import Pipe
from edge_runtime.capture.throttle import LONGEST_GAP_SECONDS
from edge_runtime.capture.wanted import MIX, STDIN, WORDS, Kind, Wanted
from edge_runtime.errors import InputError

_LOOK_SECONDS = 0.2
_BLOCK_SECONDS = 0.5
_USUAL_DELAY_SECONDS = 0.1
_HOLD_BACK_SECONDS = 0.5
"""Absence is reported so much later: the first sound of a stream arrives after it was made."""
_FINISH_SECONDS = 0.5
"""How long a process that shall end may say nothing before it is ended."""
_STREAM_OPENING_SECONDS = 30.0
"""ffmpeg looks at 128 kB before it knows what a stream of uncompressed sound is, which are 16 s of telephone sound."""
_SURELY_SHORTER = 0.75
"""A gap that is made good is no stall: this part of what a stall is, as both are measured in different processes."""
_SETTLING_SECONDS = 9
"""Two looks of the loss meter."""


class LiveSource:
    """Gives the sound of one source, for as long as it is wanted, through all that may befall it.

    `device` (None until first opened), `native_rate` in Hz and `channels` tell of the stream that was opened last.
    """

    def __init__(
        self, wanted: Wanted | str, sample_rate: int, limits: LivenessLimits | None = None, channel: str | int = MIX
    ) -> None:
        """A microphone may be named as `devices.resolve` takes it, with a `channel` that counts from 1.

        `sample_rate` in Hz is that of the blocks.
        """
        if isinstance(wanted, str):
            wanted = Wanted(Kind.MICROPHONE, wanted, channel)
        self.device: Device | None = None
        self.native_rate = 0
        self.channels = 0
        self._wanted = wanted
        self._limits = self._fitting(limits or LivenessLimits())
        self._order = self._ordered(sample_rate)
        self._rate = sample_rate
        self._pipe: Pipe | None = Pipe(wanted.name) if wanted.kind is Kind.PIPE else None
        self._over = False  # a pipe has come to its end
        self._liveness: Liveness | None = None
        self._remote: Remote | None = None
        self._watch = Watch()
        self._meter: LossMeter | None = None  # of a stream that has given sound
        self.told_until: float | None = None
        """The monotonic time up to which the blocks that were given account for; None before there is anything."""
        self._accounted = 0.0  # all until this time is in one of the four places
        self._constant: float | None = None  # the value, while there is only one
        self._before = Block(np.zeros(0, np.float32))  # what `connect` came by
        self._parts: list[NDArray[np.float32]] = []  # these four make the next block
        self._events: list[Event] = []
        self._absent = 0.0
        self._waiting = 0.0

    @property
    def state(self) -> State:
        """The state that the last event of the kind STATE told."""
        return self._liveness.state if self._liveness else State.CONNECTING

    @property
    def title(self) -> str:
        """The source in words, for people."""
        if self.device is None:
            return f"{self._wanted.shown} (not connected yet)"
        if not self.native_rate:
            return f"{self._wanted.shown} (nothing came yet)"
        return f"{self.device.name}, {self.native_rate} Hz, {self.channels} ch"

    @property
    def kind(self) -> Kind:
        """Microphone, stream or pipe."""
        return self._wanted.kind

    @property
    def process(self) -> int | None:
        """The number of the process that listens, while there is one."""
        return self._remote.pid if self._remote else None

    def connect(self, stopped: Callable[[], bool]) -> None:
        """Waits until the source is open or `stopped()`. Not needed, but then `device` is known before any sound.

        Raises InputError when that takes longer than the limits allow.
        """
        try:
            while self.device is None and not self._over and not stopped():
                block = self._step()
                self._before = Block(
                    np.concatenate([self._before.samples, block.samples]),
                    self._before.events + block.events,
                    block.waiting_seconds,
                    self._before.absent_seconds + block.absent_seconds,
                )
                self._raise_failure()
        except BaseException:
            self.close()
            raise

    def blocks(self, stopped: Callable[[], bool]) -> Iterator[Block]:
        """Blocks until `stopped()` or a pipe's end, at least four a second: empty ones when there is nothing to hear.

        Mono float32 [n]. What was heard until `stopped()` still comes. Raises InputError when the source fails for
        longer than the limits allow, or a pipe breaks off, and for nothing else.
        """
        try:
            if self._liveness:
                self.told_until = self._accounted
            yield self._before
            self._before = Block(np.zeros(0, np.float32))
            while not self._over and not stopped():
                block = self._step()
                self.told_until = self._accounted
                yield block
                self._raise_failure()
            yield from self._finish()
        finally:
            self.close()

    def close(self) -> None:
        """Ends the process that listens, if there is one, and lets a pipe go."""
        if self._remote:
            self._remote.kill()
            self._remote = None
        if self._pipe:
            self._pipe.close()

    def limit(self, limits: LivenessLimits) -> None:
        """From now on these thresholds hold; the source stays open."""
        self._limits = self._fitting(limits)
        self._order = dataclasses.replace(self._ordered(self._rate), known=self._order.known)
        if self._liveness:
            self._liveness.limit(self._limits)

    def _fitting(self, limits: LivenessLimits) -> LivenessLimits:
        opening = max(limits.opening, _STREAM_OPENING_SECONDS) if self.kind is Kind.STREAM else limits.opening
        return dataclasses.replace(limits, opening=opening, keep_open=self.kind is Kind.PIPE)

    def _ordered(self, sample_rate: int) -> SourceRequest:
        wanted, limits = self._wanted, self._limits
        gap = min(LONGEST_GAP_SECONDS, _SURELY_SHORTER * limits.stall)
        once = wanted.kind is Kind.PIPE and (wanted.name == STDIN or limits.recover_timeout == 0)
        return SourceRequest(wanted, sample_rate, limits.identity_check, gap, once=once)

    def _step(self) -> Block:
        now = time.monotonic()
        if self._liveness is None:
            self._liveness = Liveness(self._limits, now, WORDS[self.kind])
            self._accounted = self.told_until = now
        if self._remote is None and self._liveness.due(now):
            self._start(self._liveness, now)
        if self._remote is None:
            time.sleep(_LOOK_SECONDS)
        else:
            self._take(self._liveness, self._remote)
        if self._liveness.look(time.monotonic()):
            self._end_stream()
        elif self._liveness.state is State.STALLED:  # a pipe's process stays
            self._settle()
        if self._pipe and self._liveness.state is not State.LISTENING and self._pipe.replaced:
            self._end_stream()
            self._liveness.reopen(now)
        if self._meter is None:
            self._absent_until(time.monotonic() - _HOLD_BACK_SECONDS)
        if self._liveness.state is State.FAILED:
            self._absent_until(time.monotonic())
        return self._block()

    def _start(self, liveness: Liveness, now: float) -> None:
        liveness.opening(now)
        handle = None
        try:
            handle = self._pipe.open() if self._pipe else None
            self._remote = Remote(dataclasses.replace(self._order, known=self._watch.known, handle=handle))
        except InputError as reason:
            never = handle is None and self._wanted.name == STDIN and self._pipe is not None
            liveness.closed(now, str(reason), lasting=never)

    def _take(self, liveness: Liveness, remote: Remote) -> bool:
        """Takes in what the process says, up to half a second of sound. Whether it said anything."""
        said = False
        seconds = 0.0
        for message in remote.messages(_LOOK_SECONDS):
            said = True
            now = time.monotonic()
            if isinstance(message, CapturedSound):
                self._hear(liveness, message, now)
                seconds += len(message.samples) / self._rate
                if seconds >= _BLOCK_SECONDS:
                    return True
            elif isinstance(message, Opened):
                self.device, self.native_rate, self.channels = message.device, message.native_rate, message.channels
                liveness.opened(now)
                if self.kind is Kind.MICROPHONE:
                    self._tell(self._watch.opened(message.device.name, message.card))
            elif isinstance(message, Facts):
                told, back = self._watch.seen(message)
                self._tell(told)
                if back:
                    self._end_stream()
                    liveness.reopen(now)
                    return True
            elif isinstance(message, Channels):
                self._events.append(Event(CHANNELS, reason=message.reason))
            elif isinstance(message, Trouble):
                self._end_stream()
                liveness.closed(now, message.reason, message.lasting)
                return True
            elif isinstance(message, Finished):
                self._end_stream()
                self._over = True
                return True
        if remote.ended:
            how = self._end_stream()
            name = self.device.name if self.device else self._wanted.shown
            what = (
                "sound system of the microphone"
                if self.kind is Kind.MICROPHONE
                else f"process that reads the {self.kind}"
            )
            if self._pipe:  # the rest of what is in it would be read out of step: whoever writes shall begin again
                self._pipe.close()
            liveness.closed(time.monotonic(), f"the {what} {name!r} broke down ({how})", lasting=self._order.once)
            return True
        return said

    def _hear(self, liveness: Liveness, heard: CapturedSound, now: float) -> None:
        seconds = len(heard.samples) / self._rate + heard.dropped_seconds
        if self._meter is None:
            self._absent_until(heard.arrived - seconds)
            self._meter = LossMeter(self._rate)
            lost = self._meter.add(heard.arrived, 0)
        else:
            lost = self._meter.add(heard.arrived, round(seconds * self._rate))
        self._accounted = max(self._accounted, heard.arrived)
        if heard.overflows:
            self._events.append(Event(OVERFLOW, count=heard.overflows))
        if heard.dropped_seconds:
            self._events.append(Event(DROPPED, seconds=heard.dropped_seconds))
        self._lose(lost)
        value = heard.lowest if heard.lowest == heard.highest else None
        liveness.sound(now, seconds, flat=value is not None and value == self._constant)
        self._constant = value
        self._parts.append(heard.samples)
        self._waiting = max(0.0, now - heard.arrived - _USUAL_DELAY_SECONDS)

    def _end_stream(self) -> str:
        """Ends the process, and settles what its stream lost. Gives how the process had ended."""
        how = self._remote.kill() if self._remote else ""
        self._remote = None
        self._settle()
        return how

    def _settle(self) -> None:
        """Counts what the stream lost until its last sound."""
        if self._meter is not None:
            # As if it had gone on without fault: the meter looks back over seconds, and may have seen a loss already.
            rest = [self._meter.add(self._accounted + second, self._rate) for second in range(1, _SETTLING_SECONDS + 1)]
            self._lose(sum(rest))
            self._meter = None

    def _finish(self) -> Iterator[Block]:
        """The rest of what was heard until now."""
        asked = time.monotonic()
        if self._remote and self._meter is not None and self._liveness:
            self._remote.finish()
            said = asked
            while self._remote and time.monotonic() - said < _FINISH_SECONDS:
                if self._take(self._liveness, self._remote):
                    said = time.monotonic()
                if self._parts:
                    yield self._block()
                    said = time.monotonic()  # how long the reader took is not the process's fault
            silent_seconds = asked - self._accounted
            self._end_stream()
            if silent_seconds > _FINISH_SECONDS:
                self._lose(silent_seconds)
        elif self._liveness:
            self._absent_until(asked)
        if self._liveness:
            last = self._block()
            # That the process has ended, as it was asked to, is no trouble.
            yield dataclasses.replace(last, events=tuple(e for e in last.events if e.kind in (LOST, OVERFLOW, DROPPED)))

    def _block(self) -> Block:
        events = (*self._events, *(self._liveness.news() if self._liveness else ()))
        samples = np.concatenate(self._parts) if self._parts else np.zeros(0, np.float32)
        block = Block(samples, events, self._waiting if self._parts else 0.0, self._absent)
        self._parts, self._events, self._absent, self._waiting = [], [], 0.0, 0.0
        return block

    def _absent_until(self, when: float) -> None:
        if when > self._accounted:
            self._absent += when - self._accounted
            self._accounted = when

    def _lose(self, seconds: float) -> None:
        if seconds:
            self._events.append(Event(LOST, seconds=seconds))

    def _tell(self, reasons: list[str]) -> None:
        self._events.extend(Event(IDENTITY, reason=reason) for reason in reasons)

    def _raise_failure(self) -> None:
        if self._liveness and self._liveness.state is State.FAILED:
            raise InputError(self._liveness.reason)
