"""What machine this is, from /proc: read below `root`, so that boards nobody has here are tested from copies."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edge_runtime.system.sysfiles import text

_ROOT = Path("/")
_MEMORY = "MemTotal"


@dataclass(frozen=True)
class Machine:
    """What a figure of speed belongs to."""

    architecture: str
    processor: str
    cores: int  # that this process may use
    memory_bytes: int | None
    board: str | None  # of a device tree; PCs have none
    kernel: str


def this_machine(root: Path = _ROOT) -> Machine:
    """The machine that this runs on; what it does not tell is empty or None."""
    memory = next((value.split() for key, value in fields(root / "proc/meminfo") if key == _MEMORY), [])
    return Machine(
        architecture=platform.machine(),
        processor=processor_name(root),
        cores=usable_cores(),
        memory_bytes=1024 * int(memory[0]) if memory and memory[0].isdecimal() else None,
        board=board_name(root),
        kernel=text(root / "proc/sys/kernel/osrelease"),
    )


def usable_cores() -> int:
    """The processor's cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processor_name(root: Path = _ROOT) -> str:
    """The processor's name, or the board's where the processor has none."""
    name = next((value for key, value in fields(root / "proc/cpuinfo") if key == "model name" and value), "")
    return name or board_name(root) or platform.processor() or "unknown processor"


def board_name(root: Path = _ROOT) -> str | None:
    """The board, as its device tree calls it."""
    return text(root / "proc/device-tree/model") or None


def fields(path: Path) -> Iterator[tuple[str, str]]:
    """Names and values of a file of `name: value` lines."""
    for line in text(path).splitlines():
        name, _, value = line.partition(":")
        yield name.strip(), value.strip()
