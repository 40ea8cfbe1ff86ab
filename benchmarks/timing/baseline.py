"""The baseline pipeline: what a user of ONNX Runtime writes for a file of the `waveform` form, and no less.

`python -m benchmarks.timing.baseline MODEL HOP_SAMPLES THREADS` runs it on raw s16le sound from standard input
and prints a JSON line for each window, as `edge-detect` does: its memory is measured so.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from edge_runtime.errors import ModelError
from edge_runtime.model.contract import Contract
from edge_runtime.model.highpass import HighPass


class Baseline:
    """The newest window of a stream, scored whole at each hop by a session with ONNX Runtime's own settings."""

    def __init__(self, path: Path, threads: int = 1) -> None:
        """All settings are ONNX Runtime's defaults except for the intra-op threads. Raises ModelError for the file."""
        if not path.is_file():
            raise ModelError(f"no such model file: {path}")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
            self.contract = Contract.from_metadata(self._session.get_modelmeta().custom_metadata_map)
        except ModelError as error:
            raise ModelError(f"{path}: {error}") from None
        except Exception as reason:  # ONNX Runtime's exceptions share no narrower base
            raise ModelError(f"cannot open {path}: {' '.join(str(reason).split())[:160]}") from None
        if self.contract.form != "waveform":
            raise ModelError(
                f"{path} has the form {self.contract.form}: the baseline pipeline takes one of "
                "`python -m export CHECKPOINT --form waveform`"
            )
        self._path = path
        self._window = np.zeros((1, self.contract.window_samples), np.float32)
        # The runtime's own: without it the two would not score the same sound.
        self._high_pass = HighPass(self.contract.high_pass_hz, self.contract.sample_rate)
        self._missing = self.contract.window_samples  # samples until the first window is complete

    def push(self, samples: NDArray[np.float32]) -> float | None:
        """Takes the next samples, float32 [n], n at most a window, and gives the score of the window that they end.

        None until the first window is complete. Raises ModelError when the model fails.
        """
        self._window[:, : -len(samples)] = self._window[:, len(samples) :]
        self._window[:, -len(samples) :] = self._high_pass.push(samples)
        self._missing = max(0, self._missing - len(samples))
        if self._missing:
            return None
        try:
            (logits,) = self._session.run(["logits"], {"waveform": self._window})
        except Exception as reason:  # ONNX Runtime's exceptions share no narrower base
            raise ModelError(f"{self._path} failed: {' '.join(str(reason).split())[:160]}") from None
        return float(self.contract.llr(logits)[0])


def main(path: str, hop_samples: int, threads: int) -> None:
    """Scores standard input until it ends."""
    baseline = Baseline(Path(path), threads)
    wanted = baseline.contract.window_samples
    while len(data := sys.stdin.buffer.read(2 * wanted)) == 2 * wanted:
        score = baseline.push(np.frombuffer(data, "<i2").astype(np.float32) / np.float32(32768))
        print(json.dumps({"type": "window", "score": score}), flush=True)
        wanted = hop_samples


if __name__ == "__main__":
    try:
        main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
    except ModelError as error:
        sys.exit(str(error))
