"""Sound from files and pipes, as mono float32 blocks in constant memory."""

from __future__ import annotations

import contextlib
import os
import select
import stat
import sys
from collections.abc import Callable, Iterator

import numpy as np
import soundfile
from numpy.typing import NDArray

from edge_runtime.capture.channels import Mixer
from edge_runtime.capture.pcm import RawFormat, RawParser, WavParser, announced_bytes
from edge_runtime.capture.quiet import quiet_c
from edge_runtime.capture.resample import Resampler
from edge_runtime.errors import InputError

STDIN = "-"
_BLOCK_SECONDS = 0.25
_LONGEST_BLOCK_SECONDS = 16.0
_LARGEST_BLOCK = 1 << 20  # samples of all channels
_PIPE_BYTES = 1 << 16
_PIPE_PATIENCE_SECONDS = 0.2
_HEADER_BYTES = 1 << 16
_MISSING_SECONDS = 0.1  # compressed formats announce their length a little inexactly

Samples = NDArray[np.float32]


class _Forward(soundfile.SoundFile):  # type: ignore[misc, unused-ignore]
    """A file that is only read forward: soundfile seeks after each read, which tears MP3s at every block."""

    def seekable(self) -> bool:
        return False


def read_blocks(
    path: str,
    raw: RawFormat | None,
    target_rate: int,
    block_seconds: float = _BLOCK_SECONDS,
    tell: Callable[[str], object] = lambda text: None,
) -> Iterator[Samples]:
    """Mono float32 blocks [n] at `target_rate` Hz: the channels as `capture.channels` mixes them, resampled.

    `tell` hears what people should know of the channels.

    `path` is a file's name, or `-` for standard input. With `raw` the bytes are headerless sound. A file is
    read by libsndfile, in any format that it knows; a pipe must hold a WAV, and its blocks come as the sound
    comes, with an empty block after each moment in which nothing did. `block_seconds` is for files only, where
    nobody waits for the first block: from 0.25 to 16 s.

    Raises InputError when the sound cannot be had; when it breaks off in the middle, all before comes first.
    An input that opens well but holds no sound at all is an error too.
    """
    frames = _open(path, raw, min(max(block_seconds, _BLOCK_SECONDS), _LONGEST_BLOCK_SECONDS))
    resampler: Resampler | None = None
    mixer: Mixer | None = None
    heard = False
    trouble: InputError | None = None
    try:
        for rate, block in frames:
            if not len(block):
                yield np.zeros(0, dtype=np.float32)
                continue
            heard = True
            resampler = resampler or Resampler(rate, target_rate)
            mixer = mixer or Mixer(rate)
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
        raise InputError(f"{_called(path)}: {trouble}") from None
    if not heard:
        raise InputError(f"{_called(path)}: holds no sound (0 samples)")


def length_seconds(path: str, raw: RawFormat | None) -> float | None:
    """How long a file is, in seconds; None for pipes and for what does not say."""
    try:
        status = os.stat(path)
        if path == STDIN or not stat.S_ISREG(status.st_mode):
            return None
        if raw is not None:
            return status.st_size / raw.frame_bytes / raw.rate
        with quiet_c():
            info = soundfile.info(path)
    except (OSError, RuntimeError, ValueError):
        return None
    seconds = info.frames / info.samplerate
    return seconds if 0 < seconds < 1e9 else None


def mix(frames: Samples) -> Samples:
    """float32 [n, channels] to mono float32 [n]: the mean of the channels."""
    if frames.shape[1] == 1:
        return np.ascontiguousarray(frames[:, 0])
    with np.errstate(over="ignore", invalid="ignore"):
        mean: Samples = frames.mean(axis=1, dtype=np.float64).astype(np.float32)
    return mean


def _called(path: str) -> str:
    return "standard input" if path == STDIN else path


def _open(path: str, raw: RawFormat | None, block_seconds: float) -> Iterator[tuple[int, Samples]]:
    """Blocks with their rate, float32 [n, channels]. Raises InputError without the path's name in it."""
    try:
        if path == STDIN and sys.stdin is None:  # file 0 may be anything then
            raise InputError("is closed")
        status = os.fstat(0) if path == STDIN else os.stat(path)
        if stat.S_ISDIR(status.st_mode):
            raise InputError("is a directory, not a sound file")
        if raw is None and stat.S_ISREG(status.st_mode):
            yield from _read_file(path, block_seconds)
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


def _read_file(path: str, block_seconds: float) -> Iterator[tuple[int, Samples]]:
    source: str | int = 0 if path == STDIN else path
    with open(0 if path == STDIN else path, "rb", buffering=0, closefd=path != STDIN) as raw_file:
        header = os.pread(raw_file.fileno(), _HEADER_BYTES, 0)
        present = os.fstat(raw_file.fileno()).st_size
    if not present:
        raise InputError("the file is empty (0 bytes)")
    try:
        with quiet_c():
            sound = _Forward(source, closefd=path != STDIN)
    except (soundfile.LibsndfileError, RuntimeError, TypeError):
        raise InputError(
            "libsndfile cannot read it: either it is no sound file or of a format that needs converting first"
        ) from None
    with sound:
        step = max(1, min(int(sound.samplerate * block_seconds), _LARGEST_BLOCK // sound.channels))
        done = 0
        while step:
            try:
                with quiet_c():
                    block = sound.read(step, dtype="float32", always_2d=True)
            except soundfile.LibsndfileError:
                # The good samples before the damage are lost with a failed read: ask for fewer.
                step //= 2
                with contextlib.suppress(soundfile.LibsndfileError), quiet_c():
                    sound.seek(done)
                continue
            if not len(block):
                break
            done += len(block)
            yield sound.samplerate, block
        seconds = done / sound.samplerate
        announced = sound.frames / sound.samplerate
        if not step or (announced < 1e9 and announced - seconds > _MISSING_SECONDS):
            raise InputError(f"is damaged or cut short: {seconds:.2f} s of {announced:.2f} s could be read")
    end = announced_bytes(header)
    if end is not None and end > present:
        raise InputError(f"is cut short: its header announces {end - present} bytes more than the {seconds:.2f} s here")


def _read_stream(handle: int, raw: RawFormat | None) -> Iterator[tuple[int, Samples]]:
    parser: RawParser | WavParser = WavParser() if raw is None else RawParser(raw)
    while not parser.done:
        ready, _, _ = select.select([handle], [], [], _PIPE_PATIENCE_SECONDS)
        try:
            data = os.read(handle, _PIPE_BYTES) if ready else None
        except BlockingIOError:
            data = None
        if data is None:
            yield 0, np.zeros((0, 1), dtype=np.float32)
            continue
        if not data:
            parser.finish()
            return
        block = parser.feed(data)
        if parser.form is not None and len(block):
            yield parser.form.rate, block
