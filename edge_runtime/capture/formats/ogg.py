"""Ogg: the streams that follow each other in one file, and whether every page of them is there."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from edge_runtime.capture.formats.part import Bytes, Part, Stretch

_PAGE = b"OggS"
_PAGE_BEGINS = re.compile(_PAGE)
_MOST_TORN = 1000
"""Pages that cannot be read, after which the rest is not looked at."""
_HEAD_BYTES = 27
_END_BYTES = 1 << 16
_CONTINUED, _FIRST, _LAST = 1, 2, 4
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
SOUND = {b"\x01vorbis": "Vorbis", b"OpusHead": "Opus"}
"""How the first packet begins of what libsndfile decodes within our process."""


@dataclass
class _Stream:
    """A logical stream of one link of the chain."""

    kind: str
    stretches: list[Stretch] = field(default_factory=list)
    number: int = -1
    gaps: int = 0
    ended: bool = False

    def add(self, page: _Page) -> None:
        self.gaps += page.number != self.number + 1
        self.number = page.number
        self.ended |= bool(page.flags & _LAST)
        if self.stretches and self.stretches[-1][1] == page.start:
            self.stretches[-1] = (self.stretches[-1][0], page.end)
        else:
            self.stretches.append((page.start, page.end))

    @property
    def trouble(self) -> str:
        sound = f"{self.kind} sound" if self.kind else "sound"
        if self.gaps:
            return f"is damaged: parts of its {sound} are missing in {self.gaps} places"
        return "" if self.ended else f"is cut short: its {sound} ends without its last page"

    def part(self) -> Part:
        return Part(self.stretches, trouble=self.trouble)


@dataclass(frozen=True)
class _Page:
    start: int
    end: int
    flags: int
    serial: bytes
    number: int
    body: bytes


def seconds(file: Bytes) -> float | None:
    """How long the file is by the place in time of its last page."""
    first = file.at(file.start, _HEAD_BYTES + 32)[_HEAD_BYTES + 1 :]
    rate = 48000 if first.startswith(b"OpusHead") else int.from_bytes(first[12:16], "little")
    end = file.at(max(file.start, file.end - _END_BYTES), _END_BYTES)
    last = end.rfind(_PAGE)
    if last < 0 or not rate:
        return None
    return int.from_bytes(end[last + 6 : last + 14], "little") / rate


class NotHere(Exception):
    """The file holds no sound of the kinds in SOUND. `trouble` says what is wrong with the streams that it holds."""

    def __init__(self, trouble: str) -> None:
        super().__init__(trouble)
        self.trouble = trouble


def parts(file: Bytes) -> Iterator[Part]:
    """Each link of the chain. Raises NotHere for one without Vorbis and Opus before anything is given."""
    link: dict[bytes, _Stream] = {}
    begun = False
    place, given, torn, troubled = file.start, 0, 0, False
    trouble_of_others = ""
    while place < file.end:
        page = _page(file, place)
        if page is None:
            torn += file.at(place, 4) == _PAGE
            if torn > _MOST_TORN:
                break
            place = file.find(_PAGE_BEGINS, place + 1)
            continue
        place = page.end
        if page.flags & _FIRST:
            if begun:  # another link
                for part in _sound(link):
                    given, troubled = given + 1, troubled or bool(part.trouble)
                    yield part
                trouble_of_others = trouble_of_others or _trouble_of_others(link)
                link, begun = {}, False
            kind = next((SOUND[word] for word in SOUND if page.body.startswith(word)), "")
            link.setdefault(page.serial, _Stream(kind))
        else:
            begun = True
        if page.serial in link:
            link[page.serial].add(page)
    for part in _sound(link):
        given, troubled = given + 1, troubled or bool(part.trouble)
        yield part
    if not given:
        torn_ones = f"is damaged or cut short: {torn} of its pages of Ogg cannot be read" if torn else ""
        raise NotHere(trouble_of_others or _trouble_of_others(link) or torn_ones)
    if torn and not troubled:
        yield Part([], trouble=f"is damaged or cut short: {torn} of its pages of Ogg cannot be read")


def _sound(link: dict[bytes, _Stream]) -> list[Part]:
    """The streams of sound of one time, which come one after the other: other languages or the like."""
    return [stream.part() for stream in link.values() if stream.kind]


def _trouble_of_others(link: dict[bytes, _Stream]) -> str:
    """What is wrong with the streams of a link that other programs decode, which do not say so."""
    return next((stream.trouble for stream in link.values() if not stream.kind and stream.trouble), "")


def _page(file: Bytes, place: int) -> _Page | None:
    """The page at `place`; None where there is none, or a damaged one."""
    head = file.at(place, _HEAD_BYTES)
    if len(head) < _HEAD_BYTES or head[:5] != _PAGE + b"\0":
        return None
    table = file.at(place + _HEAD_BYTES, head[26])
    size = _HEAD_BYTES + len(table) + sum(table)
    whole = file.at(place, size)
    if len(whole) < size or checksum(whole[:22] + bytes(4) + whole[26:]) != int.from_bytes(head[22:26], "little"):
        return None
    return _Page(
        place, place + size, head[5], head[14:18], int.from_bytes(head[18:22], "little"), whole[27 + len(table) :][:8]
    )


def checksum(data: bytes) -> int:
    """Ogg's CRC-32, by zlib's: that one takes the bits of each byte the other way round, and inverts both ends."""
    crc = zlib.crc32(data.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{crc:032b}"[::-1], 2)
