"""Keeps C libraries from writing on the terminal: file descriptor 2 leads nowhere for a while."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator


@contextlib.contextmanager
def quiet_c() -> Iterator[None]:
    """Within it, nothing that reaches file descriptor 2 is shown; errors still come as exceptions."""
    try:
        kept = os.dup(2)
    except OSError:  # no stderr at all: nothing to silence
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
