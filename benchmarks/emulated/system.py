"""The emulated system: QEMU with our plugin, and the arm64 Debian and wheels that `tests/aarch64/run` sets up."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import onnxruntime

from edge_runtime.errors import UsageError

_HERE = Path(__file__).resolve().parent
_PROJECT = _HERE.parents[1]
_SETUP = _PROJECT / "tests" / "aarch64" / "run"
_SUITE, _PYTHON = "bookworm", "python3.11"  # as in `_SETUP`


@dataclass(frozen=True)
class Core:
    """What /proc/cpuinfo says on a board with this core; kernels are chosen by it."""

    part: str
    features: str

    @property
    def dotprod(self) -> bool:
        """Whether it has SDOT and UDOT."""
        return "asimddp" in self.features

    def cpuinfo(self) -> str:
        """The text, for four cores."""
        lines = [
            f"Features\t: {self.features}",
            "CPU implementer\t: 0x41",
            "CPU architecture: 8",
            "CPU variant\t: 0x0",
            f"CPU part\t: {self.part}",
            "CPU revision\t: 3",
        ]
        return "".join(f"processor\t: {number}\n" + "\n".join(lines) + "\n\n" for number in range(4))


CORES = {
    "cortex-a53": Core("0xd03", "fp asimd evtstrm crc32 cpuid"),
    "cortex-a72": Core("0xd08", "fp asimd evtstrm crc32 cpuid"),
    "cortex-a76": Core(
        "0xd0b",
        "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp",
    ),
}
"""By QEMU's names: Raspberry Pi 3 and Zero 2, Pi 4, and Pi 5, which the Jetson Orin's core is near to."""


@dataclass(frozen=True)
class System:
    """All that it takes to run Python on an emulated core; `folder` is scratch."""

    qemu: str
    version: str
    plugin: Path
    root: Path
    wheels: Path
    folder: Path

    def command(self, cpu: str, marks: Path, arguments: Sequence[str]) -> list[str]:
        """Runs arm64 Python with these arguments; the plugin's marks go to a file.

        -L puts a prefix before every absolute path that the program opens, so that it finds the board's /proc/cpuinfo:
        through the host's, ONNX Runtime would choose other kernels, or die.
        """
        prefix = self.folder / cpu
        (prefix / "proc").mkdir(parents=True, exist_ok=True)
        (prefix / "proc" / "cpuinfo").write_text(CORES[cpu].cpuinfo(), encoding="ascii")
        if not (prefix / "lib").is_symlink():
            (prefix / "lib").symlink_to(self.root / "lib")
        libraries = f"{self.root}/lib/aarch64-linux-gnu:{self.root}/usr/lib/aarch64-linux-gnu"
        settings = {
            "LD_LIBRARY_PATH": libraries,
            "PYTHONHOME": f"{self.root}/usr",
            "PYTHONPATH": f"{self.wheels}:{_PROJECT}",
            "PYTHONPYCACHEPREFIX": f"{self.root.parent}/pycache",
            "PYTHONHASHSEED": "0",  # so that dictionaries cost the same in each run
            "OMP_NUM_THREADS": "1",
        }
        command = [self.qemu, "-cpu", cpu, "-plugin", f"{self.plugin},out={marks}", "-L", str(prefix)]
        for name, value in settings.items():
            command += ["-E", f"{name}={value}"]
        return [*command, "-U", "LD_PRELOAD", f"{self.root}/usr/bin/{_PYTHON}", str(_HERE / "guest.py"), *arguments]


def prepare(folder: Path, model: Path) -> System:
    """Builds the plugin in `folder`, and sets the arm64 system up where this was not done before, by scoring `model`.

    Raises UsageError when something that it takes is missing or fails.
    """
    cache = Path(os.environ.get("EDGE_DETECT_AARCH64") or _cache_home() / "edge-detect" / "aarch64")
    root, wheels = _parts(cache)
    complete = root.is_dir() and wheels.is_dir()
    programs = {"qemu-aarch64": "qemu-user", "cc": "gcc libc6-dev"}
    if not complete:
        programs |= {"mmdebstrap": "mmdebstrap", "qemu-aarch64-static": "qemu-user-static"}
    missing = [package for program, package in programs.items() if shutil.which(program) is None]
    if missing:
        raise UsageError(f"counting instructions needs: apt-get install --no-install-recommends {' '.join(missing)}")
    if not complete:
        _set_up(cache, model)
    qemu = shutil.which("qemu-aarch64") or ""
    said = _output([qemu, "--version"]).partition("\n")[0]
    if "-plugin" not in _output([qemu, "--help"]):
        raise UsageError(f"this QEMU takes no plugins ({said}): Debian's package qemu-user has one that does")
    return System(qemu, said, _build(folder, plugin_version(said)), root, wheels, folder)


def plugin_version(said: str) -> int:
    """The version of QEMU's plugin interface to ask for, by what `qemu-aarch64 --version` says.

    QEMU from 9.0 on refuses plugins of version 1, those before know no other. Raises UsageError for other programs.
    """
    match = re.match(r"qemu-aarch64 version (\d+)\.", said)
    if match is None:
        raise UsageError(f"qemu-aarch64 is no QEMU that is known here: {said[:80]}")
    return 1 if int(match[1]) < 9 else 2


def _parts(cache: Path) -> tuple[Path, Path]:
    """Debian and the wheels, as the script names them."""
    return cache / _SUITE, cache / f"onnxruntime-{onnxruntime.__version__}"


def _build(folder: Path, version: int) -> Path:
    plugin = folder / "libcount.so"
    source = str(_HERE / "plugin.c")
    _output(["cc", "-O2", "-shared", "-fPIC", f"-DPLUGIN_VERSION={version}", "-o", str(plugin), source])
    return plugin


def _set_up(cache: Path, model: Path) -> None:
    """By the script's own way, whose scores are of no interest here, nor whether its bounds hold."""
    print("setting up an emulated arm64 system, once: a download of some 100 MB", file=sys.stderr)
    command = ["sh", str(_SETUP), str(model.resolve()), "--cpu", "cortex-a72", "--windows", "1"]
    environment = os.environ | {"PYTHON": sys.executable}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if not all(part.is_dir() for part in _parts(cache)):
        raise UsageError(f"cannot set up the emulated system in {cache}: {' '.join(done.stderr.split())[-200:]}")


def _output(command: Sequence[str]) -> str:
    """What a program prints. Raises UsageError when it cannot be run or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as reason:
        raise UsageError(f"cannot run {command[0]}: {reason.strerror}") from None
    lines = (done.stderr or done.stdout).strip().splitlines() or [f"exit code {done.returncode}"]
    if done.returncode != 0:
        raise UsageError(f"{Path(command[0]).name} failed: {lines[-1]}")
    return done.stdout


def _cache_home() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
