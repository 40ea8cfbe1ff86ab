"""A folder of clips, each a FLAC and a JSON of the same name: written whole or not at all, and within a budget."""

from __future__ import annotations

import errno
import os
import re
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path

from edge_runtime.errors import OutputError

PREFIX = "edge-detect-"
FILE_MODE = 0o640
FOLDER_MODE = 0o750
_OURS = re.compile(r"edge-detect-\d{8}T\d{6}\.\d{3}Z-\d{4,}(?:-\d+)?\.(?:flac|json)")
_OURS_HALF = re.compile(r"\.edge-detect-\d{8}T\d{6}\.\d{3}Z-\d{4,}(?:-\d+)?\.(?:flac|json)\.part")
_SAME_NAME = 1000
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Pairs:
    """Adds pairs and removes the oldest ones. Files with other names, links and folders are never touched."""

    def __init__(self, folder: Path, budget_bytes: int, complain: Callable[[str], object]) -> None:
        """`complain` is told once that nothing can be written, and once that it can again."""
        self._folder = folder
        self._budget = budget_bytes
        self._complain = complain
        self._failing = False

    def prepare(self) -> None:
        """Makes the folder and removes what a killed run left half written.

        Raises OutputError when it cannot be made or written to, but for a full disk.
        """
        try:
            self._folder.mkdir(FOLDER_MODE, parents=True, exist_ok=True)
            for path in self._files(_OURS_HALF):
                path.unlink(missing_ok=True)
            with tempfile.TemporaryFile(dir=self._folder):
                pass
        except OSError as reason:
            if reason.errno not in _FULL:
                raise OutputError(f"cannot keep clips in {self._folder}: {self._why(reason)}") from None
            self._fail(reason)

    def add(self, name: str, sound: bytes, about: Callable[[str], str]) -> bool:
        """Writes a pair, the JSON last: `about` gives its text for the FLAC's name. Whether both are there.

        First the oldest pairs go, as many as the budget asks for.
        """
        try:
            self._folder.mkdir(FOLDER_MODE, parents=True, exist_ok=True)
            stem = self._free(PREFIX + name)
            text = (about(stem + ".flac") + "\n").encode()
            needed = len(sound) + len(text)
            if needed > self._budget:
                self._complain(f"a clip of {needed} bytes is larger than what clips may take, {self._budget}: not kept")
                return False
            self._make_room(needed)
            self._write(stem + ".flac", sound)
            try:
                self._write(stem + ".json", text)
            except OSError:
                (self._folder / (stem + ".flac")).unlink(missing_ok=True)
                raise
        except OSError as reason:
            self._fail(reason)
            return False
        if self._failing:
            self._failing = False
            self._complain(f"clips can be written to {self._folder} again")
        return True

    def _make_room(self, needed: int) -> None:
        sizes: dict[str, int] = {}
        for path in self._files(_OURS):
            sizes[path.stem] = sizes.get(path.stem, 0) + path.stat().st_size
        total = sum(sizes.values())
        for stem in sorted(sizes):
            if total + needed <= self._budget:
                return
            for ending in (".json", ".flac"):  # a FLAC without its JSON is known to be half a pair
                (self._folder / (stem + ending)).unlink(missing_ok=True)
            total -= sizes[stem]

    def _write(self, name: str, content: bytes) -> None:
        """All of it under its name, also after a power cut, or nothing."""
        half = self._folder / f".{name}.part"
        half.unlink(missing_ok=True)
        try:
            descriptor = os.open(half, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)
            with open(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(descriptor)
            half.rename(self._folder / name)
        except OSError:
            half.unlink(missing_ok=True)
            raise
        folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _free(self, stem: str) -> str:
        """A name that is not taken: the clock may have been set back."""
        for number in range(1, _SAME_NAME):
            candidate = stem if number == 1 else f"{stem}-{number}"
            if not any((self._folder / (candidate + ending)).exists() for ending in (".flac", ".json")):
                return candidate
        raise OSError(errno.EEXIST, "too many clips of the same time")

    def _files(self, pattern: re.Pattern[str]) -> list[Path]:
        return [
            path
            for path in self._folder.iterdir()
            if pattern.fullmatch(path.name) and stat.S_ISREG(path.lstat().st_mode)
        ]

    def _fail(self, reason: OSError) -> None:
        if self._failing:
            return
        self._failing = True
        why = self._why(reason)
        self._complain(f"clips cannot be written to {self._folder} ({why}): listening goes on without them")

    def _why(self, reason: OSError) -> str:
        if reason.errno in _FULL:
            return "there is no room on its disk"
        if isinstance(reason, FileExistsError | NotADirectoryError) and not self._folder.is_dir():
            if os.path.lexists(self._folder):
                return "it is no folder"
            above = next((path for path in self._folder.parents if os.path.lexists(path)), self._folder.parent)
            return f"{above} is no folder"
        return reason.strerror or str(reason)
