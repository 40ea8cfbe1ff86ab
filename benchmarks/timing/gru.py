"""How long the GRU alone takes: its part cut out of each file, timed in turns on one window's worth of frames."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from benchmarks.timing.interleaved import interleave
from benchmarks.timing.sound import window_input
from benchmarks.timing.subgraph import part, read
from edge_runtime.errors import ModelError, UsageError
from edge_runtime.model.contract import Contract
from edge_runtime.model.processor import judge_target, this_processor
from edge_runtime.system import markdown
from evaluation.progress import silently


@dataclass(frozen=True)
class GruSpeed:
    """The GRU of one file: bytes of the file, median time, and speed relative to the first file's, with quartiles."""

    model: str
    level: str
    target: str
    size_bytes: int
    latency_ms: float
    ratio: float
    ratio_low: float
    ratio_high: float
    error: float | None  # of the last state, relative to the first file's norm; None where integers saturate here


def gru_speed(
    paths: Sequence[Path],
    rounds: int = 50,
    threads: int = 1,
    progress: Callable[..., Any] = silently,
) -> list[GruSpeed]:
    """Times the GRUs of a float file (the first) and of files quantized from it, interleaved.

    They take what the float network makes of a window of speech-like sound. A file of integers that saturate on this
    processor is timed all the same: it takes the same time.

    Raises UsageError when onnx is missing or no file is given, ModelError for a file that is not such.
    """
    if not paths or rounds < 1 or threads < 1:
        raise UsageError("timing needs at least one model, one round and one thread")
    found = [read(path) for path in paths]  # says what is missing, before what needs onnx is imported
    from export.sharing import join

    own = [Contract.from_metadata({item.key: item.value for item in model.metadata_props}) for model in found]
    models, contracts = zip(*map(join, found, own), strict=True)
    grus = [node for node in models[0].graph.node if node.op_type == "GRU"]
    if not grus:
        raise ModelError(f"{paths[0]} has no GRU: give the float file first")
    begin, end = grus[0].input[0], grus[-1].output[1]
    source = models[0].graph.input[0].name
    before = _cut(models[0], paths[0], source, begin, 1)
    (frames,) = before.run([begin], {source: window_input(contracts[0])})
    sessions = [_cut(model, path, begin, end, threads) for model, path in zip(models, paths, strict=True)]
    states: list[NDArray[np.float32]] = [np.empty(0, np.float32)] * len(paths)

    def run(index: int) -> None:
        try:
            (states[index],) = sessions[index].run([end], {begin: frames})
        except Exception as reason:  # ONNX Runtime's exceptions share no narrower base
            raise ModelError(f"{paths[index]} was not quantized from the first file: {reason}"[:200]) from None

    turns = interleave([partial(run, index) for index in range(len(paths))], rounds, progress)
    speedups = turns.speedups(turns.wall)
    norm = float(np.linalg.norm(states[0])) or 1.0
    return [
        GruSpeed(
            model=path.stem,
            level=contract.level,
            target=contract.target,
            size_bytes=path.stat().st_size,
            latency_ms=float(1000 * np.median(turns.wall[:, index])),
            ratio=speedups[index].median,
            ratio_low=speedups[index].low,
            ratio_high=speedups[index].high,
            error=None
            if judge_target(contract, this_processor())[0]
            else float(np.linalg.norm(states[index] - states[0])) / norm,
        )
        for index, (path, contract) in enumerate(zip(paths, contracts, strict=True))
    ]


def _cut(model: Any, path: Path, begin: str, end: str, threads: int) -> onnxruntime.InferenceSession:
    """The part of a model between two values, which quantization leaves their names."""
    made = {model.graph.input[0].name} | {name for node in model.graph.node for name in node.output}
    if not {begin, end} <= made:
        raise ModelError(f"{path} was not quantized from the first file: it has no values {begin} and {end}")
    return part(model, begin, end, threads, f"the GRU out of {path}")


def table(speeds: Sequence[GruSpeed]) -> str:
    """Markdown, with what was measured above it."""
    first = speeds[0]
    rows = []
    for item in speeds:
        size = f"{item.size_bytes / 1e6:.2f} MB (1/{first.size_bytes / item.size_bytes:.2f})"
        speed = f"{item.ratio:.2f}x [{item.ratio_low:.2f}, {item.ratio_high:.2f}]"
        error = "not on this processor" if item.error is None else f"{item.error:.2%}"
        rows.append((item.model, item.level, item.target, size, f"{item.latency_ms:.2f} ms", speed, error))
    heads = ("model", "level", "target", "file (of float)", "time", "relative speed", "error of the last state")
    about = "The GRU alone, one window; relative speed: median [quartiles] of interleaved rounds."
    return "\n".join([about, "", *markdown.table(heads, rows)]) + "\n"
