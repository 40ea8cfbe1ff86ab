"""The energy that a piece of work takes, where the machine measures it: RAPL on a PC, INA sensors on a board.

RAPL counts microjoules (Linux, `Documentation/power/powercap/powercap.rst`). An INA3221 or its like, on a Jetson or
behind a board's supply, gives volts and amperes or watts of the moment (`Documentation/hwmon/ina3221.rst`,
`sysfs-interface.rst`): these are summed up over time. A Raspberry Pi before the 5 has neither.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Protocol

from edge_runtime.system.sysfiles import text

SAMPLING_SECONDS = 0.02
"""Between two readings of a power sensor. An INA3221 averages over about as long."""
_TOTALS = ("VDD_IN", "POM_5V_IN", "SYS5V", "5V_IN")
"""Labels of the channel that feeds all others, on Jetsons: where one is there, the others would count twice."""


@dataclass(frozen=True)
class Energy:
    """What a piece of work took."""

    source: str
    joules: float
    seconds: float

    @property
    def watts(self) -> float:
        """Mean power while it lasted."""
        return self.joules / self.seconds


class Meter(Protocol):
    """Something that measures energy."""

    @property
    def source(self) -> str:
        """Its name for a table."""

    def measure(self, work: Callable[[], object]) -> Energy:
        """Does the work, and tells what it took. Raises OSError when the sensor can no longer be read."""


@dataclass(frozen=True)
class Counters:
    """RAPL: counters of microjoules, one a processor package, each of which starts again at its range."""

    files: tuple[Path, ...]
    ranges_uj: tuple[int, ...]
    source: str = "RAPL"

    def measure(self, work: Callable[[], object]) -> Energy:
        """The counters' difference. One that turned over is right if it did so once: a minute or more of full load."""
        start, begin = time.perf_counter(), [_number(file) for file in self.files]
        work()
        end, seconds = [_number(file) for file in self.files], time.perf_counter() - start
        microjoules = sum(
            after - before if after >= before else after + limit - before
            for before, after, limit in zip(begin, end, self.ranges_uj, strict=True)
        )
        return Energy(self.source, microjoules / 1e6, seconds)


@dataclass(frozen=True)
class Channel:
    """A sensor of power: one file of microwatts, or a file of millivolts and one of milliamperes."""

    files: tuple[Path, ...]

    def watts(self) -> float:
        """At this moment."""
        values = [_number(file) for file in self.files]
        return values[0] / 1e6 if len(values) == 1 else values[0] / 1e3 * values[1] / 1e3


@dataclass(frozen=True)
class Sensors:
    """Sensors of power, read again and again by a thread and summed up by the trapezoidal rule."""

    channels: tuple[Channel, ...]
    source: str

    def measure(self, work: Callable[[], object]) -> Energy:
        """Power over time. The reading thread is part of the load that it measures; it sleeps nearly always."""
        readings: list[tuple[float, float]] = []
        failures: list[OSError] = []
        done = threading.Event()

        def read() -> None:
            readings.append((time.perf_counter(), sum(channel.watts() for channel in self.channels)))

        def watch() -> None:
            try:
                while not done.wait(SAMPLING_SECONDS):
                    read()
            except OSError as reason:
                failures.append(reason)

        read()
        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            work()
        finally:
            done.set()
            watcher.join()
        if failures:
            raise failures[0]
        read()
        joules = sum((later - sooner) * (before + after) / 2 for (sooner, before), (later, after) in pairwise(readings))
        return Energy(self.source, joules, readings[-1][0] - readings[0][0])


def find_meter(root: Path = Path("/")) -> Meter | None:
    """The machine's meter, below `root`; None where it exposes none, or none that this user may read."""
    return _rapl(root) or _ina(root)


def _rapl(root: Path) -> Counters | None:
    files, ranges = [], []
    # A package is intel-rapl:N (on AMD too); intel-rapl:N:M are parts of it.
    for folder in sorted((root / "sys/class/powercap").glob("intel-rapl:*")):
        if folder.name.count(":") != 1 or not text(folder / "name").startswith("package"):
            continue
        try:
            _number(folder / "energy_uj")  # since 2020 root alone may read it
            ranges.append(_number(folder / "max_energy_range_uj"))
        except (OSError, ValueError):
            continue
        files.append(folder / "energy_uj")
    return Counters(tuple(files), tuple(ranges)) if files else None


def _ina(root: Path) -> Sensors | None:
    found: list[tuple[str, Channel]] = []
    for folder in sorted((root / "sys/class/hwmon").glob("hwmon*")):
        if not text(folder / "name").startswith("ina"):
            continue
        powers = [(folder / f"power{n}_input",) for n in range(1, 9)]
        products = [(folder / f"in{n}_input", folder / f"curr{n}_input") for n in range(1, 9)]
        # An INA219 or INA226 gives its own product; an INA3221 leaves that to us.
        for group in (powers, products):
            usable = [(files, _label(folder, files[0])) for files in group if _readable(files)]
            found += [(label, Channel(files)) for files, label in usable]
            if usable:
                break
    total = [pair for pair in found if pair[0] in _TOTALS] or found
    names = ", ".join(label for label, _ in total)
    return Sensors(tuple(channel for _, channel in total), f"INA ({names})") if total else None


def _label(folder: Path, file: Path) -> str:
    return text(folder / file.name.replace("_input", "_label")) or text(folder / "name")


def _readable(files: tuple[Path, ...]) -> bool:
    try:
        return bool([_number(file) for file in files])
    except (OSError, ValueError):
        return False


def _number(file: Path) -> int:
    return int(file.read_text(encoding="ascii"))
