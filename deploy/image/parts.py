"""What the image is made of and does not change from build to build: Debian's packages, fetched once and kept."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
COMPONENTS = "main,non-free-firmware"

# Installed in the root file system, by Debian's own tools under emulation.
SYSTEM = (
    *("systemd", "systemd-sysv", "systemd-resolved", "systemd-timesyncd", "libnss-systemd", "udev", "dbus", "kmod"),
    *("e2fsprogs", "dosfstools", "fdisk", "cloud-guest-utils", "iproute2", "iputils-ping", "procps", "less"),
    *("openssh-server", "wpasupplicant", "wireless-regdb", "ca-certificates", "tzdata", "bash-completion"),
    *("rauc", "grub-common", "python3", "python3-pyaudio", "libportaudio2", "alsa-utils", "vim-tiny", "openssl"),
)
# Only unpacked: their scripts make an initrd and boot files, which is done here without emulation.
UNPACKED = ("linux-image-arm64", "busybox-static", "grub-efi-arm64-bin")
BOARD_UNPACKED = {"virt": (), "rpi": ("raspi-firmware", "u-boot-rpi", "firmware-brcm80211")}

TOOLS = {
    "mmdebstrap": "mmdebstrap",
    "qemu-aarch64-static": "qemu-user-static",
    "mksquashfs": "squashfs-tools",
    "genimage": "genimage",
    "mcopy": "mtools",
    "mkfs.vfat": "dosfstools",
    "mke2fs": "e2fsprogs",
    "depmod": "kmod",
    "cpio": "cpio",
    "dpkg-deb": "dpkg",
    "readelf": "binutils",
}


@dataclass(frozen=True)
class Release:
    """A release of Debian, and what differs there."""

    name: str
    extra: tuple[str, ...]
    """Packages that others do not have."""


RELEASES = {
    "bookworm": Release("bookworm", ("rauc-service",)),
    "trixie": Release("trixie", ("rauc-service",)),
}


def fail(text: str) -> None:
    """Ends with one line."""
    sys.exit(f"deploy/image/build: {text}")


def run(*command: object, **others: object) -> str:
    """What the command prints; ends with one line when it fails."""
    words = [str(word) for word in command]
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, **others)  # type: ignore[call-overload]
    if done.returncode:
        fail(f"{' '.join(words[:5])} ... failed (code {done.returncode})")
    return str(done.stdout)


def need_tools() -> None:
    """Ends with one line that says what to install, where something is missing."""
    if os.geteuid() != 0:
        fail("has to run as root: it makes a file system with other owners than you")
    missing = sorted({package for tool, package in TOOLS.items() if not shutil.which(tool)})
    if missing:
        fail(f"first: apt-get install --no-install-recommends {' '.join(missing)}")
    handlers = Path("/proc/sys/fs/binfmt_misc")
    if os.uname().machine == "aarch64":
        return
    if not (handlers / "status").exists():
        subprocess.run(["mount", "-t", "binfmt_misc", "binfmt_misc", handlers], capture_output=True)
    if not (handlers / "qemu-aarch64").exists() and shutil.which("update-binfmts"):
        subprocess.run(["update-binfmts", "--enable", "qemu-aarch64"], capture_output=True)
    if not (handlers / "qemu-aarch64").exists():
        fail("no arm64 programs run here: apt-get install binfmt-support, then update-binfmts --enable qemu-aarch64")


class Cache:
    """A folder of what was fetched and made, each under a name that says all that it depends on."""

    def __init__(self, folder: Path, release: Release, mirrors: tuple[str, ...] = ()) -> None:
        """`mirrors`: lines for apt, where Debian's own shall not be asked."""
        self.folder = folder
        self.release = release
        self.mirrors = mirrors
        folder.mkdir(parents=True, exist_ok=True)

    def base(self) -> Path:
        """A tar of the root file system with all packages, without the program and the kernel."""
        packages = sorted({*SYSTEM, *self.release.extra})
        key = hashlib.sha256(json.dumps([self.release.name, packages, self.mirrors]).encode()).hexdigest()[:12]
        kept = self.folder / f"base-{self.release.name}-{key}.tar"
        if not kept.exists():
            unfinished = kept.with_name(kept.name + ".part")  # a name from which mmdebstrap does not know the format
            run(
                *("mmdebstrap", "--architectures=arm64", "--variant=minbase", "--format=tar", "--skip=check/qemu"),
                *(f"--keyring={KEYRING}", f"--include={','.join(packages)}"),
                *("--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-include=/usr/share/doc/*/copyright"),
                *("--dpkgopt=path-exclude=/usr/share/man/*", "--dpkgopt=path-exclude=/usr/share/locale/*"),
                *('--aptopt=Acquire::Retries "3"', f"--components={COMPONENTS}"),
                *(self.release.name, unfinished, *self.mirrors),
            )
            unfinished.rename(kept)
        return kept

    def unpacked(self, board: str) -> Path:
        """A folder with the files of the packages that are only unpacked, of their newest versions."""
        apt = self._apt()
        names = []
        for name in (*UNPACKED, *BOARD_UNPACKED[board]):
            if name == "linux-image-arm64":  # a package that only depends on the newest kernel's
                depends = run("apt-cache", "depends", name, env=apt)
                name = next(word for word in depends.split() if word.startswith("linux-image-") and word != name)
            names.append(name)
        wanted = run("apt-get", "download", "--print-uris", *[f"{name}:arm64" for name in names], env=apt)
        files = [line.split()[1] for line in wanted.splitlines() if line.startswith("'")]
        key = hashlib.sha256(" ".join(sorted(files)).encode()).hexdigest()[:12]
        kept = self.folder / f"unpacked-{self.release.name}-{board}-{key}"
        if not kept.exists():
            archives = self.folder / "archives"
            archives.mkdir(exist_ok=True)
            run("apt-get", "-qq", "download", *[f"{name}:arm64" for name in names], env=apt, cwd=archives)
            unfinished = kept.with_name(kept.name + ".part")
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir()
            for file in files:
                run("dpkg-deb", "-x", archives / file, unfinished)
            unfinished.rename(kept)
            shutil.rmtree(archives)
        return kept

    def _apt(self) -> dict[str, str]:
        """The environment for an apt of its own, for arm64 and this release, with lists of today."""
        home = self.folder / f"apt-{self.release.name}"
        for part in ("lists/partial", "cache/archives/partial"):
            (home / part).mkdir(parents=True, exist_ok=True)
        (home / "status").touch()
        # The same as the base's, which mmdebstrap knows: Debian's own with updates and security, or the mirrors given.
        sources = run("tar", "-xOf", self.base(), "./etc/apt/sources.list")
        signed = re.sub(r"^deb (\[.*?\] )?", f"deb [arch=arm64 signed-by={KEYRING}] ", sources, flags=re.MULTILINE)
        (home / "sources.list").write_text(signed)
        settings = {
            "Dir::State": home,
            "Dir::State::lists": home / "lists",
            "Dir::State::status": home / "status",
            "Dir::Cache": home / "cache",
            "Dir::Etc::sourcelist": home / "sources.list",
            "Dir::Etc::sourceparts": "/dev/null",
            "APT::Architecture": "arm64",
            "APT::Architectures": "arm64",
            "APT::Sandbox::User": "root",
        }
        (home / "apt.conf").write_text("".join(f'{name} "{value}";\n' for name, value in settings.items()))
        environment = {**os.environ, "APT_CONFIG": str(home / "apt.conf"), "LC_ALL": "C"}
        run("apt-get", "-qq", "update", env=environment)
        return environment
