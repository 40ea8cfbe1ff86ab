"""The loop: seeds are mutated and run until the time is over; what is no error of ours, hangs or grows is a finding."""

from __future__ import annotations

import gc
import random
import resource
import signal
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from edge_runtime.errors import EdgeDetectError
from tests.fuzz.mutate import mutate

_KEPT = 20
"""Findings that are kept; the loop ends with more."""
_MEGABYTE = 1 << 20


class TooSlow(Exception):
    """One input took longer than its target allows."""


@dataclass(frozen=True)
class Target:
    """What is fuzzed.

    `seeds` gives good inputs; it may write into the folder, which `run` gets too. `run` reads one input: it may raise
    EdgeDetectError, any other exception is a finding, AssertionError too. `tokens` are pieces that mutations insert.
    """

    seeds: Callable[[Path], list[bytes]]
    run: Callable[[bytes, Path], None]
    tokens: tuple[bytes, ...] = ()
    most_seconds: float = 5.0
    most_growth_megabytes: float = 300.0  # of the process' largest memory, over all inputs


@dataclass
class Result:
    """What came of it."""

    executions: int = 0
    refused: int = 0  # inputs that ended in one of our errors
    slowest_seconds: float = 0.0
    grown_megabytes: float = 0.0
    findings: list[tuple[bytes, str]] = field(default_factory=list)  # input, and what was wrong

    def __str__(self) -> str:
        return (
            f"{self.executions} inputs, {self.refused} refused in one line, {len(self.findings)} findings, "
            f"slowest {self.slowest_seconds:.2f} s, memory grew by {self.grown_megabytes:.0f} MB"
        )


def fuzz(target: Target, folder: Path, *, seconds: float, executions: int | None = None, seed: int = 0) -> Result:
    """Runs the seeds as they are, then mutations of them, for `seconds` or `executions`, whichever ends first.

    The input at work lies in `folder`/last, in case that it takes the process with it.
    """
    generator = random.Random(seed)
    seeds = target.seeds(folder)
    result = Result()
    result_before = _peak_megabytes()
    ends = time.monotonic() + seconds
    while time.monotonic() < ends and (executions is None or result.executions < executions):
        place = result.executions
        sample = (
            seeds[place] if place < len(seeds) else mutate(generator, generator.choice(seeds), seeds, target.tokens)
        )
        (folder / "last").write_bytes(sample)
        _run(target, sample, folder, result)
        if place == len(seeds):
            result_before = _peak_megabytes()  # what good inputs take is no growth
        result.grown_megabytes = max(0.0, _peak_megabytes() - result_before)
        if result.grown_megabytes > target.most_growth_megabytes:
            result.findings.append((sample, f"memory grew by {result.grown_megabytes:.0f} MB"))
            break
        if len(result.findings) >= _KEPT:
            break
        if place % 500 == 0:
            gc.collect()
    return result


def _run(target: Target, sample: bytes, folder: Path, result: Result) -> None:
    began = time.monotonic()
    before = signal.signal(signal.SIGALRM, _too_slow)
    signal.setitimer(signal.ITIMER_REAL, target.most_seconds)
    try:
        target.run(sample, folder)
    except EdgeDetectError as error:
        result.refused += 1
        text = str(error)
        if not text or "\n" in text or len(text) > 1000:
            result.findings.append((sample, f"no good line: {text[:2000]!r}"))
    except (Exception, RecursionError, MemoryError):
        result.findings.append((sample, traceback.format_exc()))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    result.executions += 1
    result.slowest_seconds = max(result.slowest_seconds, time.monotonic() - began)


def _too_slow(number: int, frame: FrameType | None) -> Any:
    raise TooSlow


def _peak_megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / _MEGABYTE
