"""An emulated box for deploy/image/test: QEMU's `virt`, started from the image's firmware partition, spoken to by SSH.

Its clock is virtual (`-icount`): a second in it is as many instructions, however busy this machine is, so that sound is
neither lost nor hurried. It does 500 million a second, which is less than a Raspberry Pi 4's core.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from pathlib import Path

from disk import FIRMWARE_OFFSET

SOUND_CARD = "modules_load=snd-aloop snd_aloop.index=1"
"""Emulated boxes have no microphone: snd-aloop is a real card of the kernel's, whose sound comes from its other end."""
FIRMWARE = ("/usr/share/AAVMF/AAVMF_CODE.fd", "/usr/share/AAVMF/AAVMF_VARS.fd")
BOOT_SECONDS = 900


class Failed(Exception):
    """What was required and did not come, in one line."""


def add_kernel_words(image: Path, words: str, work: Path) -> None:
    """Has GRUB, in an image's first partition, hand these words to the kernel as well."""
    menu, place = work / "grub.cfg", f"{image}@@{FIRMWARE_OFFSET}"
    subprocess.run(["mcopy", "-n", "-o", "-i", place, "::grub/grub.cfg", menu], check=True)
    menu.write_text(menu.read_text().replace(" panic=10 ", f" panic=10 {words} "))
    subprocess.run(["mcopy", "-o", "-i", place, menu, "::grub/grub.cfg"], check=True)


class Machine:
    """One box with its disk, over power cuts and restarts."""

    def __init__(self, image: Path, size: str, key: Path, work: Path) -> None:
        """`image` is left as it is; `size` is the card's; `key` may log in. A disk that is in `work` is used again."""
        self.disk = work / "disk.qcow2"
        self.console = work / "console.txt"
        self.shift = 1
        """An instruction takes 2 ** shift nanoseconds, from the next `power_on` on."""
        self._key = key
        self._work = work
        self._variables = work / "variables.fd"
        self._process: subprocess.Popen[bytes] | None = None
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        if self.disk.exists():
            return
        shutil.copyfile(FIRMWARE[1], self._variables)
        subprocess.run(
            ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", image, self.disk, size], check=True
        )

    def power_on(self) -> None:
        """Starts it; `wait` says when it can be spoken to."""
        pflash = "if=pflash,format=raw"
        self._process = subprocess.Popen(
            [
                *(
                    "qemu-system-aarch64",
                    "-M",
                    "virt",
                    "-cpu",
                    "cortex-a72",
                    "-smp",
                    "1",
                    "-m",
                    "1G",
                    "-display",
                    "none",
                ),
                *("-icount", f"shift={self.shift},sleep=on", "-rtc", "clock=vm", "-monitor", "none"),
                *("-chardev", f"file,id=console,path={self.console},append=on", "-serial", "chardev:console"),
                *("-drive", f"{pflash},unit=0,readonly=on,file={FIRMWARE[0]}"),
                *("-drive", f"{pflash},unit=1,file={self._variables}", "-drive", f"file={self.disk},if=virtio"),
                # A keyboard has the LED that stands for the board's.
                *("-device", "virtio-keyboard-pci", "-device", "virtio-net-pci,netdev=net,romfile="),
                *("-netdev", f"user,id=net,hostfwd=tcp:127.0.0.1:{self._port}-:22"),
            ],
            stdin=subprocess.DEVNULL,
        )

    def power_cut(self) -> None:
        """Off at once: what the disk was not told to keep is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def wait(self, unlike: str = "") -> str:
        """Waits for the box to take a login, in another start than the one with the identity `unlike`. This one's."""
        end = time.monotonic() + BOOT_SECONDS
        while time.monotonic() < end:
            if not self.running():
                raise Failed(f"QEMU ended; the console's text is in {self.console}")
            done = self._ssh("cat /proc/sys/kernel/random/boot_id", 60)
            if done.returncode == 0 and (identity := done.stdout.strip()) and identity != unlike:
                return identity
            time.sleep(2)
        raise Failed(f"no login after {BOOT_SECONDS} s; the console's text is in {self.console}")

    def run(self, command: str, timeout_seconds: float = 300) -> str:
        """What a command prints in the box. Raises Failed when its code is not 0."""
        done = self._ssh(command, timeout_seconds)
        if done.returncode:
            raise Failed(f"{command!r}: code {done.returncode}: {(done.stderr or done.stdout).strip()[-300:]}")
        return done.stdout

    def refuses(self, command: str, because: str) -> str:
        """Requires that a command fails, and says `because`. The line that says it."""
        done = self._ssh(command, 300)
        said = [line for line in (done.stdout + done.stderr).splitlines() if because in line]
        if done.returncode == 0 or not said:
            last = (done.stdout + done.stderr).strip()[-300:]
            raise Failed(f"{command!r} should have been refused with {because!r}: code {done.returncode}: {last}")
        return said[-1].strip()

    def start(self, unit: str, command: str) -> None:
        """Starts a command that goes on in the box, until its end or `systemctl stop` of the unit."""
        self.run(f"systemd-run --quiet --collect --unit={unit} sh -c '{command}'")

    def send(self, file: Path, there: str) -> None:
        """Copies a file into the box."""
        with file.open("rb") as source:
            done = subprocess.run([*self._login(), f"cat >{there}"], stdin=source, capture_output=True, timeout=600)
        if done.returncode:
            raise Failed(f"{file.name} could not be copied into the box: {done.stderr.decode()[-200:]}")

    def uptime(self) -> float:
        """Seconds, of the box's own clock, since its kernel started."""
        return float(self.run("cut -d' ' -f1 /proc/uptime"))

    def _login(self) -> list[str]:
        options = ("BatchMode=yes", "StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "ConnectTimeout=20",
                   "LogLevel=ERROR", "ServerAliveInterval=30")  # fmt: skip
        chosen = [word for option in options for word in ("-o", option)]
        return ["ssh", "-i", str(self._key), "-p", str(self._port), *chosen, "root@127.0.0.1"]

    def _ssh(self, command: str, timeout_seconds: float) -> subprocess.CompletedProcess[str]:
        try:
            return subprocess.run(
                [*self._login(), command],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=timeout_seconds,
            )
        except subprocess.TimeoutExpired:
            return subprocess.CompletedProcess(command, 255, "", f"nothing came back for {timeout_seconds:.0f} s")
