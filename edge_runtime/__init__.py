"""edge-detect on the device: tells human speech from synthetic, with `Detector` as its pure core."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from edge_runtime.decision.verdict import Verdict, Window
from edge_runtime.errors import EdgeDetectError, InputError, ModelError, OutputError, UsageError

# From 1.29 on ONNX Runtime reports its use to Microsoft, unless this is set before it is loaded (its Privacy.md). Who
# listens to people reports to nobody; a user who wants it sets the variable to 0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

if TYPE_CHECKING:
    from edge_runtime.detector import Detector

__version__ = "0.1.0"
__all__ = [
    "Detector",
    "EdgeDetectError",
    "InputError",
    "ModelError",
    "OutputError",
    "UsageError",
    "Verdict",
    "Window",
    "__version__",
]


def __getattr__(name: str) -> Any:
    """Imports `Detector` when first asked for: ONNX Runtime takes long to load on a small board."""
    if name == "Detector":
        from edge_runtime.detector import Detector

        return Detector
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
