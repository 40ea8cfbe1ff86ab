"""What stands around sound and is none: ID3, APE and Lyrics3 tags, recognized by how they begin."""

from __future__ import annotations

LOOK_BYTES = 32
"""Enough of a beginning to recognize each."""
_ID3V1_BYTES = 128
_APE_HEAD_BYTES = 32


def id3v2_bytes(head: bytes) -> int:
    """The size of the ID3v2 tag that `head` begins with, its header included; 0 where there is none."""
    if head[:3] != b"ID3" or len(head) < 10 or head[3] == 0xFF or max(head[6:10]) > 0x7F:
        return 0
    size = head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9]
    return 10 + size + (10 if head[5] & 0x10 else 0)


def tag_bytes(head: bytes) -> int:
    """The size of the tag that `head` begins with; 0 where it begins with none.

    An APE tag without a header shows only at its end: see `without_tags`.
    """
    if head[:3] == b"TAG":
        return _ID3V1_BYTES
    if head[:8] == b"APETAGEX" and len(head) >= 16:
        has_header = len(head) >= 24 and head[23] & 0x20  # this is the header: the size counts all but it
        return int.from_bytes(head[12:16], "little") + (_APE_HEAD_BYTES if has_header else 0) or _APE_HEAD_BYTES
    return id3v2_bytes(head)


def without_tags(end: bytes) -> int:
    """How many of the last bytes of a file, `end`, are tags: ID3v1, Lyrics3 and APE, in any order and number."""
    left = len(end)
    while left > 0:
        here = end[:left]
        if left >= _ID3V1_BYTES and here[-_ID3V1_BYTES:][:3] == b"TAG":
            left -= _ID3V1_BYTES
        elif here[-9:] == b"LYRICS200" and here[-15:-9].isdigit():
            left -= min(left, int(here[-15:-9]) + 15)
        elif here[-9:] == b"LYRICSEND" and here.rfind(b"LYRICSBEGIN") >= 0:
            left = here.rfind(b"LYRICSBEGIN")
        elif here[-32:-24] == b"APETAGEX":
            size = int.from_bytes(here[-20:-16], "little") + (_APE_HEAD_BYTES if here[-9] & 0x80 else 0)
            if not _APE_HEAD_BYTES <= size <= left:
                break
            left -= size
        else:
            break
    return len(end) - left
