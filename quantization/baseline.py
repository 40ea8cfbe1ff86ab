"""`python -m quantization.baseline FLOAT.onnx -o DIR`: what ONNX Runtime's own tools make of a model, to compare with.

Writes `baseline-dynamic.onnx` and `baseline-static.onnx`, by `quantize_dynamic` and `quantize_static` with what their
documentation recommends for x86 without VNNI (uint8 activations, 7-bit int8 weights, a scale a channel) and every
operator that they take. Neither touches a GRU. The files are for `python -m benchmarks report`, not for boxes.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import onnx
from onnxruntime.quantization import QuantType, quantize_dynamic, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from edge_runtime.app.arguments import Parser
from edge_runtime.app.shell import entry
from edge_runtime.atomic import whole_file
from edge_runtime.errors import OutputError
from quantization.calibration import read, windows
from quantization.passes.convolutions import Reader, quiet
from quantization.quantizer import float_model, stamped

WINDOWS = 64
"""Calibration windows: the tools keep the inner values of all of them in memory."""


def make(path: Path, folder: Path, calibration: Path | None) -> list[Path]:
    """Writes both files into `folder`. Raises ModelError, InputError or OutputError with what is wrong."""
    _, model, contract = float_model(path)
    chosen = windows(read(calibration), contract, WINDOWS)
    if not folder.is_dir():
        raise OutputError(f"there is no folder {folder}")
    made = [folder / "baseline-dynamic.onnx", folder / "baseline-static.onnx"]
    with tempfile.TemporaryDirectory() as place, quiet():
        joined, prepared = Path(place) / "joined.onnx", Path(place) / "prepared.onnx"
        onnx.save(model, joined)
        quant_pre_process(str(joined), str(prepared), skip_symbolic_shape=True)
        rough = [Path(place) / item.name for item in made]
        quantize_dynamic(prepared, rough[0], per_channel=True, reduce_range=True, weight_type=QuantType.QInt8)
        name = onnx.load(str(prepared)).graph.input[0].name
        quantize_static(
            prepared,
            rough[1],
            Reader(name, chosen),
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        # The tools leave the metadata as they were; that windows share scales is the one thing to correct.
        for source, target in zip(rough, made, strict=True):
            with whole_file(target) as temporary:
                onnx.save(stamped(onnx.load(str(source)), replace(contract, independent=False)), temporary)
    return made


@entry()
def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the program and gives its exit code."""
    parser = Parser(prog="edge-detect quantize baseline", description=__doc__)
    parser.add_argument("model", type=Path, help="float file of `python -m export`")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="folder for the two files")
    parser.add_argument("--calibration", type=Path, metavar="DATA", help="folder or CSV (default: built-in clips)")
    options = parser.parse_args(arguments)
    for path in make(options.model, options.output, options.calibration):
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
