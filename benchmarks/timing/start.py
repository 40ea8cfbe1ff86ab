"""How soon a fresh process is ready.

`python -m benchmarks.timing.start KIND MODEL HOP_SECONDS THREADS`, KIND ours or baseline.
Prints JSON: seconds from before the first import of the runtime to the opened model, and to the first scored window,
without the time that it takes to make that window's sound.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from benchmarks.machine.processes import environment

# This module imports nothing that would shorten what it measures.


def ready_seconds(kind: str, path: Path, hop_seconds: float, threads: int, starts: int) -> tuple[float, float]:
    """Medians over `starts` fresh processes: ready, and first window. The files are in the page cache then.

    Raises ModelError when such a process ends early.
    """
    from edge_runtime.errors import ModelError

    command = [sys.executable, "-m", "benchmarks.timing.start", kind, str(path), str(hop_seconds), str(threads)]
    found = []
    for _ in range(starts):
        done = subprocess.run(command, capture_output=True, text=True, env=environment(), check=False)
        if done.returncode != 0:
            lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
            raise ModelError(f"cannot start with {path}: {lines[-1]}")
        found.append(json.loads(done.stdout))
    return median(ready for ready, _ in found), median(first for _, first in found)


def main(kind: str, path: str, hop_seconds: float, threads: int) -> tuple[float, float]:
    """Starts, in this process, which must be a fresh one."""
    push: Callable[..., object]
    start = time.perf_counter()
    if kind == "baseline":
        from benchmarks.timing.baseline import Baseline

        baseline = Baseline(Path(path), threads)
        ready = time.perf_counter() - start
        contract, push = baseline.contract, baseline.push
    else:
        from edge_runtime import Detector
        from edge_runtime.model.network import Network

        detector = Detector(Network.load(path, threads), hop_seconds=hop_seconds)
        ready = time.perf_counter() - start
        contract, push = detector.network.contract, detector.push

    from benchmarks.timing.sound import speech_like

    sound = speech_like(contract.window_samples, contract.sample_rate)
    start = time.perf_counter()
    push(sound)
    return ready, ready + time.perf_counter() - start


if __name__ == "__main__":
    try:
        print(json.dumps(main(sys.argv[1], sys.argv[2], float(sys.argv[3]), int(sys.argv[4]))))
    except Exception as reason:
        from edge_runtime.errors import EdgeDetectError  # late, as above

        if not isinstance(reason, EdgeDetectError):
            raise
        sys.exit(str(reason))
