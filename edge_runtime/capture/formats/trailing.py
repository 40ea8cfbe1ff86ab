"""What may stand after the announced end of a file's sound: metadata, padding, and the beginning of another file."""

from __future__ import annotations

import re

import numpy as np

HEAD_BYTES = 16
"""Of a file's beginning: enough to know its family, and to be sure that a WAV begins within sound."""
_LARGEST_UNKNOWN = 1 << 24
_PLAUSIBLE = re.compile(rb"[A-Za-z_(][A-Za-z0-9_ .()-]{3}")
_METADATA_NAMES = (
    b"LISTlistINFOinfoJUNKjunkPAD FLLRFakefilrfreebextiXMLaxmlaXMLchnaumidubxtlevllinkfactPEAKpeakDISPplstlablnoteltxt"
    b"afspacidcartinstsmplstrctlstminfelm1regnLGWVResUAFAnSNDM_PMXXMP id3 ID3 MARKINSTMIDIAESDAPPLCOMTNAMEAUTH(c) ANNO"
    b"FVERSAURCOMMstrgmarkuuidkukipaktchanedctovvwuinfmidicue slntwavlds64r64m"
)
_METADATA = frozenset(_METADATA_NAMES[place : place + 4] for place in range(0, len(_METADATA_NAMES), 4))
OTHER_FILES = (b"fLaC\0", b"OggS\0", b"\x1aE\xdf\xa3", b"MAC ", b"wvpk", b"#!AMR")
"""How files begin whose sound cannot be read on from within another."""


def is_metadata(name: bytes) -> bool:
    """Whether a chunk of that name is known to hold no sound."""
    return name in _METADATA


def may_be_chunk(name: bytes, size: int) -> bool:
    """Whether a name and a size look like a chunk's: programs invent names of their own."""
    return size >= 0 and (is_metadata(name) or (size <= _LARGEST_UNKNOWN and bool(_PLAUSIBLE.fullmatch(name))))


class Buffer:
    """Bytes that came and were not used yet. Looking and taking cost what is looked at and taken, not what is there."""

    def __init__(self) -> None:
        self._data = b""
        self._at = 0

    def __len__(self) -> int:
        return len(self._data) - self._at

    def add(self, data: bytes) -> None:
        """Puts `data` behind what is there."""
        self._data = self._data[self._at :] + data
        self._at = 0

    def look(self, size: int, place: int = 0) -> bytes:
        """Up to `size` bytes from `place` on."""
        return self._data[self._at + place : self._at + place + size]

    def take(self, size: int) -> bytes:
        """The same from the beginning on, which are gone then."""
        taken = self.look(size)
        self._at += len(taken)
        return taken

    def drop(self, size: int) -> int:
        """Drops up to `size` bytes; gives their number."""
        size = min(size, len(self))
        self._at += size
        return size

    def zeros(self) -> int:
        """How many zeros come first: quick, since a file may hold gigabytes of them."""
        if not len(self) or self._data[self._at]:
            return 0
        if not np.frombuffer(self._data, dtype=np.uint8, offset=self._at).any():
            return len(self)
        found = _NOT_ZERO.search(self._data, self._at)
        return found.start() - self._at if found else len(self)

    def beginning(self, ended: bool) -> tuple[int, bool]:
        """The place up to which no WAV begins, and whether one surely begins there.

        Where it is not sure, the last bytes may be a beginning whose rest is still to come, unless the input `ended`.
        """
        data = self._data
        kind = data.find(_KIND, self._at + _KIND_PLACE)
        while kind >= 0:
            if _BEGINNING.match(data, kind - _KIND_PLACE):
                return kind - _KIND_PLACE - self._at, True
            kind = data.find(_KIND, kind + 1)
        if not ended:
            for place in range(max(0, len(self) - HEAD_BYTES + 1), len(self)):
                rest = self.look(HEAD_BYTES, place)
                if any(magic.startswith(rest[:4]) for magic in _MAGIC) and _KIND.startswith(rest[_KIND_PLACE:12]):
                    return place, False
        return len(self), False


_NOT_ZERO = re.compile(rb"[^\0]")
_BEGINNING = re.compile(rb"(?:RIFF|RF64|BW64)[\0-\xff]{4}WAVE(?:fmt |ds64|JUNK|junk|LIST|bext|FLLR|PAD |iXML|fact)")
_KIND, _KIND_PLACE = b"WAVE", 8
_MAGIC = (b"RIFF", b"RF64", b"BW64")
