"""Runs a command of the user's for each alarm, and never waits for it where sound is heard."""

from __future__ import annotations

import contextlib
import os
import queue
import select
import shlex
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping

from edge_runtime.decision.alarm import Alarm
from edge_runtime.errors import UsageError
from edge_runtime.report import Report
from edge_runtime.report.jsonl import alarm_line, to_json, utc
from edge_runtime.system.log import times
from edge_runtime.system.process import Leash

VARIABLE = "EDGE_DETECT_EVENT"
"""In the command's environment: `alarm-on` or `alarm-off`."""
WAITING = 16
"""Events that may wait for their turn; more are left out, and told."""
CLOSE_SECONDS = 0.6
"""How long the end waits for commands, at most: who ends the program wants it to end within a second."""
_REPEAT_SECONDS = 60.0
_SAID_BYTES = 2000
_LOOK_SECONDS = 0.05


def split(command: str) -> list[str]:
    """The words of a command as a shell would split it. Raises UsageError for one that cannot be split."""
    try:
        words = shlex.split(command)
    except ValueError as reason:
        raise UsageError(f"cannot understand the command to execute ({reason}): {command}") from None
    if not words:
        raise UsageError("the command to execute is empty")
    if "\0" in command:
        raise UsageError("the command to execute holds a null character")
    return words


def need(command: str) -> None:
    """Raises UsageError for a command that cannot be split, or is not there."""
    word = split(command)[0]
    if shutil.which(word) is None:
        raise UsageError(f"there is no command {word} that could be executed")


class Hook(Report):
    """One command after the other, each in a process group of its own, which is killed when it takes too long."""

    def __init__(
        self,
        command: str,
        timeout_seconds: float,
        complain: Callable[[str], object],
        about: Mapping[str, str] | None = None,
    ) -> None:
        """`command` is that of `split`, which raises UsageError; `about` is added to each event.

        A command that is not there is tried at each alarm: it may lie on a disk that is mounted later.
        """
        self._words = split(command)
        self._timeout = timeout_seconds
        self._complain = complain
        self._about = {} if about is None else about
        self._told = -_REPEAT_SECONDS
        self._untold = 0
        self._lock = threading.Lock()
        self._closing: float | None = None  # when all has to be over
        self._events: queue.Queue[tuple[str, str] | None] = queue.Queue(WAITING)
        self._thread = threading.Thread(target=self._work, name="hook", daemon=True)
        self._thread.start()

    def alarm(self, alarm: Alarm) -> None:
        """Has the command run with this alarm."""
        line = {**alarm_line(alarm, self._about), "time": utc(time.time())}
        try:
            self._events.put_nowait((f"alarm-{alarm.kind}", to_json(line)))
        except queue.Full:
            self._fail("is too slow: an alarm was left out")

    def close(self) -> None:
        """Waits a little for the commands that are due; what runs then is killed."""
        patience = min(self._timeout, CLOSE_SECONDS)
        self._closing = time.monotonic() + patience
        with contextlib.suppress(queue.Full):
            self._events.put_nowait(None)
        self._thread.join(patience + 0.2)
        with self._lock:
            if self._untold:
                self._complain(f"the command {self._words[0]} failed {times(self._untold)} more")

    def _work(self) -> None:
        while True:
            try:
                event = self._events.get(timeout=None if self._closing is None else 0)
            except queue.Empty:
                return
            if event is None:
                return
            if self._closing is not None and time.monotonic() >= self._closing:
                left = 1 + sum(1 for other in list(self._events.queue) if other is not None)
                self._fail(f"was not run for the last {left} alarms, as the program ends")
                return
            try:
                self._run(*event)
            except Exception as reason:  # no thread can be started, say: the next alarm may do better
                self._fail(f"cannot be run: {reason}")

    def _run(self, name: str, line: str) -> None:
        try:
            process = subprocess.Popen(
                self._words,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                env={**os.environ, VARIABLE: name},
                start_new_session=True,
            )
        except (OSError, ValueError) as reason:
            self._fail(f"cannot be run: {getattr(reason, 'strerror', None) or reason}")
            return
        leash = Leash(process.pid)
        try:
            self._attend(process, line)
        finally:
            if process.poll() is None:
                _kill(process)
            leash.release()

    def _attend(self, process: subprocess.Popen[bytes], line: str) -> None:
        """From its start to its end."""
        said: list[bytes] = []
        over = threading.Event()
        ear = threading.Thread(target=_listen, args=(process, said, over), daemon=True)
        ear.start()
        assert process.stdin
        with contextlib.suppress(OSError):  # it need not read; a line is shorter than a pipe is deep
            process.stdin.write(line.encode() + b"\n")
        with contextlib.suppress(OSError):
            process.stdin.close()
        code = self._wait(process)
        over.set()
        ear.join()
        last = (b"".join(said).decode("utf-8", "replace").strip().splitlines() or [""])[-1]
        if code:
            how = f"ended with code {code}" if code > 0 else f"was ended by signal {-code}"
            self._fail(how + (f": {last}" if last else ""))

    def _wait(self, process: subprocess.Popen[bytes]) -> int:
        """Its exit code, 0 also for what was told already."""
        deadline = time.monotonic() + self._timeout
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                return process.wait(_LOOK_SECONDS)
            now = time.monotonic()
            ending = self._closing is not None and now >= self._closing
            if now >= deadline or ending:
                _kill(process)
                self._fail("was ended with the program" if ending else f"took over {self._timeout:g} s and was ended")
                return 0

    def _fail(self, how: str) -> None:
        """Tells it, or counts it when the last one was told a moment ago."""
        with self._lock:
            now = time.monotonic()
            if now - self._told < _REPEAT_SECONDS:
                self._untold += 1
                return
            more = f" (and failed {times(self._untold)} more before)" if self._untold else ""
            self._told, self._untold = now, 0
        self._complain(f"the command {self._words[0]} {how}{more}")


def _kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _listen(process: subprocess.Popen[bytes], said: list[bytes], over: threading.Event) -> None:
    """Keeps the first of what it says on standard error, and lets the rest go: a full pipe would stop it.

    Until all have closed that end, or `over`: what a command leaves in the background may hold it open for ever.
    """
    assert process.stderr
    kept = 0
    with contextlib.suppress(OSError, ValueError), process.stderr as stream:
        while True:
            ready, _, _ = select.select([stream], [], [], _LOOK_SECONDS)
            if not ready:
                if over.is_set():
                    return
                continue
            part = os.read(stream.fileno(), 4096)
            if not part:
                return
            if kept < _SAID_BYTES:
                said.append(part)
                kept += len(part)
