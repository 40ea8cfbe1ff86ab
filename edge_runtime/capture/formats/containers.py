"""Files of chunks besides WAV: AIFF, CAF, AU and NIST SPHERE; and which family a file belongs to."""

from __future__ import annotations

import math
import struct

from edge_runtime.capture.formats.layout import Family, Start
from edge_runtime.capture.formats.wav import W64_MAGIC, Riff, Wave64, linear
from edge_runtime.capture.pcm import RawFormat
from edge_runtime.errors import InputError

_HIGHEST_RATE = 1e10
_DAMAGED = "its header is damaged"


def family_of(head: bytes) -> Family | None:
    """The family of the file whose first 16 bytes are `head`; None where it is none of ours."""
    if head[:4] in (b"RIFF", b"RF64", b"BW64"):
        return Riff() if len(head) < 12 or head[8:12] == b"WAVE" else None
    if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        return Aiff()
    if len(head) >= 16 and head[:16] == W64_MAGIC:
        return Wave64()
    if head[:4] == b".snd" and len(head) >= 16 and 24 <= int.from_bytes(head[4:8], "big") <= 1 << 16:
        return Au()
    if head[:8] == b"caff\0\1\0\0":
        return Caf()
    if head[:16] == b"NIST_1A\n   1024\n":
        return Sphere()
    return None


class Aiff:
    """AIFF and AIFF-C: chunks of 8 bytes and a body, big-endian, at even places."""

    name = "AIFF"
    preamble_bytes = 12
    head_bytes = 8

    def __init__(self) -> None:
        self._compressed = False
        self._coding: Start | None = None

    def begin(self, preamble: bytes) -> Start | None:
        """FORM, a size, and AIFF or AIFC."""
        self._compressed = preamble[8:12] == b"AIFC"
        return None

    def chunk(self, head: bytes) -> tuple[bytes, int]:
        """A name and a size of 32 bits."""
        return head[:4], int.from_bytes(head[4:8], "big")

    def padding(self, size: int) -> int:
        """To an even place."""
        return size % 2

    def describes(self, name: bytes) -> bool:
        """`COMM`."""
        return name == b"COMM"

    def describe(self, name: bytes, body: bytes) -> None:
        """Channels, frames, bits, the rate as an 80-bit float, and in AIFF-C the coding."""
        if len(body) < 18 or (self._compressed and len(body) < 22):
            raise InputError(_DAMAGED)
        channels, bits, exponent, mantissa = struct.unpack(">h4xhHQ", body[:18])
        try:
            rate = round(math.ldexp(mantissa, (exponent & 0x7FFF) - 16383 - 63))
        except OverflowError:
            rate = 1 << 40
        if channels <= 0 or not rate or exponent & 0x8000:
            raise InputError(_DAMAGED)
        kind = body[18:22] if self._compressed else b"NONE"
        fixed = {
            b"in24": "s24be",
            b"42ni": "s24le",
            b"in32": "s32be",
            b"23ni": "s32le",
            b"fl32": "f32be",
            b"FL32": "f32be",
            b"fl64": "f64be",
            b"FL64": "f64be",
            b"ulaw": "ulaw",
            b"ULAW": "ulaw",
            b"alaw": "alaw",
            b"ALAW": "alaw",
            b"raw ": "u8",
        }
        if kind in fixed:
            self._coding = Start(None, RawFormat(fixed[kind], rate, channels))
        elif kind in (b"NONE", b"twos", b"sowt"):
            order = "le" if kind == b"sowt" else "be"
            width = -(-bits // 8) * channels
            self._coding = linear(bits, width, rate, channels, order=order, signed_bytes=True)
        else:
            self._coding = Start(None, None, coding=f"AIFF-C {kind!r}")

    def sound(self, name: bytes, size: int) -> Start | None:
        """`SSND`."""
        if name != b"SSND":
            return None
        if self._coding is None:
            return Start(size, None, coding="its sound comes before its format", offset=True)
        if size in (0, 0xFFFFFFFF) or size < 8:
            size = 8
        return Start(size, self._coding.form, self._coding.bits, offset=True, coding=self._coding.coding)


class Caf:
    """Apple's Core Audio Format: chunks of 12 bytes and a body, sizes of 64 bits, big-endian."""

    name = "CAF"
    preamble_bytes = 8
    head_bytes = 12

    def __init__(self) -> None:
        self._coding: Start | None = None

    def begin(self, preamble: bytes) -> Start | None:
        """The name and a version."""
        return None

    def chunk(self, head: bytes) -> tuple[bytes, int]:
        """A name and a signed size."""
        return head[:4], int.from_bytes(head[4:12], "big", signed=True)

    def padding(self, size: int) -> int:
        """None."""
        return 0

    def describes(self, name: bytes) -> bool:
        """`desc`."""
        return name == b"desc"

    def describe(self, name: bytes, body: bytes) -> None:
        """Rate, coding, flags, bytes and frames of a packet, channels, bits."""
        if len(body) < 32:
            raise InputError(_DAMAGED)
        rate, kind, flags, packet_bytes, packet_frames, channels, bits = struct.unpack(">d4sIIIII", body[:32])
        if not 1 <= rate <= _HIGHEST_RATE or not 1 <= channels <= 1 << 16:
            raise InputError(_DAMAGED)
        order = "le" if flags & 2 else "be"
        self._coding = Start(None, None, coding=f"CAF {kind!r}")
        if kind in (b"ulaw", b"alaw"):
            self._coding = Start(None, RawFormat(kind.decode(), round(rate), channels))
        elif kind == b"lpcm" and flags & 1 and bits in (32, 64) and packet_bytes * 8 == bits * channels:
            self._coding = Start(None, RawFormat(f"f{bits}{order}", round(rate), channels))
        elif kind == b"lpcm" and not flags & 1 and packet_frames == 1:
            self._coding = linear(bits, packet_bytes, round(rate), channels, order=order, signed_bytes=True)

    def sound(self, name: bytes, size: int) -> Start | None:
        """`data`, which begins with a count of edits; a size of -1 reaches to the end."""
        if name != b"data":
            return None
        if self._coding is None:
            raise InputError("its header is damaged: its sound comes before its format")
        return Start(
            None if size < 0 else max(0, size - 4), self._coding.form, self._coding.bits, 4, coding=self._coding.coding
        )


class Au:
    """Sun's and NeXT's AU, big-endian: a header, and nothing but sound after it."""

    name = "AU"
    preamble_bytes = 24
    head_bytes = 0

    def begin(self, preamble: bytes) -> Start | None:
        """The sound's place and size, coding, rate and channels."""
        place, size, coding, rate, channels = struct.unpack(">5I", preamble[4:24])
        if not rate or not channels:
            raise InputError(_DAMAGED)
        codings = {1: "ulaw", 2: "s8", 3: "s16be", 4: "s24be", 5: "s32be", 6: "f32be", 7: "f64be", 27: "alaw"}
        form = RawFormat(codings[coding], rate, channels) if coding in codings else None
        return Start(None if size == 0xFFFFFFFF else size, form, skip=place - 24, coding=f"AU {coding}")

    def chunk(self, head: bytes) -> tuple[bytes, int]:
        """There are none."""
        raise NotImplementedError

    def padding(self, size: int) -> int:
        """None."""
        return 0

    def describes(self, name: bytes) -> bool:
        """Nothing does."""
        return False

    def describe(self, name: bytes, body: bytes) -> None:
        """Nothing does."""

    def sound(self, name: bytes, size: int) -> Start | None:
        """`begin` said it."""
        return None


class Sphere(Au):
    """NIST SPHERE, as speech corpora have it: a header of 1024 bytes of text, and the sound."""

    name = "SPHERE"
    preamble_bytes = 1024

    def begin(self, preamble: bytes) -> Start | None:
        """Lines `name -type value`."""
        found: dict[str, str] = {}
        for line in preamble.decode("latin-1").splitlines()[2:]:
            words = line.split(maxsplit=2)
            if words[:1] == ["end_head"]:
                break
            if len(words) == 3:
                found[words[0]] = words[2].strip()
        try:
            rate, channels = int(found["sample_rate"]), int(found.get("channel_count", "1"))
            width = int(found.get("sample_n_bytes", "2"))
            size = int(found["sample_count"]) * width * channels if "sample_count" in found else None
        except (KeyError, ValueError):
            raise InputError(_DAMAGED) from None
        coding = found.get("sample_coding", "pcm").lower()
        order = {"01": "le", "10": "be"}.get(found.get("sample_byte_format", "01"), "be")
        names = {("pcm", 2): f"s16{order}", ("pcm", 3): f"s24{order}", ("pcm", 4): f"s32{order}", ("pcm", 1): "s8"}
        names |= {("ulaw", 1): "ulaw", ("mu-law", 1): "ulaw", ("alaw", 1): "alaw", ("a-law", 1): "alaw"}
        name = names.get((coding, width))
        if min(rate, channels) < 1 or (size is not None and size < 0):
            raise InputError(_DAMAGED)
        return Start(size, RawFormat(name, rate, channels) if name else None, coding=f"SPHERE {coding}")
