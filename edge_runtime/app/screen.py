"""The first screen of `edge-detect --help`, and its commands. It imports nothing, so that it answers at once."""

from __future__ import annotations

BOX = ("listen", "score", "devices", "commission", "status", "coverage", "config", "support", "inspect")
"""Commands that the runtime has by itself."""
HOST = {
    "export": ("export.__main__", "export"),
    "quantize": ("quantization.__main__", "quantize"),
    "benchmark": ("benchmarks.__main__", "bench"),
    "train": ("training.__main__", "train"),
}
"""Commands that come with a clone: their modules, and the extra of pyproject.toml that each needs."""

SCREEN = """\
edge-detect: tells human speech from synthetic speech on a small box
usage: edge-detect COMMAND [options]
  edge-detect clip.wav              is this clip human or synthetic?
  edge-detect listen --device hw:1  is what this microphone hears?

on the box:
  listen      score a microphone, a network stream or a pipe, hop by hop
  score       score sound files
  devices     list the microphones
  commission  test box, microphone and model before you rely on them
  status      whether the service listens, and what it says now
  coverage    what was heard, lost and judged in a time, from the ledger
  config      check, show or write the configuration
  inspect     what a model file says of itself
  support     an archive for a bug report, without sound or secrets
in a clone, with the extras of pyproject.toml:
  export      a trained checkpoint to an ONNX file, proved equal to it
  quantize    a model file to a smaller and faster one
  benchmark   what model files find, and what they cost
  train       make, fine-tune and calibrate checkpoints
Each has its own --help. Exit codes and scores: edge-detect --help-all
A command may be left out: --device NAME listens, --file PATH scores.
"""
