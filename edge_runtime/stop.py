"""Signals that ask the program to end or to read its configuration anew: heeded between two blocks of sound."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType
from typing import Any


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


class Stop:
    """Remembers that SIGINT or SIGTERM came; a second one ends the program at once.

    SIGHUP, which a closed terminal sends, asks to end too, unless `reloads` is set: then it asks for the configuration.
    """

    def __init__(self) -> None:
        self.asked = False
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
        before = {number: signal.signal(number, self._come) for number in (signal.SIGINT, signal.SIGTERM)}
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            before[signal.SIGHUP] = signal.signal(signal.SIGHUP, self._hang_up)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
