"""MPEG audio: finds every frame, so that lengths are counted and not guessed, and no tag is taken for sound.

mpg123, in libsndfile, believes the count in a Xing header even where more files follow, and guesses the length from the
first bit rate where there is no such header. So each part gets a header with the true count.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from edge_runtime.capture.formats.part import Bytes, Part, Stretch
from edge_runtime.capture.formats.tags import LOOK_BYTES, tag_bytes

_RATES = (44100, 48000, 32000)
_KBPS = {
    (1, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (1, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (1, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_KBPS[2, 3] = _KBPS[2, 2]
_MAY_BEGIN = re.compile(rb"\xff[\xe2-\xff][\x10-\xeb]|ID3|TAG|APETAGEX")
"""A frame or a tag, at a first look."""
_MISSING_SECONDS = 0.1
_MOST_TRIED = 50_000
"""Places at which a frame might begin and does not, after which the rest is not looked at."""
_MUCH_ELSE_BYTES = 4096
"""So many bytes between frames that are neither frames nor tags are damage."""


@dataclass(frozen=True)
class _Frame:
    """A frame's header. `key` is what all frames of a part share: version, layer, rate, mono or not."""

    size: int
    samples: int
    key: tuple[int, int, int, bool]
    side_bytes: int


def frame_of(head: bytes) -> _Frame | None:
    """The frame that 4 bytes announce; None where they are no header, or one of a free bit rate."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return None
    version, layer = (head[1] >> 3) & 3, 4 - ((head[1] >> 1) & 3)
    bit_rate, rate = head[2] >> 4, (head[2] >> 2) & 3
    if version == 1 or layer == 4 or rate == 3 or not 1 <= bit_rate <= 14 or head[3] & 3 == 2:
        return None
    first = version == 3
    hertz = _RATES[rate] >> (0 if first else 1 if version == 2 else 2)
    bits = 1000 * _KBPS[1 if first else 2, layer][bit_rate - 1]
    padding = (head[2] >> 1) & 1
    mono = head[3] >> 6 == 3
    if layer == 1:
        size, samples = (12 * bits // hertz + padding) * 4, 384
    else:
        samples = 576 if layer == 3 and not first else 1152
        size = samples // 8 * bits // hertz + padding
    side = (17 if mono else 32) if first else (9 if mono else 17)
    return _Frame(size, samples, (version, layer, hertz, mono), side)


def is_mp3(head: bytes) -> bool:
    """Whether a file that begins so may be MPEG audio."""
    return frame_of(head[:4]) is not None


def seconds(file: Bytes) -> float | None:
    """How long its header says that the first MP3 is."""
    frame = frame_of(file.at(file.start, 4))
    count = _xing(file, file.start, frame) if frame else None
    return count * frame.samples / frame.key[2] if frame and count else None


def parts(file: Bytes) -> Iterator[Part]:
    """The stretches of frames of one kind, and those that a Xing header of their own begins."""
    place, run, tried = file.start, _Run(), 0
    while place < file.end:
        frame = frame_of(file.at(place, 4))
        if frame is not None and (run.follows(frame) or _confirmed(file, place, frame)):
            count = _xing(file, place, frame)
            if run.frames and (count is not None or not run.follows(frame)):
                yield run.part()
                run = _Run()
            run.add(file, place, frame, count)
            place += frame.size
            continue
        passed = tag_bytes(file.at(place, LOOK_BYTES))
        if passed:
            place += passed
            continue
        tried += 1
        if tried > _MOST_TRIED:  # the run has its trouble by then
            break
        following = file.find(_MAY_BEGIN, place + 1)
        if run.frames:
            run.pass_over(file, place, following)
        place = following
    if run.frames:
        yield run.part()


def _confirmed(file: Bytes, place: int, frame: _Frame) -> bool:
    """Whether another frame of the same kind follows, or the end: four bytes alone are easily met by chance."""
    head = file.at(place + frame.size, LOOK_BYTES)
    following = frame_of(head[:4])
    return following.key[:3] == frame.key[:3] if following else bool(tag_bytes(head)) or not head


def _xing(file: Bytes, place: int, frame: _Frame) -> int | None:
    """The number of frames that a Xing, Info or VBRI header in this frame promises (0: none); None without one."""
    head = file.at(place, 60)
    xing = head[4 + frame.side_bytes :]
    if xing[:4] in (b"Xing", b"Info"):
        return int.from_bytes(xing[8:12], "big") if len(xing) >= 12 and xing[7] & 1 else 0
    if head[36:40] == b"VBRI":
        return int.from_bytes(head[50:54], "big")
    return None


class _Run:
    """Frames that belong together."""

    def __init__(self) -> None:
        self.frames = 0
        self.else_bytes = 0
        self._stretches: list[Stretch] = []
        self._first: _Frame | None = None
        self._head = b""
        self._promised: int | None = None  # by its own header
        self._own_header = False

    def follows(self, frame: _Frame) -> bool:
        return self._first is not None and self._first.key == frame.key

    def add(self, file: Bytes, place: int, frame: _Frame, promised: int | None) -> None:
        end = min(place + frame.size, file.end)
        if self._first is None:
            self._first = frame
            self._head = file.at(place, 4)
            self._promised = promised
            self._own_header = promised is not None
        if self._stretches and self._stretches[-1][1] == place:
            self._stretches[-1] = (self._stretches[-1][0], end)
        else:
            self._stretches.append((place, end))
        self.frames += place + frame.size <= file.end

    def pass_over(self, file: Bytes, place: int, end: int) -> None:
        """Counts what is neither frame nor tag; zeros are padding."""
        while place < end and self.else_bytes <= _MUCH_ELSE_BYTES:
            data = file.at(place, min(1 << 16, end - place))
            self.else_bytes += len(data) - data.count(0)
            place += len(data) or end

    def part(self) -> Part:
        assert self._first is not None
        sound = self.frames - self._own_header
        promised = self._promised or 0
        trouble = ""
        _, _, rate, _ = self._first.key
        if (promised - sound) * self._first.samples > _MISSING_SECONDS * rate:
            there, all_of_it = (count * self._first.samples / rate for count in (sound, promised))
            trouble = f"is cut short: {there:.2f} s of {all_of_it:.2f} s are there"
        elif self.else_bytes > _MUCH_ELSE_BYTES:
            trouble = f"is damaged: {self.else_bytes} bytes and more between its frames of MPEG audio are no sound"
        pieces: list[bytes | Stretch] = list(self._stretches)
        if promised < sound or not promised:
            if self._own_header:  # says too little: it is left out with its count
                start, end = self._stretches[0]
                pieces[0] = (min(start + self._first.size, end), end)
            if self._first.key[1] == 3:
                pieces.insert(0, self._header(sound))
        return Part(pieces, trouble=trouble)

    def _header(self, count: int) -> bytes:
        """A frame of Layer III that holds nothing but the number of frames."""
        assert self._first is not None
        head = bytearray(self._head)
        head[1] |= 1  # without a checksum
        head[2] = (0x90 if self._first.key[0] == 3 else 0x80) | (head[2] & 0x0C)
        frame = frame_of(bytes(head))
        assert frame is not None
        body = bytes(frame.side_bytes) + b"Xing" + struct.pack(">II", 1, max(1, count))
        return (bytes(head) + body).ljust(frame.size, b"\0")
