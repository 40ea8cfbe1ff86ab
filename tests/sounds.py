"""Sound files with anything in their headers, and what the reader makes of files and of pipes."""

from __future__ import annotations

import itertools
import os
import struct
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_runtime.capture.file import read_blocks
from edge_runtime.capture.formats.chunks import ChunkParser
from edge_runtime.capture.formats.containers import family_of
from edge_runtime.capture.pcm import RawFormat
from edge_runtime.errors import InputError

RATE = 16000
Sound = NDArray[np.float32]


def riff(fmt: bytes, data: bytes, *, size: int | None = None, before: bytes = b"", behind: bytes = b"") -> bytes:
    """A WAV with any `fmt ` chunk, any size in its header, and any chunks before and after the sound."""
    size = len(data) if size is None else size
    return (
        b"RIFF" + struct.pack("<I", min(36 + size, 0xFFFFFFFF)) + b"WAVE" + before
        + b"fmt " + struct.pack("<I", len(fmt)) + fmt
        + b"data" + struct.pack("<I", size) + data + behind
    )  # fmt: skip


def fmt(tag: int, channels: int, rate: int, bits: int, block: int | None = None, extra: bytes = b"") -> bytes:
    """The body of a `fmt ` chunk."""
    block = channels * bits // 8 if block is None else block
    return struct.pack("<HHIIHH", tag, channels, rate, rate * block & 0xFFFFFFFF, block, bits) + extra


def wav(form: RawFormat, body: bytes, size: int | None = None, before: bytes = b"", tag: int | None = None) -> bytes:
    """A WAV of that coding."""
    code = tag or (3 if form.encoding.startswith("f") else 1)
    head = fmt(code, form.channels, form.rate, form.frame_bytes // form.channels * 8)
    return riff(head, body, size=size, before=before)


def parsed(data: bytes, cuts: Sequence[int] = ()) -> tuple[int, Sound]:
    """The rate and frames of a file of one format, as they come out of a pipe that is cut at `cuts`."""
    parser = ChunkParser(family_of)
    places = [0, *sorted(cuts), len(data)]
    pieces = [piece for a, b in itertools.pairwise(places) for piece in parser.push(data[a:b])]
    pieces.extend(parser.flush())
    assert len({rate for rate, _ in pieces}) == 1, pieces
    return pieces[0][0], np.concatenate([block for _, block in pieces])


def read(path: Path | str, raw: RawFormat | None = None, rate: int = RATE) -> Sound:
    """All of a file, mono, at `rate`."""
    return np.concatenate([np.zeros(0, np.float32), *read_blocks(str(path), raw, rate)])


def read_until_error(path: Path | str) -> tuple[Sound, str]:
    """What could be read, and the one line that told what was wrong."""
    blocks = [np.zeros(0, np.float32)]
    with pytest.raises(InputError) as caught:
        blocks.extend(read_blocks(str(path), None, RATE))
    assert "\n" not in str(caught.value)
    return np.concatenate(blocks), str(caught.value)


_PIPE = """
import sys, numpy as np
from edge_runtime.capture.file import read_blocks
from edge_runtime.errors import InputError
try:
    for block in read_blocks("-", None, int(sys.argv[1])):
        sys.stdout.buffer.write(block.astype("<f4").tobytes())
except InputError as error:
    sys.exit(str(error))
"""


def read_pipe(path: Path, rate: int = RATE) -> tuple[Sound, str]:
    """What comes out of a real pipe that holds the file's bytes, and the error, which may be none."""
    with subprocess.Popen(["cat", os.fsencode(path)], stdout=subprocess.PIPE) as cat:
        done = subprocess.run(
            [sys.executable, "-c", _PIPE, str(rate)], stdin=cat.stdout, capture_output=True, timeout=60, check=False
        )
    return np.frombuffer(done.stdout, "<f4"), done.stderr.decode().strip()
