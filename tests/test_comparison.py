"""Comparing two models: the figures by their definitions, the interval by its coverage, the command as a whole."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge_runtime.decision.verdict import Thresholds, Verdict, decide
from edge_runtime.errors import InputError
from edge_runtime.model.contract import Contract
from evaluation.accuracy import ClipVerdict
from evaluation.comparison import Comparison, compare, compare_scores, comparison_table, correlation_text, describe
from evaluation.metrics import eer, eer_clustered
from evaluation.protocols import Clip

ROOT = Path(__file__).parent.parent
SCORE = st.floats(-30, 30, allow_nan=False)
PAIRED = st.lists(st.tuples(SCORE, SCORE, st.booleans(), st.sampled_from("abcdefgh")), min_size=1, max_size=40)


def judged(scores: NDArray[np.float64], labels: NDArray[np.bool_], sources: list[str]) -> list[ClipVerdict]:
    """Clips 0, 1, ... with these scores, and the verdicts that thresholds of -1 and 1 give."""
    return [
        ClipVerdict(
            Clip(Path(f"{n}.wav"), "bonafide" if label else "spoof", source=source), score, decide(score, LIMITS)
        )
        for n, (score, label, source) in enumerate(zip(scores.tolist(), labels, sources, strict=True))
    ]


LIMITS = Thresholds(-1.0, 1.0)


def population(
    rng: np.random.Generator, clips: int, sources: int, noise: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_], list[str]]:
    """Scores of a float model, the same with noise added, labels and sources; sources shift both models alike."""
    labels = rng.random(clips) < 0.5
    member = rng.integers(0, sources, clips)
    first = np.where(labels, 1.0, -1.0) + rng.standard_normal(clips) + rng.normal(0, 0.5, sources)[member]
    return first, first + noise * rng.standard_normal(clips), labels, [f"s{n}" for n in member]


@given(PAIRED)
def test_a_model_compared_with_itself_differs_in_nothing(pairs: list[tuple[float, float, bool, str]]) -> None:
    score, _, label, source = zip(*pairs, strict=True)
    clips = judged(np.array(score), np.array(label), list(source))
    result = compare(clips, clips, rounds=20)
    assert (result.clips, result.unmatched) == (len(clips), 0)
    assert result.largest_difference == result.flipped == result.flipped_hard == 0
    assert result.correlation is None if len(set(score)) == 1 else result.correlation == pytest.approx(1)
    bounds = (result.eer_delta_low_points, result.eer_delta_points, result.eer_delta_upper_points)
    assert bounds == ((0, 0, 0) if len(set(label)) == 2 else (None, None, None))


@given(PAIRED)
def test_exchanging_the_models_turns_every_difference_round(pairs: list[tuple[float, float, bool, str]]) -> None:
    first, second, label, source = (list(column) for column in zip(*pairs, strict=True))
    there = compare_scores(first, second, label, source, rounds=20)
    back = compare_scores(second, first, label, source, rounds=20)
    assert there.correlation == (None if back.correlation is None else pytest.approx(back.correlation))
    assert there.largest_difference == back.largest_difference == np.abs(np.subtract(first, second)).max()
    assert (there.eer_reference, there.eer_other) == (back.eer_other, back.eer_reference)
    if there.eer_delta_points is None or there.eer_delta_low_points is None or there.eer_delta_high_points is None:
        assert back.eer_delta_low_points is None
    else:
        assert back.eer_delta_points == pytest.approx(-there.eer_delta_points)
        assert back.eer_delta_low_points == pytest.approx(-there.eer_delta_high_points)
        assert back.eer_delta_high_points == pytest.approx(-there.eer_delta_low_points)


@given(PAIRED, st.floats(0.1, 10), st.floats(-5, 5))
def test_another_scale_and_offset_leave_correlation_and_eer(
    pairs: list[tuple[float, float, bool, str]], scale: float, offset: float
) -> None:
    scores = np.round([pair[0] for pair in pairs], 2)
    labels = [pair[2] for pair in pairs]
    assume(len(set(scores.tolist())) > 1)
    result = compare_scores(scores, scale * scores + offset, labels, [pair[3] for pair in pairs], rounds=5)
    assert result.correlation == pytest.approx(1)
    assert result.eer_delta_points in (None, 0)


@given(PAIRED)
def test_figures_are_by_their_definitions(pairs: list[tuple[float, float, bool, str]]) -> None:
    first, second, label = (np.array([pair[n] for pair in pairs]) for n in range(3))
    source = [pair[3] for pair in pairs]
    before, after = judged(first, label, source), judged(second, label, source)
    result = compare(before, after[::-1], rounds=5)  # the order of clips does not matter
    verdicts = [(a.verdict, b.verdict) for a, b in zip(before, after, strict=True)]
    hard = [{Verdict.BONAFIDE, Verdict.SPOOF} == set(pair) for pair in verdicts]
    assert result.flipped == pytest.approx(np.mean([a != b for a, b in verdicts]))
    assert result.flipped_hard == pytest.approx(np.mean(hard))
    if label.any() and not label.all():
        rates = [eer(side[label], side[~label])[0] for side in (first, second)]
        assert (result.eer_reference, result.eer_other) == tuple(rates)
        delta = result.eer_delta_points
        assert delta is not None and delta == pytest.approx(100 * (rates[1] - rates[0]))
        low, high, upper = result.eer_delta_low_points, result.eer_delta_high_points, result.eer_delta_upper_points
        if low is not None and high is not None and upper is not None:
            assert low <= delta <= min(high, upper), "no bound leaves out the difference itself"
    if result.correlation is not None and min(np.std(first), np.std(second)) > 1e-3:
        assert result.correlation == pytest.approx(np.corrcoef(first, second)[0, 1], abs=1e-6)
    again = json.loads(json.dumps(result.as_figures(), allow_nan=False))
    assert again.keys() == Comparison.__dataclass_fields__.keys()


def test_only_clips_that_both_scored_count_and_the_others_are_told() -> None:
    rng = np.random.default_rng(1)
    first, second, labels, sources = population(rng, 60, 6, 0.3)
    before, after = judged(first, labels, sources), judged(second, labels, sources)
    result = compare(before[:50], after[10:])
    assert replace(result, unmatched=0) == compare(before[10:50], after[10:50])
    assert (result.clips, result.unmatched) == (40, 20)
    with pytest.raises(InputError, match="no clip"):
        compare(before[:10], after[10:])


def test_one_label_or_scores_all_alike_leave_out_what_cannot_be_said() -> None:
    rng = np.random.default_rng(2)
    first, _, labels, sources = population(rng, 30, 6, 0.3)
    human = compare(judged(first, labels | True, sources), judged(first + 0.1, labels | True, sources))
    assert human.eer_reference is None and human.eer_delta_points is None and human.eer_delta_upper_points is None
    assert human.over is None
    assert human.correlation == pytest.approx(1) and human.largest_difference == pytest.approx(0.1)
    dead = compare(judged(first, labels, sources), judged(0 * first, labels, sources))
    assert dead.correlation is None
    assert dead.eer_other == pytest.approx(0.5, abs=0.5) and dead.eer_delta_upper_points is not None
    assert compare_scores([1.0, 2.0], [1.0, 2.5]).flipped is None
    with pytest.raises(ValueError, match="finite"):
        compare_scores([1.0, np.nan], [1.0, 2.0])
    with pytest.raises(ValueError, match="needed"):
        compare_scores([1.0, 2.0], [1.0])


def test_paired_interval_of_models_much_alike_is_narrower_than_that_of_either_eer() -> None:
    first, second, labels, sources = population(np.random.default_rng(3), 600, 20, 0.05)
    result = compare_scores(first, second, labels, sources, rounds=300)
    alone = eer_clustered(second, labels, sources, rounds=300)
    assert result.eer_delta_low_points is not None and result.eer_delta_high_points is not None
    assert result.over == "sources"
    paired = result.eer_delta_high_points - result.eer_delta_low_points
    assert paired < 0.5 * 100 * (alone.high - alone.low)


@pytest.mark.parametrize(("sources", "over"), [(20, "sources"), (2, "clips")])
def test_the_upper_bound_covers_the_true_rise_about_as_often_as_it_says(sources: int, over: str) -> None:
    noise = 0.8
    first, second, labels, names = population(np.random.default_rng(4), 200_000, 2000, noise)
    truth = compare_scores(first, second, labels, names, rounds=0).eer_delta_points
    assert truth is not None and truth > 1
    covered, trials = 0, 60
    for trial in range(trials):
        first, second, labels, names = population(np.random.default_rng(100 + trial), 200, sources, noise)
        result = compare_scores(first, second, labels, names, rounds=150)
        assert result.eer_delta_upper_points is not None and result.over == over
        covered += result.eer_delta_upper_points >= truth
    # Of 60 trials at 95 %, 50 or fewer happen once in a thousand times; the bootstrap is a little short of 95 %.
    assert covered >= 50, f"{covered} of {trials} bounds cover a rise of {truth:.2f} points"


def test_the_same_clips_give_the_same_figures() -> None:
    first, second, labels, sources = population(np.random.default_rng(5), 100, 8, 0.5)
    assert compare_scores(first, second, labels, sources) == compare_scores(first, second, labels, sources)


def test_table_says_what_a_figure_lacks(exported: Callable[[str], Path]) -> None:
    file = exported("streaming")
    contract = replace(CONTRACT, level="int8", target="arm64")
    alike = compare_scores([1.0, 2.0], [3.0, 3.0])
    close = compare_scores([1.0, 2.0, 3.0], [1.0, 2.0, 3.002], [True, False, True], unmatched=2)
    rows = [describe(file, file, contract, item) for item in (alike, close)]
    table = comparison_table([*rows, describe(file, file, contract, None, refusal="made for a Pi")])
    for words in (
        "has no figures: made for a Pi",
        "int8",
        "arm64",
        "undefined",
        "needs both labels",
        "2 clips have a score from one",
    ):
        assert words in table, table
    assert "1.00000" not in table, "a correlation short of 1 must not read as 1"


@given(st.floats(-1, 1))
def test_a_correlation_is_cut_and_only_1_reads_as_1(value: float) -> None:
    text = correlation_text(value)
    assert abs(float(text)) <= abs(value) and float(text) == pytest.approx(value, abs=1.0001e-5)
    assert len(text.partition(".")[2]) == 5 and (text == "1.00000") == (value == 1)


def test_a_correlation_just_short_of_1_is_no_1_in_words_and_figures() -> None:
    assert [correlation_text(value) for value in (0.9999999999, 1 - 2**-53, 0.29999, 1.0, None)] == [
        *("0.99999", "0.99999", "0.29999", "1.00000", "undefined")
    ]
    score = np.random.default_rng(6).standard_normal(50)
    assert compare_scores(score, score).correlation == 1
    nearly = compare_scores(score, score + 1e-5 * np.arange(50) % 3e-5)
    assert nearly.correlation is not None and round(nearly.correlation, 6) == 1 > nearly.correlation
    assert nearly.as_figures()["correlation"] == 0.999999


CONTRACT = Contract("streaming", "edge", 16000, 16000, 9, np.ones((6, 65), np.float32))
