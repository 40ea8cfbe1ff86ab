"""Keeps C libraries from writing on the terminal: file descriptor 2 leads nowhere for a while."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator

_LOUD_SECONDS = 1.0
_lock = threading.RLock()


@contextlib.contextmanager
def quiet_c() -> Iterator[None]:
    """Within it, nothing that reaches file descriptor 2 is shown; errors still come as exceptions.

    One thread at a time is within, and our own lines wait meanwhile: see `loud`.
    """
    with _lock, contextlib.ExitStack() as after:
        try:
            kept = os.dup(2)
            after.callback(os.close, kept)
            nowhere = os.open(os.devnull, os.O_WRONLY)
            after.callback(os.close, nowhere)
            os.dup2(nowhere, 2)
            after.callback(os.dup2, kept, 2)
        except OSError:  # no stderr at all, or no more files: then nothing is silenced
            pass
        yield


@contextlib.contextmanager
def loud() -> Iterator[None]:
    """Within it file descriptor 2 leads where it should, unless some library hangs in another thread."""
    ours = _lock.acquire(timeout=_LOUD_SECONDS)
    try:
        yield
    finally:
        if ours:
            _lock.release()
