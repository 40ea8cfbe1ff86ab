"""Faults of microphones, disks and clocks, injected into the real program while it listens.

A row says what the program reported first, how long that took, how long it took to hear again once the fault was gone,
and what the ledger has of that time.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from tests.rigs.clock import settable
from tests.rigs.exclusive import ExclusiveMicrophone
from tests.rigs.jack import JackMicrophone
from tests.rigs.pulse import PulseMicrophone
from tests.running import Line, Running, Wanted, coverage, is_event, is_state

LIMITS = ("--stall", "2", "--silent-after", "3", "--connect-timeout", "forever")
"""Shorter than by default, so that all faults are done within minutes."""
_SETTLE_SECONDS = 3.0
_FAULT_SECONDS = 5.0
_NOISE = 40


@dataclass(frozen=True)
class Row:
    """What one fault did."""

    fault: str
    said: str
    notice_seconds: float | None
    recover_seconds: float | None
    covered: Line  # the ledger's totals

    @property
    def unaccounted_seconds(self) -> float:
        """Time of the run that is in neither column of the ledger."""
        return float(self.covered["elapsed"] - self.covered["heard"] - self.covered["lost"])


@dataclass(frozen=True)
class Bench:
    """Where faults are tried: a folder for their files, and the model to listen with (None: the shipped one)."""

    folder: Path
    model: Path | None = None
    hurry: bool = False  # leave out what takes minutes

    @property
    def ledger(self) -> Path:
        return self.folder / "ledger.sqlite"

    def arguments(self, *more: str) -> list[str]:
        model = ["--model", str(self.model)] if self.model else []
        return [*LIMITS, "--no-gate", "--ledger", str(self.ledger), *model, *more]

    def tone(self, rate: int) -> Path:
        """A WAV of ten seconds."""
        path = self.folder / f"tone-{rate}.wav"
        sound = 0.1 * np.sin(2 * np.pi * 440 * np.arange(10 * rate) / rate)
        soundfile.write(path, sound, rate)
        return path


@contextlib.contextmanager
def _pulse() -> Iterator[PulseMicrophone]:
    with PulseMicrophone() as rig:
        rig.feed.hear(0, _NOISE)
        yield rig


def _words(line: Line) -> str:
    if line["type"] == "event":
        head = line.get("state") or line["event"]
        amount = (
            f"{line['count']} times" if "count" in line else f"{line['seconds']:.1f} s" if "seconds" in line else ""
        )
        return ": ".join(part for part in (head, amount, line.get("reason", "")) if part)
    return str(line)


def _fault(
    name: str,
    program: Running,
    bench: Bench,
    inject: Callable[[], object],
    notice: Wanted,
    heal: Callable[[], object] | None,
    recover: Wanted,
    last_seconds: float = _FAULT_SECONDS,
) -> Row:
    """Listens a while, injects, waits for the notice, heals, waits for the recovery, listens a while, ends."""
    program.until_heard()
    time.sleep(_SETTLE_SECONDS)
    before = len(program.lines)
    began = time.monotonic()
    inject()
    noticed = program.wait_for(notice, before)
    notice_seconds = program.arrivals[noticed] - began
    time.sleep(max(0.0, began + last_seconds - time.monotonic()))
    healed = time.monotonic()
    if heal:
        heal()
    recovered = program.wait_for(recover, noticed)
    recover_seconds = max(0.0, program.arrivals[recovered] - healed) if heal else None
    time.sleep(_SETTLE_SECONDS)
    _end(program)
    return Row(name, _words(program.lines[noticed]), notice_seconds, recover_seconds, coverage(bench.ledger)["total"])


def _end(program: Running) -> None:
    code, took = program.end()
    assert code == 0, program.complaints
    assert program.lines[-1]["type"] == "summary"
    print(f"ended {took:.2f} s after SIGTERM", file=sys.stderr)


def overflows(bench: Bench) -> Row:
    """The process that takes the sound from JACK stands still three times, for two seconds each."""
    patient = bench.arguments("--stall", "4")
    with JackMicrophone(bench.tone(16000), 16000) as rig, Running(rig.environment, *patient) as program:

        def storm() -> None:
            for _ in range(3):
                os.kill(program.child(), signal.SIGUSR1)  # see JackMicrophone
                time.sleep(2.5)

        lossy = is_event("overflow", "lost", "dropped", "state")
        heard = lambda line: line["type"] == "window"  # noqa: E731
        return _fault("overflow storm", program, bench, storm, lossy, None, heard, 10)


def unplugged(bench: Bench) -> Row:
    """The sound server is killed, and started again."""
    with _pulse() as rig, Running(rig.environment, *bench.arguments()) as program:
        gone, back = is_state("recovering"), is_state("listening")
        return _fault("unplugged and plugged in again", program, bench, rig.kill, gone, rig.restart, back)


def stalled(bench: Bench) -> Row:
    """The microphone is there and gives nothing."""
    with _pulse() as rig, Running(rig.environment, *bench.arguments()) as program:
        gone, back = is_state("stalled"), is_state("listening")
        return _fault("stalled reads", program, bench, rig.feed.pause, gone, rig.feed.resume, back)


def hung(bench: Bench) -> Row:
    """JACK is killed: a read never returns, and closing would abort the process."""
    with JackMicrophone(bench.tone(16000), 16000) as rig, Running(rig.environment, *bench.arguments()) as program:
        gone = lambda line: line.get("state") in ("stalled", "recovering")  # noqa: E731
        return _fault("JACK killed", program, bench, rig.kill, gone, rig.restart, is_state("listening"))


def zeros(bench: Bench) -> Row:
    """Nothing but zeros comes."""
    with _pulse() as rig, Running(rig.environment, *bench.arguments()) as program:
        silence, noise = lambda: rig.feed.hear(0), lambda: rig.feed.hear(0, _NOISE)
        return _fault("all zeros", program, bench, silence, is_state("silent"), noise, is_state("listening"))


def constant(bench: Bench) -> Row:
    """Nothing but one value comes."""
    with _pulse() as rig, Running(rig.environment, *bench.arguments()) as program:
        flat, noise = lambda: rig.feed.hear(1234), lambda: rig.feed.hear(0, _NOISE)
        return _fault("one constant", program, bench, flat, is_state("silent"), noise, is_state("listening"))


def exchanged(bench: Bench) -> Row:
    """PulseAudio goes on with another source, since the one listened to was removed."""
    with _pulse() as rig, Running(rig.environment, *bench.arguments()) as program:
        rig.add_source("other")
        remove, bring = lambda: rig.remove_source("fakemic"), lambda: rig.add_source("fakemic")
        told = is_event("identity")
        return _fault("another source in its place", program, bench, remove, told, bring, told, 12)


def rate_48000(bench: Bench) -> Row:
    """A microphone that knows 48 kHz only."""
    return _only(bench, 48000)


def rate_44100(bench: Bench) -> Row:
    """A microphone that knows 44.1 kHz only."""
    return _only(bench, 44100)


def _only(bench: Bench, rate: int) -> Row:
    with JackMicrophone(bench.tone(rate), rate) as rig, Running(rig.environment, *bench.arguments()) as program:
        listening = program.wait_for(is_state("listening"))
        program.until_heard()
        time.sleep(_SETTLE_SECONDS)
        _end(program)
        said = _words(program.lines[listening])
        return Row(f"{rate / 1000:g} kHz only", said, None, None, coverage(bench.ledger)["total"])


def busy(bench: Bench) -> Row:
    """Another program has the microphone when ours starts."""
    with ExclusiveMicrophone() as rig, contextlib.ExitStack() as other:
        rig.feed.hear(0, _NOISE)
        other.enter_context(rig.taken())
        began = time.monotonic()
        with Running(rig.environment, *bench.arguments()) as program:
            said = program.wait_for(lambda line: "another program" in line.get("reason", ""))
            time.sleep(_SETTLE_SECONDS)
            other.close()
            freed = time.monotonic()
            listening = program.wait_for(is_state("listening"))
            program.until_heard()
            time.sleep(_SETTLE_SECONDS)
            _end(program)
            notice, recover = program.arrivals[said] - began, program.arrivals[listening] - freed
            return Row(
                "busy at the start", _words(program.lines[said]), notice, recover, coverage(bench.ledger)["total"]
            )


def killed(bench: Bench) -> Row:
    """kill -9 after 70 s, 12 s of pause, a new start; what the dead run heard since its last minute is not known."""
    with _pulse() as rig:
        with Running(rig.environment, *bench.arguments()) as program:
            program.until_heard()
            time.sleep(0 if bench.hurry else 70)
            program.send(signal.SIGKILL)
        time.sleep(0 if bench.hurry else 12)
        began = time.monotonic()
        with Running(rig.environment, *bench.arguments()) as program:
            heard = program.until_heard()
            time.sleep(_SETTLE_SECONDS)
            _end(program)
            recover = program.arrivals[heard] - began
        covered = coverage(bench.ledger)
        said = "; ".join(f"{gap['kind']} for {gap['seconds']:.0f} s: {gap['reason']}" for gap in covered["gaps"][1:])
        return Row("kill -9", f"coverage: {said}", None, recover, covered["total"])


def full_disk(bench: Bench) -> Row:
    """The ledger lies on a disk that has no room left; it is written once a minute."""
    disk = bench.folder / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=192k", "none", str(disk)], check=True)
    try:
        small = Bench(disk, bench.model, bench.hurry)
        with _pulse() as rig, Running(rig.environment, *small.arguments()) as program:
            program.until_heard()
            with contextlib.suppress(OSError), open(disk / "filler", "wb") as filler:
                filler.write(bytes(1 << 20))
            began = time.monotonic()
            while "room" not in program.complaints and "space" not in program.complaints:
                assert time.monotonic() - began < 150, program.complaints
                time.sleep(0.2)
            noticed = time.monotonic() - began
            (disk / "filler").unlink()
            time.sleep(_SETTLE_SECONDS)
            _end(program)
            said = program.complaints.strip().splitlines()[0].replace(f"{disk}/", "")
        return Row("full disk", said, noticed, None, coverage(small.ledger)["total"])
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def clock_set(bench: Bench) -> Row:
    """The wall clock jumps an hour ahead, then two back."""
    offset = bench.folder / "clock"
    offset.write_text("0")
    with _pulse() as rig, Running({**rig.environment, **settable(offset)}, *bench.arguments()) as program:

        def ahead() -> None:
            offset.write_text("3600")

        def back() -> None:
            offset.write_text("-3600")

        earlier = lambda line: line.get("event") == "clock" and line["seconds"] < 0  # noqa: E731
        row = _fault("clock set ahead and back", program, bench, ahead, is_event("clock"), back, earlier)
        total = coverage(bench.ledger, "3h")["total"]
        return Row(row.fault, row.said, row.notice_seconds, row.recover_seconds, total)


FAULTS: dict[str, Callable[[Bench], Row]] = {
    fault.__name__: fault
    for fault in (
        overflows,
        unplugged,
        stalled,
        hung,
        zeros,
        constant,
        exchanged,
        rate_48000,
        rate_44100,
        busy,
        killed,
        full_disk,
        clock_set,
    )
}


ON_JACK = (overflows, hung, rate_48000, rate_44100)
"""Those that cannot be tried beside each other: JACK's servers share a list."""


def table(rows: Sequence[tuple[str, Row]]) -> str:
    """A Markdown table of rows, each with how the fault was made."""

    def seconds(value: float | None) -> str:
        return "" if value is None else f"{value:.1f} s"

    lines = [
        "| fault | what was done | what the program said first | noticed after | heard again after | heard / lost / "
        "unaccounted for |",
        "|---|---|---|---|---|---|",
    ]
    for how, row in rows:
        total = row.covered
        account = f"{total['heard']:.1f} / {total['lost']:.1f} / {row.unaccounted_seconds:+.2f} s"
        cells = (row.fault, how, row.said, seconds(row.notice_seconds), seconds(row.recover_seconds), account)
        lines.append("| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def measure(names: Sequence[str], model: Path | None) -> list[tuple[str, Row]]:
    """Injects the faults one after the other; `model` None is the shipped one."""
    rows = []
    for name in names:
        print(f"{name} ...", file=sys.stderr)
        with tempfile.TemporaryDirectory() as folder:
            fault = FAULTS[name]
            rows.append((" ".join((fault.__doc__ or "").split()), fault(Bench(Path(folder), model))))
        print(rows[-1][1], file=sys.stderr)
    return rows
