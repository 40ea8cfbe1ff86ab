"""How often was scored in one run, as reports tell it."""

from __future__ import annotations

from dataclasses import dataclass

SLOW = "slow"
"""Why a hop widens: the box cannot keep up."""
RECOVERED = "recovered"
"""Why it narrows: the box can, for some time now."""


@dataclass(frozen=True)
class HopChange:
    """From now on windows come every `hop_seconds`; `reason` is SLOW or RECOVERED."""

    hop_seconds: float
    reason: str


@dataclass(frozen=True)
class Pace:
    """How often was scored in one run."""

    hop_seconds: float  # that was asked for, or found at the start
    hop_changes: int = 0
    widest_hop_seconds: float = 0.0
    coarse_seconds: float = 0.0  # sound heard while the hop was wider than `hop_seconds`
