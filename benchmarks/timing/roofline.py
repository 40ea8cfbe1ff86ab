"""The least time that a hop's network could take here: recurrent weights over bandwidth, multiply-adds over the peak.

Bandwidth and peak are measured in a fresh process with one thread: reading by the fastest of three NumPy reductions
over as much memory as the largest recurrent matrix takes, again and again as a GRU does, so that it comes from the
cache that such a matrix lies in; multiply-adds by a large product of matrices, float32 by the faster of NumPy's BLAS
and ONNX Runtime, uint8 by int8 by ONNX Runtime. `python -m benchmarks.timing.roofline BYTES...` prints them as JSON.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime

from benchmarks.machine.processes import environment
from benchmarks.timing.operations import Work
from benchmarks.timing.subgraph import need_onnx
from edge_runtime.errors import EdgeDetectError, ModelError

_SIZE = 768  # rows and columns of the product that shows the peak
_REPEATS = 30
_BEYOND_CACHES = 4  # times the last cache
_UNKNOWN_LAST_CACHE = 32 << 20
_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")


@dataclass(frozen=True)
class Reading:
    """How fast a working set is read again and again: 10^9 bytes a second, and where it fits."""

    bytes: int
    gb_per_s: float
    lies_in: str


@dataclass(frozen=True)
class CoreLimits:
    """What one core does at best; products in 10^9 multiply-adds a second."""

    float_products: float
    integer_products: float
    readings: tuple[Reading, ...]  # the last is of more than the last cache holds


@dataclass(frozen=True)
class Roofline:
    """The least time of a hop's network, and what it took; in milliseconds."""

    pipeline: str
    weights_ms: float  # recurrent weights times steps, over the bandwidth
    products_ms: float  # multiply-adds over the peak
    measured_ms: float
    work: Work
    reading: Reading

    @property
    def bound_ms(self) -> float:
        """The sum: the recurrence waits for the convolutions."""
        return self.weights_ms + self.products_ms

    @property
    def times_bound(self) -> float:
        """How often the bound the measured time is."""
        return self.measured_ms / self.bound_ms


def bound(pipeline: str, work: Work, machine: CoreLimits, measured_ms: float) -> Roofline:
    """Compares what was measured of a network with what `machine` could do."""
    largest = max((item.bytes for item in work.recurrences), default=0)
    reading = next((item for item in machine.readings if item.bytes == largest), machine.readings[-1])
    read_bytes = sum(item.bytes * item.steps for item in work.recurrences)
    products = work.float_products / machine.float_products + work.integer_products / machine.integer_products
    return Roofline(pipeline, read_bytes / reading.gb_per_s / 1e6, products / 1e6, measured_ms, work, reading)


def measure_machine(working_sets: Sequence[int]) -> CoreLimits:
    """Measures this machine for matrices of so many bytes, and for more than its last cache holds.

    Raises ModelError when the process that measures ends early, UsageError without onnx.
    """
    need_onnx()
    caches = cache_bytes()
    beyond = _BEYOND_CACHES * (caches[-1][1] if caches else _UNKNOWN_LAST_CACHE)
    sizes = [*sorted(set(working_sets)), beyond]
    command = [sys.executable, "-m", "benchmarks.timing.roofline", *map(str, sizes)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), check=False)
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise ModelError(f"cannot measure the machine: {lines[-1]}")
    told = json.loads(done.stdout)
    readings = zip(sizes, told["gb_per_s"], strict=True)
    return CoreLimits(
        told["float_products"],
        told["integer_products"],
        tuple(Reading(size, speed, _place(size, caches)) for size, speed in readings),
    )


def cache_bytes(folder: Path = _CACHES) -> list[tuple[str, int]]:
    """The first core's caches that hold data, from the nearest: name and bytes; none where it cannot be known."""
    found = []
    for index in sorted(folder.glob("index*")):
        try:
            level, kind, size = (
                (index / name).read_text(encoding="ascii").strip() for name in ("level", "type", "size")
            )
            if kind != "Instruction":
                unit = {"K": 10, "M": 20}.get(size[-1], 0)
                found.append((f"L{level}", int(size.rstrip("KM")) << unit))
        except (OSError, ValueError):
            continue
    return sorted(found)


def _place(size: int, caches: Sequence[tuple[str, int]]) -> str:
    if not caches:
        return "unknown"
    return next((f"{name} ({room >> 10} KiB)" for name, room in caches if size <= room), "memory")


def _best_seconds(call: Callable[[], object], repeats: int) -> float:
    """The shortest of `repeats` calls: what the machine can do when nothing disturbs it."""
    call()
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - start)
    return best


def _gb_per_s(size: int) -> float:
    """Of the fastest way to read `size` bytes. What a call costs that reads next to nothing is taken off."""
    count = max(1024, size // 4)
    rows = max(1, count // 1024)
    values, vector = np.ones(count, np.float32), np.ones(1024, np.float32)
    matrix = values[: 1024 * rows].reshape(rows, 1024)
    ways: list[tuple[Callable[[], object], Callable[[], object]]] = [
        (lambda: np.dot(values, values), lambda: np.dot(values[:16], values[:16])),
        (lambda: matrix @ vector, lambda: matrix[:1, :16] @ vector[:16]),
        (lambda: values.max(), lambda: values[:16].max()),
    ]
    repeats = max(10, min(2000, (1 << 30) // (4 * count)))
    return (
        max(4 * count / max(_best_seconds(whole, repeats) - _best_seconds(none, repeats), 1e-9) for whole, none in ways)
        / 1e9
    )


def _numpy_products() -> float:
    """10^9 multiply-adds a second, float32."""
    left = np.ones((_SIZE, _SIZE), np.float32)
    return float(_SIZE**3 / _best_seconds(lambda: left @ left, _REPEATS) / 1e9)


def _runtime_products(operator: str, left_type: str, right_type: str, result_type: str) -> float:
    """10^9 multiply-adds a second, by ONNX Runtime's own kernel for a constant right side."""
    onnx = need_onnx()
    helper, kinds = onnx.helper, onnx.TensorProto
    square = [_SIZE, _SIZE]
    left = np.ones(square, left_type)
    graph = helper.make_graph(
        [helper.make_node(operator, ["a", "b"], ["c"])],
        "peak",
        [helper.make_tensor_value_info("a", helper.np_dtype_to_tensor_dtype(left.dtype), square)],
        [helper.make_tensor_value_info("c", kinds.DataType.Value(result_type), square)],
        [onnx.numpy_helper.from_array(np.ones(square, right_type), "b")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return float(_SIZE**3 / _best_seconds(lambda: session.run(None, {"a": left}), _REPEATS) / 1e9)


def main(sizes: Sequence[int]) -> None:
    """Measures, and prints JSON."""
    print(
        json.dumps(
            {
                "gb_per_s": [_gb_per_s(size) for size in sizes],
                "float_products": max(_numpy_products(), _runtime_products("MatMul", "f4", "f4", "FLOAT")),
                "integer_products": _runtime_products("MatMulInteger", "u1", "i1", "INT32"),
            }
        )
    )


if __name__ == "__main__":
    try:
        main([int(word) for word in sys.argv[1:]])
    except EdgeDetectError as error:
        sys.exit(str(error))
