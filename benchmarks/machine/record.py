"""What makes figures of speed comparable: the machine, the versions, and the state it was in before and after.

All that is read from /proc and /sys is read below `root`, so that boards nobody has here are tested from copies.
"""

from __future__ import annotations

import os
import platform
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import onnxruntime

from benchmarks.machine.environment import Environment, condition
from edge_runtime.model.processor import this_processor
from edge_runtime.system.machine import board_name, fields, processor_name, usable_cores
from edge_runtime.system.sysfiles import text

BUSY_LOAD = 0.3
"""Load average (1 minute) from which others may have disturbed the timing."""
BUSY_WAITING = 0.1
"""Share of the timed work's time in which it did not run, from which others took the processor while it was timed."""
_ROOT = Path("/")


@dataclass(frozen=True)
class Record:
    """Of one run of a benchmark."""

    processor: str
    features: str
    cores: int
    onnxruntime: str
    numpy: str
    python: str
    load: float | None  # of the minute before it began
    threads: int
    hop_seconds: float
    rounds: int | None
    board: str | None = None
    kernel: str = ""
    onnxruntime_build: str = ""
    governor: str | None = None  # of the processor's frequency
    container: str | None = None
    virtual_machine: str | None = None
    before: Environment = Environment()  # noqa: RUF009 - it is frozen
    after: Environment | None = None
    waited: float | None = None  # share of the timed work's time in which it did not run; of one thread alone

    @property
    def warning(self) -> str | None:
        """What speaks against trusting the times."""
        told = []
        if self.load is not None and self.load >= BUSY_LOAD:
            told.append(f"the machine was busy before it began (load average {self.load:.2f})")
        if self.waited is not None and self.waited >= BUSY_WAITING:
            told.append(f"the timed work was kept waiting (busy with other work for {self.waited:.0%} of the time)")
        if self.before.throttled:
            told.append(f"the processor was held back before it began ({self.before.throttled})")
        if self.after and self.after.throttled:
            told.append(f"the processor was held back at its end ({self.after.throttled})")
        elif self.after and self.after.throttle_events > self.before.throttle_events:
            told.append(f"the processor was held back {self.after.throttle_events - self.before.throttle_events} times")
        if not told:
            return None
        cure = "it is idle" if "busy" in told[-1] else "it is cool, idle and on a supply that is strong enough"
        return "; ".join(told) + f": measure again when {cure}"

    def finished(self, root: Path = _ROOT, waited: float | None = None) -> Record:
        """The record with the machine's state after the run, which is now, and what share of its time it waited."""
        return replace(self, after=condition(root), waited=waited)

    def as_json(self) -> dict[str, Any]:
        """With the warning."""
        return asdict(self) | {"warning": self.warning}

    def lines(self) -> list[str]:
        """For the top of a page."""
        load = "not known" if self.load is None else f"{self.load:.2f}"
        rounds = f", rounds: {self.rounds}" if self.rounds else ""
        told = [
            f"{self.processor}, {self.features}, {self.cores} cores; load average {load} before it began.",
            f"ONNX Runtime {self.onnxruntime}, NumPy {self.numpy}, Python {self.python}; "
            f"threads: {self.threads}, hop: {self.hop_seconds:g} s{rounds}.",
        ]
        told += [f"{line}." for line in (self._place(), self._state()) if line]
        return told + ([f"**Warning: {self.warning}.**"] if self.warning else [])

    def _place(self) -> str:
        inside = " in ".join(name for name in (self.container, self.virtual_machine) if name)
        board = self.board if self.board != self.processor else None
        return ", ".join(
            word for word in (board, self.kernel and f"kernel {self.kernel}", inside and f"inside {inside}") if word
        )

    def _state(self) -> str:
        governor = f"governor {self.governor}" if self.governor else ""
        before = str(self.before)
        after = f"afterwards {self.after}" if self.after and str(self.after) else ""
        return "; ".join(word for word in (", ".join(filter(None, (governor, before))), after) if word)


def record(threads: int, hop_seconds: float, rounds: int | None = None, root: Path = _ROOT) -> Record:
    """The record of a run that begins now; `finished` completes it."""
    load = text(root / "proc/loadavg").split()
    return Record(
        processor=processor_name(root),
        features=str(this_processor(root / "proc/cpuinfo")),
        cores=usable_cores(),
        onnxruntime=onnxruntime.__version__,
        numpy=np.__version__,
        python=platform.python_version(),
        load=float(load[0]) if load else None,
        threads=threads,
        hop_seconds=hop_seconds,
        rounds=rounds,
        board=board_name(root) or _dmi(root),
        kernel=text(root / "proc/sys/kernel/osrelease"),
        onnxruntime_build=onnxruntime.get_build_info(),
        governor=text(root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor") or None,
        container=_container(root),
        virtual_machine=_virtual_machine(root),
        before=condition(root),
    )


def warn(about: Record, stream: TextIO | None = None) -> None:
    """Says on `stream` (default: standard error) what speaks against the times, in red on a terminal.

    Without colour where NO_COLOR is set to anything (https://no-color.org).
    """
    stream = stream or sys.stderr
    if about.warning:
        red = stream.isatty() and not os.environ.get("NO_COLOR")
        line = f"warning: {about.warning}"
        print(f"\033[31m{line}\033[0m" if red else line, file=stream)


def _dmi(root: Path) -> str | None:
    names = [text(root / "sys/class/dmi/id" / name) for name in ("sys_vendor", "product_name")]
    return " ".join(name for name in names if name) or None


def _container(root: Path) -> str | None:
    if (root / ".dockerenv").exists():
        return "a Docker container"
    if (root / "run/.containerenv").exists():
        return "a Podman container"
    groups = text(root / "proc/1/cgroup")
    found = next((name for name in ("kubepods", "docker", "containerd", "lxc") if name in groups), None)
    return f"a container ({found})" if found else None


def _virtual_machine(root: Path) -> str | None:
    kind = text(root / "sys/hypervisor/type")
    if kind:
        return f"a virtual machine ({kind})"
    flags = next((value.split() for key, value in fields(root / "proc/cpuinfo") if key == "flags"), [])
    return "a virtual machine" if "hypervisor" in flags else None
