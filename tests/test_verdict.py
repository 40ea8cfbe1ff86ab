"""Verdicts for windows and summaries for recordings, by the properties that a user relies on."""

from __future__ import annotations

import math
import sys
from pickle import dumps

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edge_runtime.decision.alarm import Alarms, Rules
from edge_runtime.decision.quality import FLOOR_DBFS, clean, measure, objection
from edge_runtime.decision.summary import STRETCHES_KEPT, Stretch, Summarizer, Summary, foremost
from edge_runtime.decision.verdict import Reason, Thresholds, Verdict, Window, decide
from edge_runtime.errors import UsageError

BETWEEN = Thresholds(spoof=-1.0, bonafide=1.0)
finite = st.floats(-50, 50)


def window(start: float, score: float | None, reason: Reason = Reason.NONE, seconds: float = 4.0) -> Window:
    verdict = decide(score, BETWEEN, reason)
    return Window(start, start + seconds, score, verdict, -20.0, -3.0, 0.0, 0, reason)


def summarize(*windows: Window) -> Summary:
    summarizer = Summarizer(BETWEEN)
    for one in windows:
        summarizer.add(one)
    return summarizer.summary()


def every_half_second(*scores: float) -> list[Window]:
    return [window(0.5 * index, score) for index, score in enumerate(scores)]


@pytest.mark.parametrize(
    ("score", "verdict"),
    [(-1.001, "spoof"), (-1.0, "unsure"), (0.999, "unsure"), (1.0, "bonafide"), (None, "unsure")],
)
def test_scores_below_between_and_above_the_thresholds(score: float | None, verdict: str) -> None:
    assert decide(score, BETWEEN) == verdict


@given(score=finite, threshold=finite)
def test_one_threshold_leaves_nothing_unsure(score: float, threshold: float) -> None:
    expected = Verdict.SPOOF if score < threshold else Verdict.BONAFIDE
    assert decide(score, Thresholds(threshold, threshold)) is expected


@given(score=st.one_of(st.none(), finite), reason=st.sampled_from([r for r in Reason if r]))
def test_unfit_sound_is_never_called_spoof_or_bona_fide(score: float | None, reason: Reason) -> None:
    assert decide(score, BETWEEN, reason) not in (Verdict.SPOOF, Verdict.BONAFIDE)


@pytest.mark.parametrize(("low", "high"), [(math.nan, 0), (0, math.inf), (1, 0)])
def test_impossible_thresholds_are_refused(low: float, high: float) -> None:
    with pytest.raises(UsageError, match="threshold"):
        Thresholds(low, high)


def test_a_full_scale_sine_has_minus_three_decibels() -> None:
    quality = measure(np.sin(2 * np.pi * 100 * np.arange(16000) / 16000).astype(np.float32))
    assert quality.level_dbfs == pytest.approx(-3.01, abs=0.01)
    assert quality.peak_dbfs == pytest.approx(0.0, abs=0.01)


@pytest.mark.parametrize("constant", [0.0, 0.3, -1.0])
def test_a_constant_is_silence_at_any_offset(constant: float) -> None:
    quality = measure(np.full(16000, constant, np.float32))
    assert quality.level_dbfs == FLOOR_DBFS and objection(quality, 1.0) is Reason.SILENT


def test_more_than_one_percent_at_full_scale_is_clipped() -> None:
    samples = (0.3 * np.sin(np.arange(10000))).astype(np.float32)
    assert objection(measure(samples), 1.0) is Reason.NONE
    samples[:101] = 1.0
    assert objection(measure(samples), 1.0) is Reason.CLIPPED
    samples[:101] = -1.0
    assert measure(samples).clipped == pytest.approx(0.0101)


@given(arrays(np.float32, st.integers(0, 200), elements=st.floats(width=32)))
def test_any_floats_have_a_finite_quality(samples: np.ndarray) -> None:
    values, invalid = clean(samples)
    quality = measure(values, int(invalid.sum()))
    assert np.isfinite(values).all() and values[~invalid].tobytes() == samples[~invalid].tobytes()
    assert math.isfinite(quality.level_dbfs) and math.isfinite(quality.peak_dbfs)
    assert 0 <= quality.clipped <= 1 and quality.invalid >= np.count_nonzero(~np.isfinite(samples))


def test_the_mean_score_decides() -> None:
    summary = summarize(*every_half_second(3.0, 2.0, 1.0))
    assert (summary.verdict, summary.score, summary.seconds) == (Verdict.BONAFIDE, 2.0, 5.0)
    assert summary.windows == {"bonafide": 3, "spoof": 0, "unsure": 0, "silent": 0, "no-speech": 0}
    assert summarize(*every_half_second(0.0, 0.5)).verdict is Verdict.UNSURE
    assert summarize(*every_half_second(3.0, 0.0, -9.0)).verdict is Verdict.SPOOF


def test_spoofed_stretches_are_named_with_their_times_and_scores() -> None:
    scores = [2.0, 2.0, -2.0, -4.0, 2.0] + [2.0] * 16 + [-3.0] + [2.0] * 20
    summary = summarize(*every_half_second(*scores))
    assert summary.stretches == (Stretch(1.0, 5.5, -3.0), Stretch(10.5, 14.5, -3.0))
    assert summary.stretch_count == 2
    assert summary.verdict is Verdict.BONAFIDE


def test_an_unbroken_spoofed_part_keeps_a_recording_from_being_bona_fide() -> None:
    human, part = [6.0] * 30, [-2.0] * 9  # nine windows of 4 s with a hop of 0.5 s reach over 8 s
    assert summarize(*every_half_second(*human, *part, *human)).verdict is Verdict.UNSURE
    assert summarize(*every_half_second(*human, *part[1:], *human)).verdict is Verdict.BONAFIDE


def test_half_of_the_windows_make_a_recording_spoof_whatever_the_mean() -> None:
    assert summarize(*every_half_second(20.0, -2.0, 20.0, -2.0)).verdict is Verdict.SPOOF


def alarmed(*windows: Window, **rules: float) -> Summary:
    values = {"on": -1.0, "off": 1.0, "smoothing_seconds": 5.0, "duration_seconds": 2.0, "hold_seconds": 10.0} | rules
    summarizer = Summarizer(BETWEEN, Alarms(Rules(**values)))
    for one in windows:
        summarizer.add(one)
    summarizer.end(windows[-1].end)
    return summarizer.summary()


def test_an_alarm_makes_a_recording_spoof_whatever_its_mean() -> None:
    windows = every_half_second(*[6.0] * 100, *[-6.0] * 25, *[6.0] * 100)
    summary = alarmed(*windows)
    assert (summary.verdict, summary.alarms) == (Verdict.SPOOF, 1)
    assert summary.score is not None and summary.score > 1
    (stretch,) = summary.stretches
    assert (stretch.start, stretch.end, stretch.alarm) == (50.0, 66.0, 1)
    assert alarmed(*windows, duration_seconds=60).verdict is Verdict.UNSURE


def test_an_alarm_without_a_window_called_spoof_has_a_stretch_of_its_own() -> None:
    summary = alarmed(*every_half_second(*[6.0] * 40, *[0.0] * 40), on=0.5)
    assert (summary.verdict, summary.stretch_count) == (Verdict.SPOOF, 1)
    (stretch,) = summary.stretches
    assert stretch.alarm == 1 and 20.0 <= stretch.start < stretch.end <= 43.5


@given(st.lists(st.one_of(st.none(), finite), min_size=1, max_size=80))
def test_a_recording_is_spoof_when_there_was_an_alarm(scores: list[float | None]) -> None:
    windows = [
        window(0.5 * i, score, Reason.SILENT if score is None else Reason.NONE) for i, score in enumerate(scores)
    ]
    summary, before = alarmed(*windows, smoothing_seconds=1.0), summarize(*windows)
    assert summary.verdict is (Verdict.SPOOF if summary.alarms else before.verdict)
    assert (summary.score, summary.windows) == (before.score, before.windows)
    assert bool(summary.alarms) == any(stretch.alarm for stretch in summary.stretches)


def test_stretches_with_an_alarm_are_kept_before_others() -> None:
    windows = [window(0.5 * index, -2.0) for index in range(20)]
    windows += [window(20.0 + 10 * index, -2.0 if index % 2 else 2.0) for index in range(600)]
    summary = alarmed(*windows, smoothing_seconds=0.0)
    assert summary.stretch_count > 200 and len(summary.stretches) == STRETCHES_KEPT
    assert (summary.stretches[0].start, summary.stretches[0].alarm) == (0.0, 1)
    assert foremost(summary.stretches, 2) == [summary.stretches[0], summary.stretches[-1]]


def test_windows_unfit_to_be_judged_do_not_move_the_score() -> None:
    clipped = window(0.5, -40.0, Reason.CLIPPED)
    summary = summarize(window(0.0, 3.0), clipped, window(1.0, None, Reason.SILENT))
    assert (summary.verdict, summary.score) == (Verdict.BONAFIDE, 3.0)
    most = summarize(window(0.0, 3.0), clipped, window(1.0, 3.0, Reason.NOISY))
    assert (most.verdict, most.score) == (Verdict.UNSURE, 3.0), "most of it could not be judged"
    alone = summarize(clipped)
    assert (alone.verdict, alone.score) == (Verdict.UNSURE, -40.0)


def test_nothing_but_silence_is_silent() -> None:
    silent = summarize(window(0.0, None, Reason.SILENT))
    assert (silent.verdict, silent.score) == (Verdict.SILENT, None)
    assert summarize() == Summary(Verdict.SILENT, None, dict.fromkeys(Verdict, 0), 0.0, (), 0)


def test_memory_does_not_grow_with_the_stream() -> None:
    summarizer = Summarizer(BETWEEN)
    sizes = []
    for index in range(3000):
        summarizer.add(window(10.0 * index, -2.0 if index % 2 else 2.0))
        if index in (999, 2999):
            sizes.append(len(dumps(summarizer)))
    summary = summarizer.summary()
    assert summary.stretch_count == 1500 and len(summary.stretches) == STRETCHES_KEPT
    assert summary.stretches[-1].start == 29990.0
    assert sizes[1] <= sizes[0] + sys.getsizeof(0), f"pickled state grew from {sizes[0]} to {sizes[1]} bytes"


@given(st.lists(st.one_of(st.none(), finite), max_size=60))
def test_every_run_of_windows_has_a_summary_that_agrees_with_itself(scores: list[float | None]) -> None:
    windows = [
        window(0.5 * i, score, Reason.SILENT if score is None else Reason.NONE) for i, score in enumerate(scores)
    ]
    summary = summarize(*windows)
    assert sum(summary.windows.values()) == len(windows)
    assert (summary.score is None) == all(score is None for score in scores)
    assert bool(summary.stretches) == (summary.windows[Verdict.SPOOF] > 0)
    edges = [edge for stretch in summary.stretches for edge in (stretch.start, stretch.end)]
    assert edges == sorted(edges)
    for one in windows:
        if one.verdict is Verdict.SPOOF:
            assert any(s.start <= one.start and one.end <= s.end for s in summary.stretches)
