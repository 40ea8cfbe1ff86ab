"""Smaller and faster model files: levels, targets, calibration, and the proof of what they cost."""

import edge_runtime  # noqa: F401  # first: it keeps ONNX Runtime from reporting its use
