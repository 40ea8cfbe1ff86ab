"""A ledger's run with clocks moved by hand, as fast as it can be called."""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edge_runtime.capture.block import Event
from edge_runtime.decision.verdict import Verdict, Window
from edge_runtime.report.coverage.report import Coverage, read
from edge_runtime.report.ledger.accounting import LedgerReport
from edge_runtime.report.ledger.writer import Ledger

ABOUT = {"device": "USB PnP, 48000 Hz, 1 ch", "model": "tiny", "model_sha256": "0" * 64, "version": "9"}
NOON = 1_795_608_000.0  # a whole hour, UTC
_NOTHING = np.zeros(0, np.float32)


@dataclass
class Listening:
    """A run with clocks moved by hand: what the loop would call, as fast as it can be called."""

    path: Path
    wall: float = NOON
    clock: float = 1000.0
    asleep: float = 0.0
    at: float = 0.0
    complaints: list[str] = field(default_factory=list)
    told: list[Event] = field(default_factory=list)
    complain: Callable[[str], object] | None = None  # called before a line is one of the `complaints`
    close_seconds: float = 60.0

    def __post_init__(self) -> None:
        clocks = {"clock": lambda: self.clock, "wall": lambda: self.wall, "asleep": lambda: self.asleep}
        self.ledger = Ledger(self.path, ABOUT, self._complain, **clocks, close_seconds=self.close_seconds)
        self.report = LedgerReport(self.ledger, lambda at, event: self.told.append(event))

    def _complain(self, line: str) -> None:
        if self.complain:
            self.complain(line)
        self.complaints.append(line)

    def hear(self, seconds: float, step: float = 0.25) -> None:
        for _ in range(round(seconds / step)):
            self.pass_(step)
            self.at += step
            self.report.sound(self.at, _NOTHING)
            self.report.moment(0.0)

    def miss(self, seconds: float, step: float = 0.25) -> None:
        for _ in range(round(seconds / step)):
            self.pass_(step)
            self.report.moment(step)

    def pass_(self, seconds: float) -> None:
        self.wall += seconds
        self.clock += seconds

    def window(self, start: float, end: float, score: float | None = 1.0, **more: Any) -> None:
        about: dict[str, Any] = {"verdict": Verdict.BONAFIDE, "clipped": 0.0, **more}
        self.report.window(
            Window(start=start, end=end, score=score, level_dbfs=-20.0, peak_dbfs=-3.0, invalid=0, **about)
        )

    def settle(self) -> None:
        assert self.ledger.settled(60)

    def coverage(self, since: float = NOON) -> Coverage:
        return read(str(self.path), since, self.wall)


def rows(path: Path, query: str) -> list[tuple[Any, ...]]:
    """What a query gives."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return connection.execute(query).fetchall()


def killed(path: Path, wall: float, seconds: int) -> None:
    """A run that begins at `wall` and is gone after `seconds`, without a word, before anything more is written."""
    program = "import os, sys; from pathlib import Path; from tests.booked import Listening; "
    program += "run = Listening(Path(sys.argv[1]), wall=float(sys.argv[2])); run.hear(int(sys.argv[3])); os._exit(9)"
    command = [sys.executable, "-c", program, str(path), str(wall), str(seconds)]
    assert subprocess.run(command, cwd=Path.cwd()).returncode == 9


ALARMED = """
import sys, time
from pathlib import Path
from edge_runtime.decision.alarm import OFF, ON, Alarm
from tests.booked import Listening
run = Listening(Path(sys.argv[1]))
run.hear(65)
run.settle()
run.hear(5)
run.report.alarm(Alarm(ON, 1, 58.0, 70.0, -3.0))
if sys.argv[2] == "off":
    run.settle()
    run.hear(5)
    run.report.alarm(Alarm(OFF, 1, 58.0, 75.0, -3.0))
run.settle()
print(run.wall, flush=True)
time.sleep(60)
"""
"""A program in an alarm, or just after it, within the minute."""
_WRITER = """
import sys
from pathlib import Path
from tests.booked import Listening
run = Listening(Path(sys.argv[1]), wall=float(sys.argv[2]))
while True:
    run.hear(60, 1.0)
    run.settle()
    print(int(run.wall), flush=True)
"""


def writer(path: Path, start: float) -> subprocess.Popen[str]:
    """A process that commits as fast as it can, from the wall time `start` on."""
    return subprocess.Popen(
        [sys.executable, "-c", _WRITER, str(path), str(start)], stdout=subprocess.PIPE, text=True, cwd=Path.cwd()
    )
