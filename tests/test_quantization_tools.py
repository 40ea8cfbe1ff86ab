"""The tools around quantization: the GRU's time alone, and what ONNX Runtime's own quantizers leave undone."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

from benchmarks.timing.gru import gru_speed
from edge_runtime.errors import ModelError, UsageError
from edge_runtime.model.network import Network
from quantization.calibration import read
from quantization.quantizer import Quantizer, write

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def small(exported: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("small") / "tiny-int8-arm64.onnx"
    write(Quantizer(exported("streaming"), read(None), count=16).make("int8", "arm64"), path)
    return path


@pytest.mark.parametrize("form", ["streaming", "waveform"])
def test_the_gru_is_timed_alone_and_its_error_told(form: str, exported: Callable[[str], Path], tmp_path: Path) -> None:
    quantizer = Quantizer(exported(form), read(None), count=16)
    write(quantizer.make("int8", "portable"), tmp_path / "small.onnx")
    first, second = gru_speed([exported(form), tmp_path / "small.onnx"], rounds=3)
    assert (first.ratio, first.error, first.level, second.level) == (1.0, 0.0, "fp32", "int8")
    assert second.error is not None and 0 < second.error < 0.1
    assert 0 < second.ratio_low <= second.ratio <= second.ratio_high


def test_files_that_do_not_belong_together_are_refused(
    exported: Callable[[str], Path], small: Path, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match="has no GRU: give the float file first"):
        gru_speed([small, exported("streaming")])
    with pytest.raises(ModelError, match="cannot read the model"):
        gru_speed([tmp_path / "missing.onnx"])
    with pytest.raises(UsageError):
        gru_speed([])
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(b"no model")
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "gru", str(exported("streaming")), str(damaged)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 4 and "Traceback" not in done.stderr


def test_the_command_prints_a_table_or_json(exported: Callable[[str], Path], small: Path) -> None:
    command = [sys.executable, "-m", "benchmarks", "gru", str(exported("streaming")), str(small), "--rounds", "2"]
    table = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True).stdout
    assert "| tiny-int8-arm64 | int8 | arm64 |" in table
    told = json.loads(subprocess.run([*command, "--json"], capture_output=True, text=True, cwd=ROOT, check=True).stdout)
    assert [item["level"] for item in told] == ["fp32", "int8"]


def test_the_stock_tools_leave_the_gru_in_float(exported: Callable[[str], Path], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "quantization.baseline", str(exported("streaming")), "-o", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    for name in ("baseline-dynamic", "baseline-static"):
        network = Network.load(tmp_path / f"{name}.onnx")
        assert network.largest_batch == 1
        model = onnx.load(str(tmp_path / f"{name}.onnx"))
        grus = [node for node in model.graph.node if node.op_type == "GRU"]
        kinds = {item.name: item.data_type for item in model.graph.initializer}
        assert len(grus) == 2
        assert {kinds[node.input[2]] for node in grus} == {onnx.TensorProto.FLOAT}
