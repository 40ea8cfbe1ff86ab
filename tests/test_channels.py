"""Several channels to one: opposite, dead and uneven ones, and that splits do not matter."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge_runtime.capture.channels import Mixer
from tests.conftest import voice
from tests.program import lines, run

EXAMPLES = Path(__file__).parent.parent / "examples"
RATE = 16000
SOUND = voice(4, seed=6)
SETTLED = slice(round(0.2 * RATE), None)


def stereo(*channels: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.stack(channels, axis=1).astype(np.float32)


def noise(level: float, seed: int) -> NDArray[np.float32]:
    return (level * np.random.default_rng(seed).standard_normal(SOUND.size)).astype(np.float32)


def mixed(frames: NDArray[np.float32], cuts: list[int] | None = None) -> tuple[NDArray[np.float32], list[str]]:
    mixer = Mixer(RATE)
    pieces = [mixer.push(piece) for piece in np.split(frames, sorted(cuts or []))]
    return np.concatenate(pieces), mixer.news()


KINDS = {
    "alike": stereo(SOUND, SOUND),
    "opposite": stereo(SOUND, -SOUND),
    "partly opposite": stereo(SOUND, -0.8 * SOUND + noise(0.001, 1)),
    "opposite after a while": np.concatenate([stereo(SOUND, SOUND), stereo(SOUND, -SOUND)]),
    "dead": stereo(np.zeros_like(SOUND), SOUND),
    "damaged": stereo(SOUND, np.where(np.arange(SOUND.size) % 5000 == 0, np.float32(np.nan), -SOUND)),
    "nine": np.concatenate([np.tile(SOUND[:, None], 5), np.tile(-SOUND[:, None], 4)], axis=1),
    "silence": np.zeros((SOUND.size, 3), np.float32),
}


@given(kind=st.sampled_from(list(KINDS)), cuts=st.lists(st.integers(0, SOUND.size), max_size=30))
def test_every_split_gives_the_same_bits(kind: str, cuts: list[int]) -> None:
    one, other = mixed(KINDS[kind]), mixed(KINDS[kind], cuts)
    assert one[0].tobytes() == other[0].tobytes() and one[1] == other[1]


def test_plain_stereo_is_its_mean_and_nothing_is_said() -> None:
    left, right = SOUND + noise(0.003, 2), 0.5 * SOUND + noise(0.003, 3)
    found, news = mixed(stereo(left, right))
    np.testing.assert_allclose(found, (left + right) / 2, atol=1e-7)
    assert news == []


def test_channels_that_have_nothing_to_do_with_each_other_are_mixed() -> None:
    found, news = mixed(stereo(noise(0.1, 1), noise(0.1, 2), noise(0.1, 3)))
    np.testing.assert_allclose(found, (noise(0.1, 1) + noise(0.1, 2) + noise(0.1, 3)) / 3, atol=1e-7)
    assert news == []


@pytest.mark.parametrize("gain", [-1.0, -0.9, -0.7])
@pytest.mark.parametrize("offset", [0.0, 0.2])
def test_of_channels_that_cancel_one_is_taken_alone(gain: float, offset: float) -> None:
    found, news = mixed(stereo(SOUND + noise(0.0003, 1) + np.float32(offset), gain * SOUND + noise(0.0003, 2)))
    np.testing.assert_allclose(found[SETTLED], (SOUND + noise(0.0003, 1) + np.float32(offset))[SETTLED], atol=1e-6)
    (text,) = news
    assert "channel 1 alone" in text


def test_pauses_do_not_bring_the_mean_back() -> None:
    """In them the two wires have noise of their own, which does not cancel."""
    pause = 20 * SOUND.size
    hiss = np.random.default_rng(0).standard_normal((pause, 2)).astype(np.float32) * np.float32(0.001)
    frames = np.concatenate([stereo(SOUND, -SOUND), hiss, stereo(SOUND, -SOUND)])
    found, news = mixed(frames)
    assert np.array_equal(found[-SOUND.size :], SOUND) and len(news) == 1


def test_when_channels_agree_again_their_mean_is_back_and_said_once() -> None:
    turn = [stereo(SOUND, -SOUND), *[stereo(SOUND, 0.5 * SOUND)] * 6]
    found, news = mixed(np.concatenate(turn * 3))
    np.testing.assert_allclose(found[-RATE:], 0.75 * SOUND[-RATE:], atol=1e-7)
    assert len(news) == 2 and "agree again" in news[1]


@pytest.mark.parametrize("others", [1, 7])
def test_dead_channels_do_not_make_the_sound_fainter(others: int) -> None:
    frames = np.zeros((SOUND.size, others + 1), np.float32)
    frames[:, 0] = SOUND
    found, news = mixed(frames)
    assert np.array_equal(found[SETTLED], SOUND[SETTLED])
    (text,) = news
    assert "channel 2" in text and "gives no sound" in text


def test_a_channel_that_drowns_another_is_reported() -> None:
    _, (text,) = mixed(stereo(0.05 * SOUND, noise(0.1, 4)))
    assert "channel 2 is" in text and "let that one alone be scored" in text


def test_what_is_no_number_in_a_channel_left_out_does_not_matter() -> None:
    wild = np.full(SOUND.size, np.nan, np.float32)
    found, _ = mixed(stereo(SOUND, wild))
    assert np.array_equal(found[SETTLED], SOUND[SETTLED])


def test_a_thousand_channels_of_a_high_rate_take_little_memory() -> None:
    mixer = Mixer(10_000_000)
    block = np.zeros((500, 1024), np.float32)
    for _ in range(40):
        mixer.push(block)
    assert sum(piece.nbytes for piece in mixer._seen) < 4_000_000


def test_a_balanced_line_is_scored_as_its_one_wire_is(tmp_path: Path, model: str) -> None:
    sound, rate = soundfile.read(EXAMPLES / "synthetic.flac")
    soundfile.write(tmp_path / "one.wav", sound, rate, subtype="FLOAT")
    soundfile.write(tmp_path / "opposite.wav", np.stack([sound, -sound], 1), rate, subtype="FLOAT")
    told = {}
    for name in ("one", "opposite"):
        done = run("--file", tmp_path / f"{name}.wav", "--model", model)
        assert done.returncode == 0, done.stderr
        told[name] = lines(done.stdout)
    assert told["opposite"][-1]["score"] == pytest.approx(told["one"][-1]["score"], abs=0.1)
    assert told["opposite"][-1]["windows"] == told["one"][-1]["windows"]
    (event,) = (line for line in told["opposite"] if line["type"] == "event")
    assert event["event"] == "channels" and "cancel each other" in event["reason"]
    assert not [line for line in told["one"] if line["type"] == "event"]


def test_a_pipe_tells_it_too(tmp_path: Path, model: str) -> None:
    frames = (np.clip(stereo(SOUND, -SOUND), -1, 1) * 32767).astype("<i2").tobytes()
    command = [sys.executable, "-m", "edge_runtime", "--file", "-", "--raw", "s16le", "--channels", "2", "--no-json"]
    done = subprocess.run([*command, "--model", model], input=frames, capture_output=True, check=True)
    assert b"channel 1 alone is scored" in done.stdout
