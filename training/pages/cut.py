"""A clip out of a clone: its bytes by git, and the few seconds of them that are kept, all in one form.

Every clip is mono, 16 kHz, at most 5 s from a place that its checksum fixes, low-passed at 7.5 kHz and of one level: so
that band, rate, level and length say nothing of the label. A clone is data: git is asked for blobs, and no work tree
is needed.
"""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray
from scipy import signal

from training.pages.listed import ListedClip

RATE = 16_000
LONGEST, SHORTEST = 5 * RATE, RATE
PASS_HZ, TAPS = 7_500, 255
LEVEL_RMS, PEAK = 0.05, 0.99
SILENT_RMS = 1e-4
LONGEST_SECONDS = 600
"""Of a recording, so that none takes all the memory."""
LOWEST_RATE = 4_000
GIT_SECONDS, FFMPEG_SECONDS = 60, 60

Samples = NDArray[np.float32]


class NotCut(Exception):
    """There is no clip for a row; the message is one line."""


@dataclass(frozen=True)
class CutClip:
    """The `samples`, float32 [n] at 16 kHz, of a clip; `offset` is their place in `whole`, the recording."""

    samples: Samples
    whole: Samples
    offset: int
    sha256: str


def git_folder(clones: Path, row: ListedClip) -> Path | None:
    """The git directory of a row's repository below `clones`: named OWNER+NAME, OWNER/NAME or NAME, bare or not."""
    owner, _, name = row.source.partition("/")
    for folder in (clones / row.clone, clones / owner / name, clones / name):
        bare = folder.with_name(f"{folder.name}.git")  # `.git` of a worktree is a file that names another place
        for place in (folder / "repo" / ".git", folder / "repo", folder / ".git", folder, bare):
            if (place.name == ".git" and place.is_file()) or (
                (place / "objects").is_dir() and (place / "HEAD").is_file()
            ):
                return place
    return None


def content(git: Path, row: ListedClip) -> bytes:
    """The bytes of the row's file. Raises NotCut where the clone has none that fit the checksum."""
    refs, names = [row.ref], [row.inside]
    if not row.ref:  # in whichever ref it lies, at times packed as FLAC since
        refs = ["HEAD", *_refs(git)]
        names.append(str(Path(row.inside).with_suffix(".flac")))
    other = False
    for ref in refs:
        for name in names:
            data = _git(git, "cat-file", "blob", f"{ref}:{name}")
            if data and (not row.sha256 or hashlib.sha256(data).hexdigest().startswith(row.sha256)):
                return data
            other = other or bool(data)
    raise NotCut("other bytes than the list says" if other else "not in the clone")


@cache
def _refs(git: Path) -> list[str]:
    return _git(git, "for-each-ref", "--format=%(refname)").decode(errors="replace").split()


def _git(folder: Path, *command: str) -> bytes:
    try:
        return subprocess.run(
            ["git", "--git-dir", str(folder), *command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=GIT_SECONDS,
            check=False,
            env=os.environ | {"GIT_NO_LAZY_FETCH": "1"},  # what is not here is not fetched
        ).stdout
    except FileNotFoundError:
        raise NotCut("git is not installed (Debian: apt-get install git)") from None
    except (OSError, subprocess.SubprocessError) as reason:
        raise NotCut(f"git failed: {reason}") from None


def decoded(data: bytes) -> Samples:
    """The sound of a file, float32 [n], mono at 16 kHz. Raises NotCut for what cannot be decoded."""
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            rate = file.samplerate
            mono = file.read(LONGEST_SECONDS * rate, dtype="float32", always_2d=True).mean(axis=1)
    except (soundfile.SoundFileError, OSError, ValueError, RuntimeError, TypeError):
        mono, rate = _by_ffmpeg(data), RATE
    if rate < LOWEST_RATE:
        raise NotCut(f"its rate is {rate} Hz")
    mono = np.nan_to_num(mono, posinf=0.0, neginf=0.0)
    return np.asarray(soxr.resample(mono, rate, RATE, quality="HQ") if rate != RATE else mono, np.float32)


def _by_ffmpeg(data: bytes) -> Samples:
    """AAC and Opus; of a file, as MP4 needs seeking."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        command = ["ffmpeg", "-nostdin", "-v", "error", "-protocol_whitelist", "file", "-i", file.name]
        command += ["-t", str(LONGEST_SECONDS), "-f", "f32le", "-ac", "1", "-ar", str(RATE), "-"]
        try:
            done = subprocess.run(command, capture_output=True, timeout=FFMPEG_SECONDS, check=False)
        except FileNotFoundError:
            raise NotCut("ffmpeg, which decodes it, is not installed (Debian: apt-get install ffmpeg)") from None
        except (OSError, subprocess.SubprocessError) as reason:
            raise NotCut(f"ffmpeg failed: {reason}") from None
    if len(done.stdout) < 4:
        raise NotCut("it cannot be decoded")
    return np.frombuffer(done.stdout[: len(done.stdout) // 4 * 4], np.float32)


def cut(data: bytes) -> CutClip:
    """The clip of a file. Raises NotCut for what is damaged, shorter than a second or silent."""
    digest = hashlib.sha256(data).hexdigest()
    whole = decoded(data)
    if len(whole) < SHORTEST:
        raise NotCut(f"it has {len(whole) / RATE:.2f} s: too short")
    spare = len(whole) - LONGEST
    offset = int(digest[:8], 16) % (spare + 1) if spare > 0 else 0
    piece = whole[offset : offset + LONGEST]
    if _rms(piece) < SILENT_RMS:  # a silent stretch: the loudest one in its place
        power = signal.fftconvolve(whole**2, np.ones(LONGEST), "valid") if spare > 0 else np.zeros(1)
        offset = int(power.argmax())
        piece = whole[offset : offset + LONGEST]
        if _rms(piece) < SILENT_RMS:
            raise NotCut("it is silent")
    return CutClip(even(piece), whole, offset, digest)


def even(samples: Samples) -> Samples:
    """`samples`, float32 [n], low-passed and brought to one level, or lower where a peak would be cut off."""
    found = signal.oaconvolve(samples, _low_pass(), mode="same")
    found *= LEVEL_RMS / max(1e-6, _rms(found))
    peak = float(np.abs(found).max())
    return np.asarray(found * (PEAK / peak) if peak > 1 else found, np.float32)


@cache
def _low_pass() -> Samples:
    return np.asarray(signal.firwin(TAPS, PASS_HZ, fs=RATE), np.float32)


def _rms(samples: Samples) -> float:
    return float(np.sqrt(np.mean(samples**2)))
