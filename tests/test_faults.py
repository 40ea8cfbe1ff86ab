"""Every fault that a microphone, a disk or a clock can have, in the real program: told, survived, accounted for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults import FAULTS, Bench

_ACCOUNT_SECONDS = 1.5
"""What may be missing from the account of a run: the sound under way at its end, and the clocks of card and machine."""


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_told_survived_and_accounted_for(name: str, exported: Callable[[str], Path], tmp_path: Path) -> None:
    # What a fault must make the program say, and that it hears again, is asked for on the way.
    row = FAULTS[name](Bench(tmp_path, exported("streaming"), hurry=True))
    print(row)
    assert row.covered["heard"] > 0
    assert abs(row.unaccounted_seconds) < _ACCOUNT_SECONDS, row
