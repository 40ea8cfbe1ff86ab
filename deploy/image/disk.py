"""The disk that is written to a card: firmware and GRUB, the slot A with the system, an empty slot B, and /data."""

from __future__ import annotations

import shutil
from pathlib import Path

from parts import fail, run

HERE = Path(__file__).resolve().parent
SLOT_MEGABYTES = 640
FIRMWARE_OFFSET = 4 << 20
"""Where the first partition begins, in bytes: genimage's `align`."""
GRUB_MODULES = (
    *("part_msdos", "fat", "squash4", "gzio", "xzio", "normal", "linux", "configfile", "loadenv", "search"),
    *("search_fs_file", "regexp", "test", "echo", "sleep", "reboot", "minicmd", "true"),
)
GRUB_FIRST = ("ORDER=A B", "A_OK=1", "A_TRY=0", "B_OK=0", "B_TRY=0")
CONSOLES = {"virt": "console=ttyAMA0", "rpi": "console=tty1 console=ttyS1,115200"}
SIGNATURE = "ed9ede7e"
"""Of the disk, by which the system finds its partitions: that of an update has to be the card's."""
RPI_FIRMWARE = ("start4.elf", "fixup4.dat")
RPI_TREES = ("bcm2711-rpi-4-b.dtb", "bcm2711-rpi-400.dtb", "bcm2711-rpi-cm4-io.dtb")


def make(root: Path, unpacked: Path, board: str, packed: Path, provisioning: Path, work: Path, disk: Path) -> None:
    """Writes the file `disk`, from the packed system and the tree `root` in which GRUB's tools are."""
    if packed.stat().st_size > SLOT_MEGABYTES * 1_000_000:
        fail(f"the system has {packed.stat().st_size / 1e6:.0f} MB, and a slot {SLOT_MEGABYTES}")
    files = work / "tree/firmware"
    files.mkdir(parents=True)
    (work / "tree/data").mkdir()
    _grub(root, unpacked, board, files)
    if board == "rpi":
        _raspberry(unpacked, files)
    shutil.copyfile(provisioning, files / "provision.toml")
    config = (HERE / "boards/genimage.cfg").read_text()
    for name, value in {
        "NAME": disk.name,
        "ROOTFS": str(packed.resolve()),
        "SLOT": str(SLOT_MEGABYTES),
        "SIGNATURE": SIGNATURE,
    }.items():
        config = config.replace(f"@{name}@", value)
    (work / "genimage.cfg").write_text(config)
    (work / "input").mkdir()
    run("genimage", "--config", work / "genimage.cfg", "--rootpath", work / "tree", "--tmppath", work / "tmp",
        "--inputpath", work / "input", "--outputpath", disk.parent, "--loglevel", "0")  # fmt: skip
    for name in ("firmware.vfat", "data.ext4"):
        (disk.parent / name).unlink()


def _grub(root: Path, unpacked: Path, board: str, files: Path) -> None:
    """GRUB for EFI as the removable medium's program, made by the release's own grub-mkimage."""
    (files / "EFI/BOOT").mkdir(parents=True)
    (files / "grub").mkdir()
    inside = root / "grub-build"
    shutil.copytree(unpacked / "usr/lib/grub/arm64-efi", inside)
    shutil.copyfile(HERE / "boards/grub-early.cfg", inside / "early.cfg")
    run("chroot", root, "grub-mkimage", "-O", "arm64-efi", "-d", "/grub-build", "-c", "/grub-build/early.cfg",
        "-p", "/grub", "-o", "/grub-build/grub.efi", *GRUB_MODULES)  # fmt: skip
    run("chroot", root, "grub-editenv", "/grub-build/grubenv", "create")
    run("chroot", root, "grub-editenv", "/grub-build/grubenv", "set", *GRUB_FIRST)
    shutil.copyfile(inside / "grub.efi", files / "EFI/BOOT/BOOTAA64.EFI")
    for name in ("grubenv", "grubenv.good"):
        shutil.copyfile(inside / "grubenv", files / "grub" / name)
    shutil.rmtree(inside)
    menu = (
        (HERE / "boards/grub.cfg").read_text().replace("@CONSOLE@", CONSOLES[board]).replace("@SIGNATURE@", SIGNATURE)
    )
    (files / "grub/grub.cfg").write_text(menu)


def _raspberry(unpacked: Path, files: Path) -> None:
    """The Raspberry Pi's firmware, the device trees of the boards, and U-Boot as what the firmware starts."""
    for name in RPI_FIRMWARE:
        shutil.copyfile(unpacked / "usr/lib/raspi-firmware" / name, files / name)
    shutil.copyfile(unpacked / "usr/share/doc/raspi-firmware/copyright", files / "LICENCE.broadcom")
    (trees,) = unpacked.glob("usr/lib/linux-image-*/broadcom")
    for name in RPI_TREES:
        shutil.copyfile(trees / name, files / name)
    # U-Boot listens for a key for two seconds, in which a byte of noise at an open serial pin stops a box for ever.
    loader = (unpacked / "usr/lib/u-boot/rpi_arm64/u-boot.bin").read_bytes()
    if loader.count(b"bootdelay=2\0") != 1:
        fail("this U-Boot has another delay than 2 seconds")
    (files / "u-boot.bin").write_bytes(loader.replace(b"bootdelay=2\0", b"bootdelay=0\0"))
    shutil.copyfile(HERE / "boards/rpi-config.txt", files / "config.txt")
