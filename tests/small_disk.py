"""A disk that is really full: a tmpfs of its own, or, where none can be mounted, files that may not grow."""

from __future__ import annotations

import contextlib
import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path


class SmallDisk:
    """A folder and a way to leave no room in it."""

    def __init__(self, folder: Path, mounted: bool) -> None:
        self.folder = folder
        self.mounted = mounted
        self.words = "no room" if mounted else "cannot be written"
        """What is said of it when it is full."""
        self._filler = folder / "filler"
        self._limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def refuse(self) -> None:
        """From now on it is read-only; where none can be mounted it is one that fails."""
        if self.mounted:
            subprocess.run(["mount", "-o", "remount,ro", str(self.folder)], check=True)
        else:
            self.fill()

    def allow(self) -> None:
        """No more."""
        if self.mounted:
            subprocess.run(["mount", "-o", "remount,rw", str(self.folder)], check=True)
        else:
            self.free()

    def fill(self) -> None:
        """Takes all the room that is left."""
        if not self.mounted:
            resource.setrlimit(resource.RLIMIT_FSIZE, (0, self._limits[1]))
            return
        with contextlib.suppress(OSError), self._filler.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))

    def free(self) -> None:
        """Gives it back."""
        if not self.mounted:
            resource.setrlimit(resource.RLIMIT_FSIZE, self._limits)
        self._filler.unlink(missing_ok=True)


@contextlib.contextmanager
def small_disk(folder: Path, kilobytes: int, files: int = 0) -> Iterator[SmallDisk]:
    """A disk of that size at `folder`; with `files` above 0 one of so many files and folders, itself among them."""
    folder.mkdir(exist_ok=True)
    size = f"size={kilobytes}k" + (f",nr_inodes={files}" if files else "")
    command = ["mount", "-t", "tmpfs", "-o", size, "none", str(folder)]
    try:
        mounted = subprocess.run(command, capture_output=True).returncode == 0
    except OSError:
        mounted = False
    disk = SmallDisk(folder, mounted)
    try:
        yield disk
    finally:
        disk.free()
        if mounted:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)
