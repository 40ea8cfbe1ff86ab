"""How this project opens ONNX Runtime sessions: one place for their options, and errors that are ours."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import onnxruntime

from edge_runtime.errors import ModelError
from edge_runtime.model.onnxfile import NO_MODEL
from edge_runtime.system.text import printable

CPU = "CPUExecutionProvider"
_PLACE = re.compile(r"/onnxruntime_src/.*\) (?:\[ONNXRuntimeError\] : \d+ : \w+ : )?")
"""Where in ONNX Runtime's source it happened, with the function's parameters: before the reason itself."""
FATAL = 4  # ONNX Runtime logs errors on its own, beside raising them; the exception says it once


def open_session(
    model: str | bytes,
    what: str,
    *,
    threads: int = 1,
    exact: bool = False,
    providers: Sequence[str | tuple[str, dict[str, str]]] = (CPU,),
) -> onnxruntime.InferenceSession:
    """A session of a file or its bytes. Raises ModelError, which names `what`, when ONNX Runtime cannot open it.

    `exact` is that of `Network.load`. A provider may still be missing from the session's own list: ONNX Runtime leaves
    out one whose library it cannot load, and says nothing.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = FATAL
    # Waiting threads sleep: spinning costs a battery or a neighbour more than it gains between two hops.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if exact:
        options.add_session_config_entry("session.x64quantprecision", "1")
    try:
        # Without the fallback, which would print on standard output, among our lines.
        return onnxruntime.InferenceSession(model, options, providers=list(providers), enable_fallback=0)
    except Exception as error:  # ONNX Runtime's exceptions share no narrower base
        why = one_line(error)
        if "Protobuf parsing failed" in why:
            why = NO_MODEL
        raise ModelError(f"cannot open {what}: {why}") from None


def one_line(error: Any) -> str:
    """The first line of ONNX Runtime's message, without its code prefix and at most a screen line long."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    text = printable(_PLACE.sub("", lines[0]).split(" : ", 3)[-1].strip())
    return text if len(text) <= 200 else text[:197] + "..."
