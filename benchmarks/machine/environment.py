"""The state that a machine is in at a moment: frequencies, temperature, and whether the processor is held back.

`vcgencmd` on a Raspberry Pi and `tegrastats` on a Jetson are asked where they are on PATH; the rest is /sys.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from edge_runtime.system.sysfiles import number, text

_PATIENCE_SECONDS = 1.0
"""For a program's first line. A tegrastats that prints every 0.1 s has then printed several, and is ended."""
_PI_NOW = ((0, "undervoltage"), (1, "frequency capped"), (2, "throttled"), (3, "soft temperature limit"))
"""Bits of `vcgencmd get_throttled` (Raspberry Pi documentation, "vcgencmd"); 16 higher: it has been so since boot."""
_COOLING_THROTTLES = ("cpufreq", "thermal-cpufreq", "cpu-", "throttle", "thermal-devfreq", "devfreq")
"""Types of cooling devices that hold a processor back; others are fans."""


@dataclass(frozen=True)
class Environment:
    """Of the machine at a moment; None is what it does not tell."""

    lowest_mhz: float | None = None  # of the cores' frequencies
    highest_mhz: float | None = None
    temperature_c: float | None = None  # of the hottest zone
    throttled: str | None = None  # what holds the processor back now
    throttled_before: str | None = None  # what did at some time since boot
    throttle_events: int = 0  # since boot, where the machine counts them
    watts: float | None = None  # what the board takes, where tegrastats tells

    def __str__(self) -> str:
        told = []
        if self.highest_mhz is not None:
            low, high = f"{self.lowest_mhz:.0f}", f"{self.highest_mhz:.0f}"
            told.append(f"{high} MHz" if low == high else f"{low} to {high} MHz")
        if self.temperature_c is not None:
            told.append(f"{self.temperature_c:.0f} °C")
        if self.watts is not None:
            told.append(f"{self.watts:.1f} W")
        if self.throttled:
            told.append(f"held back: {self.throttled}")
        elif self.throttled_before:
            told.append(f"held back at some time since boot: {self.throttled_before}")
        return ", ".join(told)


def condition(root: Path = Path("/")) -> Environment:
    """The machine's condition now, read below `root` and from the programs on PATH."""
    jetson = _first_line("tegrastats", "--interval", "100")
    now, before = parse_throttled(_first_line("vcgencmd", "get_throttled"))
    now = now or _cooling(root)  # a Pi's firmware and its kernel may tell of the same
    frequencies = _frequencies_mhz(root)
    temperatures = [*_temperatures_c(root), *tegra_temperatures_c(jetson)]
    return Environment(
        lowest_mhz=min(frequencies, default=None),
        highest_mhz=max(frequencies, default=None),
        temperature_c=max(temperatures, default=None),
        throttled=", ".join(now) or None,
        throttled_before=", ".join(before) or None,
        throttle_events=_throttle_events(root),
        watts=tegra_watts(jetson),
    )


def parse_throttled(line: str) -> tuple[list[str], list[str]]:
    """What holds a Pi back now, and what did since boot, from `throttled=0x50005`; empty for any other line."""
    match = re.fullmatch(r"throttled=0x([0-9a-fA-F]+)", line.strip())
    bits = int(match[1], 16) if match else 0
    return [name for bit, name in _PI_NOW if bits >> bit & 1], [name for bit, name in _PI_NOW if bits >> bit + 16 & 1]


def tegra_temperatures_c(line: str) -> list[float]:
    """The temperatures in a line of tegrastats, `... cpu@45.2C tj@46C ...`; sensors that are off give -256."""
    return [value for value in map(float, re.findall(r"@(-?\d+(?:\.\d+)?)C\b", line)) if value > -40]


def tegra_watts(line: str) -> float | None:
    """What the whole board takes, from `VDD_IN 3180mW/3180mW` (now and mean) or the Nano's `POM_5V_IN 1532/1532`."""
    match = re.search(r"\b(?:VDD_IN|POM_5V_IN) (\d+)(?:mW)?/", line)
    return int(match[1]) / 1000 if match else None


def _first_line(*command: str) -> str:
    """The first line that a program prints, which is then ended: tegrastats never does so itself. Empty without it."""
    program = shutil.which(command[0])
    if program is None:
        return ""
    try:
        running = subprocess.Popen(
            [program, *command[1:]], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
    except OSError:
        return ""
    with running:
        try:
            output, _ = running.communicate(timeout=_PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:  # it goes on printing, or hangs
            running.kill()
            output, _ = running.communicate()
    lines = output.decode(errors="replace").splitlines()
    return lines[0] if lines else ""


def _frequencies_mhz(root: Path) -> list[float]:
    files = root.glob("sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_cur_freq")
    found = [value / 1000 for value in map(number, files) if value is not None]
    if found:
        return found
    cores = re.findall(r"^cpu MHz\s*: (\d+(?:\.\d+)?)$", text(root / "proc/cpuinfo"), re.MULTILINE)
    return [float(value) for value in cores]


def _temperatures_c(root: Path) -> list[float]:
    files = root.glob("sys/class/thermal/thermal_zone*/temp")
    return [value / 1000 for value in map(number, files) if value is not None and value > -40_000]


def _cooling(root: Path) -> list[str]:
    found = set()
    for folder in root.glob("sys/class/thermal/cooling_device*"):
        kind, state = text(folder / "type").lower(), number(folder / "cur_state")
        if state and state > 0 and kind.startswith(_COOLING_THROTTLES):
            found.add(kind)
    return sorted(found)


def _throttle_events(root: Path) -> int:
    """Counted by x86 processors a core, by a Jetson's sensor of overcurrent a rail."""
    patterns = (
        "sys/devices/system/cpu/cpu[0-9]*/thermal_throttle/core_throttle_count",
        "sys/class/hwmon/hwmon*/oc[0-9]*_event_cnt",
    )
    return sum(number(file) or 0 for pattern in patterns for file in root.glob(pattern))
