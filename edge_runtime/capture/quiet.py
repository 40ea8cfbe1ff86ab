"""Keeps C libraries from writing on the terminal: file descriptor 2 leads nowhere for a while."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def quiet_c(keep_python: bool = False) -> Iterator[None]:
    """Within it, nothing that reaches file descriptor 2 is shown; errors still come as exceptions.

    With `keep_python` Python's own sys.stderr goes on to reach the terminal, which a long use needs.
    """
    try:
        kept = os.dup(2)
    except OSError:  # no stderr at all: nothing to silence
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    before = sys.stderr
    try:
        if keep_python and before is sys.__stderr__:
            sys.stderr = os.fdopen(os.dup(kept), "w", buffering=1, errors="backslashreplace")
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        if sys.stderr is not before:
            with contextlib.suppress(OSError):
                sys.stderr.close()
            sys.stderr = before
        os.close(kept)
        os.close(nowhere)
