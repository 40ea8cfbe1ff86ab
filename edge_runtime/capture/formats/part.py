"""A file as libsndfile shall see it: stretches of a real one, one after the other, with other bytes in between."""

from __future__ import annotations

import bisect
import io
import itertools
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass

Stretch = tuple[int, int]
"""Where a stretch of the file begins and ends, in bytes."""


@dataclass(frozen=True)
class Part:
    """Sound that libsndfile decodes in one go, and what is known of it.

    `frames` is how many its header promises (0: none); with `promised` those that libsndfile reports are a promise too,
    and no guess. `trouble` says what is wrong with it, which is reported after its sound.
    """

    pieces: Sequence[bytes | Stretch]
    frames: int = 0
    trouble: str = ""
    promised: bool = False


class PartReader(io.RawIOBase):
    """The pieces of a part, to be read like a file. Reading does not move the place of `handle`."""

    def __init__(self, handle: int, pieces: Sequence[bytes | Stretch]) -> None:
        self._handle = handle
        self._pieces = pieces
        sizes = (len(piece) if isinstance(piece, bytes) else piece[1] - piece[0] for piece in pieces)
        self._ends = list(itertools.accumulate(sizes))
        self._place = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._ends[-1] if self._ends else 0}[whence]
        self._place = max(0, base + offset)
        return self._place

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Fills `buffer` as far as there are bytes; gives their number."""
        wanted, filled = len(buffer), 0
        index = bisect.bisect_right(self._ends, self._place)
        while filled < wanted and index < len(self._pieces):
            piece = self._pieces[index]
            before = self._ends[index - 1] if index else 0
            here, left = self._place - before, self._ends[index] - self._place
            size = min(wanted - filled, left)
            if isinstance(piece, bytes):
                data = piece[here : here + size]
            else:
                data = os.pread(self._handle, size, piece[0] + here)
            if not data and size:
                break
            buffer[filled : filled + len(data)] = data
            filled += len(data)
            self._place += len(data)
            if self._place >= self._ends[index]:
                index += 1
        return filled


class Bytes:
    """Short looks at any place of a file, through a buffer, in constant memory."""

    _BUFFER_BYTES = 1 << 17

    def __init__(self, handle: int, start: int, end: int) -> None:
        self.handle = handle
        self.start = start
        self.end = end
        self._from = 0
        self._buffer = b""

    def at(self, place: int, size: int) -> bytes:
        """Up to `size` bytes from `place` on, and none after the end."""
        size = min(size, self.end - place)
        if size <= 0:
            return b""
        here = place - self._from
        if here < 0 or here + size > len(self._buffer):
            self._from = place
            self._buffer = os.pread(self.handle, min(max(size, self._BUFFER_BYTES), self.end - place), place)
            here = 0
        return self._buffer[here : here + size]

    def find(self, pattern: re.Pattern[bytes], place: int, longest: int = 16) -> int:
        """Where `pattern`, of at most `longest` bytes, is met from `place` on; the end where it is not."""
        while place < self.end:
            if not self._from <= place < self._from + len(self._buffer) - longest:
                self._from, self._buffer = (
                    place,
                    os.pread(self.handle, min(self._BUFFER_BYTES, self.end - place), place),
                )
            found = pattern.search(self._buffer, place - self._from)
            if found:
                return self._from + found.start()
            read_to = self._from + len(self._buffer)
            if not self._buffer or read_to >= self.end:
                break
            place = max(place + 1, read_to - longest)
        return self.end
