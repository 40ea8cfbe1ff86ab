"""Decodes parts of files by libsndfile: within our process what is common, in a process of its own what is rare."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import struct
import sys
import tempfile
from collections.abc import Iterator

import numpy as np
import soundfile

from edge_runtime.capture.formats.part import Part, PartReader, Stretch
from edge_runtime.capture.pcm import Piece, check_limits
from edge_runtime.errors import InputError
from edge_runtime.system.process import die_with_parent, limit_memory, own_output
from edge_runtime.system.quiet import quiet_c

MODULE = "edge_runtime.capture.formats.libsndfile"
"""Run as a program it decodes its standard input, and writes a WAV of floats; what is wrong is a line of its errors."""
CANNOT_READ = 66
"""Exit code of that program for what libsndfile does not know."""
_LARGEST_BLOCK = 1 << 20  # samples of all channels
_LONGEST_SECONDS = 1e9
_MISSING_SECONDS = 0.1  # compressed formats announce their length a little inexactly
_CHILD_BYTES = 1 << 30
_COMPLAINT_BYTES = 200
_COPIED_BYTES = 1 << 20


class CannotRead(Exception):
    """libsndfile does not know what this is."""


class _Forward(soundfile.SoundFile):  # type: ignore[misc, unused-ignore]
    """A file that is only read forward: soundfile seeks after each read, which tears MP3s at every block."""

    def seekable(self) -> bool:
        return False


def decoded(handle: int, part: Part, block_seconds: float) -> Iterator[Piece]:
    """Frames of `part` in blocks of `block_seconds`. Raises CannotRead at once, or InputError after the sound."""
    try:
        if part.pieces:
            yield from _decoded(handle, part, block_seconds)
    except (CannotRead, InputError):
        if not part.trouble:  # which is the better word for it
            raise
    if part.trouble:
        raise InputError(part.trouble)


def _decoded(handle: int, part: Part, block_seconds: float) -> Iterator[Piece]:
    sound = _opened(handle, part)
    with contextlib.closing(sound):
        rate, channels, announced = sound.samplerate, sound.channels, sound.frames
        check_limits(rate, channels)
        step = max(1, min(int(rate * block_seconds), _LARGEST_BLOCK // channels))
        done = 0
        while step and not (part.frames and done >= part.frames):
            # Not beyond the promised end: what stands there would spoil the read.
            wanted = min(step, part.frames - done) if part.frames else step
            try:
                with quiet_c():
                    block = sound.read(wanted, dtype="float32", always_2d=True)
            except soundfile.LibsndfileError:
                # The good samples before the damage are lost with a failed read: ask for fewer.
                step = wanted // 2
                with contextlib.suppress(soundfile.LibsndfileError), quiet_c():
                    sound.seek(done)
                continue
            if not len(block):
                break
            done += len(block)
            yield rate, block
    seconds = done / rate
    promised = (part.frames or (announced if part.promised else 0)) / rate
    if promised < _LONGEST_SECONDS and promised - seconds > (_MISSING_SECONDS if step else 0):
        raise InputError(f"is damaged or cut short: {seconds:.2f} s of {promised:.2f} s could be read")
    if not step:
        raise InputError(f"is damaged: it could be read up to {seconds:.2f} s")


def _opened(handle: int, part: Part) -> soundfile.SoundFile:
    window = PartReader(handle, part.pieces)
    try:
        with quiet_c():
            try:
                return _Forward(window)
            except MemoryError:
                # A service that may not have memory both written and executed has no callbacks: it reads a copy.
                return _Forward(_copy(window))
    except (soundfile.LibsndfileError, RuntimeError, TypeError, ValueError):
        raise CannotRead from None


def _copy(window: PartReader) -> int:
    """A descriptor of a file without a name that holds the same bytes."""
    with tempfile.TemporaryFile() as copy:
        window.seek(0)
        shutil.copyfileobj(window, copy, _COPIED_BYTES)
        copy.flush()
        copy.seek(0)
        return os.dup(copy.fileno())


def main() -> int:
    """The program: standard input, a file, to a WAV on standard output."""
    errors, output = os.dup(2), own_output()
    die_with_parent()
    limit_memory(_CHILD_BYTES)
    complaints = os.memfd_create("complaints")
    for standard in (1, 2):
        os.dup2(complaints, standard)
    said = ""
    try:
        _convert(output)
    except CannotRead:
        return CANNOT_READ
    except InputError as reason:
        said = str(reason)
    except MemoryError:
        said = "is damaged: it asks for more memory than sound needs"
    ctypes.CDLL(None).fflush(None)
    printed = os.pread(complaints, _COMPLAINT_BYTES, 0).decode("latin-1").split("\n")[0].strip()
    if printed and not said:
        said = f"is damaged: libsndfile complains of it ({printed})"
    if said:
        os.write(errors, f"{said}\n".encode())
    return InputError.exit_code if said else 0


def _convert(output: int) -> None:
    whole: list[bytes | Stretch] = [(0, os.fstat(0).st_size)]
    header = b""
    for rate, block in decoded(0, Part(whole, promised=True), 0.25):
        if not header:
            channels = block.shape[1]
            form = struct.pack("<HHIIHH", 3, channels, rate, min(rate * channels * 4, 0xFFFFFFFF), channels * 4, 32)
            header = b"RIFF\xff\xff\xff\xffWAVEfmt \x10\0\0\0" + form + b"data\xff\xff\xff\xff"
            _write(output, header)
        _write(output, np.ascontiguousarray(block, dtype="<f4").tobytes())


def _write(handle: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]


if __name__ == "__main__":
    sys.exit(main())
