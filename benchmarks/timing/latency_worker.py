"""A fresh process that times hops and stages.

`python -m benchmarks.timing.latency_worker HOP_SECONDS THREADS ROUNDS STAGES MODEL...`, STAGES 0 or 1.

It prints `+N` when N more rounds are done, for a progress bar, and JSON at last. What differs from one process to the
next - where memory lies, which core it got - is in the spread between such processes and in no other figure.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.machine.processes import environment
from benchmarks.timing.interleaved import WARM_UP_ROUNDS, interleave
from benchmarks.timing.pipelines import OurPipeline, Pipeline, open_pipeline
from benchmarks.timing.stages import front_end_calls, network_calls
from edge_runtime.errors import EdgeDetectError, ModelError

_TELLING_SECONDS = 0.5
"""Between two words about progress: a parent that wakes at each round would be measured too."""


@dataclass(frozen=True)
class Timed:
    """What one process found. `wall_ms` and `cpu_ms` are [rounds, models]; `stages` has a dictionary a model."""

    wall_ms: NDArray[np.float64]
    cpu_ms: NDArray[np.float64]
    stages: list[dict[str, StageTimes]] = field(default_factory=list)


@dataclass(frozen=True)
class StageTimes:
    """Of one stage: ms by the clock on the wall, and of CPU time, a value a round."""

    wall_ms: list[float]
    cpu_ms: list[float]


def rounds_of(models: int, rounds: int, with_stages: bool) -> int:
    """Rounds that a worker runs at most, those that warm up among them, for a progress bar's total."""
    return (rounds + WARM_UP_ROUNDS) * (1 + (models if with_stages else 0))


def run_worker(
    paths: Sequence[Path], hop_seconds: float, threads: int, rounds: int, with_stages: bool, found: list[Timed]
) -> Iterator[int]:
    """Runs a worker, yields the rounds that it has done since the last time, and appends what it found to `found`.

    Raises ModelError when it ends early.
    """
    command = [sys.executable, "-m", "benchmarks.timing.latency_worker", str(hop_seconds), str(threads), str(rounds)]
    command += [str(int(with_stages)), *map(str, paths)]
    with tempfile.TemporaryFile() as errors:
        worker = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, env=environment(), text=True)
        assert worker.stdout
        last = ""
        try:
            for line in worker.stdout:
                if line.startswith("+"):
                    yield int(line)
                else:
                    last = line
        finally:
            worker.kill()  # it has ended, or nobody waits for it any more
            worker.wait()
        if not last:
            errors.seek(0)
            lines = errors.read().decode(errors="replace").strip().splitlines()
            raise ModelError(f"timing ended early: {lines[-1] if lines else f'exit code {worker.returncode}'}")
    told = json.loads(last)
    stages = [{name: StageTimes(**times) for name, times in of_model.items()} for of_model in told["stages"]]
    found.append(Timed(np.array(told["wall_ms"]), np.array(told["cpu_ms"]), stages))


def time_hops(
    paths: Sequence[Path],
    hop_seconds: float,
    threads: int,
    rounds: int,
    with_stages: bool,
    progress: Callable[..., Any],
) -> Timed:
    """In this process: hops of all models in turns, and then for each of them its stages in turns.

    A stage is timed alone, so that it finds the caches as the other stages left them. A `waveform` file, which the
    baseline pipeline runs, has no stages. Raises ModelError, UsageError.
    """
    pipelines = [open_pipeline(path, hop_seconds, threads) for path in paths]
    turns = interleave([pipeline.hop for pipeline in pipelines], rounds, progress)
    stages = [_stages(pipeline, rounds, threads, progress) for pipeline in pipelines] if with_stages else []
    return Timed(1000 * turns.wall, 1000 * turns.cpu, stages)


def _stages(pipeline: Pipeline, rounds: int, threads: int, progress: Callable[..., Any]) -> dict[str, StageTimes]:
    if not isinstance(pipeline, OurPipeline):
        return {}
    calls = front_end_calls(pipeline) | network_calls(pipeline, threads)
    turns = interleave(list(calls.values()), rounds, progress)
    columns = zip(calls, turns.wall.T, turns.cpu.T, strict=True)
    return {name: StageTimes((1000 * wall).tolist(), (1000 * cpu).tolist()) for name, wall, cpu in columns}


def _telling(rounds: Iterable[int], **_: Any) -> Iterator[int]:
    """Stands in for tqdm: tells the parent."""
    done, told = 0, time.monotonic()
    for number in rounds:
        yield number
        done += 1
        if time.monotonic() - told > _TELLING_SECONDS:
            print(f"+{done}", flush=True)
            done, told = 0, time.monotonic()
    print(f"+{done}", flush=True)


def main(arguments: Sequence[str]) -> None:
    """Prints what `time_hops` found."""
    hop_seconds, threads, rounds, with_stages, *paths = arguments
    timed = time_hops(
        [Path(path) for path in paths], float(hop_seconds), int(threads), int(rounds), with_stages == "1", _telling
    )
    stages = [{name: vars(times) for name, times in of_model.items()} for of_model in timed.stages]
    print(json.dumps({"wall_ms": timed.wall_ms.tolist(), "cpu_ms": timed.cpu_ms.tolist(), "stages": stages}))


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except EdgeDetectError as error:
        sys.exit(str(error))
