"""A live pipe is listened to as a microphone is: alarms, ledger, clips, commands, and every second accounted for."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from edge_runtime.capture.block import OUTAGE, STATE
from edge_runtime.capture.liveness import LivenessLimits, State
from edge_runtime.capture.pcm import RawFormat
from edge_runtime.capture.source import LiveSource
from edge_runtime.capture.wanted import Kind, Wanted
from edge_runtime.errors import InputError
from tests import hostile_models
from tests.listening import RATE, Listener, assert_adds_up
from tests.program import one_line, run
from tests.running import Running, coverage, is_event

RAW = ("--raw", "s16le")
ALL_IS_AN_ALARM = (
    *("--alarm-on", "1e5", "--alarm-off", "1e5", "--smoothing", "0", "--alarm-duration", "0", "--alarm-hold", "1"),
    "--no-gate",
)
LIMITS = LivenessLimits(stall=1.5, silent=1.5, retry_longest=1.0)


def noise(seconds: float) -> bytes:
    """Syllables of noise, s16le of RATE Hz, one channel."""
    count = round(seconds * RATE)
    syllables = np.abs(np.sin(np.arange(count) / 1600)) ** 4
    return (3000 * syllables * np.random.default_rng(0).uniform(-1, 1, count)).astype("<i2").tobytes()


class Writer:
    """Writes noise at the pace of a microphone into a pipe or FIFO, until it is paused or closed."""

    def __init__(self, handle: int) -> None:
        self.paused = threading.Event()
        self._handle = handle
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._ended.set()
        self._thread.join(10)
        os.close(self._handle)

    def _run(self) -> None:
        due = time.monotonic()
        step = noise(0.05)
        while not self._ended.is_set():
            if not self.paused.is_set():
                os.write(self._handle, step)
            due += 0.05
            time.sleep(max(0.0, due - time.monotonic()))


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    os.mkfifo(tmp_path / "sound")
    return tmp_path / "sound"


@contextlib.contextmanager
def listening(fifo: Path, limits: LivenessLimits = LIMITS) -> Iterator[Listener]:
    source = LiveSource(Wanted(Kind.PIPE, str(fifo), raw=RawFormat("s16le", RATE, 1)), RATE, limits)
    try:
        yield Listener(source)
    finally:
        source.close()


def test_a_file_piped_in_has_all_that_a_microphone_has_at_the_pace_of_the_clock(model: str, tmp_path: Path) -> None:
    ledger, clips, told = tmp_path / "ledger.sqlite", tmp_path / "clips", tmp_path / "told"
    keep = ("--ledger", str(ledger), "--save-clips", str(clips), "--exec", f"tee -a {told}")
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as cat:
        assert cat.stdin and cat.stdout
        threading.Thread(target=lambda stdin=cat.stdin: (stdin.write(noise(4)), stdin.close()), daemon=True).start()
        began = time.monotonic()
        with Running(
            dict(os.environ),
            "--model",
            model,
            *RAW,
            *ALL_IS_AN_ALARM,
            *keep,
            source=("--file", "-", "--live"),
            stdin=cat.stdout,
        ) as program:
            assert program.finished() == 0
        assert time.monotonic() - began >= 3.8
    assert [line["alarm"] for line in program.lines if line["type"] == "alarm"] == ["on", "off"]
    assert all(line["time"] for line in program.lines)
    summary = program.lines[-1]
    assert summary["type"] == "summary" and summary["seconds"] == pytest.approx(4, abs=0.01)
    assert summary["lost_seconds"] == 0
    assert (summary["verdict"], summary["alarms"]) == ("spoof", 1), "a run that raised an alarm says so at its end"
    total = coverage(ledger)["total"]
    assert total["heard"] == pytest.approx(4, abs=0.01) and total["alarms"] == 1
    assert abs(total["unaccounted"]) < 0.5
    about = json.loads(next(clips.glob("*.json")).read_text())
    assert about["device"] == "standard input, 16000 Hz, 1 ch"
    assert soundfile.info(next(clips.glob("*.flac"))).duration > 2
    assert [json.loads(line)["alarm"] for line in told.read_text().splitlines()] == ["on", "off"]


@pytest.mark.parametrize(
    ("arguments", "sound", "word"),
    [
        (RAW, noise(0.5) + b"x", "ends with 1 of the 2 bytes of a sample"),
        ((), b"", "empty"),
        ((), b"RIFF\0\0\0\0WAVEfmt ", "header"),
    ],
)
def test_a_pipe_that_breaks_off_ends_with_what_is_missing(
    arguments: tuple[str, ...], sound: bytes, word: str, model: str
) -> None:
    done = subprocess.run(
        ["python", "-m", "edge_runtime", "--model", model, "--file", "-", "--live", *arguments],
        input=sound,
        capture_output=True,
        timeout=60,
    )
    assert done.returncode == 3
    assert word in one_line(done.stderr.decode()) and "standard input" in done.stderr.decode()


def test_a_fifo_is_waited_for_stalls_goes_on_and_is_waited_for_again(fifo: Path) -> None:
    with listening(fifo) as listener:
        listener.until_event(STATE, State.STALLED)  # nobody writes yet, which is no end
        assert listener.source.title.endswith("(nothing came yet)") or "16000" in listener.source.title
        writer = Writer(os.open(fifo, os.O_RDWR))
        listener.until_event(STATE, State.LISTENING)
        listener.until_heard(2)
        process = listener.source.process
        writer.paused.set()
        assert "nothing writes into it" in listener.until_event(STATE, State.STALLED).reason
        listener.until(lambda: listener.absent > 3)
        writer.paused.clear()
        assert listener.until_event(OUTAGE).seconds > 1
        assert listener.source.process == process, "what is in the pipe would be lost"
        writer.close()
        assert "has gone" in listener.until_event(STATE, State.RECOVERING).reason
        writer = Writer(os.open(fifo, os.O_RDWR))
        listener.until_event(OUTAGE)
        listener.until_heard(1)
        fifo.unlink()
        os.mkfifo(fifo)
        writer.close()
        listener.until_event(STATE, State.RECOVERING)
        writer = Writer(os.open(fifo, os.O_RDWR))  # of the one that has the name now
        listener.until_event(OUTAGE)
        assert_adds_up(listener)
        writer.close()


def test_a_short_hold_up_of_the_writer_is_no_loss_and_one_value_is_silence(fifo: Path) -> None:
    with listening(fifo) as listener:
        handle = os.open(fifo, os.O_RDWR)
        due = time.monotonic()
        for _ in range(4):  # a second of sound at a time, as a server of segments sends it
            os.write(handle, noise(1))
            due += 1
            listener.until_heard(0.9)
            time.sleep(max(0.0, due - time.monotonic()))
        assert listener.lost == 0 and listener.states() == ["connecting", "listening"]
        os.write(handle, bytes(2 * 3 * RATE))
        assert "hears nothing" in listener.until_event(STATE, State.SILENT).reason
        assert_adds_up(listener)
        os.close(handle)


def test_without_patience_the_end_of_a_fifo_is_the_end(fifo: Path, model: str) -> None:
    with subprocess.Popen(["sh", "-c", 'cat > "$1"', "sh", str(fifo)], stdin=subprocess.PIPE) as writer:
        assert writer.stdin
        writer.stdin.write(noise(1))
        writer.stdin.close()
        done = run("--model", model, "--file", fifo, "--live", *RAW, "--recover-timeout", "0")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout.splitlines()[-1])["seconds"] == pytest.approx(1, abs=0.01)


def test_a_fifo_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "clip.wav").write_bytes(noise(1))
    for name, word in (("clip.wav", "no FIFO"), ("nothing", "No such file")):
        with pytest.raises(InputError, match=word), listening(tmp_path / name) as listener:
            listener.until(lambda: False)


def test_a_new_configuration_leaves_the_pipe_open_and_one_that_reads_it_otherwise_is_refused(
    model: str, tmp_path: Path
) -> None:
    path = tmp_path / "pipe.toml"
    always = f'model = "{model}"\nfile = ["-"]\nlive = true\nraw = "s16le"\ngate = false\n'
    path.write_text(always + "stall = 3\n")
    readable, writable = os.pipe()
    writer = Writer(writable)
    with Running(dict(os.environ), source=("--config", str(path)), stdin=readable) as program:
        os.close(readable)
        program.until_heard()
        child = program.child()
        path.write_text(always + "channels = 2\n")
        program.send(signal.SIGHUP)
        wait_until(lambda: "start again" in program.complaints)
        path.write_text(always + "stall = 1.0\n")
        program.send(signal.SIGHUP)
        place = program.wait_for(lambda line: line["type"] == "summary")
        program.until_heard(place)
        assert program.child() == child
        writer.paused.set()
        program.wait_for(lambda line: "for 1 s" in line.get("reason", ""), place)
        writer.paused.clear()
        program.wait_for(is_event("outage"), place)
        writer.close()
        assert program.finished() == 0
    heard = sum(line["seconds"] for line in program.lines if line["type"] == "summary")
    assert heard > 2


def test_listening_goes_on_while_a_new_model_is_tried(model: str, tmp_path: Path) -> None:
    """The new one would never end. SIGTERM ends the run, and with it the process in which the model is tried."""
    path = tmp_path / "pipe.toml"
    always = 'file = ["-"]\nlive = true\nraw = "s16le"\ngate = false\n'
    path.write_text(f'{always}model = "{model}"\n')
    endless = hostile_models.write(tmp_path, hostile_models.loop())
    readable, writable = os.pipe()
    writer = Writer(writable)
    with Running(dict(os.environ), source=("--config", str(path)), stdin=readable) as program:
        os.close(readable)
        program.until_heard()
        path.write_text(f'{always}model = "{tmp_path / endless}"\n')
        program.send(signal.SIGHUP)
        wait_until(lambda: trials(program.pid))
        trial = trials(program.pid)
        for _ in range(4):
            program.until_heard(len(program.lines))
        assert trials(program.pid) == trial, "it is being tried all the while"
        writer.paused.set()
        code, _ = program.end()
        assert code == 0 and program.lines[-1]["type"] == "summary" and program.lines[-1]["lost_seconds"] == 0
        assert not trials(program.pid) and not Path(f"/proc/{trial.strip()}").exists()
    writer.close()


def trials(parent: int) -> str:
    """The process in which a model is tried, where there is one."""
    return subprocess.run(
        ["pgrep", "-f", "-P", str(parent), "edge_runtime.model.trial_child"], capture_output=True, text=True
    ).stdout


def wait_until(found: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not found():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_live_is_for_one_pipe(tmp_path: Path) -> None:
    for arguments in (["--live", "--device", "hw:1"], ["--live", "--file", "a", "b"]):
        done = run(*arguments)
        assert done.returncode == 2 and "--live" in one_line(done.stderr)
