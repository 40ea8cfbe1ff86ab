"""Every fault that a microphone, a disk or a clock can have, in the real program: told, survived, accounted for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.faults.live import FAULTS, ON_JACK, Bench, Row

_ACCOUNT_SECONDS = 1.5
"""What may be missing from the account of a run: the sound under way at its end, and the clocks of card and machine."""


@pytest.fixture(scope="module")
def rows(exported: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Future[Row]]]:
    """What every fault did. They are tried side by side, as most of their time is waiting; one JACK at a time."""
    model, folder = exported("streaming"), tmp_path_factory.mktemp("faults")
    with ThreadPoolExecutor(1) as jack, ThreadPoolExecutor(2) as others:
        rows = {}
        for name, fault in FAULTS.items():
            bench = Bench(folder / name, model, hurry=True)
            bench.folder.mkdir()
            rows[name] = (jack if fault in ON_JACK else others).submit(fault, bench)
        yield rows
        for row in rows.values():
            row.cancel()


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_told_survived_and_accounted_for(name: str, rows: dict[str, Future[Row]]) -> None:
    # What a fault must make the program say, and that it hears again, is asked for on the way.
    row = rows[name].result()
    print(row)
    assert row.covered["heard"] > 0
    assert abs(row.unaccounted_seconds) < _ACCOUNT_SECONDS, row
