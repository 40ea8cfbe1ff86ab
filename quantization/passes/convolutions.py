"""Convolutions in int8 with fixed ranges (QDQ), through ONNX Runtime's own tools, calibrated on windows of sound.

The weights get a scale a channel; the ranges of what goes in and comes out are percentiles over the calibration
windows, since the largest value of all would spend the range on one click. Only the convolutions are taken: with
additions and poolings in int8 as well, the shipped model's scores had nothing to do with the float model's any more.
"""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QDQQuantizer,
    QuantType,
    create_calibrator,
)

from edge_runtime.errors import ModelError, OutputError
from quantization.targets import Target

PERCENTILE = 99.999
_CHUNK = 8
"""Windows whose inner values are held at once."""


class Reader(CalibrationDataReader):
    """Gives windows, float32 [N, …], one by one to ONNX Runtime's calibrators, as the input `name`."""

    def __init__(self, name: str, windows: NDArray[np.float32]) -> None:
        self._feeds = iter([{name: window[None]} for window in windows])

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        """The next window as a batch of one; None after the last."""
        return next(self._feeds, None)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keeps ONNX Runtime's tools from printing progress of their own, and from warning of what is meant so."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(level)


def find_ranges(model: onnx.ModelProto, windows: NDArray[np.float32]) -> Any:
    """ONNX Runtime's table of ranges of what enters and leaves each Conv of a float model.

    `windows` is float32 [N, …], each an input of the model. Needs as much memory as a few windows' inner values.
    Raises OutputError when the folder for temporary files is full, ModelError when the tools fail on the model.
    """
    with tempfile.TemporaryDirectory() as folder, quiet():
        path = Path(folder) / "float.onnx"
        try:
            onnx.save(model, path)
            calibrator = create_calibrator(
                path,
                ["Conv"],
                augmented_model_path=str(Path(folder) / "augmented.onnx"),
                calibrate_method=CalibrationMethod.Percentile,
                extra_options={"percentile": PERCENTILE},
            )
            name = model.graph.input[0].name
            for start in range(0, len(windows), _CHUNK):
                calibrator.collect_data(Reader(name, windows[start : start + _CHUNK]))
            return calibrator.compute_data()
        except OSError as reason:
            raise OutputError(f"cannot write temporary files in {folder}: {reason.strerror or reason}") from None
        except Exception as reason:  # the tools raise what NumPy, protobuf and ONNX Runtime raise
            short = " ".join(str(reason).split())[:160]
            raise ModelError(f"ONNX Runtime cannot calibrate the convolutions (is {folder} full?): {short}") from None


def quantize(model: onnx.ModelProto, weights: Sequence[str], ranges: Any, target: Target) -> onnx.ModelProto:
    """A copy of a float model in which the Conv nodes with the given weights run in int8.

    On ARM the activations are signed, for the symmetric kernels there.
    """
    nodes = [node.name for node in model.graph.node if node.op_type == "Conv" and node.input[1] in weights]
    copy = onnx.shape_inference.infer_shapes(model)
    if not nodes:
        return copy
    with quiet():
        quantizer = QDQQuantizer(
            copy,
            True,
            not target.wide_filters,
            QuantType.QInt8,
            QuantType.QInt8 if target.signed_inputs else QuantType.QUInt8,
            ranges,
            nodes,
            [],
            ["Conv"],
            {},
        )
        quantizer.quantize_model()
        quantizer.model.topological_sort()
    result = quantizer.model.model
    del result.graph.value_info[:]
    return result
