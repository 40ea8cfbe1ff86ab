"""The record of a machine: boards that nobody has here from copies of their files, their programs from scripts."""

from __future__ import annotations

import json
import os
import pty
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.machine.environment import Environment, condition, parse_throttled, tegra_temperatures_c, tegra_watts
from benchmarks.machine.record import BUSY_LOAD, Record, record, warn

ORIN = (
    "11-25-2026 10:00:00 RAM 2448/7471MB (lfb 4x4MB) SWAP 0/3735MB (cached 0MB) CPU [5%@729,0%@729,off,off] "
    "EMC_FREQ 0% GR3D_FREQ 0% cpu@45.218C soc2@44.5C tj@46C gpu@-256C VDD_IN 3180mW/3150mW VDD_CPU_GPU_CV 480mW/480mW\n"
)
NANO = "RAM 1903/3956MB CPU [2%@102,1%@102,0%@102,0%@102] PLL@31C CPU@33.5C thermal@32.75C POM_5V_IN 1532/1500"
CAUSES = ("undervoltage", "frequency capped", "throttled", "soft temperature limit")


def write(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{content}\n")


def pi(root: Path, load: float = 0.05) -> Path:
    """What a Raspberry Pi 4 tells of itself."""
    core = "processor\t: {}\nBogoMIPS\t: 108.00\nFeatures\t: fp asimd evtstrm crc32 cpuid\nCPU part\t: 0xd08\n\n"
    write(root / "proc/cpuinfo", "".join(core.format(number) for number in range(4)))
    write(root / "proc/device-tree/model", "Raspberry Pi 4 Model B Rev 1.4\0")
    write(root / "proc/loadavg", f"{load} 0.10 0.09 1/150 4242")
    write(root / "proc/sys/kernel/osrelease", "6.6.31+rpt-rpi-v8")
    for number, mhz in enumerate((600, 1500, 600, 1800)):
        write(root / f"sys/devices/system/cpu/cpu{number}/cpufreq/scaling_cur_freq", 1000 * mhz)
        write(root / f"sys/devices/system/cpu/cpu{number}/cpufreq/scaling_governor", "ondemand")
    write(root / "sys/class/thermal/thermal_zone0/temp", 51121)
    return root


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that stands first on PATH, empty until a test writes programs into it."""
    folder = tmp_path / "programs"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return folder


def program(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{text}\n")
    (folder / name).chmod(0o755)


def test_a_pi_is_recognised_from_its_files(tmp_path: Path) -> None:
    about = record(1, 0.5, 10, pi(tmp_path))
    assert about.processor == about.board == "Raspberry Pi 4 Model B Rev 1.4"
    assert (about.kernel, about.governor, about.load) == ("6.6.31+rpt-rpi-v8", "ondemand", 0.05)
    assert about.before == Environment(lowest_mhz=600, highest_mhz=1800, temperature_c=51.121)
    assert about.warning is None and about.container is about.virtual_machine is None
    page = "\n".join(about.lines())
    for words in ("Raspberry Pi 4", "governor ondemand", "600 to 1800 MHz", "51 °C", "kernel 6.6.31"):
        assert words in page, page


def test_the_state_afterwards_is_beside_the_one_before(tmp_path: Path) -> None:
    about = record(1, 0.5, 10, pi(tmp_path))
    for file in tmp_path.glob("sys/devices/system/cpu/cpu*/cpufreq/scaling_cur_freq"):
        write(file, 1_000_000)
    write(tmp_path / "sys/class/thermal/thermal_zone0/temp", 79_000)
    done = about.finished(tmp_path)
    assert done.before == about.before and done.after == Environment(1000, 1000, 79.0)
    assert any("afterwards 1000 MHz, 79 °C" in line for line in done.lines())


@given(st.integers(0, 2**20 - 1))
def test_every_bit_of_a_pis_throttling_is_read(bits: int) -> None:
    now, before = parse_throttled(f"throttled={bits:#x}\n")
    assert now == [cause for bit, cause in enumerate(CAUSES) if bits & 1 << bit]
    assert before == [cause for bit, cause in enumerate(CAUSES) if bits & 1 << 16 + bit]


@given(st.text())
def test_other_words_of_a_program_say_nothing(line: str) -> None:
    assert parse_throttled(line) == ([], []) or line.strip().startswith("throttled=0x")
    tegra_temperatures_c(line)
    tegra_watts(line)


def test_a_throttled_pi_is_warned_of(tmp_path: Path, programs: Path) -> None:
    root = pi(tmp_path / "root")
    program(programs, "vcgencmd", 'test "$1" = get_throttled && echo throttled=0x50000')
    about = record(1, 0.5, 10, root)
    assert about.warning is None, "what happened since boot may be long past"
    assert any("held back at some time since boot: undervoltage, throttled" in line for line in about.lines())

    program(programs, "vcgencmd", "echo throttled=0x50004")
    during = about.finished(root)
    assert during.warning and "held back at its end (throttled)" in during.warning
    assert any(line.startswith("**Warning: ") and during.warning in line for line in during.lines())
    before = record(1, 0.5, 10, root)
    assert before.warning and "before it began (throttled)" in before.warning


@pytest.mark.parametrize("answer", ["exit 1", "echo Command not registered", "exit 0", "exec sleep 60", "kill -9 $$"])
def test_a_program_that_fails_or_hangs_is_done_without(tmp_path: Path, programs: Path, answer: str) -> None:
    program(programs, "vcgencmd", answer)
    assert condition(pi(tmp_path / "root")) == Environment(600, 1800, 51.121)


def test_a_jetson_tells_by_tegrastats_which_never_ends(tmp_path: Path, programs: Path) -> None:
    write(tmp_path / "stats", ORIN)
    program(programs, "tegrastats", f"echo $$ > {tmp_path}/pid; while :; do cat {tmp_path}/stats; sleep 0.1; done")
    write(tmp_path / "root/sys/class/thermal/cooling_device0/type", "pwm-fan")
    write(tmp_path / "root/sys/class/thermal/cooling_device0/cur_state", 3)
    found = condition(tmp_path / "root")
    assert found == Environment(temperature_c=46.0, watts=3.18), "a fan that turns holds nothing back"
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)

    write(tmp_path / "root/sys/class/thermal/cooling_device1/type", "cpufreq-cpu0")
    write(tmp_path / "root/sys/class/thermal/cooling_device1/cur_state", 2)
    assert condition(tmp_path / "root").throttled == "cpufreq-cpu0"


def test_lines_of_tegrastats_of_two_boards() -> None:
    assert tegra_temperatures_c(ORIN) == [45.218, 44.5, 46.0] and tegra_watts(ORIN) == 3.18
    assert tegra_temperatures_c(NANO) == [31.0, 33.5, 32.75] and tegra_watts(NANO) == 1.532


def test_work_that_was_kept_waiting_is_warned_of(tmp_path: Path) -> None:
    about = record(1, 0.5, 10, pi(tmp_path))
    assert about.finished(tmp_path, waited=0.01).warning is None
    warning = about.finished(tmp_path, waited=0.4).warning
    assert warning and "40%" in warning and warning.endswith("measure again when it is idle")


def test_events_that_a_pc_counts_during_the_run_are_warned_of(tmp_path: Path) -> None:
    root = pi(tmp_path)
    counter = root / "sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count"
    write(counter, 7)
    about = record(1, 0.5, 10, root)
    assert about.finished(root).warning is None
    write(counter, 9)
    warning = about.finished(root).warning
    assert warning and "held back 2 times" in warning


def test_a_machine_that_tells_nothing_has_a_record_all_the_same(tmp_path: Path) -> None:
    about = record(1, 0.5, None, tmp_path).finished(tmp_path)
    assert (about.load, about.board, about.governor) == (None, None, None)
    assert about.before == about.after == Environment() and str(about.before) == ""
    assert "None" not in "\n".join(about.lines())
    json.dumps(about.as_json(), allow_nan=False)


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({".dockerenv": ""}, "a Docker container"),
        ({"run/.containerenv": ""}, "a Podman container"),
        ({"proc/1/cgroup": "0::/kubepods.slice/x"}, "a container (kubepods)"),
        ({"sys/hypervisor/type": "xen"}, "a virtual machine (xen)"),
        ({"proc/cpuinfo": "model name\t: EPYC\nflags\t\t: fpu hypervisor"}, "a virtual machine"),
    ],
)
def test_a_box_within_a_box_is_told(tmp_path: Path, files: dict[str, str], words: str) -> None:
    for name, content in files.items():
        write(tmp_path / name, content)
    assert any(f"inside {words}" in line for line in record(1, 0.5, None, tmp_path).lines())


def test_this_machine_has_a_record() -> None:
    about = record(1, 0.5, 10).finished()
    told = json.loads(json.dumps(about.as_json(), allow_nan=False))
    assert told["onnxruntime"] and told["onnxruntime_build"] and told["python"] and told["cores"] >= 1
    assert told["warning"] == about.warning


def said(about: Record) -> str:
    """What `warn` writes on a terminal."""
    master, slave = pty.openpty()
    with os.fdopen(master, "rb") as terminal, os.fdopen(slave, "w") as stream:
        warn(about, stream)
        print("end", file=stream, flush=True)
        text = b""
        while b"end" not in text:
            text += os.read(terminal.fileno(), 1024)
    return text.decode()


def test_a_warning_is_red_on_a_terminal_unless_colour_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    quiet = record(1, 0.5, 10, pi(tmp_path))
    busy = replace(quiet, load=BUSY_LOAD + 1)
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\033[31mwarning: the machine was busy" in said(busy)
    assert "warning" not in said(quiet)
    monkeypatch.setenv("NO_COLOR", "1")
    assert "warning: the machine was busy" in said(busy) and "\033" not in said(busy)
    monkeypatch.delenv("NO_COLOR")
    warn(busy)
    assert capsys.readouterr().err.startswith("warning: "), "no colour into a file"
