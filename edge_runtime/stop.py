"""Signals that ask the program to end or to read its configuration anew: heeded between two blocks of sound."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType


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
