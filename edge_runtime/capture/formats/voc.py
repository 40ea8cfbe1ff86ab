"""Creative's VOC: whether its blocks are whole and end with the file, which neither libsndfile nor ffmpeg says."""

from __future__ import annotations

from edge_runtime.capture.formats.part import Bytes

MAGIC = b"Creative Voice File\x1a"
_MOST_BLOCKS = 100_000
_HEAD_BYTES = 4
_LEAST_FOREIGN_BYTES = 16


def trouble(file: Bytes) -> str:
    """What is wrong with the sizes of a file that begins with MAGIC, for people; empty where they are right."""
    place = file.start + int.from_bytes(file.at(file.start + len(MAGIC), 2), "little")
    for _ in range(_MOST_BLOCKS):
        head = file.at(place, _HEAD_BYTES)
        if not head:
            return ""  # the last block's terminator is often left out
        if head[0] == 0:
            rest = file.end - place - 1
            varies = any(file.at(place + 1, 1 << 16))
            return f"{rest} bytes follow its end, and were not read as they are meant: split it there" * (
                varies and rest >= _LEAST_FOREIGN_BYTES
            )
        place += _HEAD_BYTES + int.from_bytes(head[1:4], "little")
        if len(head) < _HEAD_BYTES or place > file.end:
            return f"the VOC is cut short: {max(1, place - file.end)} bytes that its header announces are missing"
    return f"is damaged: more than {_MOST_BLOCKS} blocks of VOC follow each other in it"
