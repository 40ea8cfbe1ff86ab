"""Bytes to samples: raw PCM and WAV as they come out of a pipe, in pieces of any size."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import InputError

ENCODINGS = {
    "u8": ("u1", 128.0),
    "s8": ("i1", 128.0),
    "s16le": ("<i2", 32768.0),
    "s16be": (">i2", 32768.0),
    "s24le": ("<i3", 2147483648.0),
    "s24be": (">i3", 2147483648.0),
    "s32le": ("<i4", 2147483648.0),
    "s32be": (">i4", 2147483648.0),
    "f32le": ("<f4", 1.0),
    "f32be": (">f4", 1.0),
    "f64le": ("<f8", 1.0),
    "f64be": (">f8", 1.0),
}
"""Encoding -> (numpy type, or i3 for packed 24 bits; the value of full scale once read)."""

_WAVE_PCM, _WAVE_FLOAT, _WAVE_EXTENSIBLE = 1, 3, 0xFFFE
_OPEN_ENDED = 0x7FFF0000  # programs that write to a pipe put 0 or a size from here on: length not known
_LARGEST_FMT = 4096


@dataclass(frozen=True)
class RawFormat:
    """How headerless sound is written: encoding (a key of ENCODINGS), rate in Hz, interleaved channels."""

    encoding: str
    rate: int
    channels: int

    @property
    def frame_bytes(self) -> int:
        """Bytes of one sample of all channels."""
        return int(ENCODINGS[self.encoding][0][-1]) * self.channels


def decode(data: bytes, form: RawFormat) -> NDArray[np.float32]:
    """Whole frames to float32 [frames, channels], full scale 1.0."""
    kind, full_scale = ENCODINGS[form.encoding]
    if kind.endswith("i3"):
        packed = np.frombuffer(data, dtype=np.uint8).reshape(-1, 3)
        wide = np.zeros((len(packed), 4), dtype=np.uint8)
        if kind[0] == "<":
            wide[:, 1:] = packed
        else:
            wide[:, :3] = packed
        values = wide.view(kind[0] + "i4")[:, 0].astype(np.float64)
    else:
        values = np.frombuffer(data, dtype=kind).astype(np.float64)
    if form.encoding == "u8":
        values -= 128.0
    with np.errstate(over="ignore", invalid="ignore"):
        return (values / full_scale).astype(np.float32).reshape(-1, form.channels)


class RawParser:
    """Headerless sound: every byte is sound, a frame that is cut waits for its rest."""

    def __init__(self, form: RawFormat, limit_bytes: int | None = None) -> None:
        """`limit_bytes` ends the sound there (a WAV's data chunk); None reads on to the end."""
        self.form: RawFormat | None = form
        self._form = form
        self._left = limit_bytes
        self._rest = b""

    @property
    def done(self) -> bool:
        """True when the announced length has been read."""
        return self._left == 0

    @property
    def rest_bytes(self) -> int:
        """Bytes that wait for the rest of their frame."""
        return len(self._rest)

    def feed(self, data: bytes) -> NDArray[np.float32]:
        """Takes bytes of any number, gives the whole frames so far, float32 [frames, channels]."""
        if self._left is not None:
            data = data[: self._left]
            self._left -= len(data)
        data = self._rest + data
        whole = len(data) - len(data) % self._form.frame_bytes
        self._rest = data[whole:]
        return decode(data[:whole], self._form)

    def finish(self) -> None:
        """Tells that the bytes ended. Raises InputError when more had been announced."""
        if self._left:
            missing = self._left / self._form.frame_bytes / self._form.rate
            raise InputError(f"the WAV is cut short: {missing:.2f} s that its header announces are missing")


class WavParser:
    """A WAV (RIFF, or RF64 for big ones) that arrives in pieces; needs no seeking.

    Knows PCM of 8 to 32 bits and float of 32 and 64, plain or `extensible`; skips chunks before the sound.
    A data size of 0 or of 2 GB and more, written by programs that do not know the length, means "to the end".
    """

    def __init__(self) -> None:
        self.form: RawFormat | None = None
        self._buffer = b""
        self._skip = 0
        self._in_chunks = False
        self._body: RawParser | None = None

    @property
    def done(self) -> bool:
        """True when the announced length has been read."""
        return self._body is not None and self._body.done

    def feed(self, data: bytes) -> NDArray[np.float32]:
        """Takes bytes of any number, gives their frames, float32 [frames, channels].

        Raises InputError when this is no WAV, or one of a kind that is not read from a pipe.
        """
        if self._body is not None:
            return self._body.feed(data)
        self._buffer += data
        self._read_header()
        if self._body is None:
            return np.zeros((0, 1), dtype=np.float32)
        sound, self._buffer = self._buffer, b""
        return self._body.feed(sound)

    def finish(self) -> None:
        """Tells that the bytes ended. Raises InputError when they ended too early."""
        if self._body is None:
            if not self._in_chunks and not self._buffer:
                raise InputError("no sound came: the input is empty")
            raise InputError("the input ended inside the WAV's header, before any sound")
        self._body.finish()

    def _read_header(self) -> None:
        if not self._in_chunks:
            if not any(magic.startswith(self._buffer[:4]) for magic in (b"RIFF", b"RF64")):
                raise InputError(
                    "the piped input is no WAV: convert it first, or say what raw sound it is with "
                    "--raw s16le --rate 16000 --channels 1"
                )
            if len(self._buffer) < 12:
                return
            if self._buffer[8:12] != b"WAVE":
                raise InputError("the piped input is a RIFF file but no WAV")
            self._buffer = self._buffer[12:]
            self._in_chunks = True
        while True:
            skipped = self._buffer[: self._skip]
            self._buffer = self._buffer[len(skipped) :]
            self._skip -= len(skipped)
            if self._skip or len(self._buffer) < 8:
                return
            name, size = struct.unpack("<4sI", self._buffer[:8])
            if name == b"data":
                self._start(size)
                return
            if name == b"fmt ":
                if size > _LARGEST_FMT:
                    raise InputError("the WAV's header is damaged")
                if len(self._buffer) < 8 + size:
                    return
                self.form = read_format(self._buffer[8 : 8 + size])
            self._buffer = self._buffer[8:]
            self._skip = size + size % 2

    def _start(self, size: int) -> None:
        if self.form is None:
            raise InputError("the WAV's header is damaged: its sound comes before its format")
        known = 0 < size < _OPEN_ENDED
        self._body = RawParser(self.form, size if known else None)
        self._buffer = self._buffer[8:]


def read_format(body: bytes) -> RawFormat:
    """The format that a `fmt ` chunk's body announces. Raises InputError for damage and other codecs."""
    if len(body) < 16:
        raise InputError("the WAV's header is damaged")
    tag, channels, rate, _bytes_per_second, frame_bytes, bits = struct.unpack("<HHIIHH", body[:16])
    if tag == _WAVE_EXTENSIBLE and len(body) >= 26:
        (tag,) = struct.unpack("<H", body[24:26])
    names = {
        (_WAVE_PCM, 8): "u8",
        (_WAVE_PCM, 16): "s16le",
        (_WAVE_PCM, 24): "s24le",
        (_WAVE_PCM, 32): "s32le",
        (_WAVE_FLOAT, 32): "f32le",
        (_WAVE_FLOAT, 64): "f64le",
    }
    if (tag, bits) not in names:
        raise InputError(
            f"the WAV's coding (tag {tag}, {bits} bits) is not read from a pipe: give the file's name, "
            "or convert it to 16-bit PCM first"
        )
    form = RawFormat(names[tag, bits], rate, channels)
    if not rate or not channels or frame_bytes != form.frame_bytes:
        raise InputError("the WAV's header is damaged")
    return form


def announced_bytes(header: bytes) -> int | None:
    """Where the header of a WAV file says that its sound ends, in bytes from the start; None if it does not.

    `header` is the file's beginning, as much of it as is at hand.
    """
    if header[:4] != b"RIFF" or header[8:12] != b"WAVE":
        return None
    position = 12
    while position + 8 <= len(header):
        name, size = struct.unpack("<4sI", header[position : position + 8])
        if name == b"data":
            return position + 8 + size if 0 < size < _OPEN_ENDED else None
        position += 8 + size + size % 2
    return None
