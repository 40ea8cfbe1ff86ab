"""The process that holds the microphone: `python -m edge_runtime.capture.child ORDER`, started by `capture.remote`.

It opens one stream, says on its standard output what comes, and ends with the stream. When its standard input is
closed, it says what it has heard until then and ends; when whoever started it is gone, it ends at once.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

from edge_runtime.capture.devices import load_pyaudio
from edge_runtime.capture.identity import look
from edge_runtime.capture.microphone import Heard, Microphone
from edge_runtime.capture.remote import Channels, Message, Opened, Order, Trouble, order_from, pack
from edge_runtime.errors import InputError
from edge_runtime.process import die_with_parent, own_output

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


def main(arguments: list[str]) -> None:
    """Does what the order in the only argument says, and never returns: C libraries may hang where Python tidies up."""
    try:
        voice = _Voice(own_output())
        ending = threading.Event()
        _follow_parent(ending)
        _listen(order_from(arguments[0]), voice, ending)
    finally:
        os._exit(0)


def _listen(order: Order, voice: _Voice, ending: threading.Event) -> None:
    try:
        load_pyaudio()
    except InputError as reason:
        voice.say(Trouble(str(reason), lasting=True))
        return
    try:
        microphone = Microphone(order.name, order.sample_rate, order.channel, order.known)
        voice.say(Opened(microphone.device, microphone.card, microphone.native_rate, microphone.channels))
        threading.Thread(target=_look, args=(voice, order.identity_check), daemon=True).start()
        while not ending.is_set():
            heard = microphone.read()
            if heard:
                for text in microphone.news():
                    voice.say(Channels(f"{text} (--channel N takes one)"))
                voice.say(heard)
        waiting = microphone.held  # what comes from now on is not asked for any more
        while waiting > 0:
            before = microphone.held
            heard = microphone.read()
            if heard:
                voice.say(heard)
            waiting -= max(1, before - microphone.held) if heard else waiting
        voice.say(Heard(microphone.rest(), time.monotonic(), 0, 0.0, 0.0, 0.0))
    except InputError as reason:
        voice.say(Trouble(str(reason)))
    except Exception as reason:  # whatever a sound library may raise, whoever waits must hear of it
        voice.say(Trouble(f"the sound system fails: {type(reason).__name__}: {str(reason) or 'no reason given'}"))


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
    main(sys.argv[1:])
