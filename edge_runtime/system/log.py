"""Lines for whoever looks after the program, on standard error: with priorities for journald, and never a flood.

Modules of the runtime log with Python's `logging`, below the logger `edge_runtime`, and so does every line of the
program (`edge_runtime.program`): a program that uses the runtime as a library hooks it there. Only `Log` writes.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import TextIO

from edge_runtime.system.bounded import abandon
from edge_runtime.system.queued import Queued, Rank, ready
from edge_runtime.system.quiet import loud
from edge_runtime.system.text import printable

LEVELS = ("error", "warning", "info", "debug")
"""What lines may be, the gravest first."""
REPEAT_SECONDS = 60.0
"""The same line is written at most once in so much time."""
_REMEMBERED = 256
"""Different lines whose repetition is watched."""
_PATIENCE_SECONDS = 1.0
_PRIORITIES = {"error": 3, "warning": 4, "info": 6, "debug": 7}  # of syslog
_NUMBERS = {"error": logging.ERROR, "warning": logging.WARNING, "info": logging.INFO, "debug": logging.DEBUG}
_MODULES = logging.getLogger("edge_runtime")
_MODULES.addHandler(logging.NullHandler())  # or Python itself would write what nobody hooks
_PROGRAM = logging.getLogger("edge_runtime.program")
_NAMES = {"error": "", "warning": "warning: ", "info": "note: ", "debug": "debug: "}


class Log:
    """Writes lines of a level and above, each text at most once in REPEAT_SECONDS; safe to use from several threads.

    A line that comes again later says how often it was left out. Nothing here raises: a log that cannot be written,
    on a full disk or a closed terminal, is no reason to stop listening.
    """

    def __init__(
        self,
        level: str = "info",
        stream: TextIO | None = None,
        *,
        journal: bool | None = None,
        clock: Callable[[], float] = time.monotonic,
        queued: bool = False,
        modules: bool = False,
    ) -> None:
        """`stream` is sys.stderr where None; `journal`: whether journald reads it (None: found out).

        `queued`: a thread writes, so that nothing waits for a reader that does not read; what is lost then is counted.
        Without it such a reader is waited for a second at each line. `modules`: what modules log is written too.
        """
        self._least = LEVELS.index(level)
        self._stream = stream
        # Looked at once: later, file descriptor 2 may lead elsewhere for a while (capture.quiet).
        self._journal = journald_reads(stream or sys.stderr) if journal is None else journal
        self._clock = clock
        self._queue: Queued | None = None
        number = _descriptor(stream or sys.stderr)
        if queued and number is not None:
            self._queue = Queued(number, gap=self._gap)
        self._lock = threading.Lock()
        # By key: when it was written, how often left out since, and the last text.
        self._seen: dict[str, tuple[float, int, str]] = {}
        self._modules = _Modules(self._write) if modules else None
        if self._modules:
            _MODULES.addHandler(self._modules)
            self._listen_to_modules()

    def error(self, text: str, key: str | None = None) -> None:
        """Something failed. Lines with the same `key` (default: the text) count as the same."""
        self._say("error", text, key)

    def warning(self, text: str, key: str | None = None) -> None:
        """Something is not as it should be, and the program goes on."""
        self._say("warning", text, key)

    def info(self, text: str, key: str | None = None) -> None:
        """Something worth knowing."""
        self._say("info", text, key)

    def debug(self, text: str, key: str | None = None) -> None:
        """Something for whoever looks for a fault."""
        self._say("debug", text, key)

    def set_level(self, level: str) -> None:
        """From now on lines of `level` and above are written."""
        self._least = LEVELS.index(level)
        self._listen_to_modules()

    def close(self) -> None:
        """Tells what was left out and not told yet."""
        with self._lock:
            for _, left_out, text in self._seen.values():
                if left_out:
                    self._put("info", f"left out {times(left_out)}: {text}")
            self._seen.clear()
            queue, self._queue = self._queue, None
        if self._modules:
            _MODULES.removeHandler(self._modules)
            _MODULES.setLevel(logging.NOTSET)
        if queue and queue.finish():
            abandon("standard error")

    def _say(self, level: str, text: str, key: str | None) -> None:
        _PROGRAM.log(_NUMBERS[level], "%s", text)
        self._write(level, text, key)

    def _listen_to_modules(self) -> None:
        if self._modules:
            _MODULES.setLevel(_NUMBERS[LEVELS[self._least]])

    def _write(self, level: str, text: str, key: str | None) -> None:
        if LEVELS.index(level) > self._least:
            return
        key = text if key is None else key
        with self._lock:
            now = self._clock()
            written, left_out, _ = self._seen.pop(key, (-REPEAT_SECONDS, 0, ""))
            if now - written < REPEAT_SECONDS:
                self._seen[key] = (written, left_out + 1, text)
                return
            while len(self._seen) >= _REMEMBERED:
                del self._seen[next(iter(self._seen))]
            self._seen[key] = (now, 0, text)
            self._put(level, text + (f" (and {times(left_out)} more since the last such line)" if left_out else ""))

    def _put(self, level: str, text: str) -> None:
        stream = sys.stderr if self._stream is None else self._stream
        if stream is None:
            return
        line = self._line(level, text)
        if self._queue:
            rank = Rank.LASTING if level in ("error", "warning") else Rank.EVENT
            self._queue.put(line.encode(stream.encoding or "utf-8", "backslashreplace"), rank)
            return
        number = _descriptor(stream)
        with contextlib.suppress(OSError, ValueError), loud():
            if number is None or ready(number, _PATIENCE_SECONDS):
                stream.write(line)
                stream.flush()

    def _line(self, level: str, text: str) -> str:
        # The journal knows the program's name and the priority, people on a terminal do not.
        head = f"<{_PRIORITIES[level]}>" if self._journal else f"edge-detect: {_NAMES[level]}"
        return f"{head}{printable(text)}\n"

    def _gap(self, count: int) -> bytes:
        return self._line("warning", f"{count} lines were lost here, as nobody read them").encode("ascii")


class _Modules(logging.Handler):
    """Hands on what modules log, but not what the program itself has written."""

    def __init__(self, write: Callable[[str, str, str | None], None]) -> None:
        super().__init__()
        self._write = write

    def emit(self, record: logging.LogRecord) -> None:
        if record.name != _PROGRAM.name:
            level = next((name for name, number in _NUMBERS.items() if record.levelno >= number), "debug")
            self._write(level, record.getMessage(), None)


def journald_reads(stream: TextIO | None, environment: Mapping[str, str] = os.environ) -> bool:
    """Whether `stream` is the one that JOURNAL_STREAM names, by device and inode."""
    named = environment.get("JOURNAL_STREAM", "")
    try:
        about = os.fstat(stream.fileno()) if stream else None
    except (OSError, ValueError):
        return False
    return about is not None and named == f"{about.st_dev}:{about.st_ino}"


def _descriptor(stream: TextIO | None) -> int | None:
    try:
        return None if stream is None else stream.fileno()
    except (OSError, ValueError):
        return None


def times(count: int) -> str:
    """How often, in words."""
    return "once" if count == 1 else f"{count} times"
