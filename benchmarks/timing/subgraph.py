"""Cutting an ONNX file in two or more, so that its parts can be timed alone. Needs onnx, imported when asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnxruntime

from edge_runtime.errors import ModelError, UsageError
from edge_runtime.system.extras import how_to_get


def need_onnx() -> Any:
    """The module onnx. Raises UsageError when it is missing."""
    try:
        import onnx
        import onnx.utils
    except ModuleNotFoundError:
        raise UsageError(how_to_get("onnx", "bench")) from None
    return onnx


def read(path: Path) -> Any:
    """The ONNX model of a file. Raises ModelError when there is none, UsageError without onnx."""
    onnx = need_onnx()
    try:
        return onnx.load(str(path))
    except Exception as reason:  # a missing file, or whatever protobuf makes of a damaged one
        raise ModelError(f"cannot read the model {path}: {' '.join(str(reason).split())[:160]}") from None


def part(model: Any, begin: str, end: str, threads: int, what: str) -> onnxruntime.InferenceSession:
    """The part of a model between two float values, opened as the runtime opens models.

    Raises ModelError, which names `what` is cut, when there is no such part.
    """
    onnx = need_onnx()
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    del bare.graph.value_info[:]
    known = {value.name for value in (*bare.graph.input, *bare.graph.output)}
    for name in {begin, end} - known:
        bare.graph.value_info.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [None] * 3))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        cut = onnx.utils.Extractor(bare).extract_model([begin], [end])
        return onnxruntime.InferenceSession(cut.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as reason:  # neither library's exceptions share a base
        raise ModelError(f"cannot cut {what}: {' '.join(str(reason).split())[:160]}") from None


def is_recurrent(model: Any) -> bool:
    """Whether the model has a recurrent layer, however it is written out."""
    return any(node.op_type in ("GRU", "Scan") for node in model.graph.node)


def recurrent_input(model: Any) -> str:
    """The name of what the first recurrent layer takes, [steps, batch, channels], however it is written out.

    It is the nearest transposition before the first GRU or Scan. Raises ModelError when there is none.
    """
    makers = {name: node for node in model.graph.node for name in node.output}
    first = next((node for node in model.graph.node if node.op_type in ("GRU", "Scan")), None)
    # The inputs of a Scan are its states and then its sequences, of a GRU its sequence and then its weights.
    waiting = [] if first is None else list(first.input[:1] if first.op_type == "GRU" else first.input[1:])
    seen: set[str] = set()
    while waiting:
        name = waiting.pop(0)
        node = makers.get(name)
        if node is None or name in seen:
            continue
        if node.op_type == "Transpose":
            return name
        seen.add(name)
        waiting += node.input
    raise ModelError("the model has no recurrent layer after a transposition: it is no RawNet2 of `python -m export`")
