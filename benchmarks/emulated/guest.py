"""What runs on the emulated processor: hops through the runtime's detector, a mark before and after each.

`guest.py THREADS HOP_SECONDS SETTLING MODEL SOUND [MODEL SOUND]...`: SOUND is a .npy of float32 samples at the model's
rate. It prints a JSON line a model: how many hops lie between marks, their scores, the processor as the runtime sees
it. `benchmarks.emulated.instructions` starts it under the plugin; it needs NumPy, ONNX Runtime and the runtime alone.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import numpy as np

from edge_runtime.detector import Detector
from edge_runtime.errors import ModelError
from edge_runtime.model.network import Network
from edge_runtime.model.processor import this_processor

mark = os.getppid
"""The system call that the plugin looks for: Python makes it at no other time."""


def count(model: Path, sound_file: Path, threads: int, hop_seconds: float, settling: int) -> dict[str, object]:
    """Scores the sound hop by hop; the first window and `settling` hops come before the first mark."""
    # The host has tried the file; a process to try it in cannot be started here, where nothing else is emulated.
    detector = Detector(Network.load(model, threads, trusted=True), hop_seconds=hop_seconds)
    sound = np.load(sound_file)
    detector.push(sound[: detector.window_samples])
    blocks = sound[detector.window_samples :].reshape(-1, detector.hop_samples)
    for block in blocks[:settling]:
        detector.push(block)
    scores: list[float | None] = []
    for block in blocks[settling:]:
        mark()
        windows = detector.push(block)
        mark()
        scores += [window.score for window in windows]
    return {"hops": len(blocks) - settling, "scores": scores}


def main(threads: int, hop_seconds: float, settling: int, pairs: list[str]) -> None:
    """Goes through the models. One that is refused on this processor has a line that says so, and no hops."""
    for model, sound in zip(pairs[::2], pairs[1::2], strict=True):
        told: dict[str, object] = {"model": model, "hops": 0, "scores": [], "trouble": ""}
        try:
            told |= count(Path(model), Path(sound), threads, hop_seconds, settling)
        except ModelError as error:
            told["trouble"] = str(error)
        print(json.dumps(told | {"processor": str(this_processor())}), flush=True)


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    main(int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]), sys.argv[4:])
    sys.stdout.flush()
    os._exit(0)  # without the interpreter's tear-down: under emulation it may crash after all is done
