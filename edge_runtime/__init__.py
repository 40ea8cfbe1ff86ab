"""edge-detect on the device: tells human speech from synthetic, with `Detector` as its pure core.

Nothing is loaded until it is asked for: ONNX Runtime takes seconds on a small board.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False  # as typing's, which is not light to import
if TYPE_CHECKING:
    from edge_runtime.decision.summary import Summary
    from edge_runtime.decision.verdict import Verdict, Window
    from edge_runtime.detector import Detector
    from edge_runtime.errors import EdgeDetectError, InputError, ModelError, OutputError, UsageError
    from edge_runtime.library import listen, resample, score_file
    from edge_runtime.version import __version__

# From 1.29 on ONNX Runtime reports its use to Microsoft, unless this is set before it is loaded (its Privacy.md). Who
# listens to people reports to nobody; a user who wants it sets the variable to 0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__all__ = [
    "Detector",
    "EdgeDetectError",
    "InputError",
    "ModelError",
    "OutputError",
    "Summary",
    "UsageError",
    "Verdict",
    "Window",
    "__version__",
    "listen",
    "resample",
    "score_file",
]
_MODULES = {
    "Detector": "detector",
    "Summary": "decision.summary",
    "Verdict": "decision.verdict",
    "Window": "decision.verdict",
    "__version__": "version",
    "listen": "library",
    "resample": "library",
    "score_file": "library",
}


def __getattr__(name: str) -> object:
    """What `__all__` names, imported when it is first asked for."""
    if name in __all__:
        from importlib import import_module

        return getattr(import_module(f"edge_runtime.{_MODULES.get(name, 'errors')}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
