"""Spoofed clips, trained checkpoints and their calibration."""

import edge_runtime  # noqa: F401  # first: it keeps ONNX Runtime from reporting its use
from edge_runtime.system.extras import demand

demand("train", "torch", "safetensors", "scipy", "tqdm", "matplotlib")
