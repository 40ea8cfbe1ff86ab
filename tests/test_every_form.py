"""Every command that takes a model file takes one of every form."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
COMMANDS = {
    "inspect": "inspect {model}",
    "score": "score {human} --model {model} --no-gate",
    "gru": "benchmark gru {model} {model} --rounds 1",
    "options": "benchmark options {model} --rounds 1",
    "latency": "benchmark latency {model} --rounds 3 --processes 1 --hop 0.5",
    "soak": "benchmark soak {model} --hours 0.01",
    "accuracy": "benchmark accuracy {model} --data {clips}",
    "quantize": "quantize {model} -o {out} --windows 16",
    "compare-int4": "quantize compare-int4 {model} --data {clips} --windows 10 --held-out 5 --method rtn --block 16",
}


@pytest.mark.parametrize("form", ["waveform", "streaming", "shared"])
@pytest.mark.parametrize("command", COMMANDS)
def test_a_file_of_any_form_is_taken(command: str, form: str, exported: Callable[[str], Path], tmp_path: Path) -> None:
    words = COMMANDS[command].format(
        model=exported(form),
        human=ROOT / "examples/human.flac",
        clips=ROOT / "quantization/clips",
        out=tmp_path / "o.onnx",
    )
    done = subprocess.run(
        [sys.executable, "-m", "edge_runtime", *words.split()], capture_output=True, text=True, cwd=ROOT, timeout=600
    )
    assert "Traceback" not in done.stderr, done.stderr[-2000:]
    assert done.returncode == 0 and done.stdout + done.stderr, done.stderr


@pytest.mark.parametrize("command", ["gru", "compare-int4"])
def test_the_default_form_is_taken(command: str, exported: Callable[[str], Path]) -> None:
    """Of `shared` files, which most exports are, the GRU's tools take the graph that was split."""
    words = COMMANDS[command].format(model=exported("shared"), clips=ROOT / "quantization/clips")
    done = subprocess.run(
        [sys.executable, "-m", "edge_runtime", *words.split()], capture_output=True, text=True, cwd=ROOT, timeout=600
    )
    assert done.returncode == 0 and "|" in done.stdout, done.stderr
