"""Smaller and faster model files: levels, targets, calibration, and the proof of what they cost."""
