"""Sound of formats that libsndfile does not read (m4a, aac, amr, wma, webm, video): through the program ffmpeg."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator

from edge_runtime.capture.formats.external import DecoderResult, read_process
from edge_runtime.capture.formats.part import Bytes, Stretch
from edge_runtime.capture.pcm import Piece
from edge_runtime.errors import InputError

_DEMUXERS = (
    "aac,ac3,eac3,adts,aiff,alaw,amr,amrnb,amrwb,ape,asf,asf_o,au,avi,caf,dts,dtshd,flac,flv,g722,g726,g729,gsm,"
    "loas,matroska,mlp,mov,mp3,mpc,mpc8,mpeg,mpegts,mulaw,mxf,nut,ogg,oma,qcp,rm,sbc,shn,tak,truehd,tta,voc,w64,wav,wv"
)
"""Those that hold one file's sound: playlists, and whatever else opens further files, are not among them."""
_LINES = re.compile(r"\[(?:error|fatal|panic)\]|Packet corrupt|Duration: |Stream #0:.*(?:Audio|Video): |Output #0")
_ERROR = re.compile(r"\[(?:error|fatal|panic)\] (.*)|(Packet corrupt)")
_DURATION = re.compile(r"Duration: (\d+):(\d\d):(\d\d(?:\.\d+)?)")
_GUESSED = "Estimating duration from bitrate"
_MISSING_SECONDS, _MISSING_SHARE = 0.5, 0.01
_ASF = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_BEGINNINGS = (
    re.compile(re.escape(_ASF)),
    re.compile(rb"FLV\x01[\x00-\x07]\x00\x00\x00\x09\x00\x00\x00\x00"),
    re.compile(rb"TTA1[\x01\x02]\x00..[\x08\x10\x18]\x00", re.DOTALL),
)
"""How files begin of which ffmpeg reads the first alone, where they follow each other."""
_KINDS = (
    (4, b"ftyp", "MP4 (m4a, 3gp, video)"),
    (4, b"moov", "QuickTime"),
    (0, b"\x1aE\xdf\xa3", "Matroska or WebM"),
    (0, _ASF, "WMA"),
    (0, b"#!AMR", "AMR"),
    (0, b"FLV\1", "Flash video"),
    (8, b"AVI ", "AVI"),
    (0, b"\x0b\x77", "AC-3"),
    (0, b"\0\0\1\xba", "MPEG video"),
)


def kind_of(head: bytes) -> str:
    """What a file that begins with `head` is, for people; empty where it is none of what needs ffmpeg."""
    for place, magic, kind in _KINDS:
        if head[place : place + len(magic)] == magic:
            return kind
    if len(head) > 1 and head[0] == 0xFF and head[1] & 0xF6 == 0xF0:
        return "AAC"
    return "MPEG transport stream" if head[:1] == b"G" and head[188:189] == b"G" else ""


def present() -> bool:
    """Whether there is such a program."""
    return shutil.which("ffmpeg") is not None


def decoded(handle: int, file: Bytes) -> Iterator[Piece]:
    """All sound of a file that is open as `handle`: of files that follow each other in it, and of all tracks.

    Raises InputError with ffmpeg's complaint after the sound that there was.
    """
    trouble: InputError | None = None
    for stretch in _files(file):
        track, tracks = 0, 1
        while track < tracks:
            outcome = DecoderResult(re.compile(f"{_LINES.pattern}|{_GUESSED}"))
            yield from read_process(_command(stretch, track), handle, outcome)
            tracks = sum("Audio: " in line for line in _about_input(outcome.lines))
            trouble = trouble or _trouble(outcome)
            track += 1
    if trouble:
        raise trouble


def _command(stretch: Stretch | None, track: int) -> list[str]:
    source = "file:/dev/fd/0"
    if stretch:
        source = f"subfile,,start,{stretch[0]},end,{stretch[1]},,:{source}"
    # No network and no other file, whatever the input names; one thread, as memory is limited.
    return [
        *("ffmpeg", "-nostdin", "-hide_banner", "-nostats", "-loglevel", "level+info", "-threads", "1"),
        *("-protocol_whitelist", "file,pipe,subfile", "-format_whitelist", _DEMUXERS, "-i", source),
        *("-map", f"0:a:{track}", "-vn", "-sn", "-dn", "-c:a", "pcm_f32le", "-f", "wav", "pipe:1"),
    ]


def _about_input(lines: list[str]) -> list[str]:
    """The lines before those about the output."""
    ends = [place for place, line in enumerate(lines) if "Output #0" in line]
    return lines[: ends[0]] if ends else lines


def _trouble(outcome: DecoderResult) -> InputError | None:
    errors = [found for line in outcome.lines if (found := _ERROR.search(line))]
    about = _about_input(outcome.lines)
    if any("Video: " in line for line in about) and not any("Audio: " in line for line in about):
        return InputError("holds pictures and no sound")
    if errors:
        said = (errors[0][1] or errors[0][2]).removeprefix("file:/dev/fd/0: ")
        if not outcome.seconds:
            return InputError(f"cannot be read, neither by libsndfile nor by ffmpeg: {said}")
        return InputError(f"is damaged or cut short: after {outcome.seconds:.2f} s of sound ffmpeg says: {said}")
    if outcome.code:
        how = f"was ended by signal {-outcome.code}" if outcome.code < 0 else f"ended with code {outcome.code}"
        return InputError(f"is damaged, or too large to decode: ffmpeg {how} after {outcome.seconds:.2f} s of sound")
    lengths = [found for line in about if (found := _DURATION.search(line))]
    if lengths and not any("Video: " in line or _GUESSED in line for line in about):
        hours, minutes, seconds = lengths[0].groups()
        announced = 3600 * int(hours) + 60 * int(minutes) + float(seconds)
        if announced - outcome.seconds > max(_MISSING_SECONDS, _MISSING_SHARE * announced):
            return InputError(f"is cut short: {outcome.seconds:.2f} s of {announced:.2f} s could be read")
    return None


def _files(file: Bytes) -> list[Stretch | None]:
    """Where files begin and end that follow each other; [None] for a single one.

    ffmpeg itself goes on from one to the next, except in MP4 and those of _BEGINNINGS.
    """
    starts: list[int] = []
    begins = next((begins for begins in _BEGINNINGS if begins.match(file.at(file.start, 16))), None)
    if begins:
        starts = [file.start]
        while (place := file.find(begins, starts[-1] + 1)) < file.end:
            starts.append(place)
    elif file.at(file.start + 4, 4) == b"ftyp":
        place = file.start
        while place < file.end:
            head = file.at(place, 16)
            size = int.from_bytes(head[:4], "big")
            if size == 1:
                size = int.from_bytes(head[8:16], "big")
            if head[4:8] == b"ftyp":
                starts.append(place)
            if size < 8:
                break
            place += size
    if len(starts) < 2 and file.start == 0:
        return [None]
    return list(zip(starts, [*starts[1:], file.end], strict=True)) if starts else [(file.start, file.end)]
