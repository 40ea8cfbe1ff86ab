"""Samples in containers that are wider than they: heard right, or refused, and the same however a pipe splits them."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.capture.pcm import RawFormat
from edge_runtime.errors import InputError
from tests.sounds import RATE, Sound, fmt, parsed, read, read_pipe, riff

_PCM = bytes.fromhex("0100000000001000800000aa00389b71")
_TONE = (0.5 * np.sin(np.arange(RATE) / 7) + np.random.default_rng(0).uniform(-0.01, 0.01, RATE)).astype(np.float32)


def packed(sound: Sound, bits: int, width: int, low: bool, *, masked: bool = True) -> bytes:
    """Little-endian integers of `bits` in `width` bytes, at the low end or at the top."""
    values = (sound.astype(np.float64) * (2 ** (bits - 1) - 1)).astype(np.int64)
    if not low:
        full = (sound.astype(np.float64) * (2 ** (8 * width - 1) - 1)).astype(np.int64)
        values = values << (8 * width - bits) if masked else full
    return values.astype("<i8").view(np.uint8).reshape(-1, 8)[:, :width].tobytes()


_CASES = [
    *((24, 4, low) for low in (True, False)),
    *((20, 4, low) for low in (True, False)),
    *((16, 4, low) for low in (True, False)),
    *((12, 4, low) for low in (True, False)),
    *((16, 3, low) for low in (True, False)),
    *[(20, 3, False), (12, 2, False), (24, 3, False), (32, 4, False), (18, 3, False)],
]


@pytest.mark.parametrize(("bits", "width", "low"), _CASES)
@pytest.mark.parametrize("extensible", [False, True])
def test_samples_are_found_in_their_container(
    bits: int, width: int, low: bool, extensible: bool, tmp_path: Path
) -> None:
    extra = struct.pack("<HHI", 22, bits, 4) + _PCM if extensible else b""
    head = fmt(0xFFFE if extensible else 1, 1, RATE, bits, width, extra)
    path = tmp_path / "wide.wav"
    for masked in (True, False):
        path.write_bytes(riff(head, packed(_TONE, bits, width, low, masked=masked)))
        np.testing.assert_allclose(read(path), _TONE, atol=3 * 2.0 ** (1 - bits) + 1e-7)


@pytest.mark.parametrize("low", [True, False])
@pytest.mark.parametrize("level", [1.0, 0.003], ids=["loud", "quiet"])
@pytest.mark.parametrize(("bits", "width"), [(24, 4), (20, 3), (12, 2)])
def test_valid_bits_of_an_extensible_header_lie_at_the_top_unless_the_samples_prove_otherwise(
    bits: int, width: int, level: float, low: bool, tmp_path: Path
) -> None:
    path = tmp_path / "valid.wav"
    head = fmt(0xFFFE, 1, RATE, 8 * width, width, struct.pack("<HHI", 22, bits, 4) + _PCM)
    path.write_bytes(riff(head, packed(level * _TONE, bits, width, low)))
    np.testing.assert_allclose(read(path), level * _TONE, atol=3 * 2.0 ** (1 - bits) + 1e-7)


def test_a_pipe_gives_what_the_file_gives(tmp_path: Path) -> None:
    path = tmp_path / "wide.wav"
    path.write_bytes(riff(fmt(1, 1, RATE, 24, 4), packed(_TONE, 24, 4, True)))
    piped, error = read_pipe(path)
    assert not error
    np.testing.assert_array_equal(piped, read(path))


@given(
    cuts=st.lists(st.integers(0, 9000), max_size=6),
    low=st.booleans(),
    zeros=st.integers(0, 700),
    quiet=st.integers(0, 900),
)
def test_the_split_of_the_bytes_does_not_matter(cuts: list[int], low: bool, zeros: int, quiet: int) -> None:
    sound = np.concatenate([np.zeros(zeros), 1e-4 * _TONE[:quiet], _TONE[100:400]]).astype(np.float32)
    data = riff(fmt(1, 1, RATE, 24, 4), packed(sound, 24, 4, low))
    _, whole = parsed(data)
    _, split = parsed(data, cuts)
    np.testing.assert_array_equal(whole, split)
    np.testing.assert_allclose(whole[:, 0], sound, atol=1e-6)


def test_a_place_that_changes_is_refused_and_not_guessed() -> None:
    quiet = packed(1e-4 * np.tile(_TONE, 4), 24, 4, True)
    with pytest.raises(InputError, match="sometimes at the low end"):
        parsed(riff(fmt(1, 1, RATE, 24, 4), quiet + packed(_TONE, 24, 4, False)))


@pytest.mark.parametrize(
    ("bits", "block", "channels"), [(24, 5, 1), (24, 5, 2), (24, 2, 1), (24, 8, 1), (8, 2, 1), (0, 2, 1), (40, 5, 1)]
)
def test_what_cannot_be_is_refused(bits: int, block: int, channels: int) -> None:
    with pytest.raises(InputError, match="bits"):
        parsed(riff(fmt(1, channels, RATE, bits, block), bytes(range(200))))


@pytest.mark.parametrize("order", ["le", "be"])
def test_raw_samples_of_24_bits_in_32(order: str, tmp_path: Path) -> None:
    path = tmp_path / "sound.raw"
    data = packed(_TONE, 24, 4, True)
    path.write_bytes(data if order == "le" else np.frombuffer(data, "<i4").astype(">i4").tobytes())
    np.testing.assert_allclose(read(path, RawFormat(f"s24{order}-in-32", RATE, 1)), _TONE, atol=1e-6)
    path.write_bytes(data + b"\0")
    with pytest.raises(InputError, match="s24le-in-32"):
        read(path, RawFormat("s24le", RATE, 1))
