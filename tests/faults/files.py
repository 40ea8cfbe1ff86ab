"""Sound files and pipes."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import soundfile

from tests.faults.case import Case
from tests.sounds import fmt, riff

_RATE = 16000
_NOISE = np.random.default_rng(0).uniform(-0.3, 0.3, 5 * _RATE)
_S16 = (_NOISE * 32767).astype("<i2").tobytes()
_MONO16 = fmt(1, 1, _RATE, 16)


def _written(kind: str, subtype: str | None = None) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, _NOISE, _RATE, subtype, format=kind)
    return file.getvalue()


def _file(data: Callable[[], bytes], name: str = "clip", *more: str) -> Callable[[Path], Sequence[str]]:
    """Arguments that score a file of those bytes."""

    def write(folder: Path) -> Sequence[str]:
        (folder / name).write_bytes(data())
        return ["--file", name, *more]

    return write


def _pipe(folder: Path) -> Sequence[str]:
    return ["--file", "-"]


def _flac_bomb() -> bytes:
    """64 KB of frames of one value each that claim to be 65,535 samples of 8 channels: hours of sound."""
    head = b"fLaC\x80\0\0\x22" + struct.pack(">HH", 65535, 65535) + bytes(6)
    head += ((_RATE << 44) | (7 << 41) | (15 << 36)).to_bytes(8, "big") + bytes(16)
    frames = []
    for number in range(1500):
        coded = bytes([number]) if number < 128 else bytes([0xC0 | number >> 6, 0x80 | number & 0x3F])
        frame = b"\xff\xf8\x75\x78" + coded + b"\xff\xfe" if number < 2048 else b""
        frame += bytes([_crc(frame, 8, 0x07)]) + b"\0\0\x10" * 8
        frames.append(frame + _crc(frame, 16, 0x8005).to_bytes(2, "big"))
    return head + b"".join(frames)


def _wide() -> bytes:
    """Samples at the low end of their containers, then at the top."""
    quiet, loud = 1000 * np.tile(_NOISE, 4), 2**31 * _NOISE
    return riff(fmt(1, 1, _RATE, 24, 4), quiet.astype("<i4").tobytes() + loud.astype("<i4").tobytes())


def _crc(data: bytes, bits: int, polynomial: int) -> int:
    value, top = 0, 1 << (bits - 1)
    for byte in data:
        value ^= byte << (bits - 8)
        for _ in range(8):
            value = ((value << 1) ^ (polynomial if value & top else 0)) & ((1 << bits) - 1)
    return value


def _sds() -> bytes:
    data = bytearray(_written("SDS", "PCM_16"))
    for place in range(21, len(data), 127):
        data[place] ^= 0x55
    return bytes(data)


CASES = [
    Case(
        "a WAV that announces 1 Hz, 64 KB on a pipe",
        _pipe,
        3,
        "a rate of 1 Hz",
        stdin=lambda _: riff(fmt(1, 1, 1, 16), bytes(1 << 16)),
    ),
    Case("a WAV that announces 4 GHz", _file(lambda: riff(fmt(1, 1, 4_000_000_000, 16), _S16)), 3, "4000000000 Hz"),
    Case(
        "a WAV that announces 65,535 channels, on a pipe",
        _pipe,
        3,
        "65535 channels",
        stdin=lambda _: riff(fmt(1, 65535, _RATE, 8), _S16),
    ),
    Case(
        "a WAV whose samples are 0 bytes long", _file(lambda: riff(fmt(1, 1, _RATE, 16, 0), _S16)), 3, "must not be 0"
    ),
    Case(
        "a FLAC of 50 KB that unpacks to 1.7 h of 8 channels",
        _file(_flac_bomb, "bomb.flac", "--duration", "60"),
        0,
        "60.0 s",
    ),
    Case(
        "a WAV whose size says half of its sound", _file(lambda: riff(_MONO16, _S16, size=len(_S16) // 2)), 0, "5.0 s"
    ),
    Case("a WAV of a recorder that was killed: size 0", _file(lambda: riff(_MONO16, _S16, size=0)), 0, "5.0 s"),
    Case("a second WAV after the first, on a pipe", _pipe, 0, "10.0 s", stdin=lambda _: riff(_MONO16, _S16) * 2),
    Case(
        "sound after a WAV's metadata",
        _file(lambda: riff(_MONO16, _S16, behind=b"LIST\4\0\0\0INFO" + _S16)),
        3,
        f"{len(_S16)} bytes, which were left out",
    ),
    Case("half of an AIFF", _file(lambda: _written("AIFF")[: len(_S16) // 2]), 3, "cut short: 2.50 s"),
    Case(
        "half of an Ogg file", _file(lambda: _written("OGG")[: len(_written("OGG")) // 2]), 3, "without its last page"
    ),
    Case("two Ogg files in one", _file(lambda: _written("OGG") * 2), 0, "10.0 s"),
    Case("samples of 24 bits that lie in 4 bytes, now here, now there", _file(_wide), 3, "sometimes at the low end"),
    Case(
        "a damaged SDS file, at which libsndfile prints on standard output",
        _file(_sds, "clip.sds"),
        3,
        "libsndfile complains",
    ),
    Case(
        "an m4a where there is no ffmpeg",
        _file(lambda: b"\0\0\0\x1cftypM4A \0\0\2\0" + bytes(100)),
        3,
        "apt install ffmpeg",
        environment={"PATH": "/nonexistent"},
    ),
    Case(
        "raw sound of another coding than it says",
        _file(lambda: _S16 + b"\0", "clip.raw", "--raw", "s16le"),
        3,
        "1 of the 2 bytes",
    ),
]
