"""The process that tries a candidate: `python -m edge_runtime.run.trial_child ORDER`, started by `shadow.report`.

It hears on its standard input what the running program hears and decides, keeps the state file, and says on its
standard output, a JSON object a line, when it is ready, when the trial is over, and what troubles it. It ends when its
input does, and on SIGTERM.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from types import FrameType
from typing import Any, BinaryIO

from edge_runtime.decision.verdict import Thresholds, Window
from edge_runtime.errors import EdgeDetectError, OutputError
from edge_runtime.run.opening import alarm_rules
from edge_runtime.shadow import statefile, wire
from edge_runtime.shadow.order import TrialRequest
from edge_runtime.shadow.trial import FAILED, TRYING, Judgement, Trial, judge
from edge_runtime.system.process import die_with_parent, own_output

WRITE_SECONDS = 60.0
"""From one writing of the state file to the next: a card wears out, and so much may be lost with a power cut."""
_LEAST_NICE = 19
_MEMORY_SHARE = 0.5
"""Of the machine's memory, what a candidate may take before it is told that there is no more."""


class _Enough(BaseException):
    """SIGTERM: no Exception, so that nothing on the way keeps it."""


class _Child:
    def __init__(self, order: TrialRequest, output: BinaryIO) -> None:
        self._order = order
        self._output = output
        self._record = statefile.TrialRecord(order.models(statefile.sha256_of(order.model)), order.windows)
        self._complained = False

    def run(self, take: Callable[[int], bytes]) -> None:
        """From the file's last state to the end of the trial or of the input."""
        before = statefile.resumed(self._order.report, self._record.models)
        if before is not None:
            before.windows = self._order.windows
            self._record = before
        if self._record.judgement.state == TRYING:
            try:
                self._try(take)
            except EdgeDetectError as reason:
                self._decide(Judgement(FAILED, str(reason)))
            except MemoryError:
                self._decide(Judgement(FAILED, "it wants more memory than there is for it"))
            except Exception as reason:  # a candidate may break in any way, and whoever waits must hear of it
                self._decide(Judgement(FAILED, f"it broke: {type(reason).__name__}: {reason}"))
        judgement = self._record.judgement
        self._say(state=judgement.state, reason=judgement.reason)

    def _try(self, take: Callable[[int], bytes]) -> None:
        from edge_runtime.shadow.candidate import Candidate

        order = self._order
        detector = order.detector()
        self._record.models = order.models(self._record.models.candidate_sha256, detector.network.contract.name)
        trial = Trial(
            self._record.tally,
            detector.thresholds,
            alarm_rules(order.settings, Thresholds(*order.thresholds)),
            alarm_rules(order.settings, detector.thresholds),
        )
        candidate = Candidate(detector)
        rate = detector.sample_rate
        # It has no more work to do in a hop than in one of its own, where that is longer than the running model's.
        hop_seconds = max(order.hop_seconds, detector.network.contract.hop_multiple / rate)
        self._write()
        self._say(state="ready")
        written = time.monotonic()
        for told in wire.read(take):
            if isinstance(told, Window):
                start, end = round(told.start * rate), round(told.end * rate)
                if candidate.begins is None or start < candidate.begins:
                    continue
                score, seconds = candidate.score(start, end, told.score is not None and not told.reason)
                trial.add(told, score, None if seconds is None else seconds / hop_seconds)
                self._record.judgement = judge(trial.tally, order.windows)
                if self._record.judgement.state != TRYING:
                    break
            elif isinstance(told, float):
                trial.end(told)
                candidate.pause()
            else:
                trial.tally.dropped_seconds += candidate.hear(*told) / rate
                trial.tally.heard_seconds += len(told[1]) / rate
            if time.monotonic() - written >= WRITE_SECONDS:
                written = time.monotonic()
                self._write()
        self._write()

    def _decide(self, judgement: Judgement) -> None:
        self._record.judgement = Judgement(judgement.state, " ".join(judgement.reason.split()))
        self._write()

    def enough(self) -> None:
        """Asked to end: what was counted is kept."""
        self._write()
        self._say(ended=True)

    def _write(self) -> None:
        try:
            statefile.write(self._order.report, self._record)
        except (OSError, OutputError) as reason:
            if not self._complained:
                why = f"cannot write {self._order.report}: {reason.strerror}" if isinstance(reason, OSError) else reason
                self._say(trouble=str(why))
            self._complained = True

    def _say(self, **told: Any) -> None:
        with contextlib.suppress(OSError):
            self._output.write(json.dumps(told).encode() + b"\n")
            self._output.flush()


def main(arguments: list[str]) -> None:
    """Does what the order in the only argument says, and never returns."""
    output = os.fdopen(own_output(), "wb", buffering=0)
    _step_back()
    child = None
    try:
        child = _Child(TrialRequest.from_json(arguments[0]), output)
        child.run(sys.stdin.buffer.read)
    except _Enough:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if child is not None:
            child.enough()
    finally:
        os._exit(0)


def _step_back() -> None:
    """The running program comes first in everything, and this one ends with it."""

    def enough(number: int, frame: FrameType | None) -> None:
        raise _Enough

    signal.signal(signal.SIGTERM, enough)
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    die_with_parent()
    with contextlib.suppress(OSError):  # the unit of an older release forbids it
        os.setpriority(os.PRIO_PROCESS, 0, _LEAST_NICE)
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")  # where memory runs out, the candidate goes, and not the running program
    with contextlib.suppress(OSError, ValueError):
        most = int(_MEMORY_SHARE * os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))


if __name__ == "__main__":
    main(sys.argv[1:])
