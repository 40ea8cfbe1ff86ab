"""What makes figures of speed comparable: the machine, the versions, and how busy it was."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime

from edge_runtime.model.processor import this_processor

BUSY_LOAD = 0.3
"""Load average (1 minute) from which others may have disturbed the timing."""


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

    @property
    def warning(self) -> str | None:
        """What speaks against trusting the times."""
        if self.load is None or self.load < BUSY_LOAD:
            return None
        return f"the machine was busy before it began (load average {self.load:.2f}): measure again when it is idle"

    def lines(self) -> list[str]:
        """For the top of a page."""
        load = "not known" if self.load is None else f"{self.load:.2f}"
        rounds = f", rounds: {self.rounds}" if self.rounds else ""
        told = [
            f"{self.processor}, {self.features}, {self.cores} cores; load average {load} before it began.",
            f"ONNX Runtime {self.onnxruntime}, NumPy {self.numpy}, Python {self.python}; "
            f"threads: {self.threads}, hop: {self.hop_seconds:g} s{rounds}.",
        ]
        return told + ([f"**Warning: {self.warning}.**"] if self.warning else [])


def record(threads: int, hop_seconds: float, rounds: int | None = None) -> Record:
    """The record of a run that begins now."""
    try:
        load = os.getloadavg()[0]
    except OSError:
        load = None
    return Record(
        processor=_name(),
        features=str(this_processor()),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        onnxruntime=onnxruntime.__version__,
        numpy=np.__version__,
        python=platform.python_version(),
        load=load,
        threads=threads,
        hop_seconds=hop_seconds,
        rounds=rounds,
    )


def _name(cpuinfo: Path = Path("/proc/cpuinfo"), board: Path = Path("/proc/device-tree/model")) -> str:
    """The processor's name, or the board's where the processor has none."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    if not name:
        try:
            name = board.read_text(encoding="utf-8", errors="replace").strip("\0 \n")
        except OSError:
            name = platform.processor() or "unknown processor"
    return name
