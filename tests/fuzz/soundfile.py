"""Sound files of other kinds (FLAC, Ogg, MP3, and headers of all) through the reader of files."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import soundfile

from edge_runtime.capture.file import length_seconds, read_blocks
from edge_runtime.capture.formats import mp3
from edge_runtime.capture.formats.chunks import ChunkParser
from edge_runtime.capture.formats.containers import family_of
from edge_runtime.capture.formats.layout import OtherCoding
from edge_runtime.errors import InputError
from tests.fuzz.harness import Target

_KINDS = (
    *(("FLAC", "PCM_16"), ("FLAC", "PCM_24"), ("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III")),
    *(("AIFF", "PCM_16"), ("AU", "PCM_16"), ("CAF", "PCM_16"), ("WAV", "PCM_16")),
)
_OGG = (b"\x01vorbis", b"OpusHead")
_LONGEST_SECONDS = 60


def _seeds(folder: Path) -> list[bytes]:
    sound = np.random.default_rng(0).uniform(-0.5, 0.5, (4000, 1)) * np.sin(np.arange(4000) / 300)[:, None]
    found = []
    for kind, subtype in _KINDS:
        file = io.BytesIO()
        soundfile.write(file, sound, 16000, subtype, format=kind)
        found.append(file.getvalue())
    return [*found, *(sample + sample for sample in found[:5])]


def _is_decoded_here(sample: bytes) -> bool:
    if family_of(sample[:16]) is None:
        return (
            mp3.is_mp3(sample[:4]) or sample[:4] == b"fLaC" or (sample[:4] == b"OggS" and sample[28:].startswith(_OGG))
        )
    try:
        for _ in ChunkParser(family_of).push(sample):
            return True
    except OtherCoding:
        return False
    except InputError:
        pass
    return True


def _run(sample: bytes, folder: Path) -> None:
    path = folder / "sound"
    path.write_bytes(sample)
    if not _is_decoded_here(sample):
        return  # a process for each input would test how processes are started
    length_seconds(str(path), None)
    seconds = 0.0
    for block in read_blocks(str(path), None, 16000):
        assert block.dtype == np.float32 and block.ndim == 1
        seconds += len(block) / 16000
        if seconds > _LONGEST_SECONDS:  # as with --duration
            return


TARGET = Target(
    seeds=_seeds,
    run=_run,
    tokens=(
        b"OggS",
        b"fLaC",
        b"\x01vorbis",
        b"OpusHead",
        b"Xing",
        b"Info",
        b"LAME",
        b"\xff\xfb",
        b"ID3",
        b"TAG",
        b"VBRI",
    ),
    most_seconds=20.0,
)
