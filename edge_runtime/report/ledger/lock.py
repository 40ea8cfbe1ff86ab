"""One ledger has one writer: the lock beside it, and the runs of this process that still hold one."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import threading

_LOCKLESS = (errno.ENOSPC, errno.EDQUOT, errno.ENOLCK, errno.EOPNOTSUPP)
_LINGERING: set[str] = set()
_AT_IT = threading.Lock()


class Lock:
    """Held by who writes the ledger at `path`, in `<path>.lock`, which goes when it is released. Not in the database's
    own file: to close that would drop the locks that SQLite has on it."""

    def __init__(self, path: str) -> None:
        """Does without where there is no room for the file, or locks are unknown. Raises BlockingIOError when another
        has it, OSError when it cannot be had. `path` has no symbolic links."""
        self._path = f"{path}.lock"
        self._file: int | None = None
        try:
            while not self._named():  # its last holder may remove the file between the two calls
                self._drop()
                # Who may only read the ledger's folder must not be able to hold this lock.
                self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, 0o640)
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as reason:
            self._drop()
            if reason.errno not in _LOCKLESS:
                raise

    @property
    def held(self) -> bool:
        """Whether it keeps others out; without room for its file it does not."""
        return self._file is not None

    def release(self) -> None:
        """Lets another have it."""
        with contextlib.suppress(OSError):
            if self._named():
                os.unlink(self._path)
        self._drop()

    def _drop(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _named(self) -> bool:
        with contextlib.suppress(FileNotFoundError):
            return self._file is not None and os.path.samestat(os.fstat(self._file), os.stat(self._path))
        return False


def linger(path: str, lingers: bool) -> None:
    """Notes that an ended run of this process still writes the ledger at `path`, or that it has come to its end."""
    with _AT_IT:
        (_LINGERING.add if lingers else _LINGERING.discard)(path)


def lingers(path: str) -> bool:
    """Whether the lock of the ledger at `path` is ours, and becomes free by itself."""
    with _AT_IT:
        return path in _LINGERING
