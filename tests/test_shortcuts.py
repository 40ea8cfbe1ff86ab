"""Interventions change what they say and nothing else, features are measured, and what moved is told apart rightly."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.__main__ import main
from benchmarks.report.shortcuts import NOTED, words
from benchmarks.robustness.features import FEATURES, alone, features
from benchmarks.robustness.interventions import INTERVENTIONS, speech_only
from benchmarks.robustness.shortcuts import InterventionLine, drawn, line, shortcuts
from edge_runtime.errors import InputError, UsageError
from evaluation.acoustics.conditions import CONDITIONS, Condition, generator
from evaluation.acoustics.effects import RATE, Samples, unchanged
from evaluation.protocols import Clip, read_clips
from tests.conftest import voice

SOUND = voice(2.0, 5)
ITEM = Condition("band", "some filter", unchanged)


def applied(name: str, sound: Samples) -> Samples:
    return INTERVENTIONS[name].apply(sound, generator(0, "clip.wav", name))


def band(samples: Samples, low_hz: float, high_hz: float) -> float:
    power = np.abs(np.fft.rfft(samples.astype(np.float64))) ** 2
    frequencies = np.fft.rfftfreq(samples.size, 1 / RATE)
    return float(power[(frequencies >= low_hz) & (frequencies < high_hz)].sum())


@pytest.mark.parametrize("name", [name for name in INTERVENTIONS if name not in CONDITIONS])
@settings(max_examples=8)
@given(size=st.integers(1, 3000), level=st.sampled_from([0.0, 1e-6, 0.5, 1.0]), seed=st.integers(0, 9))
def test_an_intervention_takes_any_clip(name: str, size: int, level: float, seed: int) -> None:
    sound = (level * np.random.default_rng(seed).uniform(-1, 1, size)).astype(np.float32)
    before = sound.copy()
    changed = applied(name, sound)
    assert changed.size and changed.dtype == np.float32 and np.isfinite(changed).all()
    assert changed.size <= size if name == "speech-only" else changed.size == size
    assert np.array_equal(before, sound) and np.array_equal(changed, applied(name, sound))


def test_interventions_do_what_they_say() -> None:
    power = np.mean(SOUND.astype(np.float64) ** 2)
    assert applied("dc-14db", SOUND).mean(dtype=np.float64) - SOUND.mean(dtype=np.float64) == pytest.approx(
        np.sqrt(power / 10**1.4), rel=0.01
    )
    hum = applied("hum-20db", SOUND) - SOUND
    assert (
        np.mean(hum.astype(np.float64) ** 2) == pytest.approx(power / 100, rel=0.01)
        and band(hum, 0, 310) / band(hum, 0, 8001) > 0.99
    )
    assert np.array_equal(applied("polarity", applied("polarity", SOUND)), SOUND)
    assert np.array_equal(applied("reversed", applied("reversed", SOUND)), SOUND)
    flat = (0.1 * np.random.default_rng(0).standard_normal(RATE)).astype(np.float32)
    for name, gone, kept in (
        ("lowpass-7khz", (7600, 8000), (500, 6500)),
        ("highpass-300hz", (0, 200), (500, 7500)),
    ):
        changed = applied(name, flat)
        assert band(changed, *gone) < 0.05 * band(flat, *gone), name
        assert band(changed, *kept) == pytest.approx(band(flat, *kept), rel=0.05), name


@given(st.lists(st.integers(2, 12), min_size=1, max_size=5), st.integers(5, 40))
def test_pauses_are_cut_out_and_speech_is_left(stretches: list[int], pause: int) -> None:
    """Stretches and pauses in units of 50 ms; pauses are longer than what is kept around speech."""
    tone = [np.sin(np.arange(800 * length) / 3).astype(np.float32) / 2 for length in stretches]
    for one in tone:
        one[:32] *= np.linspace(0, 1, 32)
        one[-32:] *= np.linspace(1, 0, 32)
    quiet = np.full(800 * pause, 1e-4, np.float32)
    sound = np.concatenate([quiet, *(part for one in tone for part in (one, quiet))])
    kept = speech_only(sound, np.random.default_rng(0))
    speech = sum(one.size for one in tone)
    assert speech <= kept.size <= speech + 6 * 320 * len(tone)
    assert np.sum(kept.astype(np.float64) ** 2) == pytest.approx(sum(float(np.sum(one**2)) for one in tone), rel=0.01)
    assert np.abs(np.diff(kept)).max() < 0.3, "a click where stretches are joined"


def test_features_are_measured() -> None:
    random = np.random.default_rng(0)
    noise = (0.1 * random.standard_normal(RATE)).astype(np.float32)
    sound = np.concatenate([np.zeros(RATE // 2, np.float32), noise, np.zeros(RATE // 4, np.float32)])
    found = dict(zip(FEATURES, features(sound), strict=True))
    assert (found["duration"], found["leading silence"], found["trailing silence"]) == pytest.approx(
        (1.75, 0.5, 0.24), abs=0.021
    )
    flat, narrow = (
        dict(zip(FEATURES, features(item), strict=True)) for item in (noise, applied("lowpass-4khz", noise))
    )
    assert flat["level"] == pytest.approx(-20, abs=0.2) and flat["noise floor"] > -3 > found["noise floor"] + 50
    assert flat["roll-off"] == pytest.approx(7600, rel=0.02) and narrow["roll-off"] == pytest.approx(3800, rel=0.03)
    assert flat["bandwidth"] > 7900 and 4000 < narrow["bandwidth"] < 8000
    assert dict(zip(FEATURES, features(noise + np.float32(0.1)), strict=True))["offset"] == pytest.approx(-20, abs=0.5)


@given(size=st.integers(1, 2000), level=st.sampled_from([0.0, 1e-4, 1.0]))
def test_every_clip_has_all_features(size: int, level: float) -> None:
    values = features((level * np.random.default_rng(0).uniform(-1, 1, size)).astype(np.float32))
    assert len(values) == len(FEATURES) and np.isfinite(values).all()


def clips(sources: int = 8, of_each: int = 6) -> list[Clip]:
    return [
        Clip(Path(f"{source}-{label}-{n}.wav"), label, source=f"s{source}")
        for source in range(sources)
        for label in ("bonafide", "spoof")
        for n in range(of_each)
    ]


def test_a_feature_that_is_a_label_is_found_and_one_that_is_constant_tells_nothing() -> None:
    listed = clips()
    human = np.array([clip.is_bonafide for clip in listed])
    values = np.tile(np.random.default_rng(0).standard_normal(len(listed))[:, None], len(FEATURES))
    values[:, 0], values[:, 1] = -1.0 * human, 7.0
    scores = values[:, 2] + 0.1 * np.random.default_rng(1).standard_normal(len(listed))
    label, constant, told, *_ = alone(values, listed, scores)
    assert label.pooled.value == 0 and label.within is not None and label.within.value == 0
    assert 0.35 < constant.pooled.value <= 0.5 and not constant.correlation
    assert told.correlation is not None and told.correlation > 0.9, "the score follows this feature within the labels"


def changed(bonafide: float, spoof: float, scatter: float = 0.05) -> InterventionLine:
    """Scores, two apart, before and after the labels moved that far."""
    listed, random = clips(), np.random.default_rng(0)
    human = np.array([clip.is_bonafide for clip in listed])
    before = 2.0 * human + random.standard_normal(human.size)
    after = before + np.where(human, bonafide, spoof) + scatter * random.standard_normal(human.size)
    said = [["bonafide" if score > 1 else "spoof" for score in pair] for pair in zip(before, after, strict=True)]
    return line(ITEM, listed, np.stack([before, after], axis=1), said, 1.0, 200)


@pytest.mark.parametrize("both", [-2.0, 0.03, 0.7])
def test_what_moves_both_labels_alike_is_no_shortcut(both: float) -> None:
    found = changed(both, both, scatter=0.0)
    assert found.gap.value == pytest.approx(0, abs=1e-9) and found.change.eer_delta_points == 0
    assert found.change_within is not None and found.change_within.eer_delta_points == 0
    assert (found.bonafide.value, found.spoof.value) == pytest.approx((both, both))


def test_what_moves_one_label_is_seen() -> None:
    found = changed(0.0, 1.0)
    assert found.spoof.low < 1.0 < found.spoof.high and found.spoof.low > 0.9 and abs(found.bonafide.value) < 0.05
    assert found.gap.high < -NOTED and found.change.eer_delta_low_points is not None
    assert found.change.eer_delta_low_points > 0 and (found.change.flipped or 0) > 0.1
    assert found.human_called_spoof < 0.4


def test_a_clip_that_loses_its_score_is_left_out_and_counted() -> None:
    listed = clips()
    scores = np.stack([np.arange(len(listed)), np.arange(len(listed))], axis=1).astype(float)
    scores[3, 1] = np.nan
    found = line(ITEM, listed, scores, [["unsure", "unsure"]] * len(listed), 1.0, 20)
    assert (found.clips, found.unscored) == (len(listed) - 1, 1) and found.gap.value == 0
    scores[[clip.is_bonafide for clip in listed], 1] = np.nan
    with pytest.raises(InputError, match="leaves no clip of one label"):
        line(ITEM, listed, scores, [["unsure", "unsure"]] * len(listed), 1.0, 20)


@given(limit=st.integers(2, 130), seed=st.integers(0, 9))
def test_whole_sources_are_drawn(limit: int, seed: int) -> None:
    listed = clips()
    taken = drawn(listed, limit, seed)
    assert len(taken) <= limit and taken == [clip for clip in listed if clip in taken]
    assert len(taken) >= min(limit - 1, len(listed))
    sizes = Counter(clip.source for clip in taken)
    assert sum(count < 12 for count in sizes.values()) <= 1, "more than one source was cut"
    assert abs(sum(clip.is_bonafide for clip in taken) - len(taken) / 2) <= 1
    with pytest.raises(UsageError, match="at least 2"):
        drawn(listed, 1, seed)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sources with five clips of each label."""
    folder = tmp_path_factory.mktemp("clips")
    for n in range(20):
        group = folder / ("bonafide" if n % 2 else "spoof") / f"page{n // 10}"
        group.mkdir(parents=True, exist_ok=True)
        soundfile.write(group / f"{n}.wav", voice(1.2, n), RATE)
    return folder


def test_no_change_changes_nothing(exported: Callable[[str], Path], data: Path) -> None:
    same = [INTERVENTIONS["clean"], Condition("none", "identity", unchanged), INTERVENTIONS["reversed"]]
    result = shortcuts(exported("streaming"), read_clips(data), same, jobs=1, rounds=50)
    identity, backward = result.lines
    for shift in (identity.bonafide, identity.spoof, identity.gap):
        assert shift.value == shift.low == shift.high == 0
    for change in (identity.change, identity.change_within):
        assert change is not None and change.eer_delta_points == change.eer_delta_high_points == 0
    assert identity.change.flipped == 0 and (identity.pooled, identity.within) == (result.pooled, result.within)
    assert backward.change.largest_difference > 0, "the model does not hear the direction of time at all"
    assert any("from chance" in text and "identity" in text for text in words(result))
    with pytest.raises(InputError, match="both labels"):
        shortcuts(exported("streaming"), [clip for clip in read_clips(data) if clip.is_bonafide], same, jobs=1)


def test_command(
    exported: Callable[[str], Path], data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def told(*arguments: str, model: Path | None = None) -> tuple[int, str, str]:
        words = ["shortcuts", str(model or exported("streaming")), "--data", str(data), "--jobs", "1", *arguments]
        code = main(words)
        output, errors = capsys.readouterr()
        return code, output, errors

    code, page, errors = told("--conditions", "trimmed,offset", "--clips", "12")
    assert code == 0, errors
    assert "6 bona fide and 6 spoofed clips" in page and "## In words" in page
    rows = [row for row in page.splitlines() if row.startswith("|")]
    assert [row.split(" | ")[0] for row in rows[2:5]] == ["| trimmed", "| dc-14db", "| hum-20db"]
    assert sum(row.startswith(tuple(f"| {name} (" for name in FEATURES)) for row in rows) == len(FEATURES)
    found = json.loads(told("--conditions", "polarity", "--json")[1])
    assert found["lines"][0]["name"] == "polarity" and found["lines"][0]["gap"].keys() == {"value", "low", "high"}
    refused = [
        (2, ["--conditions", "nosuch"], None),
        (2, ["--clips", "1"], None),
        (3, ["--audio", str(tmp_path), "--data", str(tmp_path / "absent")], None),
        (4, [], tmp_path / "absent.onnx"),
    ]
    for expected, arguments, model in refused:
        code, _, errors = told(*arguments, model=model)
        assert code == expected and errors.startswith("edge-detect: ") and len(errors.splitlines()) == 1, errors
