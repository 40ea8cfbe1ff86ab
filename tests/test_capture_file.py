"""Files and pipes: the sound that comes in is the sound that was written, whatever it is wrapped in."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge_runtime.capture.file import length_seconds, mix, read_blocks
from edge_runtime.capture.formats.chunks import ChunkParser
from edge_runtime.capture.formats.containers import family_of
from edge_runtime.capture.formats.layout import OtherCoding
from edge_runtime.capture.pcm import ENCODINGS, LOW_BITS, RawFormat, RawParser, decode
from edge_runtime.capture.resample import Resampler
from edge_runtime.errors import InputError
from tests.sounds import parsed, read, read_until_error, wav

RATE = 16000


def tone(hertz: float, seconds: float, rate: int = RATE) -> NDArray[np.float32]:
    """A sine at half of full scale."""
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


@pytest.mark.parametrize(
    ("kind", "rate", "channels", "largest_difference"),
    [
        ("wav", 16000, 1, 1e-4),
        ("wav", 8000, 1, 1e-2),
        ("wav", 48000, 6, 1e-2),
        ("flac", 44100, 2, 1e-2),
        ("aiff", 22050, 1, 1e-2),
        ("ogg", 44100, 2, 0.06),
        ("mp3", 44100, 2, 0.06),
    ],
)
def test_every_format_rate_and_channel_count_gives_the_same_tone(
    tmp_path: Path, kind: str, rate: int, channels: int, largest_difference: float
) -> None:
    path = tmp_path / f"tone.{kind}"
    soundfile.write(path, np.repeat(tone(440, 3, rate)[:, None], channels, axis=1), rate)
    heard = read(path)
    expected = tone(440, 3)
    assert abs(len(heard) - len(expected)) <= 0.08 * RATE, f"{len(heard)} samples"
    middle = slice(RATE, 2 * RATE)  # a codec may pad the ends
    best = min(
        float(np.abs(np.roll(heard, shift)[middle] - expected[middle]).max())
        for shift in (range(-60, 60) if kind in ("mp3", "ogg") else [0])
    )
    assert best < largest_difference, f"differs by {best}"


def test_the_mean_of_the_channels_is_taken() -> None:
    frames = np.array([[1.0, 0.0], [0.5, -0.5]], np.float32)
    assert mix(frames).tolist() == [0.5, 0.0]


@pytest.mark.parametrize("rate", [44100, 48000, 96000])
def test_nothing_above_half_the_target_rate_aliases(tmp_path: Path, rate: int) -> None:
    path = tmp_path / "high.wav"
    soundfile.write(path, tone(12345, 2, rate), rate, subtype="FLOAT")
    level = float(np.sqrt(np.mean(read(path)[1000:-1000] ** 2)))
    assert level < 1e-4, f"a tone of 12345 Hz leaves {20 * np.log10(level + 1e-12):.0f} dBFS at 16 kHz"


@given(
    rate=st.sampled_from([8000, 11025, 22050, 44100, 48000, 192000]),
    cuts=st.lists(st.integers(0, 9000), max_size=6),
)
def test_resampling_does_not_depend_on_the_split(rate: int, cuts: list[int]) -> None:
    sound = np.random.default_rng(rate).standard_normal(9000).astype(np.float32)
    whole, split = Resampler(rate, RATE), Resampler(rate, RATE)
    expected = np.concatenate([whole.push(sound), whole.flush()])
    parts = [split.push(part) for part in np.split(sound, sorted(cuts))]
    heard = np.concatenate([*parts, split.flush()])
    assert abs(len(heard) - 9000 * RATE / rate) <= 1
    np.testing.assert_allclose(heard, expected, atol=1e-5)


def test_samples_that_are_no_numbers_stay_where_they_are_and_spoil_nothing_else() -> None:
    sound = tone(300, 1, 48000)
    broken = sound.copy()
    broken[24000:24030] = np.nan
    resampler = Resampler(48000, RATE)
    heard = np.concatenate([resampler.push(broken[:24010]), resampler.push(broken[24010:]), resampler.flush()])
    assert np.flatnonzero(np.isnan(heard)).tolist() == list(range(8000, 8010))


def test_a_long_file_is_read_in_small_blocks(tmp_path: Path) -> None:
    path = tmp_path / "long.wav"
    soundfile.write(path, np.zeros(600 * 8000, np.int16), 8000)
    sizes = [len(block) for block in read_blocks(str(path), None, RATE)]
    assert sum(sizes) == 600 * RATE
    assert max(sizes) <= RATE


def test_an_odd_rate_and_many_channels_need_no_more_memory(tmp_path: Path) -> None:
    path = tmp_path / "odd.wav"
    soundfile.write(path, np.zeros((3000, 250), np.int16), 1_000_000)
    assert len(read(path)) == 48


@given(
    cuts=st.lists(st.integers(0, 800), max_size=10),
    size=st.sampled_from([None, 0, 0xFFFFFFFF, 0x7FFFFFFF, 0x80000000]),
    before=st.sampled_from([b"", b"LIST" + struct.pack("<I", 5) + b"hello\0", b"JUNK" + struct.pack("<I", 0)]),
)
def test_a_wav_from_a_pipe_is_the_same_however_it_is_cut(cuts: list[int], size: int | None, before: bytes) -> None:
    values = np.arange(-150, 150, dtype="<i2")
    data = wav(RawFormat("s16le", RATE, 2), values.tobytes(), size, before)
    np.testing.assert_array_equal(parsed(data, cuts)[1], values.reshape(-1, 2) / np.float32(32768))


@pytest.mark.parametrize(
    "subtype", ["PCM_U8", "PCM_S8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW"]
)
@pytest.mark.parametrize("kind", ["WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "CAF", "NIST"])
def test_our_parser_agrees_with_libsndfile(subtype: str, kind: str) -> None:
    if not soundfile.check_format(kind, subtype):
        return  # there is no such file
    file = io.BytesIO()
    soundfile.write(file, np.random.default_rng(0).uniform(-1, 1, (999, 2)), 22050, subtype, format=kind)
    rate, heard = parsed(file.getvalue())
    file.seek(0)
    expected, expected_rate = soundfile.read(file, dtype="float32", always_2d=True)
    assert rate == expected_rate
    np.testing.assert_allclose(heard, expected, atol=1e-7)


@pytest.mark.parametrize("encoding", sorted(set(ENCODINGS) - {"ulaw", "alaw"}))
def test_raw_samples_of_every_coding_have_full_scale_one(encoding: str) -> None:
    kind, full_scale = ENCODINGS[encoding]
    order: Literal["little", "big"] = "big" if kind[0] == ">" else "little"
    if "f" in kind:
        data = np.array([0.5, -1.0], kind).tobytes()
    elif "u" in kind:
        data = bytes([192, 0])
    else:
        width = int(kind[-1])
        bits = LOW_BITS.get(encoding, 8 * width)
        data = b"".join(int(v * 2 ** (bits - 1)).to_bytes(width, order, signed=True) for v in (0.5, -1.0))
    assert decode(data, RawFormat(encoding, RATE, 1))[:, 0].tolist() == [0.5, -1.0], full_scale


@given(st.binary(max_size=400))
def test_junk_on_the_pipe_is_an_error_in_one_line_or_sound(junk: bytes) -> None:
    for data in (junk, b"RIFF" + junk, wav(RawFormat("s16le", RATE, 1), b"")[:20] + junk):
        parser = ChunkParser(family_of)
        try:
            for _ in (*parser.push(data), *parser.flush()):
                pass
        except (InputError, OtherCoding) as error:
            assert "\n" not in str(error)


@given(st.binary(max_size=100), st.integers(1, 5))
def test_raw_sound_keeps_a_frame_that_is_cut(data: bytes, cut: int) -> None:
    whole, split = (RawParser(RawFormat("s24le", RATE, 2)) for _ in range(2))
    nothing = np.zeros((0, 2), np.float32)
    expected = np.concatenate([nothing, *(block for _, block in whole.push(data))])
    pieces = (data[i : i + cut] for i in range(0, len(data), cut))
    heard = np.concatenate([nothing, *(block for piece in pieces for _, block in split.push(piece))])
    np.testing.assert_array_equal(heard, expected)


def test_raw_files_are_read_as_told(tmp_path: Path) -> None:
    path = tmp_path / "sound.raw"
    path.write_bytes((tone(440, 1) * 32768).astype("<i2").tobytes())
    form = RawFormat("s16le", RATE, 1)
    np.testing.assert_allclose(read(path, form), tone(440, 1), atol=1e-4)
    assert length_seconds(str(path), form) == pytest.approx(1.0)


def _missing(folder: Path) -> Path:
    return folder / "none.wav"


def _text(folder: Path) -> Path:
    (folder / "text.wav").write_text("not a sound\n" * 100)
    return folder / "text.wav"


def _zero_bytes(folder: Path) -> Path:
    (folder / "zero.wav").write_bytes(b"")
    return folder / "zero.wav"


def _zero_frames(folder: Path) -> Path:
    soundfile.write(folder / "short.wav", np.zeros(0), RATE)
    return folder / "short.wav"


@pytest.mark.parametrize("make", [_missing, _text, _zero_bytes, _zero_frames, lambda folder: folder])
def test_what_is_no_sound_is_an_input_error_that_names_the_file(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    path = make(tmp_path)
    heard, error = read_until_error(path)
    assert str(path) in error and not len(heard), error


@pytest.mark.parametrize("kind", ["wav", "flac", "mp3"])
def test_a_file_cut_in_half_gives_its_half_and_then_the_error(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"cut.{kind}"
    sound = np.random.default_rng(0).uniform(-0.5, 0.5, 4 * RATE).astype(np.float32)
    soundfile.write(path, sound, RATE)
    whole = read(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    heard, error = read_until_error(path)
    assert "cut short" in error
    assert 1.7 * RATE < len(heard) < 2.3 * RATE, f"{len(heard) / RATE:.2f} s heard"
    np.testing.assert_array_equal(heard, whole[: len(heard)])


def test_a_flac_with_damage_in_the_middle_gives_all_before_it(tmp_path: Path) -> None:
    path = tmp_path / "damaged.flac"
    soundfile.write(path, np.random.default_rng(0).uniform(-0.5, 0.5, 4 * RATE).astype(np.float32), RATE)
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 9000] = bytes(9000)
    path.write_bytes(bytes(data))
    heard, error = read_until_error(path)
    assert "damaged" in error
    assert len(heard) > 1.6 * RATE, f"{len(heard) / RATE:.2f} s heard"
