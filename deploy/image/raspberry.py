"""What of the Raspberry Pi's image an emulator can show: `deploy/image/test --board rpi`.

QEMU's `raspi3b` starts U-Boot as the Pi's own firmware would, with the device tree of a Pi 3; from there on all is the
image's: U-Boot, EFI, GRUB, kernel, initrd, the two systems, /data on an SD card. The network does not work, and the
watchdog restarts it as soon as it is armed; so that is left off, and what came of it is read from /data.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from disk import FIRMWARE_OFFSET
from machine import SOUND_CARD, Failed, add_kernel_words

TREE = "bcm2837-rpi-3-b.dtb"
START_SECONDS = 3600
"""Of this machine's clock: the four emulated cores take turns on one."""


def prove(image: Path, unpacked: Path, work: Path, say: Callable[[str], None]) -> None:
    """Boots the image twice, the second time with an empty GRUB record; requires a system found good each time.

    `unpacked` has U-Boot and the device trees. Raises Failed.
    """
    card = work / "card.img"
    subprocess.run(["cp", "--sparse=always", image, card], check=True)
    with card.open("r+b") as file:
        file.truncate(2 << 30)  # an SD card's size is a power of two
    add_kernel_words(card, f"systemd.watchdog_sec=0 {SOUND_CARD}", work)
    shutil.copyfile(unpacked / "usr/lib/u-boot/rpi_arm64/u-boot.bin", work / "u-boot.bin")
    (tree,) = unpacked.glob(f"usr/lib/linux-image-*/broadcom/{TREE}")
    shutil.copyfile(tree, work / TREE)
    _boot(card, work, 1)
    say(f"ok    rpi: U-Boot, EFI, GRUB, kernel, /data on an SD card: {_health(card)[-1]}")
    empty = work / "grubenv"
    empty.write_bytes(b"")
    subprocess.run(["mcopy", "-o", "-i", f"{card}@@{FIRMWARE_OFFSET}", empty, "::grub/grubenv"], check=True)
    _boot(card, work, 2)
    if not any("made again" in line for line in _health(card)):
        raise Failed("GRUB's emptied record was not repaired")
    say(f"ok    rpi: with an emptied record of GRUB, which is repaired: {_health(card)[-1]}")


def _boot(card: Path, work: Path, goods: int) -> None:
    """Runs until /data says, so many times in all, that the system is found good."""
    process = subprocess.Popen(
        [
            *("qemu-system-aarch64", "-M", "raspi3b", "-kernel", work / "u-boot.bin", "-dtb", work / TREE),
            *("-icount", "shift=1,sleep=on", "-rtc", "clock=vm", "-drive", f"file={card},if=sd,format=raw"),
            *("-display", "none", "-monitor", "none", "-serial", "null", "-serial", f"file:{work / 'console.txt'}"),
        ],
        stdin=subprocess.DEVNULL,
    )
    try:
        end = time.monotonic() + START_SECONDS
        while sum(": found good" in line for line in _health(card)) < goods:
            if process.poll() is not None or time.monotonic() > end:
                raise Failed(f"the Raspberry Pi's image was not found good; its console: {work / 'console.txt'}")
            time.sleep(10)
    finally:
        process.kill()
        process.wait()


def _health(card: Path) -> list[str]:
    """The lines of /data/rauc/health.log, read from the card's fourth partition while it may be in use."""
    table = subprocess.run(["sfdisk", "-d", card], capture_output=True, text=True, check=True).stdout
    (start,) = re.findall(r"4 : start= *(\d+)", table)
    said = subprocess.run(["debugfs", "-R", "cat rauc/health.log", f"{card}?offset={int(start) * 512}"],
                          capture_output=True, text=True)  # fmt: skip
    return said.stdout.splitlines()
