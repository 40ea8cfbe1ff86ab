"""Measures against cases worked out by hand, and against their definitions for all inputs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.metrics import cllr, det_curve, eer, eer_clustered

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


def test_a_rate_without_one_of_the_labels_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        eer([], [1.0])
