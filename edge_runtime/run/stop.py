"""Signals that ask the program to end or to read its configuration again: heeded between two blocks of sound.

A call into a library or a disk that hangs keeps the loop from coming round. So a thread watches too: where the program
has not ended by itself in time, it ends there.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any

from edge_runtime.system.queued import ready


def _leave(number: int, _frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_DFL)
    raise SystemExit(128 + number)


@contextlib.contextmanager
def leaving_in_order() -> Iterator[None]:
    """Within it SIGTERM and SIGHUP end the program as Ctrl-C does: half-written files go. A second one ends it at once.

    For programs that make files and have an end of their own. The exit code is the shell's, 128 and the signal.
    """
    before: dict[signal.Signals, Any] = {}
    with contextlib.suppress(ValueError):  # not the main thread: then whoever called heeds signals
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is signal.SIG_DFL:  # ignored it stays so, as under nohup
                before[number] = signal.signal(number, _leave)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


AT_ONCE_SECONDS = 1.0
"""How long an end may take while there is nothing to lose: nothing is heard yet."""
ORDERLY_SECONDS = 20.0
"""How long it may take with a run to end in good order: longer than ledger, clips and readers are waited for."""
FORCED = 5
"""The exit code of an end that could not be in good order: something may not have been written."""


class Stop:
    """Remembers that SIGINT or SIGTERM came; a second one ends the program at once.

    SIGHUP, which a closed terminal sends, asks to end too, unless `reloads` is set: then it asks for the configuration.
    """

    def __init__(self) -> None:
        self.asked = False
        self.patience = AT_ONCE_SECONDS
        """Seconds from a signal to the end, at most; what is called in between may set it."""
        self.reloads = False
        self._reload = False

    def __call__(self) -> bool:
        """Whether the program should end."""
        return self.asked

    def reload_wanted(self) -> bool:
        """True once after SIGHUP came, however often it came, when `reloads` is set."""
        wanted, self._reload = self._reload, False
        return wanted

    def _come(self, number: int, _frame: FrameType | None) -> None:
        self.asked = True
        signal.signal(number, signal.SIG_DFL)

    def _hang_up(self, number: int, frame: FrameType | None) -> None:
        if self.reloads:
            self._reload = True
        else:
            self._come(number, frame)

    @contextlib.contextmanager
    def heeded(self) -> Iterator[None]:
        """Within it the signals are heeded. SIGHUP stays ignored where it was, as under nohup."""
        with self._watched():
            yield from self._handled()

    def _handled(self) -> Iterator[None]:
        before = {number: signal.signal(number, self._come) for number in (signal.SIGINT, signal.SIGTERM)}
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            before[signal.SIGHUP] = signal.signal(signal.SIGHUP, self._hang_up)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextlib.contextmanager
    def _watched(self) -> Iterator[None]:
        """Within it a thread sees signals, also while the main thread is in a call that does not return."""
        try:
            heard, told = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError:  # too few descriptors: the signals are heeded all the same
            yield
            return
        before = signal.set_wakeup_fd(told, warn_on_full_buffer=False)
        over = threading.Event()
        watcher = threading.Thread(target=self._watch, args=(heard, over), name="stop", daemon=True)
        try:
            with contextlib.suppress(RuntimeError):  # no thread can be started: likewise
                watcher.start()
            yield
        finally:
            over.set()
            signal.set_wakeup_fd(before)
            os.close(told)
            if watcher.ident is not None:
                watcher.join()
            os.close(heard)

    def _watch(self, heard: int, over: threading.Event) -> None:
        poll = select.poll()
        poll.register(heard, select.POLLIN)
        asked: float | None = None
        while not over.is_set():
            if asked is None:
                poll.poll()
                with contextlib.suppress(BlockingIOError):
                    numbers = os.read(heard, 64)
                    if any(self._ends(number) for number in numbers):
                        asked = time.monotonic()
            elif time.monotonic() - asked < self.patience:
                over.wait(0.1)
            else:
                self._end()

    def _ends(self, number: int) -> bool:
        return number in (signal.SIGINT, signal.SIGTERM) or (number == signal.SIGHUP and not self.reloads)

    def _end(self) -> None:
        """Ends the program without its help."""
        if self.patience <= AT_ONCE_SECONDS:
            os._exit(0)
        if sys.stderr is not None and ready(2, 0):
            with contextlib.suppress(OSError):
                os.write(2, b"edge-detect: asked to end, and something hangs: ended without it; the last may be lost\n")
        os._exit(FORCED)
