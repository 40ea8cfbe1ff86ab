"""A folder of clips, each a FLAC and a JSON of the same name: written whole or not at all, and within a budget.

Several programs may keep their clips in one folder. Each holds the locks of its own drafts (see `edge_runtime.atomic`):
the drafts of a program that was killed are known by having none. Names are chosen under a lock of the folder.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from edge_runtime.atomic import abandoned, of_the_kernel, replace_file, sweep
from edge_runtime.errors import EdgeDetectError, OutputError
from edge_runtime.report.jsonl import to_json
from edge_runtime.report.owned import PREFIX, UNFINISHED, Owned, draft_of

FILE_MODE = 0o640
FOLDER_MODE = 0o750
SPARE_BYTES = 1_000_000
"""Room that clips leave to others on their disk: minutes of a ledger, for weeks."""
REMIND_SECONDS = 3600.0
"""How often it is said that clips still cannot be written."""
_LOCK_SECONDS = 2.0
_SAME_NAME = 1000
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NEVER = (errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL)
"""Errors that no waiting mends."""


class Pairs:
    """Adds pairs and removes the oldest ones; what is not this program's own is never touched.

    A draft is what there is of a pair until now, in one file: if the run is killed, the next one makes a pair of it.
    """

    def __init__(
        self, folder: Path, budget_bytes: int, complain: Callable[[str], object], spare_bytes: int = SPARE_BYTES
    ) -> None:
        """`complain` is called now and then while nothing can be written, and once when it can again; and once when
        old pairs go because the disk is full."""
        self._folder = folder
        self._budget = budget_bytes
        self._complain = complain
        self._spare = spare_bytes
        self._owned = Owned(folder)
        self._drafts: dict[str, tuple[str, int | None]] = {}  # by name: the stem, and what holds the draft's lock
        self._complained: float | None = None
        self._crowded = False
        self.prepared = False

    def prepare(self) -> None:
        """Makes the folder, and looks whether it can be written to.

        Raises OutputError for what waiting does not mend, such as a path that is no folder. Any other trouble, a disk
        that is full, fails or may only be read, is complained of, and may be over when this is called again.
        """
        try:
            if of_the_kernel(self._folder):
                raise ValueError("the kernel keeps its devices and tables there, and no files")
            self._folder.mkdir(FOLDER_MODE, parents=True, exist_ok=True)
            self._try_to_write()
        except (OSError, ValueError) as reason:
            if isinstance(reason, ValueError) or reason.errno in _NEVER or self._in_the_way(reason):
                raise OutputError(f"cannot keep clips in {self._folder}: {self._why(reason)}") from None
            self._fail(reason)
        else:
            self._mended()

    def recover(self) -> None:
        """Removes what a killed run left half written, and makes pairs of its drafts; once, as soon as that can be."""
        if self.prepared:
            return
        try:
            self._folder.mkdir(FOLDER_MODE, parents=True, exist_ok=True)
            sweep(self._folder, UNFINISHED)
            with self._alone():
                self._make_room(0)
                for stem in sorted(self._owned.drafts()):
                    self._adopt(stem)
            self._try_to_write()
        except OSError as reason:
            self._fail(reason)
        else:
            self.prepared = True
            self._mended()

    def draft(self, name: str, sound: bytes, about: Callable[[str], str]) -> None:
        """Puts a draft in the place of the last one of that name; what hinders it, `add` will report."""
        with contextlib.suppress(OSError, EdgeDetectError), self._alone():
            stem, held = self._drafts.get(name) or (self._free(PREFIX + name, ""), None)
            content = about(f"{stem}.flac").encode() + b"\n" + sound
            if len(content) <= self._budget:
                self._make_room(len(content))
                lock = replace_file(self._draft_path(stem), content, FILE_MODE, keep=True)
                self._drafts[name] = (stem, lock)
                _close(held)

    def add(self, name: str, sound: bytes, about: Callable[[str], str]) -> bool:
        """Writes a pair, the JSON last: `about` gives its text for the FLAC's name. Whether both are there.

        First the oldest pairs go, as many as the budget and the disk ask for. If it fails, the draft stays.
        """
        try:
            self.recover()
            self._folder.mkdir(FOLDER_MODE, parents=True, exist_ok=True)
            with self._alone():
                stem = self._free(PREFIX + name, self._drafts.get(name, ("", None))[0], ".flac", ".json")
                text = (about(stem + ".flac") + "\n").encode()
                needed = len(sound) + len(text)
                if needed > self._budget:
                    self._complain(
                        f"a clip of {needed} bytes is larger than what clips may take, {self._budget}: not kept"
                    )
                else:
                    self._make_room(needed)
                    self._write_pair(stem, sound, text)
                drafted, held = self._drafts.pop(name, ("", None))
                if drafted:
                    self._draft_path(drafted).unlink(missing_ok=True)
                    _close(held)
        except (OSError, EdgeDetectError) as reason:
            self._fail(reason)
            return False
        self._mended()
        return needed <= self._budget

    def leave_room(self) -> None:
        """Has the oldest pairs go while others lack room on the disk; tries again what could not be done before."""
        self.recover()
        with contextlib.suppress(OSError), self._alone():
            self._make_room(0)

    def close(self) -> None:
        """Drafts that are still there are anybody's to make clips of."""
        for _, held in self._drafts.values():
            _close(held)
        self._drafts.clear()

    def _adopt(self, stem: str) -> None:
        """Makes a pair of a draft whose owner is dead; it may have been completed already."""
        path = self._draft_path(stem)
        with contextlib.suppress(FileNotFoundError), abandoned(path) as alone:  # it may have had to make room
            found = draft_of(path.name, path.read_bytes()) if alone else None
            if found is None:
                return
            told, sound = found
            if not self._owned.has(stem):
                stem = self._free(stem, stem, ".flac", ".json")
                text = (to_json({**told, "file": f"{stem}.flac"}) + "\n").encode()
                self._make_room(len(text) + len(sound))
                self._write_pair(stem, sound, text)
            path.unlink(missing_ok=True)

    def _make_room(self, needed: int) -> None:
        """Removes the oldest pairs, and then drafts, until `needed` bytes have room; none where that would not do."""
        pairs, drafts = self._owned.pairs(), self._owned.drafts()
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
            self._owned.remove(stem)
            over, lacking = over - size, lacking - size
        for stem, size in sorted(drafts.items()):
            if max(over, lacking) <= 0:
                break
            if self._remove_draft(stem):
                over, lacking = over - size, lacking - size

    def _remove_draft(self, stem: str) -> bool:
        """Whether it was one of ours or of a dead owner, and is gone."""
        path = self._draft_path(stem)
        with contextlib.suppress(FileNotFoundError):
            ours = any(stem == other for other, _ in self._drafts.values())
            with contextlib.nullcontext(True) if ours else abandoned(path) as may:
                if may:
                    path.unlink()
                return may
        return False

    def _write_pair(self, stem: str, sound: bytes, text: bytes) -> None:
        flac = self._folder / f"{stem}.flac"
        replace_file(flac, sound, FILE_MODE)
        try:
            replace_file(self._folder / f"{stem}.json", text, FILE_MODE)
        except OSError:
            flac.unlink(missing_ok=True)
            raise

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """No other program chooses a name meanwhile; but one that hangs is not waited for."""
        folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            until = time.monotonic() + _LOCK_SECONDS
            while time.monotonic() < until:
                try:
                    fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    time.sleep(0.02)
                except OSError:  # there are no locks here
                    break
            yield
        finally:
            os.close(folder)

    def _free(self, stem: str, drafted: str, *endings: str) -> str:
        """A stem that no other draft than `drafted` has, nor files of the endings: the clock may have been set back."""
        for number in range(1, _SAME_NAME):
            candidate = stem if number == 1 else f"{stem}-{number}"
            files = [self._folder / f"{candidate}{ending}" for ending in endings]
            if candidate != drafted:
                files.append(self._draft_path(candidate))
            if not any(os.path.lexists(path) for path in files):
                return candidate
        raise OSError(errno.EEXIST, "too many clips of the same time")

    def _draft_path(self, stem: str) -> Path:
        return self._folder / f".{stem}.draft"

    def _try_to_write(self) -> None:
        with tempfile.TemporaryFile(dir=self._folder):
            pass

    def _mended(self) -> None:
        if self._complained is not None:
            self._complained = None
            self._complain(f"clips can be written to {self._folder} again")

    def _fail(self, reason: Exception) -> None:
        now = time.monotonic()
        if self._complained is None or now - self._complained >= REMIND_SECONDS:
            self._complained = now
            why = self._why(reason)
            self._complain(f"clips cannot be written to {self._folder} ({why}): listening goes on without them")

    def _in_the_way(self, reason: OSError) -> bool:
        """Whether a file stands where a folder should; a link to nothing may lead to a disk that is mounted later."""
        return isinstance(reason, FileExistsError | NotADirectoryError) and any(
            _no_folder(path) for path in (self._folder, *self._folder.parents)
        )

    def _why(self, reason: Exception) -> str:
        if not isinstance(reason, OSError):
            return str(reason)
        if reason.errno in _FULL:
            return "there is no room on its disk"
        if isinstance(reason, FileExistsError | NotADirectoryError) and not self._folder.is_dir():
            if os.path.lexists(self._folder):
                return "it is no folder"
            above = next((path for path in self._folder.parents if os.path.lexists(path)), self._folder.parent)
            return f"{above} is no folder"
        return reason.strerror or str(reason)


def _no_folder(path: Path) -> bool:
    try:
        return not stat.S_ISDIR(path.stat().st_mode)
    except OSError as reason:
        return reason.errno == errno.ELOOP


def _close(descriptor: int | None) -> None:
    if descriptor is not None:
        os.close(descriptor)
