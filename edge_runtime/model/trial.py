"""A model of somebody else is opened and run once in a process of its own before it is opened in ours.

A graph is a program: a loop without end, or a tensor that does not fit into memory, may wait in it for ONNX Runtime,
which folds constants while it opens a file. In a process with little memory and time (`trial_child`) that ends with
one line. What went well once is remembered by the file's hash in the user's cache, so that only the first start pays;
where there is no cache each does. The shipped model is part of the program and is not tried.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import select
import signal
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import onnxruntime

from edge_runtime.errors import Ended, ModelError
from edge_runtime.system import process
from edge_runtime.system.text import printable
from edge_runtime.version import __version__

PROCESSOR_SECONDS = 25
"""Processor time for opening and two runs. The largest public RawNet2 takes 1.6 s of it on x86, some 13 on a Pi 4."""
LONGEST_SECONDS = 50.0
"""Time of day for the same, on a machine that has others to serve."""
LARGEST_MEMORY = 1 << 30
"""Bytes that opening and running may take beside four times the file."""
_LOOK_SECONDS = 0.1
_END_SECONDS = 10.0
_LARGEST_ANSWER = 4096
_KEPT = 64
"""Files whose trial is remembered; the oldest is forgotten first."""
_MARK = re.compile(r"[0-9a-f]{64}")
_tried: set[str] = set()


@dataclass(frozen=True)
class ModelRequest:
    """What is to be tried: the file of that hash, opened as `Network.load` does, with windows of that length."""

    path: str
    sha256: str
    size: int
    window_samples: int | None  # None: the model's own
    exact: bool

    @property
    def memory_bytes(self) -> int:
        """What the process may take beside what Python and ONNX Runtime take."""
        return LARGEST_MEMORY + 4 * self.size

    @property
    def mark(self) -> str:
        """The same for the same trial on this machine."""
        about = (self.sha256, self.window_samples, self.exact, __version__, onnxruntime.__version__)
        return hashlib.sha256(repr(about).encode()).hexdigest()

    def to_json(self) -> str:
        """For the process."""
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> ModelRequest:
        """The same again."""
        return ModelRequest(**json.loads(text))


def need(wish: ModelRequest, stopped: Callable[[], bool] = lambda: False) -> None:
    """Tries it, unless that was done before.

    `stopped` is asked ten times a second. Raises ModelError with what is wrong, and Ended when it is `stopped()`.
    """
    mark = wish.mark
    if mark in _tried or _remembered(mark):
        return
    try:
        child = process.start("edge_runtime.model.trial_child", wish.to_json())
    except OSError as reason:
        raise ModelError(f"no process can be started to try the model in: {reason.strerror or reason}") from None
    try:
        answer = _answer(child.stdout.fileno() if child.stdout else -1, child.pid, wish, stopped)
        code = None if answer else child.wait(_END_SECONDS)
    finally:
        process.kill(child)
    wrong = _wrong(answer, code, wish)
    if wrong:
        raise ModelError(wrong)
    _tried.add(mark)
    _remember(mark)


def _answer(pipe: int, pid: int, wish: ModelRequest, stopped: Callable[[], bool]) -> bytes:
    """What the process says until it ends. Raises ModelError when it takes too much, Ended when it is `stopped()`."""
    said = b""
    ends = time.monotonic() + LONGEST_SECONDS
    while True:
        if select.select([pipe], [], [], _LOOK_SECONDS)[0]:
            part = os.read(pipe, _LARGEST_ANSWER)
            said += part
            if not part or len(said) > _LARGEST_ANSWER:
                return said[:_LARGEST_ANSWER]
        if stopped():
            raise Ended
        if time.monotonic() > ends:
            took = f"opening and running it once took more than {LONGEST_SECONDS:.0f} s"
            raise ModelError(f"{took}: it may never end, or the machine is too busy")
        if _resident_bytes(pid) > 2 * LARGEST_MEMORY + wish.memory_bytes:  # where limits cannot be set
            raise ModelError(_too_large(wish))


def _wrong(answer: bytes, code: int | None, wish: ModelRequest) -> str:
    """What was wrong, in words; nothing when all went well."""
    with contextlib.suppress(ValueError, AttributeError):
        found = json.loads(answer)
        if found.get("right") is True:
            return ""
        if found.get("memory"):
            return _too_large(wish)
        if isinstance(found.get("wrong"), str):
            return printable(found["wrong"]).removeprefix(f"{printable(wish.path)}: ")
    if code == -signal.SIGXCPU:
        took = f"opening and running it once took more processor time than there is for it ({PROCESSOR_SECONDS} s)"
        return f"{took}: it may never end"
    if code == -signal.SIGKILL:
        return "the process that tried it was killed: is there too little memory?"
    if code is not None and code < 0:
        return f"it made ONNX Runtime crash (signal {-code})"
    return f"the process that tried it ended with code {code} and no word: is there too little memory?"


def _too_large(wish: ModelRequest) -> str:
    return f"opening and running it once took more than {wish.memory_bytes / 1e6:,.0f} MB of memory"


def _resident_bytes(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0


def _folder() -> Path | None:
    """Where trials are remembered."""
    given = os.environ.get("CACHE_DIRECTORY", "").split(":")[0] or os.environ.get("XDG_CACHE_HOME", "")
    with contextlib.suppress(RuntimeError):
        return Path(given or Path.home() / ".cache") / "edge-detect-tried"
    return None


def _remembered(mark: str) -> bool:
    folder = _folder()
    if folder is None:
        return False
    try:
        return os.lstat(folder / mark).st_uid in (0, os.geteuid())
    except (OSError, ValueError):
        return False


def _remember(mark: str) -> None:
    """Writes an empty file of that name; without a cache nothing is remembered."""
    folder = _folder()
    if folder is None:
        return
    with contextlib.suppress(OSError, ValueError):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        marks = [entry for entry in folder.iterdir() if _MARK.fullmatch(entry.name)]
        for old in sorted(marks, key=lambda entry: entry.lstat().st_mtime)[: -_KEPT + 1]:
            old.unlink(missing_ok=True)
        (folder / mark).touch(mode=0o600)
