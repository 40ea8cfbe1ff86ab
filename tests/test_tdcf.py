"""The t-DCF against both published formulas, for all inputs, and the files of ASV scores by their content."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from edge_runtime.errors import InputError
from evaluation.breakdown import by_condition, by_system, macro
from evaluation.protocols import Clip
from evaluation.tdcf import FORM_NAMES, FORMS, AsvRates, AsvScores, min_tdcf, read_asv, weights

SCORES = st.lists(st.floats(-10, 10, allow_nan=False), min_size=2, max_size=30)
SMALL = st.floats(0, 0.5)


def asv_scores(seed: int = 0, clips: int = 400) -> AsvScores:
    """A fair ASV system: scores of targets, nontargets and two attacks under two codecs."""
    rng = np.random.default_rng(seed)
    keys = np.repeat(["target", "nontarget", "spoof", "spoof"], clips // 4)
    systems = np.repeat(["bonafide", "bonafide", "A07", "A08"], clips // 4)
    means = np.repeat([4.0, -4.0, 3.0, -1.0], clips // 4)
    return AsvScores(means + 2 * rng.standard_normal(clips), keys, systems, rng.choice(["alaw", "none"], clips))


def by_the_plan(bonafide: list[float], spoof: list[float], asv: AsvRates, form: str) -> float:
    """Both plans' equations, written out for every threshold by counting."""
    target, nontarget, attack = 0.95 * 0.99, 0.95 * 0.01, 0.05
    thresholds = [-np.inf, *sorted({*bonafide, *spoof})]
    miss = [sum(score <= threshold for score in bonafide) / len(bonafide) for threshold in thresholds]
    alarm = [sum(score > threshold for score in spoof) / len(spoof) for threshold in thresholds]
    if form == "legacy":
        c1 = target * (1 - 1 * asv.miss) - nontarget * 10 * asv.alarm
        c2 = 10 * attack * (1 - (1 - asv.spoof_alarm))
        return min(c1 * m + c2 * a for m, a in zip(miss, alarm, strict=True)) / min(c1, c2)
    c0 = target * 1 * asv.miss + nontarget * 10 * asv.alarm
    c1 = target * 1 - (target * 1 * asv.miss + nontarget * 10 * asv.alarm)
    c2 = attack * 10 * asv.spoof_alarm
    return min(c0 + c1 * m + c2 * a for m, a in zip(miss, alarm, strict=True)) / (c0 + min(c1, c2))


@given(SCORES, SCORES, SMALL, SMALL, st.floats(0.01, 1))
def test_min_tdcf_is_that_of_either_plan(
    bonafide: list[float], spoof: list[float], miss: float, alarm: float, spoof_alarm: float
) -> None:
    assume(len({*bonafide, *spoof}) >= 3)
    asv = AsvRates(0.0, miss, alarm, spoof_alarm)
    for form in FORMS:
        value, _ = min_tdcf(bonafide, spoof, asv, form)
        # With equal scores the curve has more points than there are thresholds, none of them better.
        assert value == pytest.approx(by_the_plan(bonafide, spoof, asv, form), abs=1e-9)
        assert 0 <= value <= 1 + 1e-9


def test_forms_differ_and_a_perfect_detector_still_pays_for_asv_in_the_revised_one() -> None:
    asv = AsvRates(0.0, miss=0.02, alarm=0.02, spoof_alarm=0.6)
    bonafide, spoof = [1.0, 2.0, 3.0], [-1.0, -2.0]
    assert min_tdcf(bonafide, spoof, asv, "legacy")[0] == 0
    c0 = 0.95 * 0.99 * 0.02 + 0.95 * 0.01 * 10 * 0.02
    assert min_tdcf(bonafide, spoof, asv, "revised")[0] == pytest.approx(c0 / (c0 + 0.05 * 10 * 0.6))
    assert "2019" in FORM_NAMES["legacy"] and "2021" in FORM_NAMES["revised"]


def test_rates_are_at_the_threshold_of_the_eer_of_asv() -> None:
    asv = AsvScores(
        np.array([1.0, 2.0, 3.0, 4.0, -1.0, 0.0, 0.5, 2.5, 5.0, -5.0]),
        np.array(["target"] * 4 + ["nontarget"] * 4 + ["spoof"] * 2),
        np.array(["-"] * 8 + ["A07", "A08"]),
        np.array(["-"] * 10),
    )
    rates = asv.rates()
    # Sorted: -1 0 .5 (n), 1 (t), 2 (t), 2.5 (n), 3 4 (t): rates are nearest, both 1/4, once 1 is missed.
    assert rates == AsvRates(threshold=1.0, miss=0.0, alarm=0.25, spoof_alarm=0.5)
    assert asv.rates(system="A07").spoof_alarm == 1 and asv.rates(system="A08").spoof_alarm == 0
    with pytest.raises(InputError, match="no target of alaw"):
        asv.rates(condition="alaw")
    with pytest.raises(InputError, match="no spoof of A19"):
        asv.rates(system="A19")


@pytest.mark.parametrize(
    ("asv", "form", "says"),
    [
        (AsvRates(0, miss=0.995, alarm=0.9, spoof_alarm=0.5), "legacy", "weight negative"),
        (AsvRates(0, miss=0.995, alarm=0.9, spoof_alarm=0.5), "revised", "weight negative"),
        (AsvRates(0, miss=0.1, alarm=0.1, spoof_alarm=0.0), "legacy", "nothing to divide by"),
        (AsvRates(0, miss=0.0, alarm=0.0, spoof_alarm=0.0), "revised", "nothing to divide by"),
    ],
)
def test_asv_that_makes_a_form_meaningless_is_refused(asv: AsvRates, form: str, says: str) -> None:
    with pytest.raises(InputError, match=says) as refusal:
        weights(asv, "legacy" if form == "legacy" else "revised")
    assert form in str(refusal.value)


def test_decisions_in_the_place_of_scores_are_refused() -> None:
    with pytest.raises(InputError, match="not decisions"):
        min_tdcf([1.0, 1.0], [0.0, 1.0], AsvRates(0, 0.1, 0.1, 0.5), "legacy")


def test_files_of_2019_of_5_and_of_2021_with_their_key_are_read_by_content(tmp_path: Path) -> None:
    in_2019 = tmp_path / "a"
    in_2019.write_text("bonafide target 4.57\nbonafide nontarget -1.25\nA07 spoof 3.5\n")
    in_5 = tmp_path / "b"
    in_5.write_text("LA_0069 - target 4.57\n\nLA_0069 - nontarget -1.25\nLA_0070 A07 spoof 3.5\n")
    in_2021, key = tmp_path / "c", tmp_path / "d"
    in_2021.write_text("S1 T3 3.5\nS1 T1 4.57\nS2 T1 -1.25\nS2 T9 7\n")
    key.write_text(
        "S1 T1 alaw ita_tx bonafide target notrim eval\nS2 T1 alaw ita_tx bonafide nontarget notrim eval\n"
        "S1 T3 pstn mad_tx A07 spoof notrim eval\nS2 T9 pstn mad_tx A08 spoof notrim progress\n"
    )
    for found in (read_asv(in_2019), read_asv(in_5), read_asv(in_2021, key, "eval")):
        assert found.scores.tolist() == [4.57, -1.25, 3.5]
        assert found.keys.tolist() == ["target", "nontarget", "spoof"] and found.systems[2] == "A07"
    assert read_asv(in_2021, key, "eval").conditions.tolist() == ["alaw", "alaw", "pstn"]
    assert len(read_asv(in_2021, key).scores) == 4


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "holds no ASV score"),
        ("S1 T1 3.5\n", "line 1: holds none of target, nontarget, spoof"),
        ("A07 spoof high\n", "line 1: 'high' is not a finite number"),
        ("bonafide target 1\n\nA07 spoof nan\n", "line 3: 'nan'"),
    ],
)
def test_files_that_are_no_asv_scores_get_one_line(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "asv").write_text(text)
    with pytest.raises(InputError, match=says):
        read_asv(tmp_path / "asv")


def test_trials_of_the_key_without_an_asv_score_are_counted_and_named(tmp_path: Path) -> None:
    (tmp_path / "asv").write_text("S1 T1 1\n")
    (tmp_path / "key").write_text("".join(f"S1 T{n} - - A07 spoof notrim eval\n" for n in range(1, 8)))
    with pytest.raises(InputError, match=r"6 trials of .*S1 T2, S1 T3"):
        read_asv(tmp_path / "asv", tmp_path / "key")
    with pytest.raises(InputError, match="no trial of the subset hidden"):
        read_asv(tmp_path / "asv", tmp_path / "key", "hidden")
    with pytest.raises(InputError, match="cannot read"):
        read_asv(tmp_path / "absent")


def clips(seed: int = 1) -> tuple[list[Clip], np.ndarray]:
    """Forty bona fide clips and twenty of each of two attacks, half of each in either codec; two of a third attack."""
    rng = np.random.default_rng(seed)
    systems = ["-"] * 40 + ["A07"] * 20 + ["A08"] * 20 + ["A09"] * 2
    found = [
        Clip(Path(f"T{n}"), "bonafide" if system == "-" else "spoof", system, condition="alaw" if n % 2 else "none")
        for n, system in enumerate(systems)
    ]
    means = {"-": 1.0, "A07": -2.0, "A08": 0.5, "A09": 0.0}
    return found, np.array([means[system] for system in systems]) + rng.standard_normal(len(systems))


def test_parts_are_the_pooled_measure_of_a_part_and_the_mean_counts_parts_alike() -> None:
    listed, scores = clips()
    asv = asv_scores()
    human = np.array([clip.is_bonafide for clip in listed])
    systems = by_system(listed, scores, asv)
    assert [part.name for part in systems] == ["A07", "A08", "A09"]
    for part in systems[:2]:
        own = np.array([clip.system == part.name for clip in listed])
        rates = asv.rates(system=part.name)
        assert part.min_tdcf_legacy == min_tdcf(scores[human], scores[own], rates, "legacy")[0]
        assert part.min_tdcf_revised == min_tdcf(scores[human], scores[own], rates, "revised")[0]
    assert systems[2].eer is None and systems[2].spoof == 2 and "fewer than" in str(systems[2].lacks)
    mean = macro(systems)
    assert systems[0].eer is not None and systems[1].eer is not None and systems[0].eer < systems[1].eer
    assert mean.eer == pytest.approx((systems[0].eer + systems[1].eer) / 2) and mean.name == "mean of 2"

    conditions = by_condition(listed, scores, asv)
    assert [(part.name, part.bonafide, part.spoof) for part in conditions] == [("alaw", 20, 21), ("none", 20, 21)]
    alone = [clip for clip in listed if clip.condition == "alaw"]
    assert by_condition(alone, scores[[clip.condition == "alaw" for clip in listed]]) == []


def test_a_part_without_asv_scores_keeps_its_other_figures() -> None:
    listed, scores = clips()
    asv = asv_scores()
    lacking = AsvScores(asv.scores, asv.keys, np.where(asv.systems == "A07", "A18", asv.systems), asv.conditions)
    part = by_system(listed, scores, lacking)[0]
    assert part.eer is not None and part.min_tdcf_legacy is None and "no spoof of A07" in str(part.lacks)
