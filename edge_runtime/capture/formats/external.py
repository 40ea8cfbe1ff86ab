"""Sound that another process decodes: it writes a WAV on its standard output, and complaints on its errors."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import select
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from edge_runtime.capture.formats.chunks import ChunkParser
from edge_runtime.capture.formats.containers import family_of
from edge_runtime.capture.formats.layout import OtherCoding
from edge_runtime.capture.pcm import Piece
from edge_runtime.errors import InputError
from edge_runtime.system.process import KILL_SECONDS

NOTHING: Piece = (0, np.zeros((0, 1), dtype=np.float32))
"""A moment in which nothing came."""
_PIPE_BYTES = 1 << 16
_PATIENCE_SECONDS = 0.2
_STALL_SECONDS = 60.0
"""A process that gives nothing for so long, while it is waited for, is ended."""
_CPU_SECONDS, _CPU_BYTES_A_SECOND = 120, 1 << 15
"""What it may compute: a time, and a second for so many bytes of its input."""
_MEMORY_BYTES = 1 << 30
_FILE_BYTES = 1 << 16
"""None of them has files to write."""
_MOST_LINES, _LONGEST_LINE = 256, 1000


@dataclass
class DecoderResult:
    """How it ended: the exit code, the lines of its errors that were `wanted`, the seconds of sound that it gave."""

    wanted: re.Pattern[str]
    code: int = 0
    lines: list[str] = field(default_factory=list)
    seconds: float = 0.0
    _rest: bytes = b""

    def take(self, data: bytes) -> None:
        """Takes a piece of its errors, however long they get."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        self._rest = self._rest[:_LONGEST_LINE]
        for line in lines:
            text = line[:_LONGEST_LINE].decode("utf-8", "replace").strip()
            if len(self.lines) < _MOST_LINES and self.wanted.search(text):
                self.lines.append(text)


def read_process(
    command: Sequence[str], handle: int, outcome: DecoderResult, environment: Mapping[str, str] | None = None
) -> Iterator[Piece]:
    """The sound that `command` makes of the file `handle`, its standard input; `outcome` is filled in meanwhile.

    It has limits of memory and of time, and ends when the iterator is closed. Raises InputError when it cannot be
    started, or stalls.
    """
    os.lseek(handle, 0, os.SEEK_SET)
    try:
        process = subprocess.Popen(
            command,
            stdin=handle,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            env=environment,
            process_group=0,  # Ctrl-C at a terminal is ours to heed, not the child's
        )
    except (OSError, ValueError) as reason:
        raise InputError(f"cannot start what decodes it: {getattr(reason, 'strerror', None) or reason}") from None
    parser = ChunkParser(family_of)
    try:
        _limit(process, os.fstat(handle).st_size)
        for data in _output(process, outcome):
            if not data:
                yield NOTHING
                continue
            for rate, block in parser.push(data):
                outcome.seconds += len(block) / rate
                yield rate, block
        outcome.code = process.wait()
        with contextlib.suppress(InputError, OtherCoding):  # what it lacks is in its errors
            for rate, block in parser.flush():
                outcome.seconds += len(block) / rate
                yield rate, block
    except OtherCoding:
        raise InputError("what decodes it gave no sound") from None
    finally:
        process.kill()
        for pipe in (process.stdout, process.stderr):
            if pipe:
                pipe.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(KILL_SECONDS)


def _limit(process: subprocess.Popen[bytes], size: int) -> None:
    seconds = _CPU_SECONDS + size // _CPU_BYTES_A_SECOND
    for kind, limit in (
        (resource.RLIMIT_AS, _MEMORY_BYTES),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_FSIZE, _FILE_BYTES),
        (resource.RLIMIT_CORE, 0),
    ):
        with contextlib.suppress(OSError, ValueError, AttributeError):  # it may have ended already
            _, most = resource.prlimit(process.pid, kind)
            limit = limit if most == resource.RLIM_INFINITY else min(limit, most)
            resource.prlimit(process.pid, kind, (limit, limit))


def _output(process: subprocess.Popen[bytes], outcome: DecoderResult) -> Iterator[bytes]:
    """What it writes, with nothing after each moment in which nothing came. Its errors go to `outcome`."""
    assert process.stdout is not None and process.stderr is not None
    sound, errors = process.stdout.fileno(), process.stderr.fileno()
    open_ones = [sound, errors]
    waited = 0.0
    while open_ones:
        began = time.monotonic()
        ready, _, _ = select.select(open_ones, [], [], _PATIENCE_SECONDS)
        waited += time.monotonic() - began
        if not ready:
            if waited > _STALL_SECONDS:
                raise InputError(f"what decodes it gave nothing for {_STALL_SECONDS:.0f} s, and was ended")
            yield b""
        for handle in ready:
            data = os.read(handle, _PIPE_BYTES)
            if not data:
                open_ones.remove(handle)
            elif handle == sound:
                waited = 0.0
                yield data
            else:
                outcome.take(data)
    outcome.take(b"\n")
