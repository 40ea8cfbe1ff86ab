"""Checkpoints to ONNX files that are proved equal to them."""

import edge_runtime  # noqa: F401  # first: it keeps ONNX Runtime from reporting its use
