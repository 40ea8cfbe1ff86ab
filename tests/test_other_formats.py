"""Formats that another process decodes, through the real program; and what is printed of names and by libraries."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from edge_runtime.capture.formats import ffmpeg
from tests.program import PROGRAM, lines, one_line, run
from tests.sounds import RATE, read, read_until_error

_NOISE = np.random.default_rng(0).uniform(-0.3, 0.3, 3 * RATE).astype(np.float32)


def convert(folder: Path, name: str, *options: str, sound: np.ndarray = _NOISE) -> Path:
    """A file that ffmpeg writes."""
    soundfile.write(folder / "source.wav", sound, RATE)
    words = ["ffmpeg", "-loglevel", "error", "-y", "-i", str(folder / "source.wav"), *options, str(folder / name)]
    subprocess.run(words, check=True, stdin=subprocess.DEVNULL)
    return folder / name


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.m4a", ()),
        ("a.aac", ()),
        ("a.wma", ()),
        ("a.webm", ("-c:a", "libopus")),
        ("a.mkv", ("-c:a", "aac")),
        ("a.3gp", ("-c:a", "aac", "-movflags", "+faststart")),
        ("a.ts", ()),
        ("a.tta", ()),
        ("a.flv", ("-ar", "44100", "-c:a", "aac")),
        ("a.mp4", ("-f", "lavfi", "-i", "color=d=3:s=16x16:r=5", "-map", "0:a", "-map", "1:v", "-c:v", "mpeg4")),
    ],
)
def test_ffmpeg_decodes_what_libsndfile_does_not_also_where_files_follow_each_other(
    name: str, options: tuple[str, ...], tmp_path: Path
) -> None:
    path = convert(tmp_path, name, *options)
    assert abs(len(read(path)) - 3 * RATE) < 0.15 * RATE
    path.write_bytes(path.read_bytes() * 2)
    assert abs(len(read(path)) - 6 * RATE) < 0.3 * RATE


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.wav", ("-c:a", "adpcm_ima_wav")),
        ("a.wav", ("-c:a", "g722")),
        ("a.caf", ("-c:a", "alac")),
        ("a.voc", ("-c:a", "pcm_s16le")),
    ],
)
def test_another_file_behind_one_that_others_decode_is_never_lost_without_a_word(
    name: str, options: tuple[str, ...], tmp_path: Path
) -> None:
    path = convert(tmp_path, name, *options)
    assert abs(len(read(path)) - 3 * RATE) < 0.1 * RATE
    path.write_bytes(path.read_bytes() * 2)
    heard, error = read_until_error(path)
    assert len(heard) > 2.9 * RATE
    assert "another file begins in it" in error or "follow its end" in error


@pytest.mark.parametrize(("name", "options"), [("a.oga", ("-c:a", "flac")), ("a.voc", ("-c:a", "pcm_s16le"))])
def test_a_cut_is_reported_where_the_decoder_says_nothing(name: str, options: tuple[str, ...], tmp_path: Path) -> None:
    path = convert(tmp_path, name, *options)
    assert abs(len(read(path)) - 3 * RATE) < 0.1 * RATE
    for share in (0.5, 0.97):
        cut = tmp_path / f"cut-{name}"
        cut.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
        _, error = read_until_error(cut)
        assert "is cut short" in error


@pytest.mark.parametrize(("name", "options"), [("a.m4a", ("-movflags", "+faststart")), ("a.webm", ()), ("a.aac", ())])
def test_what_is_cut_short_is_reported_after_its_sound(name: str, options: tuple[str, ...], tmp_path: Path) -> None:
    path = convert(tmp_path, name, *options, sound=np.tile(_NOISE, 8))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    heard, error = read_until_error(path)
    assert "cut short" in error and "ffmpeg" in error
    assert 6 * RATE < len(heard) < 14 * RATE


def test_all_tracks_are_heard(tmp_path: Path) -> None:
    path = convert(tmp_path, "two.mkv", "-map", "0:a", "-map", "0:a", "-c:a", "aac")
    assert abs(len(read(path)) - 6 * RATE) < 0.3 * RATE


def test_a_playlist_opens_no_other_file(tmp_path: Path) -> None:
    convert(tmp_path, "a.ts")
    playlist = tmp_path / "list.m3u8"
    playlist.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3,\na.ts\n#EXT-X-ENDLIST\n")
    heard, error = read_until_error(playlist)
    assert not len(heard) and "cannot" in error


def test_pictures_without_sound_are_an_error(tmp_path: Path) -> None:
    path = convert(tmp_path, "mute.mp4", "-f", "lavfi", "-i", "color=d=1:s=16x16:r=5", "-map", "1:v", "-c:v", "mpeg4")
    assert "no sound" in read_until_error(path)[1]


@pytest.mark.parametrize("name", ["a.m4a", "a.aac"])
def test_without_ffmpeg_one_line_names_the_package(name: str, model: str, tmp_path: Path) -> None:
    path = convert(tmp_path, name)
    done = run("--model", model, "--file", path, env={**os.environ, "PATH": str(tmp_path)})
    assert done.returncode == 3
    assert "apt install ffmpeg" in one_line(done.stderr)


def test_duration_ends_ffmpeg_too(model: str, tmp_path: Path) -> None:
    path = convert(tmp_path, "long.m4a", sound=np.tile(_NOISE, 20))
    done = run("--model", model, "--duration", "5", "--file", path)
    assert done.returncode == 0, done.stderr
    assert lines(done.stdout)[-1]["seconds"] == 5.0


def test_sigterm_ends_the_program_and_ffmpeg(model: str, tmp_path: Path) -> None:
    path = convert(tmp_path, "long.m4a", sound=np.tile(_NOISE, 80))
    words = [*PROGRAM, "--model", model, "--file", str(path)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8") as process:
        assert process.stdout is not None
        process.stdout.readline()
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        process.send_signal(signal.SIGTERM)
        out, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert lines(out)[-1]["type"] == "summary"
    ends = time.monotonic() + 30
    while any(Path(f"/proc/{child}/cmdline").exists() for child in children) and time.monotonic() < ends:
        time.sleep(0.05)
    assert children and not any(Path(f"/proc/{child}").exists() for child in children)


def test_a_library_that_prints_does_not_reach_standard_output(model: str, tmp_path: Path) -> None:
    path = tmp_path / "damaged.sds"
    soundfile.write(path, np.tile(_NOISE, 2), RATE, "PCM_16", format="SDS")
    data = bytearray(path.read_bytes())
    for place in range(21, len(data), 127):
        data[place] ^= 0x55
    path.write_bytes(bytes(data))
    done = run("--model", model, "--file", path)
    assert done.returncode == 3
    assert abs(lines(done.stdout)[-1]["seconds"] - 6) < 0.1
    assert "libsndfile complains" in one_line(done.stderr)


def test_names_that_are_no_utf_8_are_scored_and_shown_escaped(model: str, clip: Path, tmp_path: Path) -> None:
    names = [b"caf\xe9.wav", b"a\xffb\nc\x1b[31m.wav", "naïve.wav".encode()]
    for name in names:
        (tmp_path / os.fsdecode(name)).write_bytes(clip.read_bytes())
    done = run("--model", model, "--file", *(os.fsdecode(os.fsencode(tmp_path) + b"/" + name) for name in names))
    assert done.returncode == 0, done.stderr
    found = [line for line in lines(done.stdout) if line["type"] == "summary"]
    shown = [line["file"].removeprefix(f"{tmp_path}/") for line in found]
    assert shown == ["caf\\xe9.wav", "a\\xffb\nc\x1b[31m.wav", "naïve.wav"]
    assert [line.get("file_hex", "") != "" for line in found] == [True, True, False]
    assert bytes.fromhex(found[0]["file_hex"]).endswith(names[0])
    json.dumps(found, ensure_ascii=False).encode()  # no half of a character
    done = run("--model", model, "--no-json", "--file", os.fsdecode(os.fsencode(tmp_path) + b"/none\xe9\x1b.wav"))
    assert done.returncode == 3
    assert "none\\xe9\\x1b.wav" in one_line(done.stderr)
    assert "none\\xe9\\x1b.wav" in done.stdout


def test_what_ffmpeg_is_needed_for_is_recognized() -> None:
    assert ffmpeg.kind_of(b"\0\0\0\x1cftypM4A ") and ffmpeg.kind_of(b"\xff\xf1\x50\x80")
    assert not ffmpeg.kind_of(b"\xff\xfb\x90\x00") and not ffmpeg.kind_of(b"RIFF\0\0\0\0WAVE")
