"""The real program listening to a rig, and what it says, with the times at which it said it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any

Line = dict[str, Any]
Wanted = Callable[[Line], bool]


class Running:
    """`edge-detect --device hw:1 --json ...` in the background, from entering the context to leaving it."""

    def __init__(
        self,
        environment: Mapping[str, str],
        *arguments: str,
        prefix: tuple[str, ...] = (),
        source: tuple[str, ...] = ("--device", "hw:1"),
        stdin: IO[bytes] | int | None = None,
    ) -> None:
        """`source` and `stdin` are what is listened to."""
        command = [*prefix, sys.executable, "-m", "edge_runtime", *source, "--json", *arguments]
        self.lines: list[Line] = []
        self.arrivals: list[float] = []
        """When each line came, on the monotonic clock."""
        self._news = threading.Condition()
        self._process = subprocess.Popen(
            command,
            env={**environment},
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._readers = [threading.Thread(target=self._read, daemon=True)]
        self._complaints: list[str] = []
        self._readers.append(threading.Thread(target=self._read_complaints, daemon=True))
        for reader in self._readers:
            reader.start()

    def __enter__(self) -> Running:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()

    @property
    def complaints(self) -> str:
        """What came on standard error until now."""
        return "".join(self._complaints)

    def wait_for(self, wanted: Wanted, since: int = 0, seconds: float = 60.0) -> int:
        """The place of the first line from `since` on that is wanted. Raises AssertionError when none comes."""
        deadline = time.monotonic() + seconds
        with self._news:
            place = since
            while True:
                while place < len(self.lines):
                    if wanted(self.lines[place]):
                        return place
                    place += 1
                left = deadline - time.monotonic()
                if left <= 0 or (self._process.poll() is not None and not self._readers[0].is_alive()):
                    last = "\n".join(map(str, self.lines[-5:]))
                    raise AssertionError(f"the line never came; the last ones:\n{last}\n{self.complaints}")
                self._news.wait(min(left, 0.5))

    def until_heard(self, since: int = 0) -> int:
        """Waits for a window."""
        return self.wait_for(lambda line: line["type"] == "window", since)

    def send(self, number: signal.Signals) -> None:
        """Sends the program a signal."""
        self._process.send_signal(number)

    @property
    def pid(self) -> int:
        """The number of its process."""
        return self._process.pid

    def finished(self, seconds: float = 60.0) -> int:
        """Waits until it has ended by itself; its exit code."""
        code = self._process.wait(seconds)
        for reader in self._readers:
            reader.join(10)
        return code

    def child(self) -> int:
        """The process that listens."""
        listed = subprocess.run(
            ["pgrep", "-f", "-P", str(self._process.pid), "edge_runtime.capture.device.child"],
            capture_output=True,
            text=True,
            check=True,
        )
        return int(listed.stdout.split()[0])

    def end(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, float]:
        """Ends the program with a signal; gives its exit code and how long it took."""
        began = time.monotonic()
        self._process.send_signal(number)
        code = self._process.wait(30)
        took = time.monotonic() - began
        for reader in self._readers:
            reader.join(10)
        return code, took

    def memory_kb(self) -> int:
        """Resident memory of the program."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))

    def _read(self) -> None:
        assert self._process.stdout
        for text in self._process.stdout:
            with self._news:
                self.lines.append(json.loads(text))
                self.arrivals.append(time.monotonic())
                self._news.notify_all()

    def _read_complaints(self) -> None:
        assert self._process.stderr
        for text in self._process.stderr:
            self._complaints.append(text)


def is_state(state: str) -> Wanted:
    """Lines that tell of a state of the microphone."""
    return lambda line: line.get("event") == "state" and line["state"] == state


def is_event(*kinds: str) -> Wanted:
    """Lines that tell of an event."""
    return lambda line: line.get("event") in kinds


def coverage(ledger: Path, since: str = "1h") -> Line:
    """What `edge-detect coverage --json` says."""
    command = [sys.executable, "-m", "edge_runtime", "coverage", "--ledger", str(ledger), "--since", since, "--json"]
    shown = subprocess.run(command, capture_output=True, text=True, env={**os.environ})
    assert shown.returncode == 0, shown.stderr
    line: Line = json.loads(shown.stdout)
    return line
