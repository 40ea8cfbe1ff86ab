"""How long the GRU alone takes: its part cut out of each file, timed in turns on one window's worth of frames."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from benchmarks.speed import window_input
from edge_runtime.errors import ModelError, UsageError
from edge_runtime.model.contract import Contract
from edge_runtime.model.processor import judge_target, this_processor

WARM_UP_ROUNDS = 3


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
    progress: Callable[..., Any] = lambda rounds, **_: rounds,
) -> list[GruSpeed]:
    """Times the GRUs of a float file (the first) and of files quantized from it, interleaved.

    They take what the float network makes of a window of speech-like sound. A file of integers that saturate on this
    processor is timed all the same: it takes the same time.

    Raises UsageError when onnx is missing or no file is given, ModelError for a file that is not such.
    """
    if not paths or rounds < 1 or threads < 1:
        raise UsageError("timing needs at least one model, one round and one thread")
    try:
        import onnx
    except ModuleNotFoundError:
        raise UsageError("onnx is missing: run pip install -e '.[quantize]' in the clone") from None
    models = []
    for path in paths:
        try:
            models.append(onnx.load(str(path)))
        except Exception as reason:  # a missing file, or whatever protobuf makes of a damaged one
            raise ModelError(f"cannot read the model {path}: {' '.join(str(reason).split())[:160]}") from None
    contracts = [Contract.from_metadata({item.key: item.value for item in model.metadata_props}) for model in models]
    grus = [node for node in models[0].graph.node if node.op_type == "GRU"]
    if not grus:
        raise ModelError(f"{paths[0]} has no GRU: give the float file first")
    begin, end = grus[0].input[0], grus[-1].output[1]
    source = models[0].graph.input[0].name
    before = _session(onnx, models[0], paths[0], source, begin, 1)
    (frames,) = before.run([begin], {source: window_input(contracts[0])})
    sessions = [_session(onnx, model, path, begin, end, threads) for model, path in zip(models, paths, strict=True)]
    seconds = np.empty((rounds, len(paths)))
    states: list[NDArray[np.float32]] = [np.empty(0, np.float32)] * len(paths)
    for number in progress(range(-WARM_UP_ROUNDS, rounds), desc="timing", unit="round"):
        for place in range(len(paths)):
            index = (place + number) % len(paths)
            start = time.perf_counter()
            try:
                (states[index],) = sessions[index].run([end], {begin: frames})
            except Exception as reason:  # ONNX Runtime's exceptions share no narrower base
                raise ModelError(f"{paths[index]} was not quantized from the first file: {reason}"[:200]) from None
            if number >= 0:
                seconds[number, index] = time.perf_counter() - start
    quartiles = np.percentile(seconds[:, :1] / seconds, [25, 50, 75], axis=0)
    norm = float(np.linalg.norm(states[0])) or 1.0
    return [
        GruSpeed(
            model=path.stem,
            level=contract.level,
            target=contract.target,
            size_bytes=path.stat().st_size,
            latency_ms=float(1000 * np.median(seconds[:, index])),
            ratio=float(quartiles[1, index]),
            ratio_low=float(quartiles[0, index]),
            ratio_high=float(quartiles[2, index]),
            error=None
            if judge_target(contract, this_processor())[0]
            else float(np.linalg.norm(states[index] - states[0])) / norm,
        )
        for index, (path, contract) in enumerate(zip(paths, contracts, strict=True))
    ]


def _session(onnx: Any, model: Any, path: Path, begin: str, end: str, threads: int) -> onnxruntime.InferenceSession:
    """The part of a model between two values, which quantization leaves their names."""
    made = {model.graph.input[0].name} | {name for node in model.graph.node for name in node.output}
    if not {begin, end} <= made:
        raise ModelError(f"{path} was not quantized from the first file: it has no values {begin} and {end}")
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    del bare.graph.value_info[:]
    for name in (begin, end):
        if name != model.graph.input[0].name:
            free = onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [None] * 3)
            bare.graph.value_info.append(free)
    try:
        part = onnx.utils.Extractor(bare).extract_model([begin], [end])
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 4
        return onnxruntime.InferenceSession(part.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as reason:  # neither library's exceptions share a base
        raise ModelError(f"cannot cut the GRU out of {path}: {' '.join(str(reason).split())[:160]}") from None


def table(speeds: Sequence[GruSpeed]) -> str:
    """Markdown, with what was measured above it."""
    first = speeds[0]
    lines = [
        "The GRU alone, one window; relative speed: median [quartiles] of interleaved rounds.",
        "",
        "| model | level | target | file (of float) | time | relative speed | error of the last state |",
        "|---|---|---|---|---|---|---|",
    ]
    for item in speeds:
        size = f"{item.size_bytes / 1e6:.2f} MB (1/{first.size_bytes / item.size_bytes:.2f})"
        speed = f"{item.ratio:.2f}x [{item.ratio_low:.2f}, {item.ratio_high:.2f}]"
        lines.append(
            f"| {item.model} | {item.level} | {item.target} | {size} | {item.latency_ms:.2f} ms | {speed} | "
            f"{'not on this processor' if item.error is None else f'{item.error:.2%}'} |"
        )
    return "\n".join(lines) + "\n"
