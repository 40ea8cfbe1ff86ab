"""Files that appear whole or not at all: the one writer of whole files.

What is written lies in a file beside the target until it is complete: `.NAME.XXXXXXXX.part`. Its writer holds a lock on
it (flock), which the kernel lets go when the writer dies, however it dies. So whoever writes the same target next knows
which of these files nobody will ever finish, and removes them.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import secrets
import signal
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from edge_runtime.errors import OutputError

PART = r"[0-9a-z_]{8}\.part"
"""How the names of unfinished files end, after the target's name and a dot; a regular expression."""
_LOCKLESS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS)  # file systems without locks
_LONGEST_NAME = 200  # bytes of the target's name in that of the unfinished file: a file's name has 255 at most
_KERNELS = ("/dev", "/proc", "/sys")
_SIGNALS = (signal.SIGTERM, signal.SIGHUP)


def destination(path: str | os.PathLike[str]) -> Path:
    """The file that writing to `path` makes or replaces; a symbolic link is followed to what it names.

    Raises OutputError when it is, or leads to, something that is no regular file: renaming would put a file in the
    place of a device, a pipe or a socket.
    """
    try:
        given = os.path.abspath(path)
        real = os.path.realpath(given)
        mode = os.stat(real).st_mode if os.path.lexists(real) else None
    except (OSError, ValueError) as reason:
        raise OutputError(f"cannot write {path}: {getattr(reason, 'strerror', None) or reason}") from None
    if of_the_kernel(path) or (mode is not None and not stat.S_ISREG(mode)):
        what = "a folder" if mode is not None and stat.S_ISDIR(mode) else "a device, a pipe or a socket"
        raise OutputError(f"cannot write {path}: it is {what}, not a file")
    return Path(real)


def of_the_kernel(path: str | os.PathLike[str]) -> bool:
    """Whether a path lies, or leads by a link, where the kernel has its devices and tables, so that no file can."""
    given = os.path.abspath(path)
    real = os.path.realpath(given)
    inside = any(os.path.commonpath([folder, name]) == folder for folder in _KERNELS for name in (given, real))
    return inside and os.path.commonpath(["/dev/shm", real]) != "/dev/shm"


@contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Gives a temporary path beside `path` that takes its place when the block ends without an error.

    On an error, and on SIGTERM, SIGHUP and SIGINT, the temporary file goes and whatever stood at `path` stays.
    What a killed process has left of the same file goes too. A symbolic link stays one: the file that it names is
    replaced. Raises OutputError when the folder is missing or cannot be written, the disk is full, or `path` is no
    regular file.
    """
    target = destination(path)
    mask = os.umask(0)
    os.umask(mask)
    unfinished = Unfinished(target)
    try:
        with _removed_on_signals(unfinished):
            unfinished.open(0o600)
            yield unfinished.path
            # Private until now; a model is read by the service's user.
            unfinished.path.chmod(0o666 & ~mask)
            with unfinished.path.open("rb") as written:
                os.fsync(written.fileno())
            unfinished.publish()
    except OSError as reason:
        raise OutputError(f"cannot write {path}: {reason.strerror or reason}") from None
    finally:
        unfinished.close()


def replace_file(target: Path, content: bytes, mode: int, *, keep: bool = False) -> int | None:
    """Writes a whole file, also through a power cut, or nothing. Raises OSError, or OutputError (see `destination`).

    With `keep` it gives a descriptor of the file that holds its lock: while that is open, `abandoned` says no.
    """
    unfinished = Unfinished(destination(target))
    try:
        unfinished.open(mode)
        unfinished.write(content)
        unfinished.publish()
        return unfinished.release() if keep else None
    finally:
        unfinished.close()


class Unfinished:
    """A file that is being written beside its target, with a lock on it."""

    def __init__(self, target: Path) -> None:
        """Gives it a path. It is made by `open`, so that whoever removes it on a signal knows the path first."""
        self._target = target
        self._stem = "." + os.fsdecode(os.fsencode(target.name.removeprefix("."))[:_LONGEST_NAME]) + "."
        self._file: int | None = None
        self.path = self._another()

    def open(self, mode: int) -> None:
        """Makes it, and removes those of the same target whose writers are dead. Raises OSError."""
        sweep(self._target.parent, re.compile(re.escape(self._stem) + PART))
        while self._file is None:  # between the two calls another's `sweep` may take it for abandoned
            with contextlib.suppress(FileExistsError):
                flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
                self._file = _locked(os.open(self.path, flags, mode), self.path)
            if self._file is None:
                self.path = self._another()

    def _another(self) -> Path:
        return self._target.with_name(f"{self._stem}{secrets.token_hex(4)}.part")

    def write(self, content: bytes) -> None:
        """Has it hold `content`, on the disk. Raises OSError."""
        assert self._file is not None
        rest = memoryview(content)
        while rest:
            rest = rest[os.write(self._file, rest) :]
        os.fsync(self._file)

    def publish(self) -> None:
        """Puts it in the target's place, also through a power cut. Raises OSError."""
        os.replace(self.path, self._target)
        folder = os.open(self._target.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def release(self) -> int | None:
        """The descriptor, which is the caller's from now on."""
        file, self._file = self._file, None
        return file

    def close(self) -> None:
        """Removes it, unless it was published, and lets the lock go."""
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)
        file = self.release()
        if file is not None:
            os.close(file)


def sweep(folder: Path, names: re.Pattern[str]) -> None:
    """Removes unfinished files of such names whose writers are dead. What hinders it is left for another time."""
    with contextlib.suppress(OSError):
        for path in [path for path in folder.iterdir() if names.fullmatch(path.name)]:
            with contextlib.suppress(OSError), abandoned(path) as alone:
                if alone:
                    path.unlink(missing_ok=True)


@contextmanager
def abandoned(path: Path) -> Iterator[bool]:
    """Whether a regular file is there that nobody holds the lock of; within the context nobody else can take it.

    Raises OSError when it cannot be opened.
    """
    file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            yield False
            return
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as reason:
            if reason.errno not in _LOCKLESS:
                yield False
                return
        yield _names(path, file)
    finally:
        os.close(file)


def _locked(file: int, path: Path) -> int | None:
    """The file with its lock, or None where another has removed it meanwhile."""
    try:
        with contextlib.suppress(OSError):  # none can be had on some file systems
            fcntl.flock(file, fcntl.LOCK_EX)
        if _names(path, file):
            return file
    except BaseException:
        os.close(file)
        raise
    os.close(file)
    return None


def _names(path: Path, file: int) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(file), os.lstat(path))
    return False


@contextmanager
def _removed_on_signals(unfinished: Unfinished) -> Iterator[None]:
    """Within it, a signal that would end this process at once removes the file first, if it is there."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, _frame: FrameType | None) -> None:
        with contextlib.suppress(OSError):
            unfinished.path.unlink(missing_ok=True)
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    taken = [number for number in _SIGNALS if signal.getsignal(number) is signal.SIG_DFL]
    for number in taken:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)
