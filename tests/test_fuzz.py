"""Each fuzzer for a moment: it runs, and finds nothing. `python -m tests.fuzz --seconds 300` is the real search."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from tests.fuzz.__main__ import TARGETS, target_of
from tests.fuzz.harness import fuzz


@pytest.mark.parametrize("name", TARGETS)
def test_mutated_inputs_end_in_one_line(name: str, tmp_path: Path) -> None:
    result = fuzz(target_of(name), tmp_path, seconds=math.inf, executions=100, seed=1)
    print(result)
    assert not result.findings, result.findings[0][1]
