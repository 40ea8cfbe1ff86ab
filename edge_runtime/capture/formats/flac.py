"""FLAC: several in one file, and whether the last frame is whole and where it ends."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator

from edge_runtime.capture.formats.part import Bytes, Part

_BEGINNING = re.compile(rb"fLaC[\0\x80]\0\0\x22")  # 0x80 where no other metadata follows
_INFO_BYTES = 26  # up to the checksum of the sound
_TAIL_BYTES = 1 << 18
_MOST_CANDIDATES = 32
_MOST_BLOCKS = 1000
"""Of metadata."""
_LEAST_BLOCK = 16


def parts(file: Bytes, tail_bytes: int) -> Iterator[Part]:
    """Each FLAC of the file. `tail_bytes` at its end are tags."""
    starts = [file.start]
    while (place := file.find(_BEGINNING, starts[-1] + 1)) < file.end:
        starts.append(place)
    for start, end in zip(starts, [*starts[1:], file.end - tail_bytes], strict=True):
        yield _part(file, start, end)


def _part(file: Bytes, start: int, end: int) -> Part:
    info = file.at(start, _INFO_BYTES)
    if len(info) < _INFO_BYTES:
        return Part([(start, end)])
    rate = int.from_bytes(info[18:21], "big") >> 4
    announced = int.from_bytes(info[21:26], "big") & ((1 << 36) - 1)
    block = int.from_bytes(info[8:10], "big")
    first = _fixed_block(file, start)
    wrong_block = _LEAST_BLOCK <= first != block
    if wrong_block:  # by which libFLAC places the frames, and fills what lies between with zeros
        block = first
        info = info[:8] + 2 * first.to_bytes(2, "big") + info[12:]
    tail = max(start, end - _TAIL_BYTES)
    last = last_frame_end(file.at(tail, end - tail), block)
    if announced and (last is None or last <= announced):
        return Part([info, (start + _INFO_BYTES, end)] if wrong_block else [(start, end)], announced)
    trouble = ""
    if last is None and rate:
        trouble = "is cut short or damaged: its last frame of FLAC is not whole"
    # A number that says too little would end the sound there: none means to the end.
    open_ended = info[:21] + bytes([info[21] & 0xF0]) + bytes(4)
    return Part([open_ended, (start + _INFO_BYTES, end)], trouble=trouble)


def _fixed_block(file: Bytes, start: int) -> int:
    """Samples of the first frame, which all but the last have in a stream that counts frames; 0 where it is none."""
    place = start + 4
    for _ in range(_MOST_BLOCKS):
        head = file.at(place, 4)
        place += 4 + int.from_bytes(head[1:], "big")
        if len(head) < 4 or head[0] & 0x80:
            break
    frame = file.at(place, 16)
    return 0 if len(frame) < 6 or frame[0] != 0xFF or frame[1] & 1 else min(_header(frame, 0) or 0, 0xFFFF)


def seconds(file: Bytes) -> float | None:
    """How long its header says that the first FLAC is."""
    info = file.at(file.start, _INFO_BYTES)
    rate = int.from_bytes(info[18:21], "big") >> 4
    return (int.from_bytes(info[21:26], "big") & ((1 << 36) - 1)) / rate if rate else None


def last_frame_end(tail: bytes, block_samples: int) -> int | None:
    """The sample after the last frame, if a whole one ends with `tail`; else None.

    `block_samples` is what a frame holds in streams that count frames and not samples.
    """
    place, candidates = len(tail), 0
    while candidates < _MOST_CANDIDATES:
        place = tail.rfind(b"\xff", 0, place)
        if place < 0:
            return None
        found = _header(tail[place : place + 16], block_samples)
        if found is not None:
            candidates += 1
            if _crc16(tail[place:]) == 0:
                return found
    return None


def _header(head: bytes, block_samples: int) -> int | None:
    """The sample after the frame that `head` begins; None where it is no frame's header."""
    if len(head) < 6 or head[1] & 0xFE != 0xF8 or head[3] & 1 or head[2] & 0xF0 == 0 or head[2] & 0x0F == 0x0F:
        return None
    first, place = head[4], 5
    more = 0 if first < 0x80 else 8 - (first ^ 0xFF).bit_length() - 1
    if first >= 0x80 and not 1 <= more <= 6:
        return None
    number = first if not more else first & ((1 << (6 - more)) - 1)
    for byte in head[place : place + more]:
        if byte & 0xC0 != 0x80:
            return None
        number = number << 6 | byte & 0x3F
    place += more
    code = head[2] >> 4
    if code in (6, 7):
        size = int.from_bytes(head[place : place + code - 5], "big") + 1
        place += code - 5
    else:
        size = 192 if code == 1 else 576 << (code - 2) if code < 6 else 256 << (code - 8)
    place += {12: 1, 13: 2, 14: 2}.get(head[2] & 0x0F, 0)
    if place >= len(head) or _crc8(head[:place]) != head[place]:
        return None
    return (number if head[1] & 1 else number * block_samples) + size


def _crc8(data: bytes) -> int:
    value = 0
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = (value << 1 ^ 0x07) & 0xFF if value & 0x80 else value << 1
    return value


@functools.cache
def _crc16_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        value = byte << 8
        for _ in range(8):
            value = (value << 1 ^ 0x8005) & 0xFFFF if value & 0x8000 else value << 1
        table.append(value)
    return tuple(table)


def _crc16(data: bytes) -> int:
    table, value = _crc16_table(), 0
    for byte in data:
        value = (value << 8 & 0xFFFF) ^ table[value >> 8 ^ byte]
    return value
