"""Readers, places to write to, and small machines."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import soundfile

from tests.faults.case import Case


def _under(limit: str) -> tuple[str, ...]:
    return ("sh", "-c", f'ulimit {limit}; exec "$@"', "sh")


def _to(where: str) -> tuple[str, ...]:
    return ("sh", "-c", f'exec "$@" {where}', "sh")


def _sound(folder: Path) -> list[str]:
    soundfile.write(folder / "sound.wav", np.random.default_rng(0).normal(0, 0.1, 5 * 16000), 16000)
    return ["--file", "sound.wav"]


def _configuration(folder: Path) -> list[str]:
    (folder / "edge-detect.toml").write_text("hop = 0.5\n")
    return ["config", "check", "edge-detect.toml"]


def _shadow(report: str, make: Callable[[Path], object] = lambda folder: None) -> Callable[[Path], Sequence[str]]:
    def arguments(folder: Path) -> list[str]:
        make(folder)
        (folder / "next.onnx").write_bytes(b"")
        return [*_sound(folder), "--shadow", "next.onnx", "--shadow-report", report]

    return arguments


CASES = [
    Case("60 MB of address space: help", lambda _: ["--help"], 0, "tells human speech", before=_under("-v 60000")),
    Case("60 MB of address space: a configuration", _configuration, 0, "is in order", before=_under("-v 60000")),
    Case("60 MB of address space: a file", _sound, 4, "not enough memory", before=_under("-v 60000")),
    Case("140 MB of address space: a file", _sound, 4, "too little memory", before=_under("-v 140000")),
    Case("40 MB of data", _sound, 4, "not enough memory", before=_under("-d 40000")),
    Case(
        "140 MB of address space: the ledger",
        lambda _: ["coverage", "--ledger", "ledger"],
        3,
        "there is no ledger",
        before=_under("-v 140000"),
    ),
    Case("32 open files", _sound, 0, "5.0 s", before=_under("-n 32")),
    Case("10 open files", _sound, 0, "5.0 s", before=_under("-n 10")),
    Case("standard output on a full disk", _sound, 5, "No space left", before=_to(">/dev/full")),
    Case("standard output that is closed", _sound, 5, "standard output is closed", before=_to(">&-")),
    Case("the report of a trial on a device", _shadow("/dev/full"), 5, "it is a device"),
    Case("the report of a trial on a pipe", _shadow("p", lambda folder: os.mkfifo(folder / "p")), 5, "it is a device"),
    Case(
        "the report of a trial on a link to a device",
        _shadow("link", lambda folder: (folder / "link").symlink_to("/dev/null")),
        5,
        "it is a device",
    ),
    Case("the report of a trial on a folder", _shadow("x", lambda folder: (folder / "x").mkdir()), 5, "it is a folder"),
]
