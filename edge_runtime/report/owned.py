"""Which files in a folder of clips are this program's own: what somebody else put there is not counted or touched.

A name proves nothing. A clip's JSON is ours when it names the FLAC beside it and its SHA-256; a FLAC is ours when that
is its SHA-256, or when its header says that we wrote it; a draft begins with such a JSON. Only regular files directly
in the folder count: links and folders never do.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import stat
from pathlib import Path

PREFIX = "edge-detect-"
MARK = "edge-detect"
"""What the header of a FLAC has as its software."""
_STEM = r"edge-detect-\d{8}T\d{6}\.\d{3}Z-\d{4,}(?:-\d+)?"
_PAIR = re.compile(rf"({_STEM})\.(flac|json)")
_DRAFT = re.compile(rf"\.({_STEM})\.draft")
UNFINISHED = re.compile(rf"\.{_STEM}\.(?:flac|json|draft)(?:\.[0-9a-z_]{{8}})?\.part")
"""What a killed run left half written; older releases gave it no number."""
_HEADER_BYTES = 1024
_LARGEST_JSON = 1 << 22
_LARGEST_DRAFT = 1 << 28  # 600 s of an alarm and what was around it, at 192 kHz
_SHA256 = re.compile("[0-9a-f]{64}")


class Owned:
    """Looks into one folder; remembers what it has read of files that have not changed since."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[str, tuple[tuple[int, int, int], str]] = {}

    def pairs(self) -> dict[str, int]:
        """Bytes of our clips, and of halves of them, by stems, which begin with the time. Raises OSError."""
        found: dict[str, dict[str, os.stat_result]] = {}
        self._forget_gone()
        for name, about in self._files():
            if match := _PAIR.fullmatch(name):
                found.setdefault(match[1], {})[match[2]] = about
        sizes = {}
        for stem, files in found.items():
            told = "json" in files and bool(self._read(f"{stem}.json", files["json"]))
            if "json" in files and not told:
                continue
            if told or self._read(f"{stem}.flac", files["flac"]):
                sizes[stem] = sum(about.st_size for about in files.values())
        return sizes

    def drafts(self) -> dict[str, int]:
        """Bytes of our drafts, likewise."""
        found = ((_DRAFT.fullmatch(name), name, about) for name, about in self._files())
        return {match[1]: about.st_size for match, name, about in found if match and self._read(name, about)}

    def remove(self, stem: str) -> None:
        """Removes a clip of `pairs`, unless it shows that the FLAC is another's. Raises OSError."""
        flac, text = self._folder / f"{stem}.flac", self._folder / f"{stem}.json"
        with contextlib.suppress(FileNotFoundError):
            known = self._known.get(text.name)
            content = flac.read_bytes()
            if not _marked(content) and (known is None or hashlib.sha256(content).hexdigest() != known[1]):
                return
        text.unlink(missing_ok=True)  # first: a FLAC without it is known to be half a clip
        flac.unlink(missing_ok=True)

    def has(self, stem: str) -> bool:
        """Whether a whole clip of ours has the stem."""
        with contextlib.suppress(FileNotFoundError):
            about = (self._folder / f"{stem}.json").lstat()
            return bool(self._read(f"{stem}.json", about)) and (self._folder / f"{stem}.flac").is_file()
        return False

    def _files(self) -> list[tuple[str, os.stat_result]]:
        files = []
        with os.scandir(self._folder) as entries:
            for entry in entries:
                if PREFIX in entry.name:
                    with contextlib.suppress(FileNotFoundError):
                        about = entry.stat(follow_symlinks=False)
                        if stat.S_ISREG(about.st_mode):
                            files.append((entry.name, about))
        return files

    def _forget_gone(self) -> None:
        if len(self._known) > 1000:
            there = {name for name, _ in self._files()}
            self._known = {name: known for name, known in self._known.items() if name in there}

    def _read(self, name: str, about: os.stat_result) -> str:
        """What shows that a file is ours; nothing where it is not."""
        state = (about.st_ino, about.st_size, about.st_mtime_ns)
        known = self._known.get(name)
        if known is None or known[0] != state:
            known = self._known[name] = (state, _proof(self._folder / name))
        return known[1]


def draft_of(name: str, content: bytes) -> tuple[dict[str, object], bytes] | None:
    """JSON and FLAC of a whole draft of ours, by its file's name; None for anything else."""
    line, _, sound = content.partition(b"\n")
    match = _DRAFT.fullmatch(name)
    told = _told(line, match[1]) if match else None
    if told is None or told["sha256"] != hashlib.sha256(sound).hexdigest():
        return None
    return told, sound


def _proof(path: Path) -> str:
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            if path.suffix == ".flac":
                return MARK if _marked(file.read(_HEADER_BYTES)) else ""
            content = file.read(_LARGEST_DRAFT if path.suffix == ".draft" else _LARGEST_JSON)
    except OSError:
        return ""
    if path.suffix == ".draft":
        return MARK if draft_of(path.name, content) else ""
    told = _told(content, path.stem)
    return "" if told is None else str(told["sha256"])


def _marked(flac: bytes) -> bool:
    return flac.startswith(b"fLaC") and f"={MARK} ".encode() in flac[:_HEADER_BYTES]


def _told(content: bytes, stem: str) -> dict[str, object] | None:
    try:
        told = json.loads(content)
    except (ValueError, RecursionError):
        return None
    if not isinstance(told, dict) or told.get("file") != f"{stem}.flac" or not isinstance(told.get("alarms"), list):
        return None
    return told if _SHA256.fullmatch(str(told.get("sha256"))) else None
