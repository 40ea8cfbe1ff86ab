"""What the command line asks the commissioning test for. Light to import, so that --help answers at once."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edge_runtime.decision.verdict import Verdict
from edge_runtime.settings.option import number_from

KINDS = (str(Verdict.BONAFIDE), str(Verdict.SPOOF))
_PLAIN = {"human": KINDS[0], "synthetic": KINDS[1]}
"""The words of the screen, which are taken too."""
_SHORTEST_SECONDS, _LONGEST_SECONDS = 1, 600


@dataclass(frozen=True)
class ReferenceClip:
    """A file, and the one of KINDS that it is."""

    path: str
    expected: str


@dataclass(frozen=True)
class CommissionRequest:
    """What shall be tested."""

    given: Mapping[str, Any]  # `device` and `config`, as far as they are named
    seconds: float = 10.0
    clips: Sequence[ReferenceClip] = ()


def clip(text: str) -> ReferenceClip:
    """The clip that `FILE:human` or `FILE:synthetic` names; `bonafide` and `spoof` are taken too. Raises ValueError."""
    path, _, expected = text.rpartition(":")
    expected = _PLAIN.get(expected, expected)
    if not path or expected not in KINDS:
        raise ValueError(text)
    return ReferenceClip(path, expected)


def duration(text: str) -> float:
    """A time that the test can listen for, in seconds. Raises ValueError."""
    seconds = number_from(text)
    if not (math.isfinite(seconds) and _SHORTEST_SECONDS <= seconds <= _LONGEST_SECONDS):
        raise ValueError(text)
    return seconds


clip.__name__ = "clip: FILE:human or FILE:synthetic"  # argparse puts the names into its errors
duration.__name__ = f"time: {_SHORTEST_SECONDS} to {_LONGEST_SECONDS} seconds"
