"""Calibration: windows and verdicts are the runtime's own, limits hold for clips, and figures are of sources unseen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.decision.summary import Summarizer
from edge_runtime.decision.verdict import Reason, Verdict, Window
from edge_runtime.detector import Detector
from edge_runtime.errors import InputError
from edge_runtime.model.network import Network
from evaluation.protocols import Clip
from export.checkpoint import Calibration, load, save
from export.rawnet2 import RawNet2
from tests.conftest import voice
from training import calibrate
from training.calibrate import TREMOR_LLR, ErrorLimits, cross_fitted, fit
from training.report import report
from training.verdicts import ScoredClip, hear, judge, shares

RATE = 16000


def heard(scores: Sequence[float], label: str = "bonafide", source: str = "here") -> ScoredClip:
    """A clip whose windows, 4 s each and one every half second, have these raw scores."""
    windows = [
        Window(0.5 * n, 0.5 * n + 4, float(s), Verdict.UNSURE, -20.0, -3.0, 0.0, 0) for n, s in enumerate(scores)
    ]
    return ScoredClip(Clip(Path("a.flac"), label, source=source), tuple(windows))


def crowd(sources: int = 10, clips: int = 12, seed: int = 0) -> list[ScoredClip]:
    """Clips of both labels from sources that differ in level."""
    rng = np.random.default_rng(seed)
    found = []
    for source in range(sources):
        level = rng.normal(0, 0.5)
        for label, centre in (("bonafide", 1.5), ("spoof", -1.5)):
            found += [heard(rng.normal(level + centre, 1, 3).tolist(), label, f"source {source}") for _ in range(clips)]
    return found


@given(st.lists(st.floats(-3, 3), min_size=1, max_size=7), st.floats(-3, 3), st.floats(0, 2))
def test_a_clip_is_called_spoof_when_its_evidence_lies_below_the_threshold(
    scores: list[float], threshold: float, above: float
) -> None:
    clip = heard(scores)
    verdict = judge(clip, Calibration(1, 0, threshold, threshold + above)).summary.verdict
    assert (verdict is Verdict.SPOOF) == (clip.spoof_evidence < threshold)


@pytest.mark.parametrize("seconds", [0.3, 0.7, 1.0, 1.04, 1.3, 2.6, 3.77])
def test_windows_and_verdicts_are_those_of_the_runtime(
    tiny_model: RawNet2, exported: Callable[[str], Path], seconds: float
) -> None:
    sound = (np.clip(voice(seconds, seed=4), -1, 1) * 32767).astype(np.int16)
    sound[int(1.2 * RATE) : int(2.3 * RATE)] = 3  # silence, or nothing in the short clips
    detector = Detector(Network.load(exported("streaming")))
    samples = sound.astype(np.float32) / np.float32(32768)
    theirs = detector.push(samples) + detector.flush()
    summarizer = Summarizer(detector.thresholds)
    for window in theirs:
        summarizer.add(window)
    (ours,) = hear(tiny_model, [Clip(Path("a.flac"), "bonafide")], [sound], 0.5, "a clip")
    judged = judge(ours, Calibration(2.0, 0.25, -0.5, 0.5))
    print([(w.start, w.score) for w in theirs], [(w.start, w.score) for w in judged.windows])
    assert judged.summary.verdict is summarizer.summary().verdict
    for one, other in zip(judged.windows, theirs, strict=True):
        assert replace(one, score=None) == replace(other, score=None)
        assert (one.score is None) == (other.score is None)
        assert one.score is None or other.score is None or abs(one.score - other.score) < 1e-3


@given(st.integers(0, 30), st.sampled_from([0.01, 0.02, 0.1]), st.sampled_from([0.01, 0.05, 0.3]))
def test_no_more_clips_than_asked_for_get_the_wrong_verdict(seed: int, false_alarms: float, misses: float) -> None:
    clips = crowd(seed=seed)
    calibration = fit(clips, ErrorLimits(false_alarms, misses))
    said = shares([judge(clip, calibration) for clip in clips], "clips", rounds=1)
    assert said["human", Verdict.SPOOF].value <= false_alarms
    assert said["spoofed", Verdict.BONAFIDE].value <= misses
    assert calibration.threshold_bonafide >= calibration.threshold
    # As if quantization had moved every score down by nearly what the threshold leaves room for.
    moved = calibration.threshold + 0.99 * TREMOR_LLR
    tipped = replace(calibration, threshold=moved, threshold_bonafide=max(moved, calibration.threshold_bonafide))
    said = shares([judge(clip, tipped) for clip in clips], "clips", rounds=1)
    assert said["human", Verdict.SPOOF].value <= false_alarms


def test_a_large_source_does_not_outweigh_many_small_ones() -> None:
    """400 clips of one source lie elsewhere than 16 sources of 4: the offset is nearer to where the many lie."""
    rng = np.random.default_rng(0)
    few = [
        heard([rng.normal(sign * 2, 1)], label, f"source {source}")
        for source in range(16)
        for label, sign in (("bonafide", 1), ("spoof", -1))
        for _ in range(4)
    ]
    large = [
        heard([rng.normal(5 + sign * 2, 1)], label, "large")
        for label, sign in (("bonafide", 1), ("spoof", -1))
        for _ in range(400)
    ]
    found = fit([*few, *large], ErrorLimits())
    centre = -found.offset / found.scale  # the raw score of which nothing can be said
    assert centre < 2.5, centre


def test_what_the_runtime_does_not_judge_is_not_fitted() -> None:
    clips = crowd()
    wild = [
        replace(clip, windows=(*clip.windows, replace(clip.windows[0], score=50.0, reason=Reason.CLIPPED)))
        for clip in clips
    ]
    assert fit(wild, ErrorLimits()) == fit(clips, ErrorLimits())


def test_a_source_is_judged_by_a_calibration_that_did_not_see_it() -> None:
    clips = crowd()
    moved = [
        replace(clip, windows=tuple(replace(w, score=(w.score or 0) - 40) for w in clip.windows))
        if clip.clip.source == "source 3"
        else clip
        for clip in clips
    ]
    before, after = (cross_fitted(some, ErrorLimits(), folds=10) for some in (clips, moved))
    place = next(n for n, clip in enumerate(clips) if clip.clip.source == "source 3")
    windows = zip(clips[place].windows, before[place].windows, after[place].windows, strict=True)
    raw, old, new = np.array([[a.score, b.score, c.score] for a, b, c in windows], float).T
    scale = np.polyfit(raw, old, 1)[0]
    np.testing.assert_allclose(new, old - 40 * scale, rtol=1e-9)


def test_the_report_names_the_sources_with_false_alarms_and_both_levels() -> None:
    clips = crowd()
    odd = [heard([-6, -6, -6], "bonafide", "odd") for _ in range(3)]
    found = report(cross_fitted([*clips, *odd], ErrorLimits()))
    text = "\n".join(found.lines())
    print(text)
    assert found.alarms[0] == ("odd", 3, 3) and "odd 3 of 3" in text
    for level in ("clips", "windows"):
        own, least = found.cllr[level]
        assert 0 < least <= own < 1
    rates = found.clips
    for label in ("human", "spoofed"):
        of_label = [rates[label, said] for said in (Verdict.SPOOF, Verdict.UNSURE, Verdict.BONAFIDE)]
        assert sum(rate.value for rate in of_label) == pytest.approx(1)
        assert all(rate.low <= rate.value <= rate.high for rate in of_label)


def test_none_of_ten_leaves_room_for_doubt() -> None:
    clips = [heard([3.0], "bonafide", str(n)) for n in range(10)] + [heard([-3.0], "spoof", str(n)) for n in range(10)]
    said = shares([judge(clip, Calibration(1, 0, -1, 1)) for clip in clips], "clips")
    none = said["human", Verdict.SPOOF]
    assert (none.value, none.low) == (0, 0) and 0.2 < none.high < 0.4  # 1 - 0.025 ** (1 / 10) = 0.31


def test_one_label_alone_cannot_be_calibrated() -> None:
    with pytest.raises(InputError, match="both labels"):
        fit([heard([1.0])], ErrorLimits())


@pytest.fixture(scope="module")
def checkpoint(tiny_model: RawNet2, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tiny") / "tiny.safetensors"
    save(path, tiny_model)
    return path


def test_the_command_writes_a_calibrated_checkpoint_with_its_figures(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for label in ("bonafide", "spoof"):
        for number in range(3):
            path = tmp_path / "data" / label / f"{number}.flac"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, voice(1.5, number + 10 * (label == "spoof")), RATE)
    target = tmp_path / "calibrated.safetensors"
    assert calibrate.main([str(checkpoint), "--data", str(tmp_path / "data"), "-o", str(target)]) == 0
    assert "called bona fide" in capsys.readouterr().out
    found = load(target)
    assert found.calibration is not None
    assert 0 <= found.figures["calibration"]["human_clips_called_spoof"] <= 1


@pytest.mark.parametrize("wrong", [("--false-alarms", "0"), ("--misses", "1"), ("--hop", "0")])
def test_options_out_of_range_get_one_clear_line(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], wrong: tuple[str, str]
) -> None:
    options = [str(checkpoint), "--data", str(tmp_path), "-o", str(tmp_path / "out.safetensors"), *wrong]
    assert calibrate.main(options) == 2
    said = capsys.readouterr().err
    assert said.startswith("edge-detect: ") and said.count("\n") == 1


def test_labels_that_do_not_overlap_are_told_to_be_no_scale() -> None:
    apart = [heard([8.0 + 0.1 * n]) for n in range(6)] + [heard([-8.0 - 0.1 * n], "spoof") for n in range(6)]
    assert "warning: " in calibrate.thresholds_line(fit(apart, ErrorLimits()))
    assert "warning" not in calibrate.thresholds_line(fit(crowd(), ErrorLimits()))
