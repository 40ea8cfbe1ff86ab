"""What systemd and journald are told, and the unit: checked with systemd's own tools, and run under its filter."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge_runtime.run.service import Service
from edge_runtime.settings import config
from edge_runtime.system.log import REPEAT_SECONDS, Log, journald_reads

PROJECT = Path(__file__).parent.parent
UNIT = PROJECT / "deploy" / "systemd" / "edge-detect.service"
TEMPLATE = UNIT.with_name("edge-detect@.service")
STREAM = UNIT.with_name("stream.conf")
NEWER_KEYS = ("RestartSteps", "RestartMaxDelaySec")
"""Keys of the unit that systemd knows from 254 on; older ones say so and pass them over."""


class Manager:
    """The receiving end of sd_notify."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address.replace("@", "\0", 1))
        self._socket.settimeout(30)

    def told(self) -> list[str]:
        """The lines of the next message."""
        return self._socket.recv(4096).decode().split("\n")

    def told_nothing(self) -> bool:
        """Whether no message waits."""
        self._socket.settimeout(0)
        try:
            return not self._socket.recv(4096)
        except BlockingIOError:
            return True
        finally:
            self._socket.settimeout(30)

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    made = Manager(str(tmp_path / "notify") if request.param == "path" else f"@edge-detect-{os.getpid()}")
    yield made
    made.close()


def test_every_state_of_the_service_is_told(manager: Manager) -> None:
    environment = {"NOTIFY_SOCKET": manager.address, "PATH": "x"}
    service = Service.from_environment(environment)
    assert environment == {"PATH": "x"}, "children must not speak in our name"
    assert service.present and service.watchdog_seconds is None
    service.ready("listening to hw:1\nREADY=0")
    assert manager.told() == ["READY=1", "STATUS=listening to hw:1 READY=0"]
    service.status("silent")
    service.status("silent")
    service.alive()
    service.reloading()
    assert manager.told() == ["STATUS=silent"]
    first, second = manager.told()
    assert first == "RELOADING=1"
    assert 0 <= time.clock_gettime(time.CLOCK_MONOTONIC) - int(second.removeprefix("MONOTONIC_USEC=")) / 1e6 < 30
    service.stopping("has heard 1 h")
    assert manager.told() == ["STOPPING=1", "STATUS=has heard 1 h"]
    service.close()
    service.ready()
    assert manager.told_nothing()


def test_the_watchdog_is_fed_several_times_in_its_interval_however_often_the_loop_turns(manager: Manager) -> None:
    now = [100.0]
    service = Service(manager.address, 8.0, lambda: now[0])
    fed = []
    for _ in range(80):
        service.alive()
        if not manager.told_nothing():
            fed.append(now[0])
        now[0] += 0.25
    assert fed == [100.0 + 2 * step for step in range(10)]


@pytest.mark.parametrize(
    ("process", "microseconds", "seconds"),
    [
        ("", "5000000", 5.0),
        ("OWN", "5000000", 5.0),
        ("1", "5000000", None),
        ("", "", None),
        ("", "x", None),
        ("", "0", None),
    ],
)
def test_the_watchdog_is_for_the_process_that_it_names(process: str, microseconds: str, seconds: float | None) -> None:
    process = str(os.getpid()) if process == "OWN" else process
    environment = {"WATCHDOG_PID": process, "WATCHDOG_USEC": microseconds}
    assert Service.from_environment(environment).watchdog_seconds == seconds


@pytest.mark.parametrize("address", [None, "", "relative", "/no/such/socket", "@nobody-there"])
def test_without_anyone_to_tell_nothing_happens(address: str | None) -> None:
    service = Service.from_environment({} if address is None else {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1000"})
    service.ready("x")
    service.alive()
    service.stopping()
    service.close()


def test_a_manager_that_does_not_read_does_not_hold_us_up(manager: Manager) -> None:
    service = Service(manager.address)
    for number in range(10_000):
        service.status(f"turn {number}")


def test_the_journal_gets_priorities_and_people_get_words() -> None:
    for journal, expected in (
        (True, "<3>broken\n<4>odd\n<6>well\n"),
        (False, "edge-detect: broken\nedge-detect: warning: odd\nedge-detect: note: well\n"),
    ):
        stream = io.StringIO()
        log = Log("info", stream, journal=journal)
        log.error("broken")
        log.warning("odd")
        log.info("well")
        log.debug("unseen")
        assert stream.getvalue() == expected


def test_a_line_is_one_line_whatever_it_names() -> None:
    stream = io.StringIO()
    Log("debug", stream, journal=False).error("a\nb\x1b[31m")
    assert stream.getvalue() == "edge-detect: a\\nb\\x1b[31m\n"


def test_the_same_line_comes_once_a_minute_and_says_how_often_it_was_left_out() -> None:
    stream = io.StringIO()
    now = [0.0]
    log = Log("info", stream, journal=False, clock=lambda: now[0])
    for _ in range(600):  # ten a second for a minute and a half, say
        log.warning("overflow")
        now[0] += 0.15
    log.warning("other")
    lines = stream.getvalue().splitlines()
    assert lines[0] == "edge-detect: warning: overflow"
    assert lines[1].startswith("edge-detect: warning: overflow (and ") and lines[2] == "edge-detect: warning: other"
    told = int(lines[1].split("(and ")[1].split(" ")[0])
    log.close()
    rest = int(stream.getvalue().splitlines()[3].split("left out ")[1].split(" ")[0])
    assert told + rest + 2 == 600, "every line is accounted for"
    assert told == pytest.approx(REPEAT_SECONDS / 0.15, abs=2)


def test_a_log_does_not_grow_and_keys_join_lines_that_differ() -> None:
    stream = io.StringIO()
    log = Log("info", stream, journal=False, clock=lambda: 0.0)
    for number in range(100):
        log.info(f"lost {number} s", key="lost")
    assert stream.getvalue() == "edge-detect: note: lost 0 s\n"
    for number in range(10_000):
        log.info(str(number))
    assert len(log._seen) <= 256
    log.info("lost 7 s", key="gap")
    log.info("lost 8 s", key="gap")
    log.close()
    assert stream.getvalue().endswith("left out once: lost 8 s\n"), "the words, and no key"


def test_a_log_that_cannot_be_written_ends_nothing() -> None:
    full = open("/dev/full", "w")  # noqa: SIM115 - closing it raises, as what it holds cannot be written
    Log("info", full).error("x")
    with contextlib.suppress(OSError):
        full.close()
    Log("info", full).error("x")


@pytest.mark.parametrize("fits", [True, False])
def test_journald_is_known_by_the_stream_that_it_gave(fits: bool) -> None:
    """As systemd starts a service: standard error is a socket, whose device and inode JOURNAL_STREAM names."""
    ours, theirs = socket.socketpair()
    about = os.fstat(theirs.fileno())
    environment = {**os.environ, "JOURNAL_STREAM": f"{about.st_dev}:{about.st_ino + (not fits)}"}
    command = [sys.executable, "-m", "edge_runtime", "--file", "/nowhere.wav", "--hop", "0"]
    done = subprocess.run(command, stderr=theirs.fileno(), env=environment, cwd=PROJECT, timeout=60)
    theirs.close()
    line = ours.recv(4096).decode()
    ours.close()
    assert done.returncode == 2
    assert line.startswith("<3>--hop must" if fits else "edge-detect: --hop must"), line
    assert not journald_reads(None)


def tool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(list(map(str, arguments)), capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("unit", [UNIT, TEMPLATE], ids=["one", "template"])
def test_systemd_finds_nothing_wrong_with_the_unit(unit: Path, tmp_path: Path) -> None:
    program = shutil.which("true")  # stands for /usr/bin/edge-detect, which is not installed here
    made = tmp_path / unit.name.replace("@", "@door")  # an instance of a template
    made.write_text(unit.read_text().replace("=/usr/bin/edge-detect ", f"={program} "))
    done = tool("systemd-analyze", "verify", "--man=no", made)
    complaints = [line for line in done.stderr.splitlines() if not any(key in line for key in NEWER_KEYS)]
    assert (done.returncode, complaints) == (0, [])


def test_the_drop_in_for_streams_gives_the_network_and_takes_sound_cards(tmp_path: Path) -> None:
    program = shutil.which("true")
    made = tmp_path / "edge-detect@door.service"
    made.write_text(TEMPLATE.read_text().replace("=/usr/bin/edge-detect ", f"={program} "))
    folder = tmp_path / "edge-detect@door.service.d"
    folder.mkdir()
    (folder / "stream.conf").write_text(STREAM.read_text())
    done = tool("systemd-analyze", "verify", "--man=no", made)
    complaints = [line for line in done.stderr.splitlines() if not any(key in line for key in NEWER_KEYS)]
    assert (done.returncode, complaints) == (0, [])
    both = TEMPLATE.read_text() + STREAM.read_text()
    for key, last in (("PrivateNetwork", "no"), ("IPAddressDeny", ""), ("DeviceAllow", "")):
        assert re.findall(rf"^{key}=(.*)", both, re.MULTILINE)[-1] == last


def test_the_template_differs_from_the_unit_in_names_only() -> None:
    """What one service may not do, none of several may."""
    one = UNIT.read_text().partition("[Unit]")[2].splitlines()
    several = TEMPLATE.read_text().partition("[Unit]")[2].splitlines()
    for line, other in zip(one, several, strict=True):
        assert line == other or "%i" in other or other.startswith("#"), (line, other)


@pytest.mark.parametrize("unit", [UNIT, TEMPLATE], ids=["one", "template"])
def test_the_unit_exposes_little(unit: Path) -> None:
    done = tool("systemd-analyze", "security", "--offline=true", "--threshold=20", "--json=short", unit)
    assert done.returncode == 0, done.stdout
    open_still = [row["name"] for row in json.loads(done.stdout) if not row["set"]]
    print(open_still)
    assert "MemoryDenyWriteExecute=" not in open_still


def test_its_user_is_made_and_hears_sound_cards(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    done = tool("systemd-sysusers", f"--root={tmp_path}", UNIT.with_suffix(".sysusers"))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "etc" / "passwd").read_text().startswith("edge-detect:")
    assert any(
        line.startswith("audio:") and line.endswith("edge-detect")
        for line in (tmp_path / "etc" / "group").read_text().splitlines()
    )


def test_its_configuration_is_in_order_and_waits_for_the_microphone() -> None:
    path = str(UNIT.with_suffix(".toml"))
    assert config.problems(path) == []
    settings = config.load({"config": path}, {})
    assert settings.connect_timeout == "forever" and settings.ledger and settings.save_clips is None


def test_the_program_scores_under_the_system_calls_that_the_unit_leaves(exported: Callable[[str], Path]) -> None:
    """Among them none that makes memory both written and executed, which ONNX Runtime could have wanted."""
    confined: list[str | Path] = [sys.executable, PROJECT / "tests" / "confined.py", UNIT, sys.executable]
    probe = "import mmap; mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)"
    refused = tool(*confined, "-c", probe)
    assert refused.returncode == 1 and "PermissionError" in refused.stderr
    program: list[str | Path] = [
        "-m",
        "edge_runtime",
        "--model",
        exported("streaming"),
        "--file",
        PROJECT / "examples" / "human.flac",
    ]
    done = tool(*confined, *program)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == tool(sys.executable, *program).stdout and done.stdout
