"""The gate opens for files that meet every requirement, and says of the others what they fall short in."""

from __future__ import annotations

import operator
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.decision.verdict import Verdict
from edge_runtime.errors import EdgeDetectError, UsageError
from evaluation.comparison import compare_scores
from evaluation.gate import (
    GATE_FAILED,
    MEASURES,
    Requirement,
    RequirementFailed,
    check,
    measures,
    parse,
)

SIGNS = {"<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt}
BLANKS = st.text(" \t", max_size=3)
NUMBER = st.integers(-10_000, 10_000).map(lambda n: n / 1000)


@given(st.sampled_from(list(MEASURES)), st.sampled_from(list(SIGNS)), NUMBER, st.tuples(*[BLANKS] * 4))
def test_a_requirement_is_read_however_it_is_spaced(
    measure: str, sign: str, limit: float, blanks: tuple[str, str, str, str]
) -> None:
    text = f"{blanks[0]}{measure}{blanks[1]}{sign}{blanks[2]}{limit!r}{blanks[3]}"
    assert parse(text) == Requirement(measure, sign, limit)


@pytest.mark.parametrize(
    "text",
    ["", "eer_delta", "eer_delta=0.5", "eer_delta==0.5", "eer_delta=<0.5", "eer_delta<=", "<=0.5", "0.5>=eer_delta",
     "eer_delta<=0.5 flipped<1", "eer<=0.5", "EER_DELTA<=1", "eer_delta<=nan", "correlation>=inf", "flipped<1%",
     "unmatched<=3", "eer_delta<=0.5\nflipped<1"],
)  # fmt: skip
def test_what_is_no_requirement_is_refused_with_one_line_that_helps(text: str) -> None:
    with pytest.raises(UsageError) as error:
        parse(text)
    line = str(error.value)
    assert all(name in line for name in MEASURES) or "is no number" in line


@given(st.text(max_size=30))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        requirement = parse(text)
    except UsageError:
        return
    assert requirement.measure in MEASURES and np.isfinite(requirement.limit)


@given(st.sampled_from(list(MEASURES)), st.sampled_from(list(SIGNS)), NUMBER, st.floats(-20, 20))
def test_a_requirement_holds_by_its_operator(measure: str, sign: str, limit: float, value: float) -> None:
    value = round(value, 6)
    failures = check([Requirement(measure, sign, limit)], {measure: value})
    assert (not failures) == SIGNS[sign](value, limit)
    for line in failures:
        shown = re.match(rf"{measure} is ([^\s,]+)", line)
        assert shown and not SIGNS[sign](float(shown[1]), limit), f"the figure shown does not show the failure: {line}"


def test_the_arithmetic_of_percent_does_not_fail_a_file_on_the_limit() -> None:
    delta = 100 * (0.335 - 0.33)
    assert delta > 0.5, "the case shows nothing"
    assert not check([parse("eer_delta<=0.5")], {"eer_delta": delta})


@pytest.mark.parametrize("measured", [{}, {"correlation": None}, {"correlation": float("nan")}])
@pytest.mark.parametrize("text", ["correlation >= 0", "correlation <= 1"])
def test_what_could_not_be_measured_fails_either_way(text: str, measured: dict[str, float | None]) -> None:
    (line,) = check([parse(text)], measured)
    assert line.startswith("correlation could not be measured")


def test_a_comparison_is_judged_in_the_units_that_are_documented() -> None:
    labels = [True, True, True, True, False, False, False, False]
    reference = [2.0, 2.0, 2.0, 2.0, -2.0, -2.0, -2.0, -2.0]
    other = [2.0, 2.0, 2.0, -3.0, 1.5, -2.0, -2.0, -2.0]  # one of four on each wrong side
    verdicts = [[Verdict.BONAFIDE if score > 0 else Verdict.SPOOF for score in side] for side in (reference, other)]
    comparison = compare_scores(reference, other, labels, verdicts=(verdicts[0], verdicts[1]))
    measured = measures(comparison, float_bytes=4_000_000, file_bytes=1_000_000)
    expected = {"eer_delta": 25, "flipped": 25, "largest_difference": 5, "size_ratio": 4}
    assert {name: measured[name] for name in expected} == pytest.approx(expected)
    assert measured.keys() >= MEASURES.keys()
    texts = ["eer_delta<=25", "flipped<=25", "largest_difference<=5", "size_ratio>=4", "correlation>0.4"]
    assert not check([parse(text) for text in texts], measured)


def test_a_file_that_falls_short_gets_a_line_for_each_requirement() -> None:
    measured = {"eer_delta": 0.62, "correlation": 0.97, "size_ratio": 3.8}
    requirements = [parse(text) for text in ("eer_delta<=0.5", "correlation>=0.9999999", "size_ratio>=3.6")]
    first, second = check(requirements, measured)
    assert "0.62 points" in first and "0.97" in second and "0.9999999" in second
    assert issubclass(RequirementFailed, EdgeDetectError) and RequirementFailed.exit_code == GATE_FAILED == 11


def test_clips_that_only_one_model_could_score_keep_the_gate_shut() -> None:
    labels = [True, False, True, False]
    same = [2.0, -2.0, 1.0, -1.0]
    lost = measures(compare_scores(same, same, labels, unmatched=3), 2, 1)
    assert check([parse("eer_delta<=0.5")], lost) == ["3 clips have a score from one of the two models only"]
    assert not check([], lost)
    assert not check([parse("eer_delta<=0.5")], measures(compare_scores(same, same, labels), 2, 1))
