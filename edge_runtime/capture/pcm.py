"""Bytes to samples: PCM of every width, and the parser of sound that has no header."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import InputError

Samples = NDArray[np.float32]
Piece = tuple[int, Samples]
"""A rate in Hz and frames at it, float32 [frames, channels]."""

ENCODINGS = {
    "u8": ("u1", 128.0),
    "s8": ("i1", 128.0),
    "s16le": ("<i2", 32768.0),
    "s16be": (">i2", 32768.0),
    "s24le": ("<i3", 2147483648.0),
    "s24be": (">i3", 2147483648.0),
    "s24le-in-32": ("<i4", 2147483648.0),
    "s24be-in-32": (">i4", 2147483648.0),
    "s32le": ("<i4", 2147483648.0),
    "s32be": (">i4", 2147483648.0),
    "f32le": ("<f4", 1.0),
    "f32be": (">f4", 1.0),
    "f64le": ("<f8", 1.0),
    "f64be": (">f8", 1.0),
    "ulaw": ("u1", 32768.0),
    "alaw": ("u1", 32768.0),
}
"""Encoding -> (numpy type, or i3 for packed 24 bits; the value of full scale once read)."""

LOW_BITS = {"s24le-in-32": 24, "s24be-in-32": 24}
"""Encodings whose samples fill only so many low bits of their container, as ALSA's S24_LE does."""

LOWEST_RATE, HIGHEST_RATE = 1_000, 10_000_000
"""Hz. Below, nothing of speech is left and each byte would become many samples; above, no converter is built."""
MOST_CHANNELS = 1024


@dataclass(frozen=True)
class RawFormat:
    """How headerless sound is written: encoding (a key of ENCODINGS), rate in Hz, interleaved channels.

    `low_bits` are the bits of a sample that lies at the low end of a wider container; 0 where samples fill it from
    the top, or where the encoding says it.
    """

    encoding: str
    rate: int
    channels: int
    low_bits: int = 0

    @property
    def sample_bytes(self) -> int:
        """Bytes of one sample of one channel."""
        return int(ENCODINGS[self.encoding][0][-1])

    @property
    def frame_bytes(self) -> int:
        """Bytes of one sample of all channels."""
        return self.sample_bytes * self.channels

    def seconds(self, size: int) -> float:
        """How long `size` bytes of it last."""
        return size / self.frame_bytes / self.rate


def check_limits(rate: int, channels: int) -> None:
    """Raises InputError for a rate or a number of channels that no recording of speech has."""
    if not LOWEST_RATE <= rate <= HIGHEST_RATE:
        raise InputError(
            f"its header claims a rate of {rate} Hz: rates from {LOWEST_RATE} to {HIGHEST_RATE} Hz are read "
            "(a damaged header, or no sound)"
        )
    if not 1 <= channels <= MOST_CHANNELS:
        raise InputError(f"its header claims {channels} channels: from 1 to {MOST_CHANNELS} are read")


def integers(data: bytes, kind: str, low_bits: int = 0) -> NDArray[np.int32]:
    """Signed integers of `kind`, those of three bytes at the top of four, moved up where they fill `low_bits` only."""
    if not kind.endswith("i3"):
        values = np.frombuffer(data, dtype=kind).astype(np.int32)
        width = 8 * int(kind[-1])
    else:
        packed = np.frombuffer(data, dtype=np.uint8).reshape(-1, 3)
        wide = np.zeros((len(packed), 4), dtype=np.uint8)
        if kind[0] == "<":
            wide[:, 1:] = packed
        else:
            wide[:, :3] = packed
        values = wide.view(kind[0] + "i4")[:, 0].astype(np.int32)
        width = 24
    if not low_bits:
        return values
    # What stands above them may be anything, and falls off the top.
    up = 32 - low_bits - (8 if width == 24 else 0)
    return (values << up) >> (32 - width) if width < 24 else values << up


def decode(data: bytes, form: RawFormat) -> Samples:
    """Whole frames to float32 [frames, channels], full scale 1.0."""
    kind, full_scale = ENCODINGS[form.encoding]
    with np.errstate(over="ignore", invalid="ignore"):
        return (_values(data, form, kind) / full_scale).astype(np.float32).reshape(-1, form.channels)


def _values(data: bytes, form: RawFormat, kind: str) -> NDArray[np.float64]:
    if form.encoding in ("ulaw", "alaw"):
        return _companded(form.encoding)[np.frombuffer(data, dtype=np.uint8)]
    if "f" in kind or "u" in kind:
        values = np.frombuffer(data, dtype=kind).astype(np.float64)
        return values - 128.0 if form.encoding == "u8" else values
    return integers(data, kind, form.low_bits or LOW_BITS.get(form.encoding, 0)).astype(np.float64)


@functools.cache
def _companded(law: str) -> NDArray[np.float64]:
    """ITU-T G.711: the 256 values of mu-law or A-law, of 16 bits."""
    code = np.arange(256)
    if law == "ulaw":
        code = ~code & 0xFF
        size = (((code & 0x0F) << 3) + 0x84 << ((code & 0x70) >> 4)) - 0x84
        negative = (code & 0x80) != 0
    else:
        code = code ^ 0x55
        exponent = (code & 0x70) >> 4
        step = ((code & 0x0F) << 4) + np.where(exponent == 0, 8, 0x108)
        size = step << np.maximum(exponent - 1, 0)
        negative = (code & 0x80) == 0
    return np.where(negative, -size, size).astype(np.float64)


class RawParser:
    """Headerless sound: every byte is sound, a frame that is cut waits for its rest."""

    def __init__(self, form: RawFormat) -> None:
        self.form = form
        self._rest = b""

    def push(self, data: bytes) -> Iterator[Piece]:
        """Takes bytes of any number, gives the whole frames so far."""
        data = self._rest + data
        whole = len(data) - len(data) % self.form.frame_bytes
        self._rest = data[whole:]
        if whole:
            yield self.form.rate, decode(data[:whole], self.form)

    @property
    def rest_bytes(self) -> int:
        """Bytes that wait for the rest of their frame."""
        return len(self._rest)

    def flush(self) -> Iterator[Piece]:
        """The bytes ended: nothing is held back."""
        yield from ()
