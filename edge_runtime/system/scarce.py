"""What a machine may have too little of: memory, open files, threads and processes, and libraries that need them."""

from __future__ import annotations

import ctypes
import errno
import importlib.abc
import mmap
import os
import resource
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType

from edge_runtime.errors import ModelError

_FILES = (errno.EMFILE, errno.ENFILE)
_MEMORY = (errno.ENOMEM, errno.EAGAIN)
_LIBRARY_WORDS = ("map segment", "allocate memory", "static TLS", "Too many open files", "cannot apply additional")


_NUMPY_BYTES = 100_000_000
"""Of address space, for NumPy with OpenBLAS: some 20 MB of it are memory."""
_ARENAS = -8  # M_ARENA_MAX of mallopt


def be_frugal() -> None:
    """Has libraries do with what a small machine has. Called before NumPy is loaded, and once.

    NumPy's linear algebra starts no threads, each with its memory: nothing here multiplies large matrices. Where
    address space is limited, threads share one heap. And NumPy is loaded only where there is room for it, as OpenBLAS
    would print a line of its own and end the process.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    if sys.platform == "linux" and resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY:
        ctypes.CDLL(None).mallopt(_ARENAS, 1)
    if not any(isinstance(finder, _Room) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Room())


class _Room(importlib.abc.MetaPathFinder):
    """Finds no module, and refuses NumPy where there is no room for it."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname == "numpy":
            try:
                # Private, as only such memory counts where the data of a process are limited.
                mmap.mmap(-1, _NUMPY_BYTES, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS).close()
            except OSError:
                raise MemoryError("NumPy") from None
        return None


def scarcity(reason: BaseException) -> ModelError | None:
    """The error for a user when `reason` is that the machine, or a limit set on this process, has too little.

    None for anything else.
    """
    if isinstance(reason, MemoryError):
        return _too_little("memory", "ulimit -v, ulimit -d")
    if isinstance(reason, OSError) and reason.errno in _FILES:
        return _too_little("open files", "ulimit -n")
    if isinstance(reason, OSError) and reason.errno in _MEMORY:
        return _too_little("memory or processes", "ulimit -v, ulimit -u")
    if isinstance(reason, RuntimeError) and "start new thread" in str(reason):
        return _too_little("threads, or memory for them", "ulimit -u, ulimit -v")
    if isinstance(reason, ImportError) or "cannot load library" in str(reason):
        return _library(reason)
    return None


def _too_little(what: str, limits: str) -> ModelError:
    return ModelError(f"not enough {what}: this machine, or a limit set on this program ({limits}), leaves too little")


def _library(reason: BaseException) -> ModelError:
    # Python's words for a library that cannot be loaded are the loader's; NumPy puts pages of advice around
    # them.
    texts: list[str] = []
    cause: BaseException | None = reason
    while cause is not None:
        texts += [line.strip() for line in str(cause).splitlines() if line.strip()]
        cause = cause.__cause__ or cause.__context__
    if "bad_alloc" in " ".join(texts):
        return _too_little("memory", "ulimit -v")
    for text in texts:
        if any(word in text for word in _LIBRARY_WORDS):
            what = os.path.basename(text.removeprefix("Original error was: ").split(": ")[0])
            return ModelError(f"too little memory, or too few open files (ulimit -v, ulimit -n), to load {what}")
    why = texts[0] if texts else "no reason given"
    name = getattr(reason, "name", None) or "a library"
    return ModelError(f"cannot load {name}: {why}; `pip install --force-reinstall edge-detect` may mend it")
