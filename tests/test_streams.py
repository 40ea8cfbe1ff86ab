"""Streams from the network, through a real ffmpeg: what befalls them is noticed and told, and no password shows."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_runtime.capture.block import OUTAGE, STATE
from edge_runtime.capture.liveness import LivenessLimits, State
from edge_runtime.capture.source import LiveSource
from edge_runtime.capture.wanted import Kind, Wanted
from tests.listening import PATIENCE_SECONDS, RATE, Listener, assert_adds_up
from tests.program import one_line, run
from tests.rigs.streams import HttpStream, RtspCamera
from tests.running import Running, is_event, is_state

LIMITS = LivenessLimits(stall=2.0, retry_longest=1.0, connect_timeout=PATIENCE_SECONDS)
PASSWORD = "hunter2"


def address(server: HttpStream | RtspCamera, password: str = PASSWORD) -> str:
    return server.url.replace("://", f"://camera:{password}@")


@pytest.mark.parametrize(("kind", "channels"), [(HttpStream, 8), (RtspCamera, 1)])
def test_a_server_that_ends_or_stalls_is_noticed_and_heard_again(
    kind: type[HttpStream] | type[RtspCamera], channels: int
) -> None:
    with kind(PASSWORD) as server:
        assert isinstance(server, HttpStream | RtspCamera)
        listener = Listener(LiveSource(Wanted(Kind.STREAM, address(server)), RATE, LIMITS))
        listener.until_heard(1)
        assert listener.source.title == f"{server.url.replace('://', '://***@')}, 16000 Hz, {channels} ch"
        server.kill()
        assert "it has ended" in listener.until_event(STATE, State.RECOVERING).reason
        assert "Connection refused" in listener.until_event(STATE, State.RECOVERING).reason
        server.restart()
        assert listener.until_event(OUTAGE).seconds > 0.5
        listener.until_heard(1)
        server.pause()
        assert "check the network" in listener.until_event(STATE, State.STALLED).reason
        server.resume()
        listener.until_event(OUTAGE)
        listener.until_heard(1)
        assert_adds_up(listener)
    assert PASSWORD not in "".join(event.reason for event in listener.events)


def test_no_password_is_in_any_output_file_or_command_line_and_no_ffmpeg_is_left_behind(
    model: str, tmp_path: Path
) -> None:
    ledger = tmp_path / "ledger.sqlite"
    with RtspCamera(PASSWORD) as server:
        assert isinstance(server, RtspCamera)
        environment = {**os.environ, "EDGE_DETECT_STREAM": address(server)}  # in no command line of ours either
        with Running(environment, "--model", model, "--no-gate", "--ledger", str(ledger), source=()) as program:
            program.until_heard()
            child = program.child()
            (ffmpeg,) = children(child)
            for process in (program.pid, child, ffmpeg):
                assert PASSWORD not in Path(f"/proc/{process}/cmdline").read_text()
            server.kill()
            program.wait_for(is_state("recovering"))
            server.restart()
            program.wait_for(is_event("outage"))
            (ffmpeg,) = children(program.child())
            program.send(signal.SIGKILL)
        wait_until(
            lambda: not Path(f"/proc/{ffmpeg}/cmdline").exists() or not Path(f"/proc/{ffmpeg}/cmdline").read_bytes()
        )
    said = str(program.lines) + program.complaints
    assert "rtsp://***@127.0.0.1" in said and PASSWORD not in said
    kept = b"".join(path.read_bytes() for path in tmp_path.glob("ledger*"))
    assert b"***@127.0.0.1" in kept and PASSWORD.encode() not in kept


def test_what_cannot_be_heard_is_an_error_of_one_line(model: str) -> None:
    with RtspCamera(PASSWORD) as camera, HttpStream() as web:
        assert isinstance(camera, RtspCamera) and isinstance(web, HttpStream)
        for url, word in (
            (address(camera, "wrongly"), "401 Unauthorized"),
            (web.url.replace("live", "none").replace("://", "://user:wrongly@"), "404"),
        ):
            done = run("--model", model, "--stream", url)
            assert done.returncode == 3
            assert word in one_line(done.stderr) and "wrongly" not in done.stderr


def children(process: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def wait_until(found: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not found():
        assert time.monotonic() < deadline
        time.sleep(0.1)
