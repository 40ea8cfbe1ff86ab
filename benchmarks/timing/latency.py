"""How long model files take for a window on this machine: percentiles, stages, threads, start, memory, energy.

All models are timed in turns in one process, and that is repeated in several fresh ones, whose samples are pooled: a
ratio is taken within a round, where what else the machine does cancels, and the spread between processes stands beside.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine.energy import Energy, Meter, find_meter
from benchmarks.machine.record import Record, record
from benchmarks.timing.interleaved import InterleavedTimes, Spread
from benchmarks.timing.latency_worker import Timed, rounds_of, run_worker
from benchmarks.timing.memory import Memory, live_memory
from benchmarks.timing.pipelines import Pipeline, open_pipeline
from benchmarks.timing.start import ready_seconds
from benchmarks.timing.subgraph import need_onnx
from edge_runtime.errors import UsageError
from evaluation.comparison import describe
from evaluation.percentiles import Percentiles
from evaluation.progress import silently

_ENERGY_HOPS = 40
"""Scored without a pause: seconds on a board, so that a sensor has many readings of them."""


@dataclass(frozen=True)
class Stage:
    """One stage of a hop, timed alone. Its CPU time is a median."""

    name: str
    wall: Percentiles
    cpu_ms: float


@dataclass(frozen=True)
class Threads:
    """Hops with so many intra-op threads, in fresh processes of their own."""

    threads: int
    hop: Percentiles
    cpu_ms: float  # median, of all threads
    speedup: float  # the median with the sweep's first number of threads, divided by this one


@dataclass(frozen=True)
class WindowEnergy:
    """Energy of a window in mJ: of all that the meter sees while windows are scored without a pause."""

    source: str
    window_mj: float
    above_idle_mj: float  # without what the machine takes in as much time when it does nothing


@dataclass(frozen=True)
class ModelLatency:
    """One model file. Times are of a hop and the window that it completes, in the steady state."""

    name: str
    path: str
    size_bytes: int
    sha256: str
    level: str
    target: str
    form: str
    hop: Percentiles
    mean_ms: float
    deviation_ms: float  # standard deviation of the samples
    cpu_ms: Spread  # CPU time of a hop, of all threads
    ratio: Spread  # the first model's time divided by this one's in the same round: above 1 is faster than it
    cpu_ratio: Spread  # the same of CPU times, which other programs disturb less
    process_medians_ms: list[float]
    cpu_ms_per_audio_second: float
    live: Memory | None
    ready_s: float
    first_window_s: float
    stages: list[Stage]
    sweep: list[Threads]
    energy: WindowEnergy | None
    samples_ms: list[float]  # of all processes, in their order

    @property
    def between_processes(self) -> float:
        """From the lowest to the highest median of a process, divided by the median of all."""
        return (max(self.process_medians_ms) - min(self.process_medians_ms)) / self.hop.p50_ms


@dataclass(frozen=True)
class LatencyRun:
    """All that the command prints."""

    record: Record
    processes: int
    rows: list[ModelLatency]

    def as_json(self) -> dict[str, Any]:
        """As JSON takes it; a percentile that the samples cannot carry is null."""
        rows = [asdict(row) | {"between_processes": row.between_processes} for row in self.rows]
        return {"record": self.record.as_json(), "processes": self.processes, "rows": rows}


def latency(
    paths: Sequence[Path],
    hop_seconds: float = 0.5,
    threads: int = 1,
    rounds: int = 230,
    processes: int = 3,
    sweep: Sequence[int] = (),
    progress: Callable[..., Any] = silently,
) -> LatencyRun:
    """Measures the model files of `paths`, the first of which the others are compared with; each may have any form.

    A `waveform` file is run by the baseline pipeline (`baseline`), any other by the runtime's detector. The
    memory is that of the program, `edge-detect`, which has one thread whatever `threads` is.
    230 rounds in 3 processes are the 662 samples that a p99 takes, and some more. Each number of threads in `sweep`
    is timed in as many processes again. Raises UsageError for numbers that cannot be or without onnx, ModelError for
    a file that cannot be run here.
    """
    about = record(threads, hop_seconds, rounds)  # before anything makes the machine busy
    _check(paths, rounds, processes, [threads, *sweep], about.cores)
    need_onnx()
    pipelines = [open_pipeline(path, hop_seconds, threads) for path in paths]
    numbers = list(dict.fromkeys(sweep))
    found: dict[int, list[Timed]] = {number: [] for number in dict.fromkeys([threads, *numbers])}

    def work() -> Iterator[int]:
        for number, timed in found.items():
            for _ in range(processes):
                yield from run_worker(paths, hop_seconds, number, rounds, number == threads, timed)

    total = sum(rounds_of(len(paths), rounds, number == threads) for number in found) * processes
    _drain(work(), total, progress)
    meter = find_meter()
    idle = _measured(meter, _pause)
    rows = []
    for index in progress(range(len(paths)), desc="memory, start, energy", unit="model"):
        pipeline = pipelines[index]
        energy = _energy(meter, pipeline, idle)
        points = _sweep(numbers, found, index)
        rows.append(_row(pipeline, index, paths[0], found[threads], about, processes, points, energy))
    return LatencyRun(about.finished(waited=_waited(found[threads], threads)), processes, rows)


def _check(paths: Sequence[Path], rounds: int, processes: int, threads: Sequence[int], cores: int) -> None:
    if not paths or min(rounds, processes, *threads) < 1:
        raise UsageError("latency needs at least one model, round, process and thread")
    if max(threads) > cores:
        raise UsageError(f"{max(threads)} threads cannot be timed: this process may use {cores} cores")


def _drain(work: Iterator[int], total: int, progress: Callable[..., Any]) -> None:
    """Runs through `work`, whose values are rounds that were done, with one bar for all of it."""

    def each() -> Iterator[None]:
        for done in work:
            for _ in range(done):
                yield None

    for _ in progress(each(), desc="hops and stages", unit="round", total=total):
        pass


def _waited(timed: Sequence[Timed], threads: int) -> float | None:
    """The share of the hops' time in which they did not run: 1 thread computes and waits for nothing of its own."""
    if threads > 1:
        return None
    return max(
        0.0, 1 - sum(float(item.cpu_ms.sum()) for item in timed) / sum(float(item.wall_ms.sum()) for item in timed)
    )


def _row(
    pipeline: Pipeline,
    index: int,
    first: Path,
    timed: Sequence[Timed],
    about: Record,
    starts: int,
    sweep: list[Threads],
    energy: WindowEnergy | None,
) -> ModelLatency:
    path, contract = pipeline.path, pipeline.contract
    facts = describe(path, first, contract, None)
    ready, first_window = ready_seconds(pipeline.kind, path, about.hop_seconds, about.threads, starts)
    wall, cpu = (np.concatenate(items) for items in zip(*[(item.wall_ms, item.cpu_ms) for item in timed], strict=True))
    own = wall[:, index]
    return ModelLatency(
        name=facts.model,
        path=str(path),
        size_bytes=facts.size_bytes,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        level=facts.level,
        target=facts.target,
        form=contract.form,
        hop=Percentiles.of(own),
        mean_ms=float(own.mean()),
        deviation_ms=float(own.std()),
        cpu_ms=Spread.of(cpu[:, index]),
        ratio=InterleavedTimes.speedups(wall)[index],
        cpu_ratio=InterleavedTimes.speedups(cpu)[index],
        process_medians_ms=[float(np.median(item.wall_ms[:, index])) for item in timed],
        cpu_ms_per_audio_second=float(cpu[:, index].mean()) / about.hop_seconds,
        live=live_memory(pipeline, about.hop_seconds, about.threads),
        ready_s=ready,
        first_window_s=first_window,
        stages=_stages(timed, index),
        sweep=sweep,
        energy=energy,
        samples_ms=[round(value, 4) for value in own.tolist()],
    )


def _stages(timed: Sequence[Timed], index: int) -> list[Stage]:
    found = [item.stages[index] for item in timed]
    return [
        Stage(
            name=name,
            wall=Percentiles.of(np.concatenate([of_process[name].wall_ms for of_process in found])),
            cpu_ms=float(np.median(np.concatenate([of_process[name].cpu_ms for of_process in found]))),
        )
        for name in found[0]
    ]


def _sweep(numbers: Sequence[int], found: dict[int, list[Timed]], index: int) -> list[Threads]:
    points: list[Threads] = []
    for number in numbers:
        hop = Percentiles.of(np.concatenate([item.wall_ms[:, index] for item in found[number]]))
        cpu = np.concatenate([item.cpu_ms[:, index] for item in found[number]])
        fewest = points[0].hop.p50_ms if points else hop.p50_ms
        points.append(Threads(number, hop, float(np.median(cpu)), fewest / hop.p50_ms))
    return points


def _pause() -> None:
    """What a machine does that waits for the next hop."""
    time.sleep(2)


def _measured(meter: Meter | None, work: Callable[[], object]) -> Energy | None:
    """None without a meter, or with one that can no longer be read: the times are not to be lost with it."""
    try:
        return meter.measure(work) if meter else None
    except (OSError, ValueError):
        return None


def _energy(meter: Meter | None, pipeline: Pipeline, idle: Energy | None) -> WindowEnergy | None:
    def hops() -> None:
        for _ in range(_ENERGY_HOPS):
            pipeline.hop()

    pipeline.hop()
    taken = _measured(meter, hops) if idle else None
    if taken is None or idle is None:
        return None
    above = taken.joules - idle.watts * taken.seconds
    return WindowEnergy(taken.source, 1000 * taken.joules / _ENERGY_HOPS, 1000 * above / _ENERGY_HOPS)
