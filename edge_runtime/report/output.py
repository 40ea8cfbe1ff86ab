"""Standard output that fails with a clear word: OutputError for a full disk, ReaderGone for a closed pipe."""

from __future__ import annotations

import errno
import os
from typing import TextIO

from edge_runtime.errors import OutputError


class ReaderGone(Exception):
    """The program that read our output has ended (`| head`): no error, but nothing more to do."""


class Output:
    """Writes text at once, without a buffer that could fail later."""

    def __init__(self, stream: TextIO | None) -> None:
        """`stream` is sys.stdout, which is None when the program was started with it closed."""
        self._stream = stream

    def write(self, text: str) -> None:
        """Writes and flushes. Raises OutputError or ReaderGone."""
        if self._stream is None:
            raise OutputError("standard output is closed")
        try:
            self._stream.write(text)
            self._stream.flush()
        except OSError as reason:
            self._abandon()
            if reason.errno == errno.EPIPE:
                raise ReaderGone from None
            raise OutputError(f"cannot write to standard output: {reason.strerror}") from None

    def _abandon(self) -> None:
        """Lets what is still buffered go nowhere, or Python would complain once more when it ends."""
        if self._stream is None:
            return
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)


def printable(text: str) -> str:
    """`text` on one line and without control characters, as a name may hold both, and bytes that are no UTF-8."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii")
        for letter in without_surrogates(text)
    )


def without_surrogates(text: str) -> str:
    """`text` as UTF-8 can hold it: bytes of a file's name that are no UTF-8 are written like `\\xe9`."""
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # half of a character, from elsewhere than a file's name
        return text.encode("utf-8", "backslashreplace").decode("utf-8")
