"""A folder of clips, each a FLAC and a JSON of the same name: written whole or not at all, and within a budget."""

from __future__ import annotations

import contextlib
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
SPARE_BYTES = 1_000_000
"""Room that clips leave to others on their disk: minutes of a ledger, for weeks."""
_STEM = r"edge-detect-\d{8}T\d{6}\.\d{3}Z-\d{4,}(?:-\d+)?"
_OURS = re.compile(rf"{_STEM}\.(?:flac|json)")
_OURS_DRAFT = re.compile(rf"\.{_STEM}\.draft")
_OURS_HALF = re.compile(rf"\.{_STEM}\.(?:flac|json|draft)\.part")
_SAME_NAME = 1000
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Pairs:
    """Adds pairs and removes the oldest ones. Files with other names, links and folders are never touched.

    A draft is what there is of a pair until now, in one file: if the run is killed, the next one makes a pair of it.
    """

    def __init__(
        self, folder: Path, budget_bytes: int, complain: Callable[[str], object], spare_bytes: int = SPARE_BYTES
    ) -> None:
        """`complain` is told once that nothing can be written, and once that it can again; and once that old pairs go
        because the disk is full."""
        self._folder = folder
        self._budget = budget_bytes
        self._complain = complain
        self._spare = spare_bytes
        self._failing = self._crowded = False

    def prepare(self) -> None:
        """Makes the folder, removes what a killed run left half written, and makes pairs of its drafts.

        Raises OutputError when it cannot be made or written to, but for a full disk.
        """
        try:
            self._folder.mkdir(FOLDER_MODE, parents=True, exist_ok=True)
            for path in self._files(_OURS_HALF):
                path.unlink(missing_ok=True)
            self._make_room(0)
            self._recover()
            with tempfile.TemporaryFile(dir=self._folder):
                pass
        except OSError as reason:
            if reason.errno not in _FULL:
                raise OutputError(f"cannot keep clips in {self._folder}: {self._why(reason)}") from None
            self._fail(reason)

    def draft(self, name: str, sound: bytes, about: Callable[[str], str]) -> None:
        """Puts a draft in the place of the last one of that name; what hinders it, `add` will tell."""
        with contextlib.suppress(OSError):
            content = about(f"{PREFIX}{name}.flac").encode() + b"\n" + sound
            if len(content) <= self._budget:
                self._make_room(len(content))
                self._write(self._draft_path(PREFIX + name).name, content)

    def add(self, name: str, sound: bytes, about: Callable[[str], str]) -> bool:
        """Writes a pair, the JSON last: `about` gives its text for the FLAC's name. Whether both are there.

        First the oldest pairs go, as many as the budget and the disk ask for. If it fails, the draft stays.
        """
        try:
            self._folder.mkdir(FOLDER_MODE, parents=True, exist_ok=True)
            stem = self._free(PREFIX + name)
            text = (about(stem + ".flac") + "\n").encode()
            needed = len(sound) + len(text)
            if needed > self._budget:
                self._complain(f"a clip of {needed} bytes is larger than what clips may take, {self._budget}: not kept")
            else:
                self._make_room(needed)
                self._write_pair(stem, sound, text)
            self._draft_path(PREFIX + name).unlink(missing_ok=True)
        except OSError as reason:
            self._fail(reason)
            return False
        if self._failing:
            self._failing = False
            self._complain(f"clips can be written to {self._folder} again")
        return needed <= self._budget

    def leave_room(self) -> None:
        """Has the oldest pairs go while others lack room on the disk."""
        with contextlib.suppress(OSError):
            self._make_room(0)

    def _recover(self) -> None:
        for path in sorted(self._files(_OURS_DRAFT)):
            stem = _stem(path)
            with contextlib.suppress(FileNotFoundError):  # it had to make room for another
                if not (self._folder / f"{stem}.json").exists():
                    content = path.read_bytes()
                    self._make_room(len(content))
                    text, _, sound = content.partition(b"\n")
                    self._write_pair(stem, sound, text + b"\n")
                path.unlink()

    def _make_room(self, needed: int) -> None:
        """Removes the oldest pairs, and then drafts, until `needed` bytes have room; none where that would not do."""
        pairs, drafts = self._sizes(_OURS), self._sizes(_OURS_DRAFT)
        taken = sum(pairs.values()) + sum(drafts.values())
        over = taken + needed - self._budget
        space = os.statvfs(self._folder)
        lacking = needed - space.f_bavail * space.f_frsize
        if lacking > taken:
            return
        for stem, size in sorted(pairs.items()):
            if max(over, lacking + self._spare) <= 0:
                break
            if over <= 0 and not self._crowded:
                self._crowded = True
                self._complain(f"the disk of {self._folder} is full: the oldest clips are removed")
            for ending in (".json", ".flac"):  # a FLAC without its JSON is known to be half a pair
                (self._folder / (stem + ending)).unlink(missing_ok=True)
            over, lacking = over - size, lacking - size
        for stem, size in sorted(drafts.items()):
            if max(over, lacking) <= 0:
                break
            self._draft_path(stem).unlink(missing_ok=True)
            over, lacking = over - size, lacking - size

    def _sizes(self, pattern: re.Pattern[str]) -> dict[str, int]:
        """Bytes, by stems, which begin with the time."""
        sizes: dict[str, int] = {}
        for path in self._files(pattern):
            sizes[_stem(path)] = sizes.get(_stem(path), 0) + path.stat().st_size
        return sizes

    def _write_pair(self, stem: str, sound: bytes, text: bytes) -> None:
        self._write(stem + ".flac", sound)
        try:
            self._write(stem + ".json", text)
        except OSError:
            (self._folder / (stem + ".flac")).unlink(missing_ok=True)
            raise

    def _write(self, name: str, content: bytes) -> None:
        """All of it under its name, also after a power cut, or nothing."""
        half = self._folder / f".{name.removeprefix('.')}.part"
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

    def _draft_path(self, stem: str) -> Path:
        return self._folder / f".{stem}.draft"

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


def _stem(path: Path) -> str:
    """What a pair's files and its draft have in common."""
    return path.stem.removeprefix(".")
