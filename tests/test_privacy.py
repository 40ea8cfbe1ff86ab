"""Nothing is told to anybody: ONNX Runtime would report its use, and leave its files in the user's folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent
PROGRAMS = {
    "the program": ["-m", "edge_runtime", "--file", "examples/human.flac"],
    "the library": ["-c", "from edge_runtime import Detector; Detector(gate=True)"],
    "quantization": ["-c", "import quantization.running as tool; tool.onnxruntime.InferenceSession(tool_model())"],
    "benchmarks": ["-c", "import benchmarks.machine.record as tool; tool.onnxruntime.InferenceSession(tool_model())"],
}
OPEN = "def tool_model():\n    return 'edge_runtime/models/edge.onnx'\n"


@pytest.mark.parametrize("name", PROGRAMS)
def test_onnx_runtime_leaves_no_files_and_reports_nothing(name: str, tmp_path: Path) -> None:
    flag, code, *more = PROGRAMS[name]
    where = {key: value for key, value in os.environ.items() if key not in ("ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME")}
    done = subprocess.run(
        [sys.executable, flag, OPEN + code if flag == "-c" else code, *more],
        cwd=PROJECT,
        env={**where, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
