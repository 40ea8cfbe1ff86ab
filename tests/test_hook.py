"""The command for alarms: what it is told, one at a time, ended with all it started, and never waited for."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path

import pytest

from edge_runtime.decision.alarm import OFF, ON, Alarm
from edge_runtime.errors import UsageError
from edge_runtime.report.hook import Hook, need, split
from tests.waiting import until

RECORD = """\
import json, os, sys, time
began = time.monotonic()
line = json.loads(sys.stdin.readline())
time.sleep(0.1)
with open(sys.argv[1], "a") as file:
    print(json.dumps([os.environ["EDGE_DETECT_EVENT"], line, sys.argv[2:], began, time.monotonic()]), file=file)
"""
FOREVER = """\
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
with open(sys.argv[1] + ".new", "w") as file:
    file.write(str(child.pid))
import os
os.rename(sys.argv[1] + ".new", sys.argv[1])
time.sleep(600)
"""


def alarm(number: int, kind: str = ON) -> Alarm:
    return Alarm(kind, number, 1.0, 2.0 + number, -2.5)


def command(tmp_path: Path, script: str, *arguments: str) -> str:
    path = tmp_path / "a command.py"
    path.write_text(script)
    return " ".join(f"'{word}'" for word in (sys.executable, str(path), str(tmp_path / "said"), *arguments))


def lives(process: int) -> bool:
    """Whether it runs; one that nobody has waited for is dead as well."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_both_ends_of_an_alarm_are_told_one_after_the_other_without_a_shell(tmp_path: Path) -> None:
    complaints: list[str] = []
    hook = Hook(command(tmp_path, RECORD, "$HOME; echo", "two words"), 30.0, complaints.append)
    hook.alarm(alarm(1))
    hook.alarm(alarm(1, OFF))
    said = tmp_path / "said"
    until(lambda: said.exists() and said.read_text().count("\n") == 2)
    hook.close()
    first, second = (json.loads(line) for line in said.read_text().splitlines())
    assert (first[0], second[0]) == ("alarm-on", "alarm-off")
    assert first[1] | {"time": ""} == {
        "type": "alarm",
        "alarm": "on",
        "number": 1,
        "start": 1.0,
        "at": 3.0,
        "score": -2.5,
        "time": "",
    }
    assert first[1]["time"].endswith("Z")
    assert first[2] == ["$HOME; echo", "two words"]
    assert second[3] > first[4], "they ran at the same time"
    assert complaints == []


def test_after_the_timeout_all_that_it_started_is_killed(tmp_path: Path) -> None:
    complaints: list[str] = []
    hook = Hook(command(tmp_path, FOREVER), 3.0, complaints.append)
    hook.alarm(alarm(1))
    said = tmp_path / "said"
    until(said.exists)
    grandchild = int(said.read_text())
    assert lives(grandchild)
    until(lambda: bool(complaints))
    until(lambda: not lives(grandchild))
    assert "took over 3 s" in complaints[0]
    hook.close()


def test_what_a_command_leaves_in_the_background_costs_nothing(tmp_path: Path) -> None:
    complaints: list[str] = []
    hook = Hook("sh -c 'sleep 20 &'", 30.0, complaints.append)
    before = len(os.listdir("/proc/self/fd")), threading.active_count()
    for number in range(1, 9):
        hook.alarm(alarm(number))
    deadline = time.monotonic() + 30
    while not hook._events.empty() and time.monotonic() < deadline:
        time.sleep(0.05)
    hook.close()
    after = len(os.listdir("/proc/self/fd")), threading.active_count()
    assert after[0] <= before[0] and after[1] <= before[1]
    assert not complaints


def test_the_end_does_not_wait_for_ever(tmp_path: Path) -> None:
    complaints: list[str] = []
    hook = Hook(command(tmp_path, FOREVER), 600.0, complaints.append)
    hook.alarm(alarm(1))
    hook.alarm(alarm(1, OFF))
    said = tmp_path / "said"
    until(said.exists)
    began = time.monotonic()
    hook.close()
    assert time.monotonic() - began < 60
    until(lambda: not lives(int(said.read_text())))
    assert complaints


def test_more_alarms_than_can_wait_are_told_and_nobody_waits(tmp_path: Path) -> None:
    complaints: list[str] = []
    hook = Hook(command(tmp_path, FOREVER), 2.0, complaints.append)
    for number in range(100):
        hook.alarm(alarm(number))
    assert any("left out" in complaint for complaint in complaints)
    hook.close()


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("import sys; sys.exit('no such phone\\n')", "ended with code 1: no such phone"),
        ("import os; os.kill(os.getpid(), 9)", "signal 9"),
        ("import sys; sys.stderr.write('x' * 3_000_000); sys.exit(3)", "ended with code 3"),
    ],
)
def test_what_goes_wrong_is_told_in_a_line(tmp_path: Path, script: str, said: str) -> None:
    complaints: list[str] = []
    hook = Hook(command(tmp_path, script), 30.0, complaints.append)
    hook.alarm(alarm(1))
    hook.close()
    assert len(complaints) == 1
    assert said in complaints[0]


def test_a_command_that_vanishes_is_no_end(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    complaints: list[str] = []
    hook = Hook(str(program), 30.0, complaints.append)
    os.remove(program)
    hook.alarm(alarm(1))
    hook.close()
    assert "cannot be run" in complaints[0]


@pytest.mark.parametrize("text", ["", "  ", "say 'it", "sh \0", "no-such-command 'anywhere"])
def test_a_command_that_cannot_be_is_refused_at_once(text: str) -> None:
    with pytest.raises(UsageError) as refused:
        Hook(text, 1.0, print)
    assert "\n" not in str(refused.value)
    with pytest.raises(UsageError):
        split(text)


def test_a_command_that_comes_later_is_run_from_then_on(tmp_path: Path) -> None:
    program = tmp_path / "mounted later" / "program"
    quoted = f"'{program}' 'two words'"
    with pytest.raises(UsageError, match="there is no command"):
        need(quoted)
    complaints: list[str] = []
    hook = Hook(quoted, 30.0, complaints.append)
    hook.alarm(alarm(1))
    until(lambda: bool(complaints))
    assert "cannot be run: No such file" in complaints[0]
    program.parent.mkdir()
    program.write_text('#!/bin/sh\nexec tee "$0.said"\n')
    program.chmod(0o755)
    hook.alarm(alarm(2))
    hook.close()
    assert json.loads((program.parent / "program.said").read_text())["number"] == 2
    assert len(complaints) == 1


def test_the_words_of_a_command_are_those_of_a_shell() -> None:
    assert split("sh -c 'echo $HOME' \"\"") == ["sh", "-c", "echo $HOME", ""]


@pytest.mark.parametrize(("times", "said"), [(2, "failed once more"), (3, "failed 2 times more")])
def test_what_fails_again_is_counted(tmp_path: Path, times: int, said: str) -> None:
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    complaints: list[str] = []
    hook = Hook(str(program), 30.0, complaints.append)
    os.remove(program)
    for number in range(times):
        hook.alarm(alarm(number))
    hook.close()
    assert len(complaints) == 2 and complaints[1].endswith(said)
