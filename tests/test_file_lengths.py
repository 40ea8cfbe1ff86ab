"""Files that hold less or more sound than they announce: all that is there is heard, and what is not is reported."""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.capture.file import length_seconds
from edge_runtime.capture.formats import flac, mp3
from edge_runtime.errors import InputError
from tests.sounds import RATE, Sound, fmt, parsed, read, read_pipe, read_until_error, riff

_NOISE = np.random.default_rng(0).uniform(-0.5, 0.5, 2 * RATE).astype(np.float32)
_MONO16 = fmt(1, 1, RATE, 16)


def s16(sound: Sound) -> bytes:
    return (sound * 32767).astype("<i2").tobytes()


def written(kind: str, sound: Sound = _NOISE, subtype: str | None = None, rate: int = RATE) -> bytes:
    """The bytes that libsndfile writes."""
    file = io.BytesIO()
    soundfile.write(file, sound, rate, subtype, format=kind)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["WAV", "AIFF", "W64", "RF64", "AU", "CAF", "NIST"])
def test_a_cut_is_reported_in_a_file_and_in_a_pipe_and_all_before_it_is_heard(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "cut"
    whole = written(kind, subtype="PCM_16")
    path.write_bytes(whole[: len(whole) // 2])
    heard, error = read_until_error(path)
    assert "cut short" in error
    assert abs(len(heard) - RATE) < 0.1 * RATE
    with pytest.raises(InputError, match="cut short"):
        parsed(whole[: len(whole) // 2])


@pytest.mark.parametrize(("kind", "subtype"), [("WAV", "IMA_ADPCM"), ("WAV", "GSM610"), ("CAF", "ALAC_16")])
def test_other_codings_are_read_whole_and_their_cuts_are_reported(kind: str, subtype: str, tmp_path: Path) -> None:
    path = tmp_path / "sound"
    whole = written(kind, subtype=subtype)
    path.write_bytes(whole)
    assert abs(len(read(path)) - len(_NOISE)) < 0.1 * RATE
    path.write_bytes(whole[: len(whole) // 2])
    _, error = read_until_error(path)
    assert "cut short" in error or "cannot read" in error


@given(
    announced=st.integers(0, 600) | st.sampled_from([0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFF000, 0x80000000, 0xFFFFFFDB]),
    cuts=st.lists(st.integers(0, 1300), max_size=8),
)
def test_a_size_that_says_too_little_or_nothing_loses_no_sample(announced: int, cuts: list[int]) -> None:
    values = np.arange(100, 700, dtype="<i2")
    _, heard = parsed(riff(_MONO16, values.tobytes(), size=announced), cuts)
    np.testing.assert_array_equal(heard[:, 0] * 32768, values)


@given(announced=st.integers(4, 596), zeros=st.integers(0, 3000), cuts=st.lists(st.integers(0, 4000), max_size=8))
def test_zeros_within_the_sound_stay_and_those_that_fill_a_file_up_do_not_count(
    announced: int, zeros: int, cuts: list[int]
) -> None:
    first, second = np.arange(1, 301, dtype="<i2"), np.arange(256, 400, dtype="<i2")
    data = riff(_MONO16, first.tobytes() + bytes(2 * zeros) + second.tobytes() + bytes(5000), size=announced)
    _, heard = parsed(data, cuts)
    np.testing.assert_array_equal(heard[:, 0] * 32768, np.concatenate([first, np.zeros(zeros, "<i2"), second]))


_TAG = b"TAG" + b"name".ljust(125, b"\0")
_APE = struct.pack("<8sIIII8x", b"APETAGEX", 2000, 32 + 20, 1, 0x80000000)
_APE_TAG = struct.pack("<8sIIII8x", b"APETAGEX", 2000, 32 + 20, 1, 0xA0000000) + bytes(20) + _APE
_BEHIND = {
    "a list": b"LIST" + struct.pack("<I", 12) + b"INFOISFTxxxx",
    "an ID3 chunk": b"id3 " + struct.pack("<I", 6) + b"ID3abc",
    "an unknown chunk": b"Xtra" + struct.pack("<I", 5) + b"hello\0",
    "ID3v1": _TAG,
    "APE and ID3v1": _APE_TAG + _TAG,
    "padding": bytes(3000),
    "padding, then a chunk": bytes(100) + b"LIST" + struct.pack("<I", 4) + b"INFO",
    "a line feed": b"\n",
}


@pytest.mark.parametrize("behind", _BEHIND.values(), ids=_BEHIND)
@pytest.mark.parametrize("bits", [16, 8])
def test_what_is_no_sound_behind_it_is_neither_heard_nor_an_error(behind: bytes, bits: int) -> None:
    for samples in (300, 301):
        data = bytes(range(1, 200)) * 4
        body = data[: samples * bits // 8]
        pad = bytes(len(body) % 2)
        _, heard = parsed(riff(fmt(1, 1, RATE, bits), body, behind=pad + behind), [50])
        assert abs(len(heard) - samples) <= (2 if behind == b"\n" else 0)


def test_a_chunk_of_sound_that_cannot_be_told_is_reported_with_its_size(tmp_path: Path) -> None:
    path = tmp_path / "more.wav"
    path.write_bytes(riff(_MONO16, s16(_NOISE), behind=_BEHIND["a list"] + s16(_NOISE)))
    heard, error = read_until_error(path)
    assert len(heard) == len(_NOISE)
    assert f"{len(s16(_NOISE))} bytes" in error and "left out" in error


@pytest.mark.parametrize("first", ["WAV", "RF64", "AIFF", "AU", "W64"])
@pytest.mark.parametrize("size_known", [True, False])
def test_a_second_file_of_another_rate_is_read_on(first: str, size_known: bool, tmp_path: Path) -> None:
    data = written(first, subtype="PCM_16")
    if not size_known:
        if first != "WAV":
            return
        data = riff(_MONO16, s16(_NOISE), size=0xFFFFFFFF)
    path = tmp_path / "two"
    path.write_bytes(data + written("WAV", np.stack([_NOISE, _NOISE], 1), rate=8000))
    heard = read(path)
    assert abs(len(heard) - 3 * len(_NOISE)) < 5
    np.testing.assert_allclose(heard[: len(_NOISE) - 1], _NOISE[:-1], atol=1e-3)
    if first == "WAV":
        piped, error = read_pipe(path)
        assert not error
        np.testing.assert_array_equal(piped, heard)


@pytest.mark.parametrize("kind", ["AU", "AIFF", "CAF", "RF64", "W64"])
def test_sound_behind_the_announced_end_is_heard(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "more"
    path.write_bytes(written(kind, subtype="PCM_16") + s16(_NOISE))
    assert len(read(path)) == pytest.approx(2 * len(_NOISE), abs=200)


def test_gigabytes_of_nothing_behind_a_wrapped_size_are_passed_quickly(tmp_path: Path) -> None:
    path = tmp_path / "sparse.wav"
    path.write_bytes(riff(_MONO16, s16(_NOISE), size=1000))
    os.truncate(path, 1 << 29)
    assert len(read(path)) == len(_NOISE)
    seconds = length_seconds(str(path), None)
    assert seconds is not None and seconds > 0


def test_a_flac_within_a_wav_is_not_read_as_samples(tmp_path: Path) -> None:
    path = tmp_path / "two"
    path.write_bytes(riff(_MONO16, s16(_NOISE)) + written("FLAC"))
    heard, error = read_until_error(path)
    assert len(heard) == len(_NOISE) and "left out" in error


_PACKED = ["OGG", "OPUS", "FLAC", "MP3"]


def packed(kind: str, sound: Sound = _NOISE, rate: int = RATE) -> bytes:
    return written("OGG", sound, "OPUS", rate) if kind == "OPUS" else written(kind, sound, rate=rate)


@pytest.mark.parametrize("kind", _PACKED)
def test_files_that_follow_each_other_are_all_heard(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "joined"
    path.write_bytes(packed(kind))
    single = read(path)
    path.write_bytes(packed(kind) * 2 + packed(kind, _NOISE[:RATE], 8000))
    heard = read(path)
    assert abs(len(heard) - 3 * len(_NOISE)) < 0.15 * RATE, len(heard) / RATE
    np.testing.assert_allclose(heard[: len(single) - 10], single[:-10], atol=1e-4)


@pytest.mark.parametrize("kind", _PACKED)
def test_a_cut_of_compressed_sound_is_reported(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "cut"
    whole = packed(kind, np.tile(_NOISE, 4))
    path.write_bytes(whole[: len(whole) // 2])
    heard, error = read_until_error(path)
    assert "cut short" in error
    assert 2 * RATE < len(heard) < 5 * RATE
    path.write_bytes(whole[: len(whole) // 50])
    assert "cut short" in read_until_error(path)[1]


def _without_total(data: bytes) -> bytes:
    """A FLAC as encoders write it to a pipe."""
    return data[:21] + bytes([data[21] & 0xF0]) + bytes(4) + data[26:]


def test_a_flac_that_does_not_say_its_length_is_whole_or_cut(tmp_path: Path) -> None:
    path = tmp_path / "streamed.flac"
    whole = _without_total(written("FLAC"))
    path.write_bytes(whole)
    assert len(read(path)) == len(_NOISE)
    path.write_bytes(whole + _TAG)
    assert len(read(path)) == len(_NOISE)
    path.write_bytes(whole[: len(whole) * 2 // 3])
    heard, error = read_until_error(path)
    assert "cut short" in error and len(heard) > RATE // 2


@pytest.mark.parametrize("block", [16, 4608, 0xFFFF])
def test_a_flac_whose_header_lies_about_its_blocks_is_heard_as_it_is(block: int, tmp_path: Path) -> None:
    path = tmp_path / "blocks.flac"
    soundfile.write(path, np.random.default_rng(0).uniform(-0.3, 0.3, 2 * RATE), RATE)
    right = read(path)
    data = bytearray(path.read_bytes())
    data[8:12] = 2 * block.to_bytes(2, "big")
    path.write_bytes(data)
    np.testing.assert_array_equal(read(path), right)


def test_a_flac_whose_length_was_not_brought_up_to_date_is_heard_to_the_end(tmp_path: Path) -> None:
    path = tmp_path / "stale.flac"
    data = written("FLAC")
    path.write_bytes(data[:22] + struct.pack(">I", 4096) + data[26:])
    assert len(read(path)) == len(_NOISE)


@given(st.binary(max_size=300))
def test_the_last_frame_of_flac_is_found_behind_anything(junk: bytes) -> None:
    data = written("FLAC", _NOISE[:5000])
    block = int.from_bytes(data[8:10], "big")
    assert flac.last_frame_end(junk + data[42:], block) == 5000


def test_ogg_with_a_page_missing_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "gap.ogg"
    data = written("OGG", np.tile(_NOISE, 5))
    places = [at for at in range(len(data)) if data[at : at + 4] == b"OggS"]
    path.write_bytes(data[: places[-3]] + data[places[-2] :])
    heard, error = read_until_error(path)
    assert "missing" in error and len(heard)


def _frames(data: bytes) -> list[bytes]:
    place, found = 0, []
    while (frame := mp3.frame_of(data[place : place + 4])) is not None:
        found.append(data[place : place + frame.size])
        place += frame.size
    return found


@pytest.fixture(scope="module")
def mp3_frames() -> list[bytes]:
    """The frames of an MP3, without the one that holds its length."""
    return _frames(written("MP3", np.tile(_NOISE, 4)))[1:]


def _before(frames: list[bytes]) -> bytes:
    return b"".join(frames)


@pytest.mark.parametrize(
    "change",
    [
        _before,
        lambda frames: _before(frames) + _TAG,
        lambda frames: _before(frames) + _APE_TAG,
        lambda frames: b"ID3\3\0\0\0\0\x01\x00" + bytes(128) + _before(frames) + _APE_TAG + _TAG,
        lambda frames: _before(frames) + bytes(5000),
        lambda frames: bytes(100) + b"\0" + _before(frames),
    ],
)
def test_an_mp3_that_does_not_say_its_length_is_never_damaged(
    change: Callable[[list[bytes]], bytes], mp3_frames: list[bytes], tmp_path: Path
) -> None:
    path = tmp_path / "guessed.mp3"
    data = change(mp3_frames)
    if data.startswith(b"\0"):
        data = b"ID3\3\0\0\0\0\0\0" + data  # zeros after a tag, as taggers leave them
    path.write_bytes(data)
    samples = mp3.frame_of(mp3_frames[0][:4])
    assert samples is not None
    assert abs(len(read(path)) - len(mp3_frames) * samples.samples) <= 2 * samples.samples


def test_an_mp3_of_changing_bit_rate_is_heard_to_the_end(tmp_path: Path) -> None:
    """The first frames suggest another length than the file has, in both directions."""
    path = tmp_path / "vbr.mp3"
    quiet = _frames(written("MP3", np.zeros(8 * RATE, np.float32)))[1:]
    loud = _frames(written("MP3", np.tile(_NOISE, 4)))[1:]
    for frames in (quiet + loud, loud + quiet):
        path.write_bytes(b"".join(frames))
        assert abs(len(read(path)) - 16 * RATE) < 0.3 * RATE
