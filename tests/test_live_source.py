"""Faults of real sound servers: each is noticed, told and recovered from, and the seconds add up to the clock."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from edge_runtime.capture.block import CHANNELS, IDENTITY, LOST, OUTAGE, OVERFLOW, STATE
from edge_runtime.capture.liveness import LivenessLimits, State
from edge_runtime.capture.source import LiveSource
from edge_runtime.errors import InputError
from tests.listening import PATIENCE_SECONDS, Listener, assert_adds_up
from tests.rigs.exclusive import ExclusiveMicrophone
from tests.rigs.jack import JackMicrophone
from tests.rigs.pulse import PulseMicrophone

RATE = 16000
LIMITS = LivenessLimits(stall=2.0, silent=2.0, reopen_silent=2.0, retry_longest=2.0, identity_check=0.5)
"""Shorter than what is shipped, so that the tests are."""


@pytest.fixture
def enter(monkeypatch: pytest.MonkeyPatch) -> Callable[[PulseMicrophone | JackMicrophone], None]:
    """Makes this process find the microphone of a rig."""

    def change(rig: PulseMicrophone | JackMicrophone) -> None:
        for name in set(os.environ) - set(rig.environment):
            monkeypatch.delenv(name)
        for name, value in rig.environment.items():
            monkeypatch.setenv(name, value)

    return change


@pytest.fixture
def microphone(enter: Callable[[PulseMicrophone], None]) -> Iterator[PulseMicrophone]:
    """A microphone that hears faint noise."""
    with PulseMicrophone() as rig:
        enter(rig)
        rig.feed.hear(0, spread=100)
        yield rig


@pytest.fixture
def listener(microphone: PulseMicrophone) -> Iterator[Listener]:
    """One that has begun to listen to it."""
    source = LiveSource("hw:1", RATE, LIMITS)
    listener = Listener(source)
    listener.until_heard(1)
    assert listener.states() == ["connecting", "listening"]
    yield listener
    source.close()


def test_a_microphone_is_heard_and_a_stop_loses_nothing(listener: Listener) -> None:
    assert listener.source.title == "hw:1, 16000 Hz, 2 ch"
    listener.until_heard(5)
    assert_adds_up(listener)
    assert listener.lost == 0 and listener.absent < PATIENCE_SECONDS
    assert listener.states() == ["connecting", "listening"]


def test_an_unplugged_microphone_is_heard_again_when_it_is_back(
    microphone: PulseMicrophone, listener: Listener
) -> None:
    for _ in range(2):
        microphone.kill()
        event = listener.until_event(STATE, State.RECOVERING)
        assert "hw:1" in event.reason and "\n" not in event.reason
        listener.until(lambda: listener.absent > 3)
        microphone.restart()
        assert listener.until_event(OUTAGE).seconds > 1
        listener.until_heard(1)
        assert listener.source.state is State.LISTENING
    assert_adds_up(listener)


def test_a_stalled_microphone_is_noticed_and_heard_at_once_when_it_goes_on(
    microphone: PulseMicrophone, listener: Listener
) -> None:
    microphone.feed.pause()
    assert "no sound for 2 s" in listener.until_event(STATE, State.STALLED).reason
    absent = listener.absent
    listener.until(lambda: listener.absent > absent + 8)  # through several attempts
    assert listener.states().count("stalled") == 1
    microphone.feed.reopen()
    microphone.feed.resume()
    assert listener.until_event(OUTAGE).seconds > 8
    listener.until_heard(1)
    assert_adds_up(listener)


def test_a_server_that_hangs_hangs_nothing(microphone: PulseMicrophone) -> None:
    listener = Listener(LiveSource("hw:1", RATE, replace(LIMITS, opening=3.0)))
    listener.until_heard(1)
    microphone.freeze()
    listener.until_event(STATE, State.STALLED)
    assert "the sound system hangs" in listener.until_event(STATE, State.RECOVERING).reason
    microphone.thaw()
    listener.until_event(OUTAGE)
    listener.until_heard(1)
    microphone.freeze()
    assert_adds_up(listener)  # stopped before anybody could notice


def test_a_short_gap_is_lost_and_no_outage(microphone: PulseMicrophone, listener: Listener) -> None:
    listener.until_heard(5)
    microphone.feed.pause()
    time.sleep(1.2)
    microphone.feed.resume()
    assert listener.until_event(LOST).seconds == pytest.approx(1.2, abs=0.3)
    assert_adds_up(listener)
    assert OUTAGE not in [event.kind for event in listener.events]


def test_a_gap_just_before_the_end_of_a_stream_is_counted_too(microphone: PulseMicrophone, listener: Listener) -> None:
    listener.until_heard(9)
    microphone.feed.pause()
    time.sleep(1.2)
    microphone.feed.resume()
    listener.until_heard(1)
    microphone.kill()
    listener.until_event(STATE, State.RECOVERING)
    listener.until(lambda: listener.absent > 1)
    assert_adds_up(listener)
    assert listener.lost == pytest.approx(1.2, abs=0.3)


@pytest.mark.parametrize("value", [0, 77])
def test_a_microphone_that_gives_one_value_is_silent_until_it_gives_others(
    value: int, microphone: PulseMicrophone, listener: Listener
) -> None:
    microphone.feed.hear(value)
    assert "one value" in listener.until_event(STATE, State.SILENT).reason
    first = listener.source.process
    listener.until(lambda: listener.source.process not in (first, None))  # it is opened again
    listener.until_heard(3)
    assert listener.source.state is State.SILENT and listener.states().count("silent") == 1
    microphone.feed.hear(0, spread=100)
    listener.until_event(STATE, State.LISTENING)
    assert_adds_up(listener)


def test_a_removed_source_is_told_and_heard_again_when_it_is_back(
    microphone: PulseMicrophone, listener: Listener
) -> None:
    microphone.add_source("webcam")
    microphone.others["webcam"].hear(5000, spread=100)
    listener.until_heard(2)  # long enough for the source to have been looked at
    microphone.remove_source("fakemic")
    event = listener.until_event(IDENTITY)
    assert "webcam" in event.reason and "fakemic" in event.reason
    listener.until_heard(2)
    assert abs(listener.recent.mean() - 5000 / 32768) < 0.01
    microphone.add_source("fakemic")
    event = listener.until_event(IDENTITY)
    assert event.reason.startswith("the sound comes from another source now: fakemic")
    listener.until_heard(2)
    assert abs(listener.recent.mean()) < 0.01
    assert_adds_up(listener)


def test_a_process_that_hangs_is_replaced_and_one_that_dies_too(listener: Listener) -> None:
    for number, state in ((signal.SIGSTOP, State.STALLED), (signal.SIGKILL, State.RECOVERING)):
        assert listener.source.process
        os.kill(listener.source.process, number)
        event = listener.until_event(STATE, state)
        assert number == signal.SIGSTOP or "signal 9" in event.reason
        listener.until_event(OUTAGE)
        listener.until_heard(6)
    assert_adds_up(listener)


def test_signals_for_the_program_do_not_reach_the_process_that_listens(listener: Listener) -> None:
    process = listener.source.process
    assert process and os.getpgid(process) != os.getpgid(0)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(process, number)
    listener.until_heard(2)
    assert listener.source.process == process and listener.source.state is State.LISTENING


def test_no_process_is_left_behind_by_a_program_that_is_killed(microphone: PulseMicrophone) -> None:
    program = (
        "from edge_runtime.capture.source import LiveSource\n"
        "source = LiveSource('hw:1', 16000)\n"
        "for block in source.blocks(lambda: False):\n"
        "    if len(block.samples): print(source.process, flush=True)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        child = int(parent.stdout.readline())
        parent.kill()
    deadline = time.monotonic() + PATIENCE_SECONDS
    while Path(f"/proc/{child}/cmdline").exists() and b"capture.child" in Path(f"/proc/{child}/cmdline").read_bytes():
        assert time.monotonic() < deadline, "it listens on"
        time.sleep(0.1)


def test_a_reader_that_is_slow_for_a_while_finds_all_sound_waiting(listener: Listener) -> None:
    time.sleep(6)
    listener.until(lambda: listener.waiting > 3)
    listener.until(lambda: listener.waiting == 0)
    listener.until_heard(1)
    assert_adds_up(listener)
    assert listener.lost == 0 and OUTAGE not in [event.kind for event in listener.events]


@pytest.mark.parametrize(("channel", "level"), [("mix", 6000), (1, 2000), (2, 10000)])
def test_one_channel_is_heard_or_the_mean_of_all(
    channel: str | int, level: int, enter: Callable[[PulseMicrophone], None]
) -> None:
    with PulseMicrophone(channels=2) as rig:
        enter(rig)
        rig.feed.play(np.tile(np.array([2000, 10000], np.int16), 30 * RATE))
        listener = Listener(LiveSource("hw:1", RATE, LIMITS, channel=channel))
        listener.until_heard(2)
        listener.source.close()
    assert np.median(listener.recent) * 32768 == pytest.approx(level, abs=2)


@pytest.mark.parametrize("channel", ["mix", 2])
def test_of_a_balanced_line_one_wire_is_heard(channel: str | int, enter: Callable[[PulseMicrophone], None]) -> None:
    with PulseMicrophone(channels=2) as rig:
        enter(rig)
        wire = np.random.default_rng(0).integers(-3000, 3000, 30 * RATE).astype(np.int16)
        rig.feed.play(np.stack([wire, -wire], axis=1).ravel())
        listener = Listener(LiveSource("hw:1", RATE, LIMITS, channel=channel))
        listener.until_heard(3)
        listener.source.close()
    assert np.std(listener.recent) * 32768 == pytest.approx(3000 / np.sqrt(3), rel=0.05)
    said = [event.reason for event in listener.events if event.kind == CHANNELS]
    assert ["channel 1 alone is scored (--channel N" in text for text in said] == ([True] if channel == "mix" else [])
    assert listener.source.channels == 2


def test_a_channel_that_the_microphone_does_not_have_is_refused(microphone: PulseMicrophone) -> None:
    with pytest.raises(InputError, match="no channel 99"):
        LiveSource("hw:1", RATE, LIMITS, channel=99).connect(lambda: False)


def test_a_missing_microphone_fails_at_once_or_is_waited_for(microphone: PulseMicrophone) -> None:
    with pytest.raises(InputError, match="gramophone") as caught:
        LiveSource("gramophone", RATE, LIMITS).connect(lambda: False)
    assert "hw:1" in str(caught.value) and "\n" not in str(caught.value)

    microphone.kill()
    with pytest.raises(InputError, match="no microphone"):
        list(LiveSource("hw:1", RATE, LIMITS).blocks(lambda: False))
    listener = Listener(LiveSource("hw:1", RATE, replace(LIMITS, connect_timeout=PATIENCE_SECONDS)))
    listener.until(lambda: listener.absent > 2)
    assert listener.states()[0] == "connecting" and "no microphone" in listener.events[1].reason
    microphone.restart()
    listener.until_heard(1)
    assert listener.source.state is State.LISTENING
    assert_adds_up(listener)


def test_a_microphone_that_is_taken_at_the_start_is_waited_for(enter: Callable[[PulseMicrophone], None]) -> None:
    with ExclusiveMicrophone() as rig:
        enter(rig)
        rig.feed.hear(0, spread=100)
        with rig.taken():
            with pytest.raises(InputError, match="another program uses"):
                LiveSource("hw:1", RATE, LIMITS).connect(lambda: False)
            listener = Listener(LiveSource("hw:1", RATE, replace(LIMITS, connect_timeout=PATIENCE_SECONDS)))
            listener.until(lambda: "another program uses" in "".join(event.reason for event in listener.events))
        listener.until_heard(1)
        assert_adds_up(listener)


def test_an_outage_longer_than_allowed_is_the_end(microphone: PulseMicrophone) -> None:
    listener = Listener(LiveSource("hw:1", RATE, replace(LIMITS, recover_timeout=0)))
    listener.until_heard(1)
    microphone.feed.pause()
    with pytest.raises(InputError, match="no sound for"):
        listener.until(lambda: False)
    assert listener.states()[-2:] == ["stalled", "failed"]
    assert listener.source.process is None


@pytest.mark.parametrize("rate", [44100, 48000])
def test_a_microphone_with_a_rate_of_its_own_is_resampled_and_its_dying_server_hangs_nothing(
    rate: int, enter: Callable[[JackMicrophone], None], tmp_path: Path
) -> None:
    tone = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(rate) / rate)
    soundfile.write(tmp_path / "tone.wav", tone, rate)
    with JackMicrophone(tmp_path / "tone.wav", rate) as rig:
        enter(rig)
        listener = Listener(LiveSource("hw:1", RATE, LIMITS))
        listener.until_heard(3)
        assert listener.source.native_rate == rate
        spectrum = np.abs(np.fft.rfft(listener.recent * np.hanning(len(listener.recent))))
        assert abs(int(spectrum.argmax()) - 1000) <= 1
        rig.kill()
        listener.until(lambda: listener.source.state in (State.STALLED, State.RECOVERING))
        listener.until(lambda: listener.absent > 3)
        rig.restart()
        assert listener.until_event(OUTAGE).seconds > 1
        listener.until_heard(1)
        assert_adds_up(listener)


@pytest.mark.nightly
def test_a_storm_of_overflows_is_counted_and_survived(enter: Callable[[JackMicrophone], None], tmp_path: Path) -> None:
    soundfile.write(tmp_path / "noise.wav", 0.1 * np.random.default_rng(0).standard_normal(RATE), RATE)
    with JackMicrophone(tmp_path / "noise.wav", RATE) as rig:
        enter(rig)
        listener = Listener(LiveSource("hw:1", RATE, replace(LIMITS, stall=4.0)))
        listener.until_heard(5)
        for _ in range(3):
            assert listener.source.process
            os.kill(listener.source.process, signal.SIGUSR1)
            listener.until_event(OVERFLOW)
        listener.until_event(LOST)
        listener.until_heard(9)
        assert_adds_up(listener)
        assert 3 < listener.lost < 9 and OUTAGE not in [event.kind for event in listener.events]
