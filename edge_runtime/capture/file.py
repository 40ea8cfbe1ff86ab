"""Sound from files and pipes, as mono float32 blocks in constant memory."""

from __future__ import annotations

import os
import select
import stat
import sys
from collections.abc import Callable, Iterator

import numpy as np

from edge_runtime.capture.channels import Mixer
from edge_runtime.capture.formats import opened
from edge_runtime.capture.formats.external import NOTHING
from edge_runtime.capture.pcm import Piece, RawFormat, Samples
from edge_runtime.capture.piped import PipedSound
from edge_runtime.capture.resample import Resampler
from edge_runtime.errors import InputError

STDIN = "-"
_BLOCK_SECONDS = 0.25
_LONGEST_BLOCK_SECONDS = 16.0
_PIPE_BYTES = 1 << 16
_PIPE_PATIENCE_SECONDS = 0.2


def read_blocks(
    path: str,
    raw: RawFormat | None,
    target_rate: int,
    block_seconds: float = _BLOCK_SECONDS,
    tell: Callable[[str], object] = lambda text: None,
) -> Iterator[Samples]:
    """Mono float32 blocks [n] at `target_rate` Hz: the channels as `capture.channels` mixes them, resampled.

    `tell` hears what people should know of the channels.

    `path` is a file's name, or `-` for standard input. With `raw` the bytes are headerless sound. A file may be of any
    format that `formats.opened` reads; a pipe must hold a WAV, AIFF, CAF or AU, and its blocks come as the sound comes,
    with an empty block after each moment in which nothing did. `block_seconds` is for files only, where nobody waits
    for the first block: from 0.25 to 16 s.

    Raises InputError when the sound cannot be had; when it breaks off in the middle, or something is left out, all
    that there is comes first. An input that opens well but holds no sound at all is an error too.
    """
    frames = _open(path, raw, min(max(block_seconds, _BLOCK_SECONDS), _LONGEST_BLOCK_SECONDS))
    resampler: Resampler | None = None
    mixer: Mixer | None = None
    form = (0, 0)
    trouble: InputError | None = None
    try:
        for rate, block in frames:
            if not len(block):
                yield np.zeros(0, dtype=np.float32)
                continue
            if form != (rate, block.shape[1]):  # another file of the same input may be of another rate
                if resampler is not None and form[0] != rate:
                    yield resampler.flush()
                    resampler = None
                form = (rate, block.shape[1])
                mixer = Mixer(rate)
            resampler = resampler or Resampler(rate, target_rate)
            assert mixer is not None
            mono = mixer.push(block)
            for text in mixer.news():
                tell(text)
            yield resampler.push(mono)
    except InputError as reason:
        trouble = reason
    if resampler is not None:
        rest = resampler.flush()
        if len(rest):
            yield rest
    if trouble is not None:
        raise InputError(f"{called(path)}: {trouble}") from None
    if resampler is None:
        raise InputError(f"{called(path)}: holds no sound (0 samples)")


def length_seconds(path: str, raw: RawFormat | None) -> float | None:
    """How long a file is, in seconds; None for pipes and for what does not say."""
    try:
        status = os.stat(path)
        if path == STDIN or not stat.S_ISREG(status.st_mode):
            return None
        if raw is not None:
            return raw.seconds(status.st_size)
        with open(path, "rb", buffering=0) as file:
            seconds = opened.seconds_of(file.fileno(), status.st_size)
    except (OSError, ValueError):
        return None
    return seconds if seconds and 0 < seconds < 1e9 else None


def mix(frames: Samples) -> Samples:
    """float32 [n, channels] to mono float32 [n]: the mean of the channels, whatever they hold."""
    if frames.shape[1] == 1:
        return np.ascontiguousarray(frames[:, 0])
    with np.errstate(over="ignore", invalid="ignore"):
        mean: Samples = frames.mean(axis=1, dtype=np.float64).astype(np.float32)
    return mean


def called(path: str) -> str:
    """An input as messages name it."""
    return "standard input" if path == STDIN else path


def _open(path: str, raw: RawFormat | None, block_seconds: float) -> Iterator[Piece]:
    """Blocks with their rate. Raises InputError without the path's name in it."""
    try:
        if path == STDIN and sys.stdin is None:  # file 0 may be anything then
            raise InputError("is closed")
        status = os.fstat(0) if path == STDIN else os.stat(path)
        if stat.S_ISDIR(status.st_mode):
            raise InputError("is a directory, not a sound file")
        if raw is None and stat.S_ISREG(status.st_mode):
            with open(0 if path == STDIN else path, "rb", buffering=0, closefd=path != STDIN) as file:
                yield from opened.read_file(file.fileno(), block_seconds)
        elif path == STDIN:
            if os.isatty(0):
                raise InputError("is a terminal: pipe sound into it, as in `arecord -f S16_LE | edge-detect --file -`")
            yield from _read_stream(0, raw)
        else:
            handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
            try:
                yield from _read_stream(handle, raw)
            finally:
                os.close(handle)
    except (OSError, ValueError) as reason:
        raise InputError(getattr(reason, "strerror", None) or str(reason)) from None


def _read_stream(handle: int, raw: RawFormat | None) -> Iterator[Piece]:
    sound = PipedSound(raw)
    while True:
        ready, _, _ = select.select([handle], [], [], _PIPE_PATIENCE_SECONDS)
        try:
            data = os.read(handle, _PIPE_BYTES) if ready else None
        except BlockingIOError:
            data = None
        if data == b"":
            break
        yield from sound.push(data or b"")
        yield NOTHING  # a moment in which none, or only metadata came, is one too
    yield from sound.flush()
