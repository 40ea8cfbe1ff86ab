"""Live pipes, streams, and names of microphones."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

from tests.faults.case import Case

_LIVE = ("--file", "-", "--live")
_NOBODY = "127.0.0.1:9"
"""Where no server listens."""


def _noise(_folder: Path) -> bytes:
    return bytes(range(256)) * 250


def _announced(folder: Path) -> bytes:
    sound = _noise(folder)
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, 16000, 32000, 2, 16)
    return b"RIFF" + struct.pack("<I", 36 + 96000) + b"WAVE" + form + b"data" + struct.pack("<I", 96000) + sound


def _regular(folder: Path) -> Sequence[str | Path]:
    (folder / "clip.wav").write_bytes(_announced(folder))
    return ["--file", "clip.wav", "--live"]


def _commissioned(folder: Path) -> Sequence[str | Path]:
    (folder / "camera.toml").write_text(f'stream = "rtsp://user:hunter2@{_NOBODY}/1"\n')
    return ["commission", "--config", "camera.toml", "--seconds", "1"]


CASES = [
    Case(
        "a live pipe that breaks off inside a frame",
        lambda _folder: [*_LIVE, "--raw", "s24le"],
        3,
        "standard input: is cut short or of another coding: it ends with 1 of the 3 bytes of a sample",
        stdin=_noise,
    ),
    Case(
        "a live WAV that is shorter than its header announces",
        lambda _folder: _LIVE,
        3,
        "standard input: ",
        stdin=_announced,
    ),
    Case("a live pipe with nothing in it", lambda _folder: _LIVE, 3, "standard input: no sound came"),
    Case(
        "a live pipe that stalls for longer than it may",
        lambda _folder: [*_LIVE, "--raw", "s16le", "--stall", "1", "--recover-timeout", "1"],
        3,
        "the pipe has given no sound for 1 s: nothing writes into it, or what writes stands still",
        stdin=_noise,
        before=("sh", "-c", '(cat; exec sleep 6) | "$@"', "sh"),
    ),
    Case("--live with a file that is no pipe", _regular, 3, "clip.wav: is no FIFO"),
    Case("--live with two pipes", lambda _folder: ["--live", "--file", "-", "sound"], 2, "--live is for one pipe"),
    Case(
        "a stream whose server is not there",
        lambda _folder: ["--stream", f"http://{_NOBODY}/live.mp3"],
        3,
        f"http://{_NOBODY}/live.mp3: Connection refused",
    ),
    Case(
        "a stream with a password whose server is not there",
        lambda _folder: ["--stream", f"rtsp://user:hunter2@{_NOBODY}/stream1?token=hunter2"],
        3,
        f"rtsp://***@{_NOBODY}/stream1?***: Connection refused",
    ),
    Case(
        "a stream that is a file of the machine",
        lambda _folder: ["--stream", "file:///etc/passwd"],
        2,
        "--stream must be a URL that begins with one of rtsp://",
    ),
    Case(
        "a stream where no ffmpeg is installed",
        lambda _folder: ["--stream", f"rtsp://{_NOBODY}/stream1"],
        3,
        "streams need ffmpeg, which is not installed: `sudo apt install ffmpeg`",
        environment={"PATH": "/nowhere"},
    ),
    Case(
        "commission with a configuration that names a stream",
        _commissioned,
        2,
        "commission tests microphones, and this configuration names a stream or a pipe",
    ),
    Case(
        "the name of a device for playing",
        lambda _folder: ["--device", "surround51:CARD=Device,DEV=0"],
        3,
        "is for playing sound and no microphone; give the card as hw:CARD=NAME",
    ),
    Case(
        "the name of a subdevice, which PortAudio cannot choose",
        lambda _folder: ["--device", "hw:2,0,3"],
        3,
        "give hw:2,0",
    ),
]
