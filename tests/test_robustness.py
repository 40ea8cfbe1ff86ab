"""Conditions do to samples what their names say, and the table holds all models against the same sound."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.__main__ import main
from benchmarks.robustness.error_rates import robustness, subset
from edge_runtime.errors import UsageError
from evaluation.acoustics.conditions import CONDITIONS, chosen, generator, possible
from evaluation.acoustics.effects import (
    PEAK,
    RATE,
    Samples,
    clipped,
    louder,
    noisy,
    padded,
    pink,
    reverberant,
    shortened,
    speech_shaped,
    trimmed,
    white,
)
from evaluation.acoustics.replay import T60_S, decay_s, drawn_room, impulse_response
from evaluation.protocols import Clip, read_clips
from tests.conftest import voice

SOUND = voice(3.0, 5)
ABLE = [condition.name for condition in possible(list(CONDITIONS.values()))[0]]
LENGTH_CHANGES = {"length", "silence"}


def applied(name: str, sound: Samples, seed: int = 0) -> Samples:
    return CONDITIONS[name].apply(sound, generator(seed, "clip.wav", name))


def db(power: float) -> float:
    return 10 * float(np.log10(power))


@pytest.mark.parametrize("name", ABLE)
def test_a_condition_gives_finite_float32_of_the_length_it_says_and_the_same_each_time(name: str) -> None:
    before = SOUND.copy()
    changed = applied(name, SOUND)
    assert changed.dtype == np.float32 and changed.ndim == 1 and np.isfinite(changed).all()
    assert CONDITIONS[name].axis in LENGTH_CHANGES or changed.size == SOUND.size
    assert np.abs(changed).max() <= 1.25, "codecs may overshoot a little, nothing else"
    assert np.array_equal(changed, applied(name, SOUND)), "not the same for the same clip and seed"
    assert np.array_equal(before, SOUND), "the samples were changed in place"
    drawn = CONDITIONS[name].axis in ("noise", "room", "replay")
    assert drawn != np.array_equal(changed, applied(name, SOUND, seed=1)), "the seed matters where something is drawn"


@pytest.mark.parametrize("name", ABLE)
@settings(max_examples=8)
@given(size=st.integers(1, 3000), level=st.sampled_from([0.0, 1e-6, 0.5, 1.0]), seed=st.integers(0, 9))
def test_a_condition_takes_any_clip(name: str, size: int, level: float, seed: int) -> None:
    sound = (level * np.random.default_rng(seed).uniform(-1, 1, size)).astype(np.float32)
    changed = applied(name, sound, seed)
    assert changed.size and changed.dtype == np.float32 and np.isfinite(changed).all()
    assert CONDITIONS[name].axis in LENGTH_CHANGES or changed.size == size


@pytest.mark.parametrize("kind", [white, pink, speech_shaped])
@given(snr_db=st.floats(-5, 40), seed=st.integers(0, 99), level=st.floats(1e-3, 1.5))
def test_noise_has_the_ratio_that_it_says(
    kind: Callable[[Samples, np.random.Generator], Samples], snr_db: float, seed: int, level: float
) -> None:
    sound = (SOUND * (level / np.abs(SOUND).max())).astype(np.float32)
    mixed = noisy(sound, np.random.default_rng(seed), kind, snr_db).astype(np.float64)
    assert np.abs(mixed).max() <= max(PEAK, level) + 1e-6
    noise = kind(sound, np.random.default_rng(seed)).astype(np.float64)
    # The mixture is a * speech + b * noise: both factors by least squares.
    (a, b), *_ = np.linalg.lstsq(np.stack([sound, noise], axis=1).astype(np.float64), mixed, rcond=None)
    assert db(a**2 * np.var(sound, dtype=np.float64) / (b**2 * np.mean(noise**2))) == pytest.approx(snr_db, abs=0.05)


def test_noises_have_their_spectra() -> None:
    random = np.random.default_rng(0)
    silence = np.zeros(1 << 17, np.float32)
    long = np.resize(SOUND, silence.size)

    def band(samples: Samples, low_hz: float, high_hz: float) -> float:
        power = np.abs(np.fft.rfft(samples)) ** 2
        frequencies = np.fft.rfftfreq(samples.size, 1 / RATE)
        return float(power[(frequencies >= low_hz) & (frequencies < high_hz)].sum())

    flat, falling, shaped = (kind(long, random) for kind in (white, pink, speech_shaped))
    assert db(band(flat, 2000, 4000) / band(flat, 1000, 2000)) == pytest.approx(3, abs=0.3), "twice the width"
    assert db(band(falling, 2000, 4000) / band(falling, 1000, 2000)) == pytest.approx(0, abs=0.3)
    for low in (200, 800, 3000):
        ratio = band(shaped, low, 2 * low) / band(shaped, 100, 200)
        assert db(ratio) == pytest.approx(db(band(long, low, 2 * low) / band(long, 100, 200)), abs=1.5)


def test_bands_and_codecs_of_a_telephone_leave_nothing_above_their_band() -> None:
    sound = white(np.zeros(RATE, np.float32), np.random.default_rng(0)) * np.float32(0.1)
    power = np.abs(np.fft.rfft(sound)) ** 2
    frequencies = np.fft.rfftfreq(sound.size, 1 / RATE)
    for name in ("lowpass-4khz", "telephone-band", "gsm-8khz", "ulaw-8khz"):
        left = np.abs(np.fft.rfft(applied(name, sound))) ** 2
        high, speech = frequencies > 5000, (frequencies > 500) & (frequencies < 3000)
        assert db(left[high].sum() / power[high].sum()) < -25, name
        assert db(left[speech].sum() / power[speech].sum()) == pytest.approx(0, abs=3), name


@pytest.mark.parametrize("rt60_s", [0.3, 0.6, 1.0])
def test_a_room_decays_by_60_db_in_its_time(rt60_s: float) -> None:
    click = np.zeros(2 * RATE, np.float32)
    click[0] = 0.5
    response = reverberant(click, np.random.default_rng(0), rt60_s).astype(np.float64)
    # Schroeder's backward integral, read between -5 and -25 dB as ISO 3382 does, on the tail alone.
    decay = 10 * np.log10(np.cumsum(response[:0:-1] ** 2)[::-1] / np.sum(response[1:] ** 2) + 1e-12)
    times = [np.argmax(decay < level) / RATE for level in (-5, -25)]
    assert 3 * (times[1] - times[0]) == pytest.approx(rt60_s, rel=0.1)
    assert np.sum(response**2) == pytest.approx(0.25, rel=1e-3), "not as loud as before"


@settings(max_examples=8)
@given(
    t60_s=st.floats(*T60_S),
    size=st.tuples(st.floats(3, 8), st.floats(2.5, 6), st.floats(2.4, 3.2)),
    seed=st.integers(0, 99),
)
def test_images_make_a_room_of_the_reverberation_asked_for(
    t60_s: float, size: tuple[float, float, float], seed: int
) -> None:
    walls, random = np.array(size), np.random.default_rng(seed)
    source, microphone = random.uniform(0.5, walls - 0.5, (2, 3))
    response = impulse_response(walls, source, microphone, t60_s)
    assert decay_s(response) == pytest.approx(t60_s, rel=0.1)
    # One mirror for each wall, and nothing before the nearest.
    mirrored = [
        source + (2 * np.eye(3)[axis] * (wall - source[axis])) for axis in range(3) for wall in (0, walls[axis])
    ]
    paths = np.array([np.linalg.norm(place - microphone) for place in (source, *mirrored)])
    first = int(np.rint((paths[1:] - paths[0]) / 343 * RATE).min())
    assert response[0] >= 1 - 1e-9 and response[first] > 0 and not response[1:first].any()


def test_replay_takes_bass_and_brings_echo_and_noise() -> None:
    random = np.random.default_rng(3)
    burst = np.concatenate([0.1 * random.standard_normal(RATE), np.zeros(RATE)]).astype(np.float32)
    played = applied("replay", burst)
    assert db(float(np.mean(played**2))) == pytest.approx(db(float(np.mean(burst**2))), abs=0.5), "as loud as before"

    def band(samples: Samples, low_hz: float, high_hz: float) -> float:
        power = np.abs(np.fft.rfft(samples[:RATE])) ** 2
        frequencies = np.fft.rfftfreq(RATE, 1 / RATE)
        return float(power[(frequencies >= low_hz) & (frequencies < high_hz)].mean())

    assert db(band(played, 5, 40) / band(played, 500, 4000)) < -10, "no loudspeaker of that size has such a bass"
    after = [db(float(np.mean(played[RATE + start : RATE + start + 800] ** 2))) for start in (0, 4000, 12000)]
    assert after[0] > after[1] + 3, "the room does not ring"
    speech = db(float(np.mean(played[:RATE] ** 2)))
    assert 12 < speech - after[2] < 36, "the noise is not where it should be"
    assert np.array_equal(drawn_room(np.random.default_rng(1)), drawn_room(np.random.default_rng(1)))


@given(seconds=st.floats(0.05, 4.0))
def test_a_shortened_clip_is_its_loudest_stretch(seconds: float) -> None:
    short = shortened(SOUND, np.random.default_rng(0), seconds)
    assert short.size == min(SOUND.size, round(seconds * RATE))
    starts = range(0, SOUND.size - short.size + 1, 997)
    others = [float(np.sum(SOUND[start : start + short.size].astype(np.float64) ** 2)) for start in starts]
    assert np.sum(short.astype(np.float64) ** 2) >= max(others) - 1e-6


@given(before=st.integers(0, 20000), after=st.integers(0, 20000))
def test_trimming_takes_the_silence_and_nothing_of_the_speech(before: int, after: int) -> None:
    speech = np.sin(np.arange(8000) / 7).astype(np.float32) / 2
    quiet = [np.full(n, 1e-4, np.float32) for n in (before, after)]
    kept = trimmed(np.concatenate([quiet[0], speech, quiet[1]]), np.random.default_rng(0))
    assert speech.size <= kept.size <= speech.size + 2 * RATE // 50
    assert np.sum(kept.astype(np.float64) ** 2) == pytest.approx(np.sum(speech.astype(np.float64) ** 2), rel=1e-4)


def test_silence_and_level_do_what_they_say() -> None:
    random = np.random.default_rng(0)
    longer = padded(SOUND, random, 1.0)
    assert not longer[:RATE].any() and np.array_equal(longer[RATE:], SOUND)
    assert np.allclose(louder(SOUND, random, -20), SOUND / 10)
    over = clipped(SOUND, random, 6)
    assert np.abs(over).max() == 1 and 0 < np.mean(np.abs(over) == 1) < 0.2


def test_noise_depends_on_clip_condition_and_seed_and_on_nothing_else() -> None:
    first = generator(0, "a.wav", "white-0db").standard_normal(5)
    assert np.array_equal(first, generator(0, "a.wav", "white-0db").standard_normal(5))
    for other in (generator(1, "a.wav", "white-0db"), generator(0, "b.wav", "white-0db"), generator(0, "a.wav", "x")):
        assert not np.array_equal(first, other.standard_normal(5))


def test_conditions_are_chosen_by_name_or_axis() -> None:
    assert [item.name for item in chosen(["telephone-band", "silence"])] == [
        "clean", "telephone-band", "trimmed", "padded-1s"]  # fmt: skip
    assert chosen(["clean,replay"]) == chosen(["clean", "replay"]) == [CONDITIONS["clean"], CONDITIONS["replay"]]
    assert len(chosen(None)) == len(CONDITIONS)
    with pytest.raises(UsageError, match=r"nosuch.*axes: clean, noise"):
        chosen(["nosuch"])


@given(humans=st.integers(0, 30), spoofs=st.integers(0, 30), limit=st.integers(2, 70), seed=st.integers(0, 5))
def test_a_subset_is_balanced_ordered_and_drawn_by_its_seed(humans: int, spoofs: int, limit: int, seed: int) -> None:
    clips = [Clip(Path(str(n)), "bonafide" if n < humans else "spoof") for n in range(humans + spoofs)]
    drawn = subset(clips, limit, seed)
    assert drawn == subset(clips, limit, seed) and drawn == [clip for clip in clips if clip in drawn]
    counts = [sum(clip.is_bonafide == human for clip in drawn) for human in (True, False)]
    assert limit - 1 <= len(drawn) <= limit or len(drawn) == len(clips) < limit
    for count, there in zip(counts, (humans, spoofs), strict=True):
        assert count == there or count >= limit // 2, counts


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four clips of each label."""
    folder = tmp_path_factory.mktemp("clips")
    for n in range(8):
        group = folder / ("bonafide" if n % 2 else "spoof") / f"group{n // 2}"
        group.mkdir(parents=True)
        soundfile.write(group / f"{n}.wav", voice(1.4, n), 16000)
    return folder


def test_a_model_differs_from_itself_under_no_condition(exported: Callable[[str], Path], data: Path) -> None:
    clips = [*read_clips(data), Clip(data / "absent.wav", "spoof")]
    names = ["white-0db", "length-0.5s", "rt60-0.3s", "level"]
    first = robustness([exported("streaming"), exported("waveform")], clips, chosen(names), jobs=2, rounds=20)
    assert (first.bonafide, first.spoof, len(first.unread)) == (4, 4, 1) and "absent.wav" in first.unread[0]
    assert [line.condition for line in first.lines] == [item.name for item in chosen(names)]
    for line in first.lines:
        float_cell, other = line.cells
        assert line.clips == 8 and float_cell.eer is not None and float_cell.difference is None
        assert other.difference is not None
        assert other.difference.largest_difference < 1e-3, "both forms are of one network: they heard other sounds"
    assert len({line.cells[0].eer for line in first.lines}) > 1, "no condition changed anything"
    alone = robustness([exported("streaming")], clips[:8][::-1], chosen(["white-0db"]), jobs=1, rounds=20)
    assert alone.lines[1].cells[0].eer is not None and first.lines[1].cells[0].eer is not None
    assert alone.lines[1].cells[0].eer.value == first.lines[1].cells[0].eer.value, "the order of clips matters"


def test_command_prints_conditions_as_rows_and_models_as_columns(
    exported: Callable[[str], Path], data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models = [str(exported(form)) for form in ("streaming", "waveform")]

    def told(*arguments: str) -> tuple[int, str, str]:
        code = main(["robustness", *models, "--data", str(data), "--jobs", "1", *arguments])
        output, errors = capsys.readouterr()
        return code, output, errors

    code, output, errors = told("--conditions", "white-10db", "trimmed", "--limit", "6")
    assert code == 0, errors
    lines = [line for line in output.splitlines() if line.startswith("|")]
    assert [line.split(" | ")[1] for line in lines[2:]] == ["clean", "white-10db", "trimmed"]
    assert len({line.count("|") for line in lines}) == 1 and "3 bona fide and 3 spoofed" in output
    played = told("--conditions", "clean,replay", "--limit", "6")[1]
    assert [line.split(" | ")[1] for line in played.splitlines() if line.startswith("|")][2:] == ["clean", "replay"]
    page = json.loads(told("--conditions", "trimmed", "--json")[1])
    assert page["models"] == ["streaming", "waveform"]
    assert page["lines"][1]["cells"][1]["difference"]["eer_delta_points"] == 0
    code, _, errors = told("--conditions", "nosuch")
    assert code == 2 and errors.startswith("edge-detect: ") and len(errors.splitlines()) == 1


def test_without_both_labels_there_is_no_error_rate(exported: Callable[[str], Path], data: Path) -> None:
    clips = [replace(clip, label="bonafide") for clip in read_clips(data)[:2]]
    result = robustness([exported("streaming")], clips, chosen(["trimmed"]), jobs=1)
    assert all(cell.eer is None for line in result.lines for cell in line.cells)
