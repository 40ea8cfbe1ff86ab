"""Reads a file of any format: by our own parser, by libsndfile, here or in a process of its own, or by ffmpeg.

| format | read by |
|---|---|
| WAV, RF64, Wave64, AIFF, CAF, AU, SPHERE of PCM, A-law and mu-law | `chunks` |
| the same of other codings, and what else libsndfile knows | libsndfile in a process of its own |
| FLAC, Ogg Vorbis, Opus, MP3 | libsndfile here, fed by `flac`, `ogg` and `mp3`, which know what is there |
| all else | `ffmpeg` |
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Callable, Iterator

from edge_runtime.capture.formats import ffmpeg, flac, libsndfile, mp3, ogg, voc
from edge_runtime.capture.formats.chunks import ChunkParser
from edge_runtime.capture.formats.containers import family_of
from edge_runtime.capture.formats.external import NOTHING, DecoderResult, read_process
from edge_runtime.capture.formats.layout import OtherCoding
from edge_runtime.capture.formats.part import Bytes, Part
from edge_runtime.capture.formats.tags import LOOK_BYTES, id3v2_bytes, without_tags
from edge_runtime.capture.pcm import Piece
from edge_runtime.errors import InputError
from edge_runtime.system.process import command

_FIRST_READ, _LARGEST_READ = 1 << 12, 1 << 21
_TAGS_BYTES = 1 << 20
_MOST_UNREAD = 100
"""Parts of a file that cannot be read, after which the rest is not tried."""
_NO_SOUND_FILE = "libsndfile cannot read it: either it is no sound file or of a format that needs converting first"


def read_file(handle: int, block_seconds: float) -> Iterator[Piece]:
    """Blocks of the regular file `handle`, with their rate. Raises InputError, after all sound that can be had."""
    size = os.fstat(handle).st_size
    if not size:
        raise InputError("the file is empty (0 bytes)")
    file = Bytes(handle, 0, size)
    passed = _passed(file)
    head = file.at(passed, 512)
    if family_of(head[:16]) is not None:
        try:
            yield from _parsed(handle, passed, block_seconds)
            return
        except OtherCoding:
            pass
        yield from _foreign(handle, Bytes(handle, passed, size))
        # Decoded elsewhere; whether more or less of it is there than its header says is seen here.
        yield from _parsed(handle, passed, block_seconds, counting=True)
        return
    parts = _parts(file, passed)
    first, said = None, ""
    try:
        first = next(parts, None)
    except ogg.NotHere as other:
        said = other.trouble
    if first is None:
        yield from _foreign(handle, Bytes(handle, passed, size))
        if head.startswith(voc.MAGIC):
            said = voc.trouble(Bytes(handle, passed, size))
        if said:  # what decoded it does not say so
            raise InputError(said)
        return
    trouble: InputError | None = None
    unread = 0
    for part in itertools.chain([first], parts):
        try:
            yield from libsndfile.decoded(handle, part, block_seconds)
        except libsndfile.CannotRead:
            trouble = trouble or InputError(_NO_SOUND_FILE)
            unread += 1
            if unread > _MOST_UNREAD:
                break
        except InputError as reason:  # the next part may be whole
            trouble = trouble or reason
    if trouble:
        raise trouble


def seconds_of(handle: int, size: int) -> float | None:
    """How long the file's header says that it is, for showing progress; None where it does not."""
    file = Bytes(handle, 0, size)
    passed = _passed(file)
    if family_of(file.at(passed, 16)) is not None:
        parser = ChunkParser(family_of)
        try:
            for _ in parser.push(file.at(passed, _FIRST_READ * 4)):
                pass
        except (OtherCoding, InputError):
            return None
        return parser.announced_seconds(size)
    body = Bytes(handle, passed, size)
    head = body.at(passed, 4)
    if head == b"fLaC":
        return flac.seconds(body)
    if head == b"OggS":
        return ogg.seconds(body)
    return mp3.seconds(body) if mp3.is_mp3(head) else None


def _passed(file: Bytes) -> int:
    """Where the file begins behind ID3v2 tags."""
    place = 0
    while tag := id3v2_bytes(file.at(place, LOOK_BYTES)):
        place += tag
    return min(place, file.end)


def _parsed(handle: int, start: int, block_seconds: float, counting: bool = False) -> Iterator[Piece]:
    parser = ChunkParser(family_of, counting)
    place, wanted = start, _FIRST_READ
    while data := os.pread(handle, wanted, place):
        place += len(data)
        given = False
        for piece in parser.push(data):
            given = True
            yield piece
        if not given:
            yield NOTHING
        frame = parser.frame_bytes
        wanted = _LARGEST_READ if parser.passing or not frame else int(parser.rate * block_seconds) * frame
        wanted = max(frame, _FIRST_READ, min(wanted, _LARGEST_READ))
    yield from parser.flush()


def _parts(file: Bytes, start: int) -> Iterator[Part]:
    """What libsndfile decodes in our process; nothing for all else."""
    body = Bytes(file.handle, start, file.end)
    head = body.at(start, 4)
    if head == b"fLaC":
        end = max(start, file.end - _TAGS_BYTES)
        return flac.parts(body, without_tags(file.at(end, file.end - end)))
    if head == b"OggS":
        return ogg.parts(body)
    if mp3.is_mp3(head) or (start and not ffmpeg.kind_of(body.at(start, 512))):
        return mp3.parts(body)
    return iter(())


def _foreign(handle: int, file: Bytes) -> Iterator[Piece]:
    """What other processes decode. Raises InputError with what to do where none can."""
    kind = ffmpeg.kind_of(file.at(file.start, 512))
    decoders: list[Callable[[], Iterator[Piece]]] = []
    if not kind:
        decoders.append(lambda: _by_child(handle))
    if ffmpeg.present():
        decoders.append(lambda: ffmpeg.decoded(handle, file))
    for decode in decoders:
        try:
            yield from decode()
            return
        except libsndfile.CannotRead:
            continue
    if kind:
        raise InputError(
            f"is {kind}, which is read through the program ffmpeg: install it (apt install ffmpeg), or convert the "
            "file to WAV"
        )
    raise InputError(f"{_NO_SOUND_FILE} (with the package ffmpeg installed, more formats are read)")


def _by_child(handle: int) -> Iterator[Piece]:
    outcome = DecoderResult(re.compile(r"\S"))
    words, environment = command(libsndfile.MODULE)
    yield from read_process(words, handle, outcome, environment)
    if outcome.code == libsndfile.CANNOT_READ:
        raise libsndfile.CannotRead
    if outcome.code:
        said = outcome.lines[0] if outcome.code == InputError.exit_code and outcome.lines else ""
        raise InputError(said or f"is damaged: what decodes it ended with code {outcome.code}")
