"""The memory of the real program while it runs, read from /proc."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import wave
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.machine.processes import environment, memory_of
from benchmarks.timing.pipelines import Loop, Pipeline
from edge_runtime.errors import ModelError

HOPS = 40
"""Fed after the first window: the peak is reached in the first few."""


@dataclass(frozen=True)
class Memory:
    """Of a running program, in MB (10^6 bytes)."""

    peak_mb: float
    steady_mb: float


def live_memory(pipeline: Pipeline, hop_seconds: float, threads: int, hops: int = HOPS) -> Memory | None:
    """The program on sound that comes a hop at a time, each piped in when the window before has been printed.

    Ours is `edge-detect --file - --raw s16le`, the baseline `benchmarks.timing.baseline`. None where there is no /proc.
    Raises ModelError when the program ends early.
    """
    contract = pipeline.contract
    if pipeline.kind == "baseline":
        command = ["benchmarks.timing.baseline", str(pipeline.path), str(pipeline.hop_samples), str(threads)]
    else:
        command = [*_ours(pipeline, hop_seconds), "-", "--raw", "s16le", "--rate", str(contract.sample_rate)]
    sound = Loop(contract.sample_rate)
    with _started(command, subprocess.PIPE) as (program, complaint):
        assert program.stdin and program.stdout
        found = None
        for samples in (contract.window_samples, *[pipeline.hop_samples] * hops):
            try:
                program.stdin.write(_s16le(sound, samples))
                program.stdin.flush()
            except BrokenPipeError:
                raise ModelError(f"{pipeline.path} ended early: {complaint()}") from None
            if not program.stdout.readline():
                raise ModelError(f"{pipeline.path} ended early: {complaint()}")
        found = memory_of(program.pid)
    return None if found is None else Memory(found[0] / 1e6, found[1] / 1e6)


def file_memory(pipeline: Pipeline, hop_seconds: float, seconds: float) -> float | None:
    """Peak memory (MB) of `edge-detect --file` on a WAV of `seconds`; None where there is no /proc.

    Raises ModelError when the program ends early.
    """
    rate = pipeline.contract.sample_rate
    sound, peak = Loop(rate), 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "long.wav"
        with wave.open(str(path), "wb") as file:
            file.setparams((1, 2, rate, 0, "NONE", "not compressed"))
            left = round(seconds * rate)
            while left > 0:
                file.writeframes(_s16le(sound, min(left, rate)))
                left -= rate
        with _started([*_ours(pipeline, hop_seconds), str(path)], None) as (program, complaint):
            assert program.stdout
            last = b""
            for line in program.stdout:  # the last reading is just before its end: a peak does not sink
                found, last = memory_of(program.pid), line
                peak = max(peak, found[0] if found else 0)
            if b'"summary"' not in last or program.wait() != 0:
                raise ModelError(f"{pipeline.path} ended early: {complaint()}")
    return peak / 1e6 if peak else None


def _ours(pipeline: Pipeline, hop_seconds: float) -> list[str]:
    return ["edge_runtime", "--model", str(pipeline.path), "--hop", str(hop_seconds), "--json", "--no-gate", "--file"]


def _s16le(sound: Loop, samples: int) -> bytes:
    return np.clip(32768 * sound.take(samples), -32768, 32767).astype("<i2").tobytes()


@contextmanager
def _started(command: list[str], stdin: int | None) -> Iterator[tuple[subprocess.Popen[bytes], Callable[[], str]]]:
    """A running `python -m COMMAND`, and its last word on standard error; it is ended with the context."""
    with tempfile.TemporaryFile() as errors:
        program = subprocess.Popen(
            [sys.executable, "-m", *command],
            stdin=subprocess.DEVNULL if stdin is None else stdin,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=environment(),
        )

        def complaint() -> str:
            program.wait()
            errors.seek(0)
            lines = errors.read().decode(errors="replace").strip().splitlines()
            return lines[-1] if lines else f"exit code {program.returncode}"

        try:
            yield program, complaint
        finally:
            program.kill()
            program.communicate()
