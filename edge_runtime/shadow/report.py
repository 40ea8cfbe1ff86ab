"""The running program's end of a trial: hands sound and verdicts to the process that tries, and never waits for it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import subprocess
import threading
import time

import numpy as np
from numpy.typing import NDArray

from edge_runtime.atomic import destination
from edge_runtime.capture.block import OUTAGE, Event
from edge_runtime.decision.verdict import Window
from edge_runtime.errors import OutputError
from edge_runtime.report import Report
from edge_runtime.shadow import statefile, wire
from edge_runtime.shadow.order import TrialRequest
from edge_runtime.shadow.trial import FAILED, PASSED, TRYING
from edge_runtime.system import process
from edge_runtime.system.log import Log

PIPE_BYTES = 1 << 20
"""16 s of sound at 16 kHz may wait for the candidate; more Linux gives nobody without privileges."""
PATIENCE_SECONDS = 300.0
"""Time for a candidate to load, and later to take in anything at all, before it counts as hanging."""
_END_SECONDS = 2.0
_WRITE_SECONDS = 5.0
_READ_BYTES = 1 << 16


class Shadow(Report):
    """Whatever becomes of the process, the run goes on; one line in the log tells when the trial changes."""

    def __init__(self, order: TrialRequest, log: Log, *, waits: bool = False) -> None:
        """Starts the process; where that cannot be, the trial has failed. `waits`: the sound is a file's, and can.

        Raises OutputError when the order wants its report in the place of a device or a folder. A disk that cannot be
        written is no reason not to try: the process says so, and goes on trying.
        """
        if order.report:
            destination(order.report)
        self._order = order
        self._log = log
        self._waits = waits
        self._patience = PATIENCE_SECONDS
        self._ready = False
        self._over = False
        self._rest = b""  # what of the last frame did not fit into the pipe
        self._said = b""
        self._moved = time.monotonic()  # when it last took something in, or nothing was there for it to take
        self._writer: threading.Thread | None = None
        self._process: subprocess.Popen[bytes] | None = None
        one_thread = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        try:
            self._process = process.start("edge_runtime.run.trial_child", order.to_json(), more=one_thread)
        except OSError as reason:
            self._fail(f"no process can be started for it: {reason}")
            return
        assert self._process.stdin and self._process.stdout
        self._in, self._out = self._process.stdin.fileno(), self._process.stdout.fileno()
        os.set_blocking(self._in, False)
        os.set_blocking(self._out, False)
        with contextlib.suppress(OSError, AttributeError):  # a smaller one does too
            fcntl.fcntl(self._in, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        while waits and not self._ready and not self._over:
            self._wait(self._out, select.POLLIN)

    def sound(self, at_seconds: float, samples: NDArray[np.float32]) -> None:
        """Handed on as it lies in memory; what does not fit is dropped, and the process sees the gap."""
        if self._ready:
            start = round(at_seconds * self._order.sample_rate) - len(samples)
            whole = np.ascontiguousarray(samples, np.float32)
            self._send(wire.sound_head(start, len(whole)), whole.data.cast("B"))

    def window(self, window: Window) -> None:
        """The verdict to compare with; the sound is there already."""
        if self._ready:
            self._send(wire.window_frame(window), b"")

    def event(self, at_seconds: float, event: Event) -> None:
        """After a time without a microphone neither model carries an alarm on."""
        if self._ready and event.kind == OUTAGE:
            self._send(wire.break_frame(at_seconds), b"")

    def moment(self, absent_seconds: float) -> None:
        """Looks what the process says, and whether it lives."""
        if self._over:
            return
        self._listen()
        if not self._over and self._process is not None and self._process.poll() is not None:
            self._listen()  # it may have said why
            code = self._process.returncode
            if not self._over:
                self._fail("its process was ended by " + (f"signal {-code}" if code < 0 else f"exit code {code}"))
        elif not self._over and time.monotonic() - self._moved > self._patience:
            what = "takes no sound in any more" if self._ready else "does not load"
            self._fail(f"it hangs: for {self._patience:g} s it {what}")

    def close(self) -> None:
        """Has the process write what it counted, or ends it."""
        if self._process is not None:
            if not self._over and self._waits:
                assert self._process.stdin
                self._process.stdin.close()  # then it ends by itself
                self._moved = time.monotonic()
                while not self._over:
                    self._wait(self._out, select.POLLIN)
            elif not self._over:
                self._process.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(_END_SECONDS)
                self._listen()
            self._kill()
        if self._writer is not None:
            self._writer.join(_WRITE_SECONDS)

    def _send(self, head: bytes, content: memoryview | bytes) -> None:
        """Sends as much as the pipe has room for; where the sound waits, all of it."""
        try:
            if self._waits:
                self._send_all(head + bytes(content))
                return
            if self._rest:
                self._rest = self._rest[os.write(self._in, self._rest) :]
                self._moved = time.monotonic()
                if self._rest:
                    return
            written = os.writev(self._in, [head, content])
            if written < len(head) + len(content):
                self._rest = (head + bytes(content))[written:]
            self._moved = time.monotonic()
        except BlockingIOError:
            pass
        except OSError:  # it has gone: `moment` sees why
            self._ready = False

    def _send_all(self, data: bytes) -> None:
        while data and not self._over:
            self._wait(self._in, select.POLLOUT)
            if not self._over:
                with contextlib.suppress(BlockingIOError):
                    data = data[os.write(self._in, data) :]
                    self._moved = time.monotonic()

    def _wait(self, pipe: int, event: int) -> None:
        """Until the pipe is ready or a second is over; then looks whether the process lives."""
        ready = select.poll()
        ready.register(pipe, event)
        ready.poll(1000)
        self.moment(0.0)

    def _listen(self) -> None:
        with contextlib.suppress(OSError):
            self._said += os.read(self._out, _READ_BYTES)
        *lines, self._said = self._said.split(b"\n")
        for line in lines:
            with contextlib.suppress(ValueError, KeyError, AttributeError):
                self._hear(json.loads(line))

    def _hear(self, told: dict[str, str]) -> None:
        model = self._order.model
        if told.get("ended"):
            self._over = True
        elif "trouble" in told:
            self._log.warning(f"shadow: {told['trouble']}")
        elif told["state"] == "ready":
            self._ready = True
            self._moved = time.monotonic()
            self._log.info(f"shadow: {model} is tried beside the running model")
        elif told["state"] == TRYING:  # there is no more sound
            self._over = True
            self._log.info(f"shadow: {model} is not decided on yet: {told['reason']}")
        elif told["state"] == PASSED:
            self._over = True
            self._log.info(f"shadow: {model} has passed: {told['reason']}")
        elif told["state"] == FAILED:
            self._over = True
            self._log.warning(f"shadow: {model} has failed: {told['reason']}; the running model stays")

    def _fail(self, reason: str) -> None:
        """The process cannot say it itself any more. The disk may be slow, and the sound does not wait."""
        self._over = True
        self._kill()
        self._log.warning(f"shadow: {self._order.model} has failed: {reason}; the running model stays")

        def write() -> None:
            order = self._order
            try:
                statefile.fail(order.report, order.models(statefile.sha256_of(order.model)), order.windows, reason)
            except (OSError, OutputError) as trouble:
                why = trouble.strerror if isinstance(trouble, OSError) else trouble
                self._log.warning(f"shadow: cannot write {order.report}: {why}")

        writer = threading.Thread(target=write, daemon=True)
        try:
            writer.start()
        except RuntimeError:  # the machine has no thread to give: then the sound waits
            write()
        else:
            self._writer = writer

    def _kill(self) -> None:
        if self._process is None:
            return
        self._ready = False
        process.kill(self._process)
