"""Spoofed clips, trained checkpoints and their calibration."""

from benchmarks.extras import demand

demand("train", "torch", "safetensors", "scipy", "tqdm", "matplotlib")
