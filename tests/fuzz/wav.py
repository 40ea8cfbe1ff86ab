"""WAV, RF64 and Wave64, AIFF, CAF and AU: a file and a pipe of the same bytes agree, however the pipe splits them."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import soundfile

from edge_runtime.capture.formats.chunks import ChunkParser
from edge_runtime.capture.formats.containers import family_of
from edge_runtime.capture.formats.layout import OtherCoding
from edge_runtime.capture.pcm import HIGHEST_RATE, LOWEST_RATE, MOST_CHANNELS
from edge_runtime.errors import InputError
from tests.fuzz.harness import Target

_SOUND = np.random.default_rng(0).uniform(-0.5, 0.5, (300, 2))
_KINDS = (
    *(("WAV", subtype) for subtype in ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW")),
    *(("WAVEX", "PCM_24"), ("RF64", "PCM_16"), ("W64", "PCM_24"), ("AIFF", "PCM_16"), ("AIFF", "FLOAT")),
    *(("AU", "PCM_16"), ("AU", "ULAW"), ("CAF", "PCM_24"), ("CAF", "FLOAT"), ("NIST", "PCM_16")),
)


def written(kind: str, subtype: str) -> bytes:
    """A short sound as libsndfile writes it."""
    file = io.BytesIO()
    soundfile.write(file, _SOUND, 16000, subtype, format=kind)
    return file.getvalue()


def _seeds(folder: Path) -> list[bytes]:
    wide = struct.pack("<HHIIHH", 1, 1, 16000, 64000, 4, 24)
    body = (_SOUND[:, 0] * 2**23).astype("<i4").tobytes()
    found = [written(*kind) for kind in _KINDS]
    found.append(
        b"RIFF" + struct.pack("<I", 36 + len(body)) + b"WAVEfmt \x10\0\0\0" + wide + b"data"
        + struct.pack("<I", len(body)) + body + b"LIST\4\0\0\0INFO"
    )  # fmt: skip
    return [*found, found[0] + found[1]]


def _heard(data: bytes, cuts: list[int]) -> tuple[list[tuple[int, bytes]], str]:
    """What the parser gives of `data` cut at `cuts`, joined while rate and channels stay, and how it ended."""
    parser = ChunkParser(family_of)
    found: list[tuple[int, bytes]] = []
    forms: list[tuple[int, int]] = []
    ended = ""
    try:
        for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
            for rate, block in parser.push(data[start:end]):
                _take(rate, block, found, forms)
        for rate, block in parser.flush():
            _take(rate, block, found, forms)
    except (InputError, OtherCoding) as reason:
        ended = str(reason)
    return found, ended


def _take(rate: int, block: np.ndarray, found: list[tuple[int, bytes]], forms: list[tuple[int, int]]) -> None:
    assert LOWEST_RATE <= rate <= HIGHEST_RATE and 1 <= block.shape[1] <= MOST_CHANNELS, (rate, block.shape)
    assert block.dtype == np.float32
    if len(block) and forms and forms[-1] == (rate, block.shape[1]):
        found[-1] = (rate, found[-1][1] + block.tobytes())
    elif len(block):
        found.append((rate, block.tobytes()))
        forms.append((rate, block.shape[1]))


def _run(sample: bytes, folder: Path) -> None:
    generator = np.random.default_rng(zlib.crc32(sample))
    cuts = sorted(generator.integers(0, len(sample) + 1, generator.integers(0, 12)).tolist())
    whole, ended = _heard(sample, [])
    split, split_ended = _heard(sample, cuts)
    bytewise, bytewise_ended = _heard(sample[:700], list(range(1, len(sample[:700]))))
    start, start_ended = _heard(sample[:700], [])
    assert ended == split_ended, (ended, split_ended, cuts)
    assert whole == split, (len(whole), len(split), cuts)
    assert (bytewise, bytewise_ended) == (start, start_ended), (bytewise_ended, start_ended)
    if ended:
        raise InputError(ended)


TARGET = Target(
    seeds=_seeds,
    run=_run,
    tokens=(
        *(b"RIFF", b"RF64", b"WAVE", b"fmt ", b"data", b"LIST", b"ds64", b"JUNK", b"FORM", b"AIFF", b"AIFC", b"COMM"),
        *(b"SSND", b"caff", b"desc", b".snd", b"TAG", b"ID3\3\0\0\0\0\0\x10", b"APETAGEX", b"\0" * 32, b"fLaC\0"),
    ),
)
