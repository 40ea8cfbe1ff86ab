"""What both labels pass through alike: every augmentation, the codecs, the rooms and the replay."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import signal

from training.augmentation import codecs
from training.augmentation.augment import CHAIN, NAMES, Augmentation, augment
from training.augmentation.codecs import BY_AV, BY_SOUNDFILE, Codec
from training.augmentation.rooms import ROOMS, replay, room, room_response

RATE = 16000
seeds = st.integers(0, 2**32 - 1)
counts = st.integers(int(0.2 * RATE), 3 * RATE)
kinds = st.sampled_from(["voice", "silence", "full scale", "click"])


def sound(kind: str, count: int, seed: int = 0) -> NDArray[np.float32]:
    """`voice` is a buzz with formants in syllables, of which a codec made for speech makes sense."""
    rng = np.random.default_rng(seed)
    time = np.arange(count) / RATE
    made = np.zeros(count)
    if kind == "full scale":
        made = np.sign(rng.standard_normal(count))
    elif kind == "click":
        made[count // 3] = 1
    elif kind == "voice":
        pitch = np.cumsum(130 + 20 * np.sin(2 * np.pi * 0.7 * time)) / RATE
        made = np.diff(np.floor(pitch), prepend=0) + 0.01 * rng.standard_normal(count)
        for formant in (500, 1500, 2500):
            radius, turn = 0.97, 2 * np.pi * formant / RATE
            made = signal.lfilter([1], [1, -2 * radius * np.cos(turn), radius**2], made)
        made *= 0.5 - 0.5 * np.cos(2 * np.pi * 3 * time)
        made *= 0.3 / np.max(np.abs(made))
    return made.astype(np.float32)


def lag(later: NDArray[np.float32], earlier: NDArray[np.float32]) -> int:
    return int(np.argmax(signal.correlate(later, earlier))) - len(earlier) + 1


@pytest.mark.parametrize("augmentation", [function for function, _ in CHAIN], ids=lambda f: f.__name__)
@settings(max_examples=12, deadline=None)
@given(seed=seeds, count=counts, kind=kinds)
def test_every_augmentation_gives_the_same_finite_sound_for_a_seed(
    augmentation: Augmentation, seed: int, count: int, kind: str
) -> None:
    samples = sound(kind, count)
    before = samples.copy()
    changed = augmentation(samples, np.random.default_rng(seed), RATE)
    assert np.array_equal(samples, before), "the input is left alone"
    assert changed.dtype == np.float32 and np.isfinite(changed).all()
    assert 0.88 <= len(changed) / count <= 1.12
    assert np.array_equal(changed, augmentation(samples, np.random.default_rng(seed), RATE))


@settings(max_examples=40, deadline=None)
@given(seed=seeds, count=counts, kind=kinds)
def test_the_chain_draws_alike_whatever_the_sound(seed: int, count: int, kind: str) -> None:
    """A copy and its original get the same treatment: no augmentation draws more numbers for one than the other."""
    one, other = np.random.default_rng(seed), np.random.default_rng(seed)
    changed = augment(sound(kind, count), one, RATE)
    augment(sound("voice", count, seed), other, RATE)
    assert changed.dtype == np.float32 and np.isfinite(changed).all()
    assert 0.88 <= len(changed) / count <= 1.12
    assert one.bit_generator.state == other.bit_generator.state


@pytest.mark.parametrize("name", ["replay", "codec", "equalizer"])
def test_a_share_of_clips_passes_one_augmentation_where_nothing_else_is_done_to_them(name: str) -> None:
    samples = sound("voice", RATE)
    heard = [augment(samples, np.random.default_rng(seed), RATE, 0, {name: 0.3}) for seed in range(60)]
    passed = [not np.array_equal(item, samples) for item in heard]
    assert 0.1 < np.mean(passed) < 0.5
    assert np.array_equal(augment(samples, np.random.default_rng(0), RATE, 0), samples)


def test_what_has_a_share_of_none_is_never_done_and_the_rest_as_ever() -> None:
    samples = sound("voice", RATE)
    without = {name: 0.0 for name in NAMES if name != "mask_time"}
    gaps = [augment(samples, np.random.default_rng(seed), RATE, 10.0, without) for seed in range(20)]
    for gap in gaps:
        changed = np.flatnonzero(gap != samples)
        assert 0 < len(changed) <= changed[-1] - changed[0] + 1 <= RATE / 4, "one gap, and nothing else"


def test_not_everything_is_left_as_it_is() -> None:
    samples = sound("voice", RATE)
    assert all(
        any(not np.array_equal(function(samples, np.random.default_rng(seed), RATE), samples) for seed in range(3))
        for function, _ in CHAIN
    )


@pytest.mark.parametrize("function", dict.fromkeys(BY_SOUNDFILE + BY_AV), ids=lambda f: f.__name__)
def test_codecs_change_the_sound_and_keep_its_time_and_level(function: Codec) -> None:
    samples = sound("voice", 2 * RATE)
    for seed in range(4):
        coded = function(samples, np.random.default_rng(seed), RATE)
        assert coded.dtype == np.float32 and coded.shape == samples.shape
        assert not np.array_equal(coded, samples)
        assert abs(lag(coded, samples)) <= 4
        assert np.corrcoef(coded, samples)[0, 1] > 0.5
        assert 0.5 < np.std(coded) / np.std(samples) < 1.5


def test_a_codec_that_the_library_lacks_leaves_the_sound_alone() -> None:
    def absent(samples: codecs.Samples, rng: np.random.Generator, rate: int) -> codecs.Samples:
        return codecs._by_av(samples, rate, 16000, "no such codec", "s16")

    samples = sound("voice", RATE)
    assert np.array_equal(codecs.codec(samples, np.random.default_rng(0), RATE, (absent,)), samples)


@pytest.mark.parametrize("number", range(0, ROOMS, 16))
def test_rooms_begin_with_the_direct_sound_and_die_away(number: int) -> None:
    response = room_response(number, RATE)
    assert np.isfinite(response).all() and np.isclose(np.sum(response**2), 1)
    assert np.sum(np.abs(response) > 0) > 0.05 * RATE, "there is a tail"
    assert response[0] > 0
    left_db = 10 * np.log10(np.cumsum(response[::-1] ** 2)[::-1] + 1e-12)
    begin, end = (int(np.argmax(left_db < level)) for level in (-5, -20))
    assert 0.03 < 4 * (end - begin) / RATE < 1.6, "decays as rooms of T60 0.1 to 1.2 s do"


def test_rooms_join_images_and_tail_without_a_step() -> None:
    """Over the bank the level falls steadily, past 20 to 60 ms too, where noise takes over from the images."""
    bank = [room_response(number, RATE) for number in range(ROOMS) if len(room_response(number, RATE)) > 0.5 * RATE]
    assert len(bank) > 20
    blocks = np.mean([(h[: RATE // 10] ** 2).reshape(-1, RATE // 100).sum(axis=1) for h in bank], axis=0)
    steps_db = np.diff(10 * np.log10(blocks[1:]))
    assert np.all(steps_db < 1.5) and np.all(steps_db > -4)


@pytest.mark.parametrize("function", [room, replay], ids=lambda f: f.__name__)
def test_rooms_and_replay_leave_a_tail_and_no_delay(function: Augmentation) -> None:
    samples = np.zeros(RATE, np.float32)
    samples[4000:6000] = np.random.default_rng(0).standard_normal(2000) * 0.1
    tails = []
    for seed in range(20):
        heard = function(samples, np.random.default_rng(seed), RATE)
        tails.append(np.mean(heard[6100:7000] ** 2) / np.mean(heard[2000:3900] ** 2 + 1e-12))
        assert np.std(heard[4000:6000]) > 2 * np.std(heard[:3900])
    assert np.median(tails) > 3


def test_replay_limits_the_band_and_keeps_the_level() -> None:
    samples = (np.random.default_rng(0).standard_normal(2 * RATE) * 0.1).astype(np.float32)
    shapes = []
    for seed in range(20):
        heard = replay(samples, np.random.default_rng(seed), RATE)
        frequency, power = signal.welch(heard, RATE, nperseg=1024)
        middle = np.median(power[(frequency > 500) & (frequency < 3000)])
        shapes.append(
            [power[(frequency > 7600)].mean() / middle, power[(frequency > 20) & (frequency < 60)].mean() / middle]
        )
        assert 0.7 < np.std(heard) / np.std(samples) < 3
    top, bottom = np.median(shapes, axis=0)
    assert top < 0.3 and bottom < 1
