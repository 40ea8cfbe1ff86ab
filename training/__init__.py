"""Spoofed clips, trained checkpoints and their calibration."""

import edge_runtime  # noqa: F401  # first: it keeps ONNX Runtime from reporting its use
from edge_runtime.system.extras import demand_of_package

demand_of_package("train", "torch", "safetensors", "scipy", "tqdm", "matplotlib")
