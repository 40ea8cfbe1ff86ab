"""A status light: one LED of the kernel's, which says whether anybody listens. docs/light.md is for its reader.

A light must not claim what is not so. Hence no trigger of the kernel plays the patterns: `timer` and `pattern` go on
after a program has died or hangs; a `pattern` with an end does not, but its files are there only once it is chosen,
belong to root then, and most kernels have it in a module that nobody has loaded. A thread writes every flash instead,
as long as the loop that hears has come round in the last CLAIM_SECONDS. What is left to chance is a program that is
killed or frozen within a flash: the LED stays lit, and a steady light is therefore no pattern. Writing 0, as each flash
ends with, also takes any trigger off the LED, so that `brightness` is the only file that must be writable.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_runtime.decision.alarm import ON, Alarm
from edge_runtime.decision.verdict import Window
from edge_runtime.report import Report

LEDS = Path("/sys/class/leds")
CLAIM_SECONDS = 3.0
"""So long after the loop has come round last, and after the last sound, the light still says that it listens."""
RETRY_SECONDS = 5.0
"""How often an LED is tried that is absent, or must not be written."""

Pattern = tuple[tuple[float, float], ...]
"""Seconds lit and dark, one flash after the other, again and again."""
LISTENING: Pattern = ((0.1, 1.9),)
TROUBLE: Pattern = ((0.1, 0.2), (0.1, 1.6))
ALARM: Pattern = ((0.1, 0.1),)
DARK: Pattern = ((0.0, 0.5),)
_BRIGHTEST = 255  # where `max_brightness` cannot be read; the kernel takes it for the most there is
_CLOSE_SECONDS = 0.5


class Light(Report):
    """Shows LISTENING, ALARM, or TROUBLE with the microphone; DARK before the first moment and after the end.

    A driver that is slow, or hangs, holds up the thread of the light and never the sound.
    """

    def __init__(self, name: str, listening: Callable[[], bool], complain: Callable[[str], object]) -> None:
        """`name` as in LEDS, or the path of a folder with `brightness` in it; `listening`: whether the source hears.

        An LED that cannot be used is complained of once, and tried again and again.
        """
        self._folder = LEDS / name
        self._listening = listening
        self._complain = complain
        self._complained: int | None = None  # the error that was told
        self._alarm = False
        self._sounded = False  # since the last moment
        self._heard = -CLAIM_SECONDS
        self._news = threading.Condition()
        self._pattern = DARK
        self._renewed = -CLAIM_SECONDS
        self._over = False
        self._thread = threading.Thread(target=self._work, name="light", daemon=True)
        self._thread.start()

    def sound(self, at_seconds: float, samples: NDArray[np.float32]) -> None:
        """One constant value is what a dead microphone gives, and not heard."""
        self._sounded |= bool(len(samples)) and float(samples.min()) != float(samples.max())
        self._renew(self._pattern)

    def window(self, window: Window) -> None:
        """The loop lives, though it takes its time on a slow machine."""
        self._renew(self._pattern)

    def alarm(self, alarm: Alarm) -> None:
        """It overrides all else until it is over."""
        self._alarm = alarm.kind == ON

    def moment(self, absent_seconds: float) -> None:
        """Decides on the pattern."""
        now = time.monotonic()
        if self._sounded:
            self._heard, self._sounded = now, False
        hears = self._listening() and now - self._heard < CLAIM_SECONDS
        self._renew(ALARM if self._alarm else LISTENING if hears else TROUBLE)

    def close(self) -> None:
        """The light goes dark."""
        with self._news:
            self._over = True
            self._news.notify()
        self._thread.join(_CLOSE_SECONDS)

    def _renew(self, pattern: Pattern) -> None:
        with self._news:
            before = self._due()
            self._pattern, self._renewed = pattern, time.monotonic()
            if pattern is not before:
                self._news.notify()

    def _due(self) -> Pattern:
        return self._pattern if time.monotonic() - self._renewed < CLAIM_SECONDS else DARK

    def _work(self) -> None:
        while not self._over:
            try:
                self._play(self._due())
                self._complained = None
            except (OSError, ValueError) as reason:
                self._fail(reason)
                self._wait(RETRY_SECONDS)
        with contextlib.suppress(OSError):
            self._write(0)

    def _play(self, pattern: Pattern) -> None:
        """Once through, unless there is another to show."""
        for lit, dark in pattern:
            if lit:
                self._write(self._brightest())
                self._wait(lit)
            self._write(0)
            if self._wait(dark, pattern):
                return

    def _wait(self, seconds: float, pattern: Pattern | None = None) -> bool:
        """Whether the end, or where a pattern is named another one, came within the seconds."""
        with self._news:
            return self._news.wait_for(
                lambda: self._over or (pattern is not None and self._due() is not pattern), seconds
            )

    def _brightest(self) -> int:
        try:
            return int((self._folder / "max_brightness").read_text())
        except FileNotFoundError:
            return _BRIGHTEST

    def _write(self, brightness: int) -> None:
        handle = os.open(self._folder / "brightness", os.O_WRONLY | os.O_TRUNC | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            os.write(handle, b"%d\n" % brightness)
        finally:
            os.close(handle)

    def _fail(self, reason: OSError | ValueError) -> None:
        number = reason.errno if isinstance(reason, OSError) and reason.errno else 0
        if number == self._complained:
            return
        self._complained = number
        why = os.strerror(number) if number else str(reason)
        there = ", ".join(_names()) or "no LED at all"
        more = {errno.ENOENT: f"; there is: {there}", errno.EACCES: "; docs/light.md tells how to allow it"}
        more[errno.EROFS] = more[errno.EPERM] = more[errno.EACCES]
        self._complain(
            f"no status light: {self._folder / 'brightness'} cannot be written ({why}{more.get(number, '')}); "
            "it is tried again and again"
        )


def _names() -> list[str]:
    """The LEDs that there are."""
    try:
        return sorted(os.listdir(LEDS))
    except OSError:
        return []
