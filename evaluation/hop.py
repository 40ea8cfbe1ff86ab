"""The hop that a benchmark was given, compared with the one that a model has: figures of another are not its own."""

from __future__ import annotations

from edge_runtime.detector import Detector
from edge_runtime.errors import UsageError
from edge_runtime.run.opening import foreign_hop


def at_hop(detector: Detector, hop_seconds: float) -> Detector:
    """`detector`, which was made for `hop_seconds`. Raises UsageError where its model has no hop near that."""
    if reason := foreign_hop(detector, hop_seconds):
        raise UsageError(f"{detector.network.path}: {reason}")
    return detector
