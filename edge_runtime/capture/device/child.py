"""The process that holds a live source: `python -m edge_runtime.capture.device.child`, started by `remote`.

It reads its order, a line of JSON, from its standard input. It opens one microphone, stream or pipe, says on its
standard output what comes, and ends with that. When its standard input is closed, it says what it has heard until then
and ends; when whoever started it is gone, it ends at once.
"""

from __future__ import annotations

import os
import signal
import threading
import time

from edge_runtime.capture.device.devices import Device, load_pyaudio
from edge_runtime.capture.device.identity import look
from edge_runtime.capture.device.microphone import CapturedSound, Microphone
from edge_runtime.capture.device.remote import (
    Channels,
    Finished,
    Message,
    Opened,
    SourceRequest,
    Trouble,
    order_from,
    pack,
)
from edge_runtime.capture.flow import Flow
from edge_runtime.capture.stream import Ffmpeg
from edge_runtime.capture.wanted import STDIN, Kind
from edge_runtime.errors import InputError
from edge_runtime.system.process import die_with_parent, own_output

_PARENT_LOOK_SECONDS = 0.5
_FIRST_LOOK_SECONDS = 0.5


class _Voice:
    """Writes messages to the pipe; ends the process when nobody reads them any more."""

    def __init__(self, handle: int) -> None:
        self._handle = handle
        self._guard = threading.Lock()

    def say(self, message: Message) -> None:
        data = memoryview(pack(message))
        with self._guard:
            try:
                while data:
                    data = data[os.write(self._handle, data) :]
            except OSError:
                os._exit(0)


def main() -> None:
    """Does what the order says, and never returns: C libraries may hang where Python tidies up."""
    try:
        voice = _Voice(own_output())
        ending = threading.Event()
        order = order_from(_first_line())
        _follow_parent(ending)
        if order.wanted.kind is Kind.MICROPHONE:
            _listen(order, voice, ending)
        else:
            _follow(order, voice, ending)
    finally:
        os._exit(0)


def _first_line() -> str:
    """The order. Read byte by byte: what follows is for whoever waits for the end of the input."""
    line = bytearray()
    while (byte := os.read(0, 1)) not in (b"", b"\n"):
        line += byte
    return line.decode()


def _listen(order: SourceRequest, voice: _Voice, ending: threading.Event) -> None:
    """Says what a microphone hears."""
    try:
        load_pyaudio()
    except InputError as reason:
        voice.say(Trouble(str(reason), lasting=True))
        return
    try:
        microphone = Microphone(order.wanted.name, order.sample_rate, order.wanted.channel, order.known)
        voice.say(Opened(microphone.device, microphone.card, microphone.native_rate, microphone.channels))
        threading.Thread(target=_look, args=(voice, order.identity_check), daemon=True).start()
        while not ending.is_set():
            heard = microphone.read()
            if heard:
                _say_news(microphone, voice)
                voice.say(heard)
        waiting = microphone.held  # what comes from now on is not asked for any more
        while waiting > 0:
            before = microphone.held
            heard = microphone.read()
            if heard:
                voice.say(heard)
            waiting -= max(1, before - microphone.held) if heard else waiting
        voice.say(CapturedSound(microphone.rest(), time.monotonic(), 0, 0.0, 0.0, 0.0))
    except InputError as reason:
        voice.say(Trouble(str(reason)))
    except Exception as reason:  # whatever a sound library may raise, whoever waits must hear of it
        voice.say(Trouble(f"the sound system fails: {type(reason).__name__}: {str(reason) or 'no reason given'}"))


def _follow(order: SourceRequest, voice: _Voice, ending: threading.Event) -> None:
    """Says what comes through a pipe, which may be that of ffmpeg."""
    pipe = order.wanted.kind is Kind.PIPE
    try:
        ffmpeg = None if pipe else Ffmpeg(order.wanted.name)
    except InputError as reason:
        voice.say(Trouble(str(reason), lasting=True))
        return
    flow = _flow(order, ffmpeg)
    opened = None
    while not ending.is_set():
        heard = flow.read()
        form = (flow.rate, flow.channels)
        if form != opened and (pipe or flow.rate):  # a pipe is there before its format is known
            opened = form
            voice.say(Opened(Device(-1, order.wanted.shown, flow.channels, flow.rate), None, *form))
        if heard:
            _say_news(flow, voice)
            voice.say(heard)
        elif flow.over:
            if flow.rate or ffmpeg is None or not ffmpeg.again():
                break
            flow = _flow(order, ffmpeg)
    flow.close()
    while heard := flow.read():
        voice.say(heard)
    if flow.rate:
        voice.say(flow.rest())
    if not ending.is_set():
        voice.say(_end_of(order, flow, ffmpeg))


def _say_news(source: Microphone | Flow, voice: _Voice) -> None:
    for text in source.news():
        voice.say(Channels(f"{text} (--channel N takes one)"))


def _flow(order: SourceRequest, ffmpeg: Ffmpeg | None) -> Flow:
    handle = order.handle if ffmpeg is None else ffmpeg.handle
    assert handle is not None
    wanted = order.wanted
    lasting = wanted.kind is Kind.PIPE and wanted.name != STDIN
    return Flow(handle, order.sample_rate, order.longest_gap, wanted.channel, wanted.raw, lasting)


def _end_of(order: SourceRequest, flow: Flow, ffmpeg: Ffmpeg | None) -> Message:
    """How what was followed ended."""
    name = order.wanted.shown
    if ffmpeg is not None:  # what it wrote breaks off where it ends, which is no news
        return Trouble(f"{name}: {flow.trouble if flow.trouble and flow.rate else ffmpeg.reason()}")
    if flow.trouble is not None:
        return Trouble(f"{name}: {flow.trouble}", lasting=order.once)
    return Finished() if order.once else Trouble(f"{name}: what wrote into it has gone")


def _look(voice: _Voice, every_seconds: float) -> None:
    wait = min(_FIRST_LOOK_SECONDS, every_seconds)
    while True:
        time.sleep(wait)
        voice.say(look(os.getpid()))
        wait = every_seconds


def _follow_parent(ending: threading.Event) -> None:
    """Ends with the parent, and not by signals that are meant for it."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    parent = os.getppid()
    die_with_parent()

    def follow() -> None:
        while os.read(0, 1):
            pass
        ending.set()
        while os.getppid() == parent:
            time.sleep(_PARENT_LOOK_SECONDS)
        os._exit(0)

    threading.Thread(target=follow, daemon=True).start()


if __name__ == "__main__":
    main()
