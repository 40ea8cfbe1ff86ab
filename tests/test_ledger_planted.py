"""A ledger that a stranger planted or a card damaged: one line, and the run goes on with another."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from edge_runtime.errors import InputError, OutputError
from edge_runtime.report.coverage.report import read
from tests.booked import ABOUT, NOON, Ledger, Listening, rows
from tests.planted import DAMAGED, DAMAGED_ROWS, HEARD, beside, executed, listening_socket, sound_ledger
from tests.program import one_line, run


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite"


def goes_on(path: Path) -> list[str]:
    """A run in the file: all that it heard can be read afterwards. Gives what it complained of."""
    run = Listening(path, wall=NOON + 9000)
    run.hear(70, 1.0)
    run.report.close()
    assert read(str(path), NOON + 9000, run.wall).total.heard == pytest.approx(70)
    assert not any("\n" in line for line in run.complaints)
    return run.complaints


@pytest.mark.parametrize("what", DAMAGED_ROWS)
def test_rows_that_no_run_can_have_written_are_left_out_and_counted(path: Path, what: str) -> None:
    DAMAGED_ROWS[what](path)
    found = read(str(path), NOON - 100, NOON + 1000)
    assert found.damaged >= 1
    assert found.total.heard in (HEARD, HEARD - 30.0) and 0 <= found.total.alarms <= 1
    (complaint,) = goes_on(path)
    assert "damaged" in complaint and Path(f"{path}.damaged-1").exists()


@pytest.mark.parametrize("what", DAMAGED)
def test_what_cannot_be_read_is_refused_by_the_reader_and_moved_aside_by_the_writer(path: Path, what: str) -> None:
    DAMAGED[what](path)
    with pytest.raises(InputError, match="ledger") as refused:
        read(str(path), NOON - 100, NOON + 1000)
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 500
    complaints = goes_on(path)
    assert len(complaints) == 1 and f"it is now {path}.damaged-1" in complaints[0]


def test_coverage_shows_what_can_be_read_and_says_that_it_is_not_all(path: Path) -> None:
    DAMAGED_ROWS["a time that is a text"](path)
    done = run("coverage", "--ledger", path, "--since", "2026-11-01", "--until", "2027-01-01")
    assert done.returncode == 3
    assert "1 row is left out" in one_line(done.stderr)
    assert "Damaged rows are left out, so there may have been more." in done.stdout


def test_text_that_is_no_utf_8_is_shown(path: Path) -> None:
    executed("UPDATE events SET text = CAST(x'616cff1b5b316d' AS TEXT)")(path)
    done = run("coverage", "--ledger", path, "--since", "2026-11-01", "--until", "2027-01-01")
    assert done.returncode == 0 and done.stderr == "" and "al\N{REPLACEMENT CHARACTER}\\x1b[1m" in done.stdout
    assert goes_on(path) == []


def test_a_newer_ledger_is_left_alone_and_listening_goes_on(path: Path) -> None:
    executed("PRAGMA user_version = 7")(path)
    before = path.read_bytes()
    with pytest.raises(InputError, match="newer version of edge-detect"):
        read(str(path), NOON, NOON + 1)
    run = Listening(path)
    run.hear(70, 1.0)
    run.report.close()
    assert "newer version of edge-detect" in run.complaints[0] and "update edge-detect" in run.complaints[0]
    assert run.complaints[1].endswith("lacks the last 70 s") and len(run.complaints) == 2
    assert path.read_bytes() == before and list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("tail", ["-wal", "-shm", "-journal"])
@pytest.mark.parametrize(
    "make", [os.mkfifo, os.mkdir, listening_socket, lambda place: os.symlink("/etc/hostname", place)]
)
def test_what_is_no_file_beside_a_ledger_is_moved_aside(path: Path, tail: str, make: Callable[[Path], object]) -> None:
    beside(tail, make)(path)
    with pytest.raises(InputError, match=f"{tail} beside it is a"):
        read(str(path), NOON, NOON + 1)
    (complaint,) = goes_on(path)
    assert tail in complaint
    assert read(str(path), NOON, NOON + 1000).total.heard == HEARD


@pytest.mark.parametrize("tail", ["-wal", "-shm", "-journal"])
def test_rubbish_beside_a_ledger_does_no_harm(path: Path, tail: str) -> None:
    beside(tail, lambda place: place.write_bytes(os.urandom(10_000)))(path)
    assert goes_on(path) == []
    assert read(str(path), NOON, NOON + 1000).total.heard == HEARD


@pytest.mark.parametrize(
    ("make", "kind"), [(os.mkfifo, "a named pipe"), (listening_socket, "a socket"), (os.mkdir, "a folder")]
)
def test_what_is_no_file_is_refused_at_once(path: Path, make: Callable[[Path], object], kind: str) -> None:
    make(path)
    with pytest.raises(OutputError, match=f"cannot keep a ledger at {path}: it is {kind}"):
        Ledger(path, ABOUT, print)
    with pytest.raises(InputError, match=f"it is {kind}"):
        read(str(path), 0, 1)
    assert list(path.parent.iterdir()) == [path]


def test_a_device_is_no_place_for_a_ledger(path: Path) -> None:
    path.symlink_to("/dev/null")
    beside = sorted(Path("/dev").iterdir())
    for place in (path, Path("/dev/null"), Path("/dev/full")):
        with pytest.raises(OutputError, match="it is a device"):
            Ledger(place, ABOUT, print)
        with pytest.raises(InputError, match="it is a device"):
            read(str(place), 0, 1)
    assert sorted(Path("/dev").iterdir()) == beside


def test_a_link_leads_to_the_ledger(path: Path, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    path.symlink_to(tmp_path / "disk" / "ledger")
    assert goes_on(path) == []
    assert path.is_symlink() and sorted(tmp_path.iterdir()) == [tmp_path / "disk", path]
    path.unlink()
    path.symlink_to(path)
    with pytest.raises(OutputError, match="cannot keep a ledger"):
        Ledger(path, ABOUT, print)
    with pytest.raises(InputError, match="ledger"):
        read(str(path), 0, 1)


def test_events_with_high_numbers_make_no_others_vanish(path: Path) -> None:
    executed(f"UPDATE events SET id = {2**52} WHERE id = 1", f"UPDATE runs SET id = {2**52}")(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"UPDATE minutes SET run = {2**52}")
        connection.commit()
    assert goes_on(path) == []
    assert len(rows(path, "SELECT 1 FROM events")) == 3 and len(rows(path, "SELECT 1 FROM runs")) == 2
    assert len(read(str(path), NOON, NOON + 1000).alarms) == 1


def test_a_ledger_is_for_its_owner_and_group(path: Path) -> None:
    before = os.umask(0)
    try:
        run = Listening(path)
        run.hear(70)
        run.settle()
        modes = {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir()}
    finally:
        os.umask(before)
    assert set(modes) == {path.name, *(f"{path.name}{tail}" for tail in ("-wal", "-shm", ".lock"))}
    assert set(modes.values()) == {0o640}
    run.report.close()


def test_a_name_that_is_no_utf_8_is_a_name(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9%00?.sqlite"))
    sound_ledger(path)
    done = run("coverage", "--ledger", path, "--since", "2026-11-01", "--until", "2027-01-01")
    assert done.returncode == 0 and "1 alarm in" in done.stdout, done.stderr
    for name in ("a\0b", "x" * 300, "y/" * 300):
        with pytest.raises(OutputError, match="cannot keep a ledger"):
            Ledger(tmp_path / name, ABOUT, print)
        with pytest.raises(InputError, match="ledger"):
            read(str(tmp_path / name), 0, 1)


def test_a_ledger_that_begins_in_1970_is_not_told_minute_by_minute(path: Path) -> None:
    sound_ledger(path, wall=10.0)
    done = run("coverage", "--ledger", path, "--since", "1970-01-01", "--per", "minute")
    assert done.returncode == 2 and "too many" in one_line(done.stderr)
    done = run("coverage", "--ledger", path, "--since", "1970-01-01", "--until", "9999-12-31", "--per", "day", "--json")
    assert done.returncode == 2 or done.stdout.startswith("{"), done.stderr
