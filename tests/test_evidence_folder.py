"""The folder of clips: only the program's own files are touched, several runs share it, a bad disk is waited for."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edge_runtime.decision.alarm import OFF, ON
from edge_runtime.errors import OutputError
from tests.test_evidence import Listening, clips

STEM = "edge-detect-20200101T000000.000Z-{:04d}"


def one_clip(folder: Path, at: float, **more: int) -> Listening:
    """A run with one alarm, that is over."""
    run = Listening(folder, **more)
    run.at = at
    run.hear(8, noise=True)
    run.alarm(ON, 1, run.at - 2)
    run.alarm(OFF, 1, run.at - 1)
    run.hear(2, noise=True)
    run.evidence.close()
    return run


def told(stem: str, flac: bytes, **more: object) -> str:
    """A JSON as the program writes it."""
    about = {"file": f"{stem}.flac", "alarms": [], "sha256": hashlib.sha256(flac).hexdigest()}
    return json.dumps({**about, **more})


def tree(folder: Path) -> dict[str, bytes | str | None]:
    """All that is there, and what is in it."""
    return {
        str(path.relative_to(folder)): os.readlink(path)
        if path.is_symlink()
        else (path.read_bytes() if path.is_file() else None)
        for path in folder.rglob("*")
    }


def test_what_somebody_else_put_there_is_not_counted_or_touched(tmp_path: Path) -> None:
    """Though the names, and what is in the files, are nearly ours, and the budget holds one clip."""
    folder, elsewhere = tmp_path / "clips", tmp_path / "elsewhere"
    folder.mkdir()
    elsewhere.mkdir()
    mine = b"fLaC" + bytes(200_000)
    names = [STEM.format(number) for number in range(20)]
    (elsewhere / "mine").write_bytes(mine)
    (folder / f"{names[0]}.flac").write_bytes(mine)  # no JSON
    for stem, text in (
        (names[1], "my notes"),
        (names[2], told(names[2], b"another")),
        (names[3], told(names[9], mine)),
        (names[4], told(names[4], mine, alarms="none")),
        (names[5], told(names[5], mine)[:-1]),
        (names[6], "[" * 100_000),
    ):
        (folder / f"{stem}.flac").write_bytes(mine)
        (folder / f"{stem}.json").write_text(text)
    (folder / f"{names[7]}.flac").symlink_to(elsewhere / "mine")
    os.link(elsewhere / "mine", folder / f"{names[8]}.flac")
    (folder / f"{names[9]}.flac").mkdir()
    (folder / "sub").mkdir()
    (folder / "sub" / f"{names[10]}.flac").write_bytes(mine)
    (folder / f".{names[12]}.draft").write_bytes(b"my draft\n" + mine)
    (folder / f".{names[13]}.draft").write_text(told(names[13], b"another") + "\nsound")
    (folder / f".{names[14]}.draft").symlink_to(elsewhere / "mine")
    before = tree(folder)
    run = one_clip(folder, 0.0, budget=150_000)
    second = one_clip(folder, 1000.0, budget=150_000)
    after = tree(folder)
    assert {name: after.get(name) for name in before} == before
    assert not run.complaints and not second.complaints
    kept = [name for name in after if name not in before]
    assert len(kept) == 2, "the older of our two clips had to go"


def test_our_own_halves_count_and_go(tmp_path: Path) -> None:
    """A kill between two removals leaves a FLAC alone."""
    one_clip(tmp_path, 0.0)
    (text,) = tmp_path.glob("*.json")
    text.unlink()
    one_clip(tmp_path, 1000.0, budget=150_000)
    assert len(clips(tmp_path)) == 1 and len(list(tmp_path.iterdir())) == 2


TWIN = """
import sys
from pathlib import Path
from tests.test_evidence import Listening
run = Listening(Path(sys.argv[1]))
run.at = float(sys.argv[2])
run.hear(10)
run.alarm("on", 1, run.at - 2)
run.hear(1)
run.evidence.settled()
print("drafted", flush=True)
if sys.stdin.readline():
    run.alarm("off", 1, run.at - 2)
    run.hear(5)
    run.evidence.close()
"""


def twin(folder: Path, at: float) -> subprocess.Popen[str]:
    """Another program with an alarm that goes on."""
    process = subprocess.Popen(
        [sys.executable, "-c", TWIN, str(folder), str(at)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout and process.stdout.readline() == "drafted\n"
    return process


def test_several_runs_share_a_folder_and_a_draft_is_adopted_from_the_dead_only(tmp_path: Path) -> None:
    same, other, killed = twin(tmp_path, 0.0), twin(tmp_path, 0.0), twin(tmp_path, 100.0)
    assert len(list(tmp_path.glob(".*.draft"))) == 3, "also with one time and number"
    killed.kill()
    killed.wait()
    Listening(tmp_path).evidence.close()
    ((_, adopted),) = clips(tmp_path)
    assert adopted["interrupted"] and len(list(tmp_path.glob(".*.draft"))) == 2
    for process in (same, other):
        process.communicate("over\n", timeout=60)
        Listening(tmp_path).evidence.close()
    found = clips(tmp_path)
    assert sorted(about["interrupted"] for _, about in found) == [False, False, True]
    assert len(list(tmp_path.iterdir())) == 6


@pytest.mark.parametrize("where", ["/dev/null", "/proc/clips", "/sys/clips", "file", "file/clips", "n" * 300, "loop"])
def test_what_no_waiting_mends_is_an_error(tmp_path: Path, where: str) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(OutputError, match="cannot keep clips") as refused:
        Listening(tmp_path / where)
    assert "\n" not in str(refused.value)


def test_a_folder_that_cannot_be_written_at_the_start_is_tried_again(tmp_path: Path) -> None:
    """Its disk is not mounted yet: the way to it ends in a link to nothing."""
    (tmp_path / "disk").symlink_to("later")
    run = Listening(tmp_path / "disk" / "clips")
    for number in (1, 2):
        run.hear(8)
        run.alarm(ON, number, run.at - 2)
        run.alarm(OFF, number, run.at - 2)
        run.hear(2)
        run.evidence.settled()
        (complaint,) = run.complaints
        assert "cannot be written" in complaint and "listening goes on" in complaint
    (tmp_path / "later").mkdir()
    run.hear(8)
    run.alarm(ON, 3, run.at - 2)
    run.evidence.close()
    ((_, about),) = clips(tmp_path / "later" / "clips")
    assert about["alarms"][0]["number"] == 3
    assert run.complaints[-1].endswith("again")
