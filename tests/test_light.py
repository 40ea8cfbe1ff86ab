"""The status light: what it shows, that it never claims to listen when nobody does, and LEDs that are not there."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from edge_runtime.decision.alarm import OFF, ON, Alarm
from edge_runtime.report.light import RETRY_SECONDS, Light

NOISE = np.random.default_rng(0).standard_normal(1600).astype(np.float32)
ZEROS = np.zeros(1600, np.float32)


class Led:
    """A folder like one in /sys/class/leds, and all that is written to its brightness, with the times."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.values: list[int] = []
        self.times: list[float] = []

    def plug_in(self) -> Led:
        self.folder.mkdir()
        (self.folder / "max_brightness").write_text("37\n")
        os.mkfifo(self.folder / "brightness")
        self._pipe = os.open(self.folder / "brightness", os.O_RDWR)
        threading.Thread(target=self._read, daemon=True).start()
        return self

    def flashes(self, since: int = 0) -> list[float]:
        """When it was lit."""
        return [when for value, when in list(zip(self.values, self.times, strict=False))[since:] if value]

    def is_dark(self) -> bool:
        """Three writes without a flash come in the dark only."""
        return self.values[-3:] == [0, 0, 0]

    def _read(self) -> None:
        while data := os.read(self._pipe, 100):
            for value in data.split():
                self.times.append(time.monotonic())
                self.values.append(int(value))


class Loop:
    """The loop that hears, with a light."""

    def __init__(self, led: Led) -> None:
        self.led = led
        self.hears = True
        self.sound = NOISE
        self.complaints: list[str] = []
        self.light = Light(str(led.folder), lambda: self.hears, self.complaints.append)

    def until(self, wanted: Callable[[], bool], turns: bool = True) -> None:
        """Turns on (or hangs) until something is so."""
        deadline = time.monotonic() + 30
        while not wanted():
            assert time.monotonic() < deadline, (self.led.values, self.complaints)
            if turns:
                self.light.sound(1.0, self.sound)
                self.light.moment(0.0)
            time.sleep(0.005)

    def gaps(self, flashes: int) -> list[float]:
        """The times from one flash to the next, of the next flashes."""
        since = len(self.led.values)
        self.until(lambda: len(self.led.flashes(since)) >= flashes)
        return list(np.diff(self.led.flashes(since)))


@pytest.fixture
def loop(tmp_path: Path) -> Iterator[Loop]:
    made = Loop(Led(tmp_path / "ACT").plug_in())
    yield made
    made.light.close()


def alarm(kind: str) -> Alarm:
    return Alarm(kind, number=1, start=1.0, at=3.0, score=-2.5)


def test_every_state_has_flashes_that_a_person_can_tell_apart(loop: Loop) -> None:
    one = loop.gaps(3)
    assert min(one) > 1.7
    loop.hears = False
    two = loop.gaps(6)[1:]  # the first may still be the other's
    assert max(two[0], two[1]) > 1.3 > min(two[0], two[1]) and abs(two[0] - two[2]) < abs(two[0] - two[1])
    loop.light.alarm(alarm(ON))
    assert sorted(loop.gaps(8))[3] < 0.28
    loop.light.alarm(alarm(OFF))
    loop.hears = True
    assert max(loop.gaps(4)) > 1.7
    assert set(loop.led.values) == {0, 37}, "a flash is as bright as the LED can be"
    loop.light.close()
    loop.until(lambda: loop.led.values[-1] == 0, turns=False)  # the pipe is read by a thread


@pytest.mark.parametrize("state", ["listening", "alarm"])
def test_a_loop_that_hangs_leaves_the_light_dark_until_it_goes_on(loop: Loop, state: str) -> None:
    if state == "alarm":
        loop.light.alarm(alarm(ON))
    loop.until(lambda: len(loop.led.flashes()) >= 2)
    loop.until(loop.led.is_dark, turns=False)
    since = len(loop.led.values)
    loop.until(lambda: len(loop.led.values) > since + 3, turns=False)
    assert not loop.led.flashes(since)
    loop.until(lambda: bool(loop.led.flashes(since)))


@pytest.mark.parametrize("sound", [ZEROS, ZEROS[:0]], ids=["zeros", "nothing"])
def test_a_source_that_says_it_listens_and_gives_nothing_is_trouble(loop: Loop, sound: np.ndarray) -> None:
    loop.until(lambda: len(loop.led.flashes()) >= 2)
    loop.sound = sound
    loop.until(lambda: len(loop.led.flashes()) >= 7)
    assert min(np.diff(loop.led.flashes()[-5:])) < 1.3


@pytest.mark.nightly
def test_an_led_that_comes_late_is_complained_of_once_and_used(tmp_path: Path) -> None:
    loop = Loop(Led(tmp_path / "late"))
    since = time.monotonic()
    loop.until(lambda: time.monotonic() > since + 2.2 * RETRY_SECONDS)
    assert len(loop.complaints) == 1 and str(tmp_path / "late" / "brightness") in loop.complaints[0]
    loop.led.plug_in()
    loop.until(lambda: len(loop.led.flashes()) >= 2)
    loop.light.close()
    assert len(loop.complaints) == 1
    loop.until(lambda: loop.led.values[-1] == 0, turns=False)  # the pipe is read by a thread


def test_a_folder_that_is_no_led_ends_nothing(tmp_path: Path) -> None:
    (tmp_path / "odd" / "brightness").mkdir(parents=True)
    (tmp_path / "odd" / "max_brightness").write_text("bright")
    loop = Loop(Led(tmp_path / "odd"))
    loop.until(lambda: bool(loop.complaints))
    loop.light.close()
    assert "\n" not in loop.complaints[0]
