"""100,000 hops through everything that a live run has, at speed: memory stays flat and the account complete."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

_PROGRAM = """\
import json, sys
from pathlib import Path
import numpy as np
from edge_runtime.capture.block import LOST, OUTAGE, STATE, Block, Event
from edge_runtime.decision.alarm import Alarms, Rules
from edge_runtime.detector import Detector
from edge_runtime.run.listen import run
from edge_runtime.report import Report, Several
from edge_runtime.report.coverage.report import read
from edge_runtime.report.evidence import Evidence
from edge_runtime.report.jsonl import JsonLines
from edge_runtime.report.ledger.accounting import LedgerReport
from edge_runtime.report.ledger.writer import Ledger
from edge_runtime.report.output import Output

model, folder, hops = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
about = {"device": "noise", "model": "tiny", "model_sha256": "", "version": "0"}
now = 1e9  # both clocks: the run takes seconds, its sound a day
detector = Detector(model, hop_seconds=0.1)
rules = Rules(on=1e6, off=1e6,  # all is an alarm, until the microphone is gone
              smoothing_seconds=5, duration_seconds=2, hold_seconds=5, refractory_seconds=600)


class Memory(Report):
    at = []

    def moment(self, absent_seconds):
        if not self.blocks % 500:
            status = Path("/proc/self/status").read_text()
            self.at.append(next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")))
        self.blocks += 1

    blocks = 0
    alarms = 0

    def alarm(self, alarm):
        self.alarms += 1


def blocks():
    global now
    random = np.random.default_rng(0)
    syllables = np.abs(np.sin(np.arange(8000) / 800)) ** 4
    noise = syllables * random.standard_normal(8000)
    sounds = [(level * noise).astype(np.float32) for level in (0.3, 0.03, 0.1, 0.01, 1.5)]
    for index in range(hops // 5):
        now += 0.5
        events, absent = (), 0.0
        if index % 997 == 996:
            now += 30.0
            absent = 30.0
            events = (Event(STATE, state="recovering", reason="a test"), Event(OUTAGE, seconds=30.0))
        elif index % 97 == 96:
            now += 0.7
            events = (Event(LOST, seconds=0.7),)
        yield Block(sounds[index // 40 % len(sounds)], events, 0.0, absent)


memory = Memory()
clock = lambda: now
told = []
ledger = Ledger(folder / "ledger.sqlite", about, told.append, clock=clock, wall=clock, asleep=lambda: 0.0)
evidence = Evidence(folder / "clips", 5.0, 2.0, 3_000_000, about, detector.sample_rate, told.append)
with open("/dev/null", "w") as nowhere:
    report = Several([LedgerReport(ledger, tell=lambda *_: None), evidence, JsonLines(Output(nowhere), {}), memory])
    run(blocks(), detector, report, alarms=Alarms(rules))
    report.close()
covered = read(str(folder / "ledger.sqlite"), 1e9 - 10, now + 10)
kept = sum(path.stat().st_size for path in (folder / "clips").iterdir())
size = (folder / "ledger.sqlite").stat().st_size
total = {name: getattr(covered.total, name) for name in ("elapsed", "heard", "lost")}
print(json.dumps({"memory": memory.at, "alarms": memory.alarms, "total": total, "ran": now - 1e9, "kept": kept,
                  "ledger": size, "told": told}))
"""


@pytest.mark.nightly
def test_100_000_hops_take_no_more_memory_than_10_000(exported: Callable[[str], Path], tmp_path: Path) -> None:
    command = [sys.executable, "-c", _PROGRAM, str(exported("streaming")), str(tmp_path), "100000"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    print({name: value for name, value in found.items() if name != "memory"}, found["memory"][::4])
    tenth = len(found["memory"]) // 10
    assert max(found["memory"][-tenth:]) - max(found["memory"][tenth : 2 * tenth]) < 6000, "kilobytes"
    assert found["alarms"] > 10 and not found["told"]
    assert 0 < found["kept"] <= 3_000_000 and found["ledger"] < 1_000_000
    total = found["total"]
    assert total["elapsed"] == pytest.approx(found["ran"], abs=1.0)
    assert total["heard"] + total["lost"] == pytest.approx(total["elapsed"], abs=1.0)
