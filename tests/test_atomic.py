"""The one writer of whole files: what is there stays until all is written, and nothing but files is replaced."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from edge_runtime.atomic import replace_file, whole_file
from edge_runtime.errors import OutputError

WRITER = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background of a shell it is ignored
from edge_runtime.atomic import whole_file
with whole_file(sys.argv[1]) as half:
    half.write_text("half")
    print("begun", flush=True)
    time.sleep(60)
"""


def writer(target: Path) -> subprocess.Popen[str]:
    """A program that has begun to write."""
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(target)], stdout=subprocess.PIPE, text=True)
    assert process.stdout and process.stdout.readline() == "begun\n"
    return process


@pytest.mark.parametrize("what", ["folder", "pipe", "socket", "link to a device", "/dev/full", "/dev/fd/1", "/proc/x"])
def test_what_is_no_file_is_refused_and_stays(tmp_path: Path, what: str) -> None:
    path = Path(what) if what.startswith("/") else tmp_path / "target"
    with socket.socket(socket.AF_UNIX) as bound:
        match what:
            case "folder":
                path.mkdir()
            case "pipe":
                os.mkfifo(path)
            case "socket":
                bound.bind(str(path))
            case "link to a device":
                path.symlink_to("/dev/null")
        before = os.lstat(path) if os.path.lexists(path) else None
        with pytest.raises(OutputError, match="it is a"), whole_file(path):
            raise AssertionError
        with pytest.raises(OutputError):
            replace_file(path, b"", 0o600)
        after = os.lstat(path) if os.path.lexists(path) else None
        assert (before and before.st_ino) == (after and after.st_ino)
    assert not list(tmp_path.glob(".*"))


def test_a_link_stays_one_and_its_file_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    for link in (tmp_path / "link", tmp_path / "dangling"):
        link.symlink_to(f"elsewhere/{link.name}")
    (tmp_path / "elsewhere/link").write_text("old")
    for link in (tmp_path / "link", tmp_path / "dangling"):
        with whole_file(link) as half:
            half.write_text("new")
        assert link.is_symlink() and link.read_text() == "new"
    replace_file(tmp_path / "link", b"newer", 0o640)
    assert (tmp_path / "link").is_symlink() and (tmp_path / "elsewhere/link").read_text() == "newer"
    assert stat.S_IMODE((tmp_path / "elsewhere/link").stat().st_mode) == 0o640
    assert len(list(tmp_path.rglob("*"))) == 5


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_leaves_nothing_behind(tmp_path: Path, number: signal.Signals) -> None:
    target = tmp_path / "target"
    target.write_text("old")
    process = writer(target)
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == -number
    assert [path.name for path in tmp_path.iterdir()] == ["target"] and target.read_text() == "old"


def test_what_a_killed_writer_left_goes_with_the_next_and_a_living_one_is_left_alone(tmp_path: Path) -> None:
    target = tmp_path / "target"
    killed, living = writer(target), writer(target)
    (tmp_path / ".target.notes.part").write_text("somebody's")
    killed.kill()
    killed.wait()
    assert len(list(tmp_path.glob(".target.*.part"))) == 3
    with whole_file(target) as half:
        half.write_text("new")
    assert len(list(tmp_path.glob(".target.*.part"))) == 2 and target.read_text() == "new"
    living.kill()
    living.wait()
    replace_file(target, b"newer", 0o600)
    assert {path.name for path in tmp_path.iterdir()} == {"target", ".target.notes.part"}


def test_a_name_as_long_as_names_may_be(tmp_path: Path) -> None:
    target = tmp_path / ("n" * 255)
    with whole_file(target) as half:
        half.write_text("new")
    assert target.read_text() == "new"


INTERRUPTED = """
import os, signal, sys
from pathlib import Path
from edge_runtime import atomic
target, number = Path(sys.argv[1]), int(sys.argv[2])
ends = set()
for last in range(1, 1000):
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        seen = 0
        def trace(frame, event, _argument):
            global seen
            if frame.f_code.co_filename != atomic.__file__:
                return None
            if event == "line":
                seen += 1
                if seen == last:
                    os.kill(os.getpid(), number)
            return trace
        sys.settrace(trace)
        try:
            with atomic.whole_file(target) as half:
                half.write_text("new")
        except KeyboardInterrupt:
            sys.settrace(None)
            os._exit(2)
        sys.settrace(None)
        os._exit(0 if seen < last else 1)
    _, status = os.waitpid(child, 0)
    ends.add(status)
    names = [path.name for path in target.parent.iterdir()]
    assert set(names) <= {target.name}, (last, status, names)
    if status == 0:
        break
assert last > 20, last
print(sorted(ends))
"""


@pytest.mark.parametrize(("number", "end"), [(signal.SIGTERM, signal.SIGTERM), (signal.SIGINT, 2 << 8)])
def test_at_whatever_line_a_signal_comes_nothing_unfinished_stays(tmp_path: Path, number: int, end: int) -> None:
    """Before the file is there, between its making and its first word, and while it takes the target's place."""
    words = [sys.executable, "-c", INTERRUPTED, str(tmp_path / "target"), str(int(number))]
    ended = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr
    assert str(int(end)) in ended.stdout
