"""Running a model that is in memory, window by window, as the device does."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from edge_runtime.errors import ModelError
from quantization.blockwise import BlockRun, has_blocks

Floats64 = NDArray[np.float64]
_FATAL = 4


def run(
    model: onnx.ModelProto,
    windows: NDArray[np.float32],
    outputs: Sequence[str] = ("logits",),
    exact: bool = False,
) -> list[NDArray[np.float32]]:
    """The named values of the graph for each of `windows`, float32 [N, …], run one at a time; batches in axis 0.

    Of the `blocks` form a window is its features, and inner values of its blocks come after one another. A value whose
    axis 0 is time (what enters a GRU, [T, 1, I]) comes as [N, T, 1, I]. One at a time, as
    other tools' dynamic activations share a scale in a batch. `exact` is that of `Network.load`: no sum saturates on
    this machine. Raises ModelError when ONNX Runtime cannot open or run the model.
    """
    known = {item.name for item in model.graph.output}
    wanted = [name for name in outputs if name not in known]
    if wanted:
        copy = onnx.ModelProto()
        copy.CopyFrom(model)
        copy.graph.output.extend(onnx.ValueInfoProto(name=name) for name in wanted)
        model = copy
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = _FATAL
    if exact:
        options.add_session_config_entry("session.x64quantprecision", "1")
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        if has_blocks(model):
            blocks = BlockRun(session, model, outputs)
            found = [blocks.window(window) for window in windows]
        else:
            name = session.get_inputs()[0].name
            found = [session.run(list(outputs), {name: window[None]}) for window in windows]
    except Exception as reason:  # ONNX Runtime's exceptions share no narrower base
        raise ModelError(f"ONNX Runtime cannot run the model: {' '.join(str(reason).split())[:160]}") from None
    return [
        np.stack([values[place] for values in found])
        if name not in known
        else np.concatenate([v[place] for v in found])
        for place, name in enumerate(outputs)
    ]


def raw_scores(model: onnx.ModelProto, windows: NDArray[np.float32], exact: bool = False) -> Floats64:
    """Raw scores, float64 [N], of windows: logits[1] - logits[0]. Raises ModelError as `run` does."""
    (logits,) = run(model, windows, exact=exact)
    if not np.isfinite(logits).all():
        raise ModelError("the model gives scores that are not numbers")
    return logits[:, 1].astype(np.float64) - logits[:, 0]
