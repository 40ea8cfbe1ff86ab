"""The WAV family: RIFF, and RF64, BW64 and Wave64 for sizes of 4 GB and more."""

from __future__ import annotations

import struct
from dataclasses import replace

from edge_runtime.capture.formats.layout import Start
from edge_runtime.capture.pcm import RawFormat
from edge_runtime.errors import InputError

_PCM, _FLOAT, _ALAW, _ULAW, _EXTENSIBLE = 1, 3, 6, 7, 0xFFFE
_UNKNOWN_SIZES = (range(0x7FFF0000, 0x80010000), range(0xFFFF0000, 0x100000000))
"""Sizes around the greatest signed and unsigned ones, which programs that write to a pipe put: length not known."""
_LONGEST = 1 << 56
_W64_CHUNK = bytes.fromhex("f3acd3118cd100c04f8edb8a")
W64_MAGIC = bytes.fromhex("726966662e91cf11a5d628db04c10000")


class Riff:
    """RIFF, RF64 and BW64: chunks of 8 bytes and a body, little-endian, at even places."""

    name = "WAV"
    preamble_bytes = 12
    head_bytes = 8

    def __init__(self) -> None:
        self._coding: Start | None = None
        self._true_size: int | None = None  # of RF64

    def begin(self, preamble: bytes) -> Start | None:
        """The name and a size that is not looked at: it says no more than that of the sound."""
        if preamble[8:12] != b"WAVE":
            raise InputError("is a RIFF file but no WAV")
        return None

    def chunk(self, head: bytes) -> tuple[bytes, int]:
        """A name and a size of 32 bits."""
        return head[:4], int.from_bytes(head[4:8], "little")

    def padding(self, size: int) -> int:
        """To an even place."""
        return size % 2

    def describes(self, name: bytes) -> bool:
        """`fmt `, and `ds64` with the sizes of 64 bits."""
        return name in (b"fmt ", b"ds64")

    def describe(self, name: bytes, body: bytes) -> None:
        """Takes one of them. Raises InputError for a format that cannot be."""
        if name == b"fmt ":
            self._coding = read_format(body)
        elif len(body) >= 16:
            self._true_size = int.from_bytes(body[8:16], "little")

    def sound(self, name: bytes, size: int) -> Start | None:
        """`data`."""
        if name != b"data":
            return None
        known: int | None = size
        if any(size in sizes for sizes in _UNKNOWN_SIZES):
            known = None
            if size == 0xFFFFFFFF and self._true_size is not None and self._true_size < _LONGEST:
                known = self._true_size
                if any(known in sizes for sizes in _UNKNOWN_SIZES[1:]):
                    known = None
        return _start(self._coding, known)


class Wave64:
    """Sony's Wave64: chunks of a GUID, a size of 64 bits that counts itself, and a body, at multiples of 8."""

    name = "Wave64"
    preamble_bytes = 40
    head_bytes = 24

    def __init__(self) -> None:
        self._coding: Start | None = None

    def begin(self, preamble: bytes) -> Start | None:
        """The name, a size and the kind."""
        if preamble[24:28].lower() != b"wave":
            raise InputError("is a Wave64 file but no WAV")
        return None

    def chunk(self, head: bytes) -> tuple[bytes, int]:
        """The name is in the first four bytes of the GUID."""
        size = int.from_bytes(head[16:24], "little") - 24
        if head[4:16] != _W64_CHUNK and head[:4] != b"LIST" and head[:4] != b"list":
            return b"\0\0\0\0", min(size, _LONGEST)
        if head[:4] == b"data" and not size < _LONGEST:
            size = _LONGEST
        return head[:4], min(size, _LONGEST)

    def padding(self, size: int) -> int:
        """To a multiple of 8."""
        return -size % 8

    def describes(self, name: bytes) -> bool:
        """`fmt `."""
        return name == b"fmt "

    def describe(self, name: bytes, body: bytes) -> None:
        """Takes it. Raises InputError for a format that cannot be."""
        self._coding = read_format(body)

    def sound(self, name: bytes, size: int) -> Start | None:
        """`data`; a size of all ones, or below that of the chunk's head, was never written."""
        if name != b"data":
            return None
        if size == _LONGEST:
            return _start(self._coding, None)
        return _start(self._coding, max(0, size))


def _start(coding: Start | None, size: int | None) -> Start:
    if coding is None:
        raise InputError("the WAV's header is damaged: its sound comes before its format")
    return replace(coding, size=size)


def read_format(body: bytes) -> Start:
    """The coding that a `fmt ` chunk's body announces, as a Start without a size.

    Raises InputError for damage. Codecs, and containers that hold no samples as we know them, have no form.
    """
    if len(body) < 16:
        raise InputError("the WAV's header is damaged")
    tag, channels, rate, _bytes_per_second, frame_bytes, bits = struct.unpack("<HHIIHH", body[:16])
    valid = 0
    if tag == _EXTENSIBLE and len(body) >= 26:
        valid, tag = struct.unpack("<H4xH", body[18:26])
    other = Start(None, None, coding=f"tag {tag}, {bits} bits")
    if tag not in (_PCM, _FLOAT, _ALAW, _ULAW):
        return other
    if not rate or not channels or not frame_bytes:
        raise InputError("the WAV's header is damaged: its rate, channels and bytes of a sample must not be 0")
    if tag in (_ALAW, _ULAW):
        if bits != 8 or frame_bytes != channels:
            return other
        return Start(None, RawFormat("alaw" if tag == _ALAW else "ulaw", rate, channels))
    if tag == _FLOAT and bits in (32, 64):
        if frame_bytes * 8 != bits * channels:
            raise InputError(f"the WAV's header is damaged: floats of {bits} bits in {frame_bytes} bytes")
        return Start(None, RawFormat(f"f{bits}le", rate, channels))
    if tag != _PCM:
        return other
    start = linear(bits, frame_bytes, rate, channels)
    if start.form and not start.bits and bits in (16, 24, 32) and 8 <= valid < bits:
        return replace(start, bits=valid, at_top=True)  # the standard puts them there; not all who write do
    return start


def linear(
    bits: int, frame_bytes: int, rate: int, channels: int, *, order: str = "le", signed_bytes: bool = False
) -> Start:
    """Integers of `bits` in `frame_bytes` for all channels, as a Start without a size.

    In a container no wider than whole bytes need be, samples lie at the top; in a wider one the samples tell.
    Raises InputError where that cannot be.
    """
    width, odd = divmod(frame_bytes, channels)
    needed = -(-bits // 8)
    if not 1 <= bits <= 32 or odd or width < needed or width > 4 or (needed == 1 and width > 1):
        raise InputError(
            f"its header is damaged or of a kind that is not read: samples of {bits} bits, {frame_bytes} bytes for "
            f"{channels} channel{'s' if channels > 1 else ''}; convert it to 16-bit WAV first"
        )
    names = {1: "s8" if signed_bytes else "u8", 2: "s16" + order, 3: "s24" + order, 4: "s32" + order}
    return Start(None, RawFormat(names[width], rate, channels), bits=bits if width > needed else 0)
