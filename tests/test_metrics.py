"""Measures against cases worked out by hand, and against their definitions for all inputs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from evaluation.bootstrap import units
from evaluation.metrics import (
    BAYES_THRESHOLD,
    act_dcf,
    cllr,
    det_curve,
    eer,
    eer_clustered,
    measures,
    min_cllr,
    min_dcf,
)

SCORES = st.lists(st.floats(-10, 10, allow_nan=False), min_size=1, max_size=40)


@pytest.mark.parametrize(
    ("bonafide", "spoof", "expected"),
    [
        ([1, 2, 3], [-3, -2, -1], 0.0),  # apart
        ([-3, -2, -1], [1, 2, 3], 1.0),  # apart the wrong way round
        ([0, 1, 2, 3], [-3, -2, -1, 0.5], 0.25),  # one of four on each wrong side
        ([1, 4], [2, 3], 0.5),
    ],
)
def test_eer_of_cases_worked_out_by_hand(bonafide: list[float], spoof: list[float], expected: float) -> None:
    assert eer(bonafide, spoof)[0] == pytest.approx(expected)


@given(SCORES, SCORES)
def test_eer_lies_where_both_rates_are_nearest(bonafide: list[float], spoof: list[float]) -> None:
    value, threshold = eer(bonafide, spoof)
    miss, alarm, thresholds = det_curve(bonafide, spoof)
    nearest = np.argmin(np.abs(miss - alarm))
    assert value == (miss[nearest] + alarm[nearest]) / 2
    assert threshold == thresholds[nearest]
    assert miss[0] == 0 and alarm[0] == 1 and miss[-1] == 1 and alarm[-1] == 0


@given(SCORES, SCORES, st.floats(0.1, 10), st.floats(-5, 5))
def test_eer_does_not_depend_on_the_scale_of_scores(
    bonafide: list[float], spoof: list[float], scale: float, offset: float
) -> None:
    grid = [np.round(np.array(side), 2) for side in (bonafide, spoof)]
    moved = [side * scale + offset for side in grid]
    assert eer(*moved)[0] == pytest.approx(eer(*grid)[0])


def test_cllr_is_one_bit_for_scores_that_say_nothing_and_by_its_formula_otherwise() -> None:
    assert cllr([0, 0, 0], [0, 0]) == pytest.approx(1.0)
    by_hand = (np.log2(1 + np.exp(-2)) + np.log2(1 + np.exp(-1))) / 2
    assert cllr([2], [-1]) == pytest.approx(by_hand)


def test_interval_covers_the_value_and_widens_when_sources_disagree() -> None:
    rng = np.random.default_rng(0)
    label = np.tile([True, False], 200)
    score = np.where(label, 1.0, -1.0) + rng.standard_normal(400)
    source = np.repeat([f"s{n}" for n in range(20)], 20)
    alike = eer_clustered(score, label, source.tolist(), rounds=200)
    shifted = score + np.repeat(rng.normal(0, 2, 20), 20)
    differing = eer_clustered(shifted, label, source.tolist(), rounds=200)
    for estimate in (alike, differing):
        assert estimate.low <= estimate.value <= estimate.high
        assert (estimate.bonafide, estimate.spoof) == (200, 200)
    assert differing.high - differing.low > alike.high - alike.low


@given(
    st.lists(st.tuples(st.floats(-3, 3), st.booleans(), st.sampled_from("abcdefghij")), min_size=2, max_size=30),
    st.integers(0, 9),
)
def test_no_interval_leaves_out_its_own_value(clips: list[tuple[float, bool, str]], seed: int) -> None:
    score, label, source = (list(column) for column in zip(*clips, strict=True))
    assume(0 < sum(label) < len(label))
    estimate = eer_clustered(score, label, source, rounds=5, seed=seed)
    assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1


@given(st.lists(st.tuples(st.booleans(), st.sampled_from("abcdefgh")), min_size=1, max_size=60))
def test_sources_are_drawn_only_where_each_label_has_five(clips: list[tuple[bool, str]]) -> None:
    label, source = [human for human, _ in clips], [name for _, name in clips]
    many = all(len({name for human, name in clips if human is side}) >= 5 for side in (True, False))
    assert units(label, source).over == ("sources" if many else "clips")


def flat(rng: np.random.Generator, human_clips: int) -> tuple[NDArray[np.float64], NDArray[np.bool_], list[str]]:
    """Folders `bonafide/*.wav` and `spoof/SYSTEM/*.wav`: all human clips of one source, each of six systems its own."""
    human = np.arange(7 * human_clips) < human_clips
    system = np.arange(7 * human_clips) % 6
    level = np.where(human, 1.0, np.linspace(-1.2, -0.8, 6)[system])
    names = ["unknown" if label else f"system {number}" for label, number in zip(human, system, strict=True)]
    return level + rng.standard_normal(7 * human_clips), human, names


def test_interval_covers_the_true_eer_where_all_human_clips_are_of_one_source() -> None:
    score, human, _ = flat(np.random.default_rng(0), 30_000)
    truth, trials = eer(score[human], score[~human])[0], 60
    covered = 0
    for trial in range(trials):
        estimate = eer_clustered(*flat(np.random.default_rng(1 + trial), 40), rounds=150)
        assert estimate.over == "clips", "six sources, but one of them has all that is human"
        covered += estimate.low <= truth <= estimate.high
    # Of 60 at 95 %, 50 or fewer happen once in a thousand times. Drawing sources here covers about half.
    assert covered >= 50, f"{covered} of {trials} intervals cover {truth:.2%}"


def test_a_rate_without_one_of_the_labels_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        eer([], [1.0])


def published_min_dcf(bonafide: list[float], spoof: list[float]) -> float:
    """The evaluation plan's cost at every threshold that the scores offer, and at one below them all, by counting.

    Equal scores are taken one after the other, bona fide first, as the package's stable sort does.
    """
    ordered = sorted([(score, 0) for score in bonafide] + [(score, 1) for score in spoof])
    missed, passed, costs = 0, len(spoof), []
    for kind in (None, *(kind for _, kind in ordered)):
        missed, passed = missed + (kind == 0), passed - (kind == 1)
        costs.append(1 * missed / len(bonafide) * 0.95 + 10 * (passed / len(spoof)) * (1 - 0.95))
    return min(costs) / min(1 * 0.95, 10 * (1 - 0.95))


@given(SCORES, SCORES)
def test_min_dcf_is_the_plans_cost_at_the_best_threshold(bonafide: list[float], spoof: list[float]) -> None:
    value, threshold = min_dcf(bonafide, spoof)
    assert value == published_min_dcf(bonafide, spoof)
    miss, alarm, thresholds = det_curve(bonafide, spoof)
    costs = 0.95 * miss + 0.5 * alarm
    assert costs[thresholds == threshold].min() == pytest.approx(costs.min())
    assert 0 <= value <= 1 + 1e-12, "letting all clips through costs 1"


@given(SCORES, SCORES)
def test_act_dcf_is_the_cost_at_the_bayes_threshold_and_never_below_the_least(
    bonafide: list[float], spoof: list[float]
) -> None:
    threshold = -np.log(0.95 / 0.5)
    missed = sum(score < threshold for score in bonafide) / len(bonafide)
    passed = sum(score >= threshold for score in spoof) / len(spoof)
    assert act_dcf(bonafide, spoof) == pytest.approx((0.95 * missed + 0.5 * passed) / 0.5, abs=1e-12)
    assert round(BAYES_THRESHOLD, 3) == -0.642
    assert act_dcf(bonafide, spoof) >= min_dcf(bonafide, spoof)[0] - 1e-12


def test_dcf_of_cases_worked_out_by_hand() -> None:
    assert min_dcf([1, 2, 3], [-3, -2, -1])[0] == act_dcf([1, 2, 3], [-3, -2, -1]) == 0
    # One of four bona fide lies below one of two spoofed. The choices: miss it (.95/4), or pass one spoof (.5/2).
    assert min_dcf([-1, 2, 3, 4], [0, -2])[0] == pytest.approx(0.95 / 4 / 0.5)
    # At -0.642: -1 is missed, 0 is passed.
    assert act_dcf([-1, 2, 3, 4], [0, -2]) == pytest.approx((0.95 / 4 + 0.5 / 2) / 0.5)
    assert act_dcf([-9, -9], [9, 9]) == pytest.approx(0.95 / 0.5 + 1), "worse than no detector"


def pooled(scores: list[float], labels: list[bool]) -> dict[float, float]:
    """Pool-adjacent-violators as it is told: the share of bona fide among equal scores; blocks join while one falls."""
    blocks: list[tuple[list[float], int, int]] = []
    for value in sorted(set(scores)):
        inside = [label for score, label in zip(scores, labels, strict=True) if score == value]
        blocks.append(([value], sum(inside), len(inside)))
    number = 0
    while number + 1 < len(blocks):
        (names, human, clips), (more, others, rest) = blocks[number], blocks[number + 1]
        if human * rest > others * clips:
            blocks[number : number + 2] = [(names + more, human + others, clips + rest)]
            number = max(0, number - 1)
        else:
            number += 1
    return {name: human / clips for names, human, clips in blocks for name in names}


@given(st.lists(st.tuples(st.integers(-6, 6), st.booleans()), min_size=2, max_size=30))
def test_min_cllr_is_that_of_pooled_adjacent_violators(pairs: list[tuple[int, bool]]) -> None:
    scores, labels = [float(score) for score, _ in pairs], [label for _, label in pairs]
    assume(0 < sum(labels) < len(labels))
    share = pooled(scores, labels)
    prior = sum(labels) / (len(labels) - sum(labels))
    bits: dict[bool, list[float]] = {True: [], False: []}
    for score, label in zip(scores, labels, strict=True):
        odds = np.inf if share[score] == 1 else share[score] / (1 - share[score]) / prior
        bits[label].append(np.log2(1 + 1 / odds) if label else np.log2(1 + odds))
    expected = (np.mean(bits[True]) + np.mean(bits[False])) / 2
    values, human = np.array(scores), np.array(labels)
    assert min_cllr(values[human], values[~human]) == pytest.approx(expected, abs=1e-9)


@given(SCORES, SCORES, st.floats(0.1, 10), st.floats(-5, 5))
def test_min_cllr_bounds_the_cllr_of_every_scale_and_knows_none(
    bonafide: list[float], spoof: list[float], scale: float, offset: float
) -> None:
    grid = [np.round(np.array(side), 2) for side in (bonafide, spoof)]
    moved = [side * scale + offset for side in grid]
    least = min_cllr(*grid)
    assert -1e-12 <= least <= 1 + 1e-12
    assert least == pytest.approx(min_cllr(*moved), abs=1e-9)
    assert least <= cllr(*moved) + 1e-9


def test_measures_of_one_set_are_those_of_the_single_functions() -> None:
    rng = np.random.default_rng(1)
    label = rng.random(300) < 0.4
    score = np.where(label, 1.0, -1.0) + rng.standard_normal(300)
    result = measures(score, label)
    sides = score[label], score[~label]
    assert (result.bonafide, result.spoof) == (len(sides[0]), len(sides[1]))
    assert (result.eer, result.eer_threshold) == eer(*sides)
    assert (result.min_dcf, result.act_dcf) == (min_dcf(*sides)[0], act_dcf(*sides))
    assert (result.cllr_bits, result.min_cllr_bits) == (cllr(*sides), min_cllr(*sides))
    assert 0 < result.min_cllr_bits < result.cllr_bits < 1
    for measure in (min_dcf, act_dcf, min_cllr):
        with pytest.raises(ValueError, match="at least one"):
            measure([1.0], [])
