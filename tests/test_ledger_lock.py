"""Whose a file is: one ledger has one writer at a time, and another's letter is no ledger."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from edge_runtime.errors import OutputError
from tests.booked import NOON, Listening, rows, writer
from tests.small_disk import small_disk


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite"


def test_a_second_writer_is_refused_until_the_first_ends(path: Path) -> None:
    one = Listening(path)
    one.hear(70)
    with pytest.raises(OutputError, match="another edge-detect writes the ledger"):
        Listening(path)
    one.report.close()
    assert list(path.parent.iterdir()) == [path]
    process = writer(path, NOON + 600)
    assert process.stdout and process.stdout.readline()
    with pytest.raises(OutputError, match="another edge-detect"):
        Listening(path)
    process.kill()
    process.communicate()
    Listening(path, wall=NOON + 90_000).report.close()
    assert rows(path, "SELECT count(*) FROM runs") == [(3,)]


def test_a_lock_that_cannot_be_made_is_told(path: Path) -> None:
    Path(f"{path}.lock").mkdir()
    with pytest.raises(OutputError, match="cannot keep a ledger"):
        Listening(path)


def test_without_room_for_a_lock_it_goes_on(path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Only for the lock, whose name leads to a disk that holds no more files."""
    with small_disk(tmp_path_factory.mktemp("disk"), 64, files=1) as disk:
        if not disk.mounted:
            pytest.skip("no disk can be mounted here")
        Path(f"{path}.lock").symlink_to(disk.folder / "lock")
        with pytest.raises(OSError, match="No space") as full:
            (disk.folder / "lock").touch()
        assert full.value.errno == errno.ENOSPC
        run = Listening(path)
        run.hear(70)
        run.report.close()
        assert run.complaints == [] and run.coverage().total.heard == 70


@pytest.mark.parametrize("text", ["Dear Ada,\n", "my notes\n" * 1000])
def test_a_file_of_another_kind_is_left_alone(path: Path, text: str) -> None:
    path.write_text(text)
    before = path.stat()
    with pytest.raises(OutputError, match="no ledger"):
        Listening(path)
    assert path.read_text() == text and path.stat().st_mtime_ns == before.st_mtime_ns
    assert list(path.parent.iterdir()) == [path]
    # Beside what only SQLite makes it was a ledger.
    Path(f"{path}-wal").write_bytes(b"")
    run = Listening(path)
    run.report.close()
    assert "damaged-1" in run.complaints[0] and Path(f"{path}.damaged-1").read_text() == text
