"""The system of one slot: a root file system with program, kernel and initrd, packed as one squashfs."""

from __future__ import annotations

import gzip
import json
import shutil
import subprocess
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from disk import SIGNATURE
from parts import fail, run

HERE = Path(__file__).resolve().parent

# Kernel modules of the running system: what microphones, networks and storage need, and no more.
MODULES = (
    *("crypto", "lib", "arch", "block", "mm", "sound", "fs", "net", "drivers/ata", "drivers/block", "drivers/char"),
    *(
        "drivers/clk",
        "drivers/cpufreq",
        "drivers/dax",
        "drivers/dma",
        "drivers/firmware",
        "drivers/gpio",
        "drivers/hid",
    ),
    *("drivers/hwmon", "drivers/i2c", "drivers/input", "drivers/leds", "drivers/mailbox", "drivers/md", "drivers/mfd"),
    *("drivers/mmc", "drivers/net", "drivers/nvme", "drivers/nvmem", "drivers/pci", "drivers/phy", "drivers/pinctrl"),
    *("drivers/pwm", "drivers/regulator", "drivers/reset", "drivers/rtc", "drivers/scsi", "drivers/soc", "drivers/spi"),
    *("drivers/thermal", "drivers/tty", "drivers/usb", "drivers/virtio", "drivers/watchdog", "drivers/misc"),
)
LEFT_OUT = (
    *("fs/ocfs2", "fs/gfs2", "fs/xfs", "fs/btrfs", "fs/bcachefs", "fs/ceph", "fs/nfsd", "fs/jfs", "fs/reiserfs"),
    *("fs/smb", "fs/nfs", "fs/afs", "fs/f2fs", "fs/ntfs3", "fs/ubifs", "net/ceph", "net/tipc", "net/sctp", "net/rds"),
    *("net/openvswitch", "net/sched", "net/batman-adv", "net/bluetooth", "net/vmw_vsock"),
    *("drivers/net/ethernet/mellanox", "drivers/net/ethernet/chelsio", "drivers/net/ethernet/qlogic"),
    *("drivers/net/ethernet/broadcom/bnx2x",),
    *("drivers/net/ethernet/intel", "drivers/net/ethernet/netronome", "drivers/net/ethernet/sfc"),
    *("drivers/net/ethernet/cavium", "drivers/net/ethernet/hisilicon", "drivers/scsi/qla2xxx", "drivers/scsi/lpfc"),
)
# What the initrd loads to find the card, stick or disk that it was started from.
INITRD_MODULES = (
    *("drivers/block/virtio_blk", "drivers/virtio", "drivers/mmc", "drivers/usb/host", "drivers/usb/storage"),
    *("drivers/usb/dwc2", "drivers/usb/dwc3", "drivers/usb/common", "drivers/scsi/sd_mod", "drivers/nvme/host"),
    *("drivers/gpio/gpio-raspberrypi-exp", "drivers/gpio/gpio-brcmstb", "drivers/regulator", "drivers/clk/bcm"),
    *("drivers/reset", "drivers/mailbox", "drivers/pci/controller", "drivers/phy/broadcom", "drivers/dma"),
    *("drivers/soc/bcm", "drivers/pinctrl/bcm", "drivers/watchdog/bcm2835_wdt", "drivers/firmware"),
    *("fs/squashfs", "fs/overlayfs", "fs/ext4", "fs/jbd2", "crypto/crc32c_generic"),
)
INITRD_PROGRAMS = ("usr/sbin/e2fsck",)
UNITS_OFF = (
    *("getty@tty1.service", "console-getty.service", "serial-getty@.service", "systemd-firstboot.service"),
    *("e2scrub_all.timer", "e2scrub_reap.service", "apt-daily.timer", "apt-daily-upgrade.timer"),
    *("dpkg-db-backup.timer", "fstrim.timer", "systemd-update-utmp.service", "systemd-update-utmp-runlevel.service"),
    *("ldconfig.service", "systemd-update-done.service", "systemd-hwdb-update.service"),
    *("systemd-journal-catalog-update.service", "man-db.timer"),
    *("systemd-machine-id-commit.service", "systemd-growfs-root.service", "regenerate_ssh_host_keys.service"),
)
UNITS_ON = {
    "multi-user.target": (
        *("systemd-networkd.service", "systemd-resolved.service", "ssh.service", "edge-detect-grow.service"),
        *("edge-detect-provision.service", "edge-detect-commission.service", "edge-detect-health.service"),
        "edge-detect-proven.service",
    ),
    "timers.target": ("edge-detect-model.timer",),
}


@dataclass(frozen=True)
class ImageSpec:
    """What whoever builds an image asked for."""

    board: str
    hostname: str
    version: str
    model: Path | None
    configuration: Path | None
    ssh_key: Path | None
    certificate: Path | None
    light: str | None
    health_seconds: int


def make(base: Path, unpacked: Path, package: Path, spec: ImageSpec, root: Path, packed: Path) -> None:
    """Builds the tree in `root`, and packs it as the squashfs `packed`."""
    root.mkdir()
    installed = package.with_name(f"on-{base.name}")
    if installed.exists():
        run("tar", "-C", root, "-xf", installed)
    else:
        run("tar", "-C", root, "-xf", base)
        _install(root, package)
        run("tar", "-C", root, "-cf", installed.with_suffix(".part"), "--one-file-system", ".")
        installed.with_suffix(".part").rename(installed)
    release = _kernel(root, unpacked)
    if spec.board == "rpi":
        firmware = _where(unpacked, "lib/firmware")
        shutil.copytree(firmware, root / "usr/lib/firmware", symlinks=True, dirs_exist_ok=True)
    _files(root, spec)
    _apply(root, spec)
    _units(root)
    _initrd(root, unpacked, release)
    _clean(root)
    # GRUB reads the kernel from here, and knows gzip but not zstd.
    run("mksquashfs", root, packed, "-quiet", "-no-progress", "-noappend", "-comp", "gzip", "-b", "256K", "-no-xattrs",
        "-action", "uncompressed@name(vmlinuz)||name(initrd.img)")  # fmt: skip


def _install(root: Path, package: Path) -> None:
    """Has dpkg install the program's package, under emulation."""
    inside = root / package.name
    shutil.copyfile(package, inside)
    # One of /proc and /sys is mounted, not both: QEMU 7.2's user emulation ends with a fault then.
    run("mount", "-t", "proc", "proc", root / "proc")
    try:
        run("env", "-i", "PATH=/usr/sbin:/usr/bin", "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C", "chroot", root,
            "dpkg", "-i", f"/{package.name}")  # fmt: skip
    finally:
        run("umount", root / "proc")
    inside.unlink()


def _kernel(root: Path, unpacked: Path) -> str:
    (source,) = [path for path in _where(unpacked, "lib/modules").iterdir() if path.is_dir()]
    release = source.name
    target = root / "usr/lib/modules" / release
    for part in MODULES:
        if (source / "kernel" / part).is_dir():
            shutil.copytree(source / "kernel" / part, target / "kernel" / part)
    for part in LEFT_OUT:
        shutil.rmtree(target / "kernel" / part, ignore_errors=True)
    for path in source.glob("modules.*"):
        shutil.copyfile(path, target / path.name)
    run("depmod", "-b", root, release)
    (root / "boot").mkdir(exist_ok=True)
    shutil.copyfile(unpacked / f"boot/vmlinuz-{release}", root / "boot/vmlinuz")
    return release


def _where(unpacked: Path, path: str) -> Path:
    """Packages of trixie have their files below /usr, those of bookworm partly not."""
    return unpacked / path if (unpacked / path).exists() else unpacked / "usr" / path


def _files(root: Path, spec: ImageSpec) -> None:
    """Our own files, and those that differ from image to image."""
    for path in sorted((HERE / "files").rglob("*")):
        if "__pycache__" in path.parts:
            continue
        target = root / path.relative_to(HERE / "files")
        if path.is_dir():
            target.mkdir(exist_ok=True)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
            target.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)
    (root / "etc/rauc").mkdir(exist_ok=True)
    shutil.copyfile(HERE / "boards/rauc.conf", root / "etc/rauc/system.conf")
    for file in (root / "etc/rauc/system.conf", root / "etc/fstab"):
        file.write_text(file.read_text().replace("@BOARD@", spec.board).replace("@SIGNATURE@", SIGNATURE))
    (root / "etc/default/locale").write_text("LANG=C.UTF-8\n")
    (root / "usr/share/edge-detect").mkdir(exist_ok=True)
    for clip in ("human", "synthetic"):
        shutil.copyfile(HERE.parent.parent / f"examples/{clip}.flac", root / f"usr/share/edge-detect/{clip}.flac")
    # No clock of its own, and perhaps no network: it begins no earlier than now, when the certificate is valid.
    (root / "usr/lib/clock-epoch").touch()
    for folder in ("data", "boot/firmware", "var/lib/systemd/timesync"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    _link(root / "etc/systemd/resolved.conf.d/00-disable-mdns.conf", "/dev/null")  # HOSTNAME.local finds the box
    _link(root / "etc/resolv.conf", "/run/systemd/resolve/stub-resolv.conf")
    _link(root / "var/lib/alsa", "/data/alsa")  # levels that were set with alsamixer


def _apply(root: Path, spec: ImageSpec) -> None:
    """What whoever builds the image asked for."""
    identity = {
        "compatible": f"edge-detect-{spec.board}",
        "version": spec.version,
        "build": uuid4().hex[:12],  # tells two of one version apart: what was proved of one holds for no other
        "light": spec.light,
    }
    (root / "etc/edge-detect-image.json").write_text(json.dumps(identity) + "\n")
    (root / "etc/hostname").write_text(spec.hostname + "\n")
    (root / "etc/hosts").write_text(f"127.0.0.1 localhost\n127.0.1.1 {spec.hostname}\n::1 localhost\n")
    if spec.certificate:
        shutil.copyfile(spec.certificate, root / "etc/rauc/keyring.pem")
    if spec.ssh_key:
        home = root / "root/.ssh"
        home.mkdir(mode=0o700, exist_ok=True)
        shutil.copyfile(spec.ssh_key, home / "authorized_keys")
        (home / "authorized_keys").chmod(0o600)
    configuration = root / "etc/edge-detect/edge-detect.toml"
    if spec.configuration:
        shutil.copyfile(spec.configuration, configuration)
    text = configuration.read_text("utf-8-sig")
    if spec.light and "light" not in tomllib.loads(text):
        configuration.write_text(f'{text.rstrip()}\nlight = "{spec.light}"\n')
    # What the box is tested with is what it will run.
    if spec.model:
        shutil.copyfile(spec.model, root / "usr/share/edge-detect/model.onnx")
        for unit in ("edge-detect", "edge-detect-commission", "edge-detect-health"):
            _drop_in(root, unit, "model", "Environment=EDGE_DETECT_MODEL=/usr/share/edge-detect/model.onnx")
    _drop_in(root, "edge-detect-health", "seconds", f"Environment=HEALTH_SECONDS={spec.health_seconds}")


def _drop_in(root: Path, unit: str, name: str, line: str) -> None:
    path = root / f"etc/systemd/system/{unit}.service.d/{name}.conf"
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"[Service]\n{line}\n")


def _units(root: Path) -> None:
    """Which start, and that nobody has a password."""
    units = root / "etc/systemd/system"
    for unit in UNITS_OFF:
        _link(units / unit, "/dev/null")
    for target, names in UNITS_ON.items():
        for unit in names:
            _link(units / f"{target}.wants" / unit, f"/usr/lib/systemd/system/{unit}")
    _link(units / "default.target", "/usr/lib/systemd/system/multi-user.target")
    _link(root / "etc/systemd/system-generators/systemd-ssh-generator", "/dev/null")  # for virtual machines' sockets
    run("chroot", root, "passwd", "-l", "root", stderr=subprocess.DEVNULL)


def _link(path: Path, target: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir() and not path.is_symlink():
        path.rmdir()
    path.unlink(missing_ok=True)
    path.symlink_to(target)


def _initrd(root: Path, unpacked: Path, release: str) -> None:
    tree = root.with_name("initrd")
    (tree / "bin").mkdir(parents=True)
    shutil.copyfile(HERE / "initrd/init", tree / "init")
    (tree / "init").chmod(0o755)
    shutil.copyfile(_where(unpacked, "bin/busybox"), tree / "bin/busybox")
    (tree / "bin/busybox").chmod(0o755)
    _modules(root, tree, release)
    for name in INITRD_PROGRAMS:
        for file in (f"/{name}", *_libraries(root, root / name)):
            target = tree / file.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile((root / file.lstrip("/")).resolve(), target)
            target.chmod(0o755)
    (tree / "bin/e2fsck").symlink_to("/usr/sbin/e2fsck")
    names = "\n".join(["."] + [str(path.relative_to(tree)) for path in sorted(tree.rglob("*"))])
    archive = subprocess.run(["cpio", "--quiet", "-o", "-H", "newc", "-R", "0:0"], cwd=tree, input=names.encode(),
                             stdout=subprocess.PIPE, check=True)  # fmt: skip
    (root / "boot/initrd.img").write_bytes(gzip.compress(archive.stdout, 6, mtime=0))
    shutil.rmtree(tree)


def _modules(root: Path, tree: Path, release: str) -> None:
    """The chosen modules with all that they need, unpacked, since busybox may not know how they are packed."""
    home = Path("usr/lib/modules") / release
    needs = {}
    for line in (root / home / "modules.dep").read_text().splitlines():
        name, _, others = line.partition(":")
        needs[name] = others.split()
    prefixes = tuple(f"kernel/{part}" for part in INITRD_MODULES)
    chosen = {name for name in needs if name.startswith(prefixes)}
    chosen |= {other for name in chosen for other in needs[name]}
    target = tree / "lib/modules" / release
    for name in sorted(chosen):
        source, unpacked = root / home / name, target / name.removesuffix(".xz")
        unpacked.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".xz"):
            with unpacked.open("wb") as file:
                subprocess.run(["xz", "-dc", source], stdout=file, check=True)
        else:
            shutil.copyfile(source, unpacked)
    for path in (root / home).glob("modules.builtin*"):
        shutil.copyfile(path, target / path.name)
    (target / "modules.order").touch()
    run("depmod", "-b", tree, release)


def _libraries(root: Path, program: Path) -> Iterable[str]:
    """The shared libraries of an arm64 program, by its own loader."""
    said = run("chroot", root, "/lib/ld-linux-aarch64.so.1", "--list", f"/{program.relative_to(root)}")
    found = [word for line in said.splitlines() for word in line.split() if word.startswith("/")]
    if not found:
        fail(f"{program.name} names no library")
    return found


def _clean(root: Path) -> None:
    """What only building needs, and what has to differ from box to box."""
    for pattern in (
        *("var/lib/apt/lists/*", "var/cache/*/*", "var/log/*", "var/tmp/*", "tmp/*", "usr/share/doc/*/changelog*"),
        *("etc/ssh/ssh_host_*", "etc/machine-id", "var/lib/dbus/machine-id", "var/lib/systemd/random-seed"),
        *(
            "usr/share/perl5/unicore",
            "usr/lib/grub",
            "usr/share/grub",
            "usr/lib/udev/hwdb.d",
            "etc/resolv.conf.dpkg*",
            "var/lib/dpkg/*-old",
        ),
    ):
        for path in root.glob(pattern):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
    (root / "etc/machine-id").write_text("")
    _link(root / "var/lib/dbus/machine-id", "/etc/machine-id") if (root / "var/lib/dbus").is_dir() else None
