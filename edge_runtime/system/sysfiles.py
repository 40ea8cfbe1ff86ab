"""The small files of /proc and /sys, which may be missing or not for every user to read."""

from __future__ import annotations

from pathlib import Path


def text(path: Path) -> str:
    """What such a file says, without its end; nothing where it is not there or not for us."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip("\0 \n")
    except OSError:
        return ""


def number(path: Path) -> int | None:
    """The whole number in such a file; None where there is none."""
    try:
        return int(text(path))
    except ValueError:
        return None
