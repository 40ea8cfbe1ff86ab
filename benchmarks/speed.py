"""How fast model files are next to each other, and what memory each takes, through the runtime's own network."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.fresh import environment, resident_bytes
from benchmarks.turns import in_turns, silently
from edge_runtime.errors import ModelError, UsageError
from edge_runtime.model.contract import Contract
from edge_runtime.model.frontend import FilterBank
from edge_runtime.model.network import Network


@dataclass(frozen=True)
class Speed:
    """One model's time for a window, and the first model's divided by it: above 1 is faster than the first."""

    model: str
    latency_ms: float  # median
    ratio: float  # median of the rounds' ratios
    ratio_low: float  # their quartiles
    ratio_high: float
    rounds: int
    threads: int
    memory_mb: float | None  # what loading it and scoring a window adds to a process; None where it is not known

    def __str__(self) -> str:
        return f"{self.ratio:.2f}x [{self.ratio_low:.2f}, {self.ratio_high:.2f}]"


def relative_speed(
    paths: Sequence[Path],
    rounds: int = 50,
    threads: int = 1,
    progress: Callable[..., Any] = silently,
) -> list[Speed]:
    """The speed of each model file on one window (batch 1), relative to the first file's.

    They are timed in turns (`benchmarks.turns`). Only the network is timed; the filter bank before it is the same for
    all levels.

    Raises UsageError when there is no file or no round, ModelError for a file that cannot be opened or run.
    """
    if not paths or rounds < 1 or threads < 1:
        raise UsageError("a comparison of speed needs at least one model, one round and one thread")
    networks = [Network.load(path, threads) for path in paths]
    inputs = [window_input(network.contract) for network in networks]
    calls = [partial(network.logits, window) for network, window in zip(networks, inputs, strict=True)]
    turns = in_turns(calls, rounds, progress)
    speedups = turns.speedups(turns.wall)
    return [
        Speed(
            model=path.stem,
            latency_ms=float(1000 * np.median(turns.wall[:, index])),
            ratio=speedups[index].median,
            ratio_low=speedups[index].low,
            ratio_high=speedups[index].high,
            rounds=rounds,
            threads=threads,
            memory_mb=memory_mb(path, threads),
        )
        for index, path in enumerate(paths)
    ]


def window_input(contract: Contract) -> NDArray[np.float32]:
    """What the network takes for one window of something like speech: [1, filters, frames] or [1, samples].

    Not silence or noise: quantized activations and the logarithm of the envelope should see what they are for.
    """
    sound = speech_like(contract.window_samples, contract.sample_rate)
    if contract.form == "waveform":
        return sound[None]
    return FilterBank(contract.filters, contract.pool).whole(sound)[None]


def speech_like(samples: int, sample_rate: int) -> NDArray[np.float32]:
    """Gliding harmonics below 4 kHz in syllables, over faint noise: float32 [samples], the same at each call."""
    generator = np.random.default_rng(0)
    times = np.arange(samples) / sample_rate
    pitch_hz = 130 + 25 * np.sin(2 * np.pi * 0.7 * times)
    phase = 2 * np.pi * np.cumsum(pitch_hz) / sample_rate
    sound = np.zeros(samples)
    for harmonic in range(1, 25):
        sound += np.sin(harmonic * phase + generator.uniform(0, 2 * np.pi)) / harmonic
    syllables = np.maximum(0.0, np.sin(2 * np.pi * 2.5 * times)) ** 2
    return (0.1 * sound * syllables + 0.002 * generator.standard_normal(samples)).astype(np.float32)


def memory_mb(path: Path, threads: int = 1) -> float | None:
    """Resident memory (MB, 10^6 bytes) that opening the model and scoring one window adds to a fresh process.

    None where the system has no /proc. Raises ModelError when the model cannot be opened or run.
    """
    if resident_bytes() is None:
        return None
    command = [sys.executable, "-m", "benchmarks.speed", str(path), str(threads)]
    window = io.BytesIO()
    np.save(window, window_input(Network.load(path).contract))
    done = subprocess.run(command, input=window.getvalue(), env=environment(), capture_output=True, check=False)
    if done.returncode != 0:
        lines = done.stderr.decode(errors="replace").strip().splitlines() or [f"exit code {done.returncode}"]
        raise ModelError(f"cannot measure the memory of {path}: {lines[-1]}")
    return float(done.stdout)


def _growth_mb(path: Path, threads: int) -> float:
    """The growth within this process, which must be a fresh one; the window comes from standard input.

    Made here it would count too, or leave pages behind for the network to take.
    """
    window = np.load(io.BytesIO(sys.stdin.buffer.read()))
    before = resident_bytes() or 0
    network = Network.load(path, threads)
    network.logits(window)
    return ((resident_bytes() or 0) - before) / 1e6


if __name__ == "__main__":
    try:
        print(_growth_mb(Path(sys.argv[1]), int(sys.argv[2])))
    except ModelError as error:
        sys.exit(str(error))
