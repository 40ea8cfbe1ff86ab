"""Tests of two models on the same clips, and the command that prints every measure of a score file."""

from __future__ import annotations

import argparse
import json
from math import comb
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from benchmarks.tasks import metrics
from edge_runtime.errors import InputError, UsageError
from evaluation.comparison import compare_scores
from evaluation.metrics import eer, measures
from evaluation.paired import mcnemar, paired
from evaluation.percentiles import needed
from evaluation.tdcf import FORMS

Scores = NDArray[np.float64]


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=40))
def test_mcnemar_is_the_binomial_test_written_out(decisions: list[tuple[bool, bool]]) -> None:
    first, second = zip(*decisions, strict=True)
    result = mcnemar(first, second)
    only_first = sum(a and not b for a, b in decisions)
    only_second = sum(b and not a for a, b in decisions)
    assert (result.only_reference, result.only_other) == (only_first, only_second)
    split, fewer = only_first + only_second, min(only_first, only_second)
    chances = [comb(split, k) / 2**split for k in range(split + 1)]
    tail = sum(chances[: fewer + 1])
    assert result.p_exact == pytest.approx(min(1.0, 2 * tail))
    assert result.p_mid == pytest.approx(2 * tail - chances[fewer] if split else 1.0)
    assert 0 < result.p_mid <= result.p_exact + 1e-12 <= 1 + 2e-12
    back = mcnemar(second, first)
    assert (back.p_exact, back.p_mid, back.only_reference) == (result.p_exact, result.p_mid, only_second)


def test_mcnemar_of_a_case_worked_out_by_hand() -> None:
    right, wrong = [True] * 6, [False] * 6
    result = mcnemar(right + [True] * 4, wrong + [True] * 4)
    assert result.p_exact == pytest.approx(2 / 64) and result.p_mid == pytest.approx(1 / 64)
    with pytest.raises(ValueError, match="same clips"):
        mcnemar(right, [True])


def population(clips: int, noise: float, seed: int = 0) -> tuple[Scores, Scores, NDArray[np.bool_], list[str]]:
    """Scores of a float model, the same with noise, labels, and sources of ten clips each."""
    rng = np.random.default_rng(seed)
    human = np.arange(clips) % 2 == 0
    first = np.where(human, 1.0, -1.0) + rng.standard_normal(clips)
    return first, first + noise * rng.standard_normal(clips), human, [f"s{n // 10}" for n in range(clips)]


def test_verdict_says_not_inferior_only_below_the_margin_set_in_advance() -> None:
    first, close, human, sources = population(800, 0.02)
    _, broken, _, _ = population(800, 3.0)
    good, bad = (paired(first, side, human, sources, 1.0, rounds=200) for side in (close, broken))
    assert good.not_inferior is True and bad.not_inferior is False
    for result, side in ((good, close), (bad, broken)):
        assert result.comparison == compare_scores(first, side, human, sources, rounds=200)
        assert result.p99_difference is not None
        assert result.p99_difference == pytest.approx(np.percentile(np.abs(side - first), 99, method="higher"))
        assert result.p99_difference < result.comparison.largest_difference
    assert good.mcnemar.p_exact > 0.05 > bad.mcnemar.p_exact
    upper = good.comparison.eer_delta_upper_points
    assert upper is not None
    assert paired(first, close, human, sources, upper, rounds=200).not_inferior is False, "at the margin is not below"


@given(st.integers(0, 1000), st.integers(20, 60), st.floats(0, 2))
def test_threshold_is_that_of_the_references_eer_and_serves_both(seed: int, clips: int, noise: float) -> None:
    first, second, human, sources = population(clips, noise, seed)
    result = paired(first, second, human, sources, 0.5, rounds=5)
    assert result.threshold == eer(first[human], first[~human])[1]
    wrong = (first > result.threshold) != human
    rate = (np.mean(wrong[human]) + np.mean(wrong[~human])) / 2
    assert rate == pytest.approx(eer(first[human], first[~human])[0])
    right = [(side > result.threshold) == human for side in (first, second)]
    assert result.mcnemar == mcnemar(*right)
    assert result.p99_difference is None and clips < needed(99)


def test_a_model_against_itself_differs_in_nothing() -> None:
    first, _, human, sources = population(700, 0)
    result = paired(first, first, human, sources, 0.01, rounds=20)
    assert (result.mcnemar.only_reference, result.mcnemar.only_other, result.mcnemar.p_exact) == (0, 0, 1)
    assert result.p99_difference == 0 and result.not_inferior is True
    with pytest.raises(ValueError, match="at least one"):
        paired(first, first, human | True, sources, 0.01, rounds=20)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A key of 2021 LA, scores of a float and of a quantized model, and scores of an ASV system."""
    first, second, human, _ = population(600, 0.05)
    lines, codecs = [], ("alaw", "none", "opus")
    for n, label in enumerate(human):
        attack, kind = ("bonafide", "bonafide") if label else (f"A{7 + n % 3:02d}", "spoof")
        subset = "progress" if n >= 500 else "eval"
        lines.append(f"S{n // 20} T{n} {codecs[n % 3]} ita_tx {attack} {kind} notrim {subset}\n")
    (tmp_path / "key.txt").write_text("".join(lines))
    for name, scores in (("float", first), ("int8", second)):
        (tmp_path / name).write_text("".join(f"T{n} {score!r}\n" for n, score in enumerate(scores.tolist())))
    rng = np.random.default_rng(3)
    systems = [("bonafide target", 4), ("bonafide nontarget", -4), ("A07 spoof", 2), ("A08 spoof", 2)]
    asv = [f"{who} {score:.4f}\n" for who, mean in systems for score in rng.normal(mean, 2, 100)]
    (tmp_path / "asv").write_text("".join(asv))
    return tmp_path


def run(*arguments: str | Path) -> str:
    parser = argparse.ArgumentParser()
    metrics.declare(parser.add_subparsers())
    parsed = parser.parse_args(["metrics", *map(str, arguments)])
    text = parsed.run(parsed)
    assert isinstance(text, str)
    return text


def test_command_prints_the_measures_of_the_scores_by_the_key(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, _, human, _ = population(600, 0.05)
    found = json.loads(run(files / "float", files / "key.txt", "--subset", "eval", "--rounds", "20", "--json"))
    expected = measures(first[:500], human[:500])
    assert found["measures"] == {name: getattr(expected, name) for name in expected.__dataclass_fields__}
    assert found["eer"]["low"] <= found["eer"]["value"] <= found["eer"]["high"] and found["eer"]["over"] == "sources"
    assert [part["name"] for part in found["systems"]] == ["A07", "A08", "A09"]
    assert [part["name"] for part in found["conditions"]] == ["alaw", "none", "opus"]
    sources = [part for part in found["sources"] if part["eer"] is not None]
    assert [part["name"] for part in found["sources"]] == sorted(f"S{n}" for n in range(25)) and len(sources) == 25
    assert found["macro_sources"]["eer"] == pytest.approx(np.mean([part["eer"] for part in sources]))
    assert found["eer_within"]["low"] <= found["eer_within"]["value"] <= found["eer_within"]["high"]
    assert found["macro_systems"]["eer"] == pytest.approx(np.mean([part["eer"] for part in found["systems"]]))
    assert found["missing"] == found["unknown"] == [], "trials of other subsets are not unknown"
    assert found["min_tdcf"] is None and found["paired"] is None
    assert "trials" not in capsys.readouterr().err

    page = run(files / "float", files / "key.txt", "--rounds", "20", "--asv-scores", files / "asv")
    for words in ("min DCF", "act DCF", "min Cllr", "legacy form, ASVspoof 2019", "revised form, ASVspoof 2021"):
        assert words in page
    assert all(f"min t-DCF ({form} form" in page for form in FORMS)
    assert "no spoof of A09" in page, "a system without ASV scores is named"
    tables = [line.count("|") for line in page.splitlines() if line.startswith("| A0")]
    assert tables == [8, 8, 8] and "nan" not in page and "None" not in page


def test_command_compares_with_other_scores(files: Path) -> None:
    arguments = (files / "float", files / "key.txt", "--against", files / "int8", "--rounds", "50")
    found = json.loads(run(*arguments, "--margin", "2", "--json"))["paired"]
    first, second, human, _ = population(600, 0.05)
    expected = paired(first, second, human, [f"S{n // 20}" for n in range(600)], 2.0, rounds=50)
    assert found["not_inferior"] is expected.not_inferior is True
    assert found["threshold"] == expected.threshold
    assert found["mcnemar"]["p_exact"] == expected.mcnemar.p_exact
    assert found["comparison"] == expected.comparison.as_figures()
    assert "| not inferior |" in run(*arguments, "--margin", "2")
    assert "not shown to be as good" in run(*arguments, "--margin", "0")


def test_command_counts_and_names_what_does_not_fit(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = (files / "float").read_text().splitlines(keepends=True)
    (files / "part").write_text("".join(lines[3:]) + "T9999 0.5\n")
    page = run(files / "part", files / "key.txt", "--rounds", "5", "--against", files / "int8")
    assert "| trials of the key without a score | 3: T0, T1, T2 |" in page
    assert "| scored trials that are not in the key | 1: T9999 |" in page
    told = capsys.readouterr().err
    assert "3 trials of the key have no score: T0, T1, T2" in told and "1 trials are not in the key: T9999" in told
    assert "3 trials have a score from one of the two models only" in told


def test_command_tells_the_other_measures_where_there_is_no_t_dcf(files: Path) -> None:
    (files / "flat").write_text("".join(f"T{n} 0.5\n" for n in range(600)))
    arguments = (files / "flat", files / "key.txt", "--rounds", "5", "--asv-scores", files / "asv")
    page = run(*arguments)
    assert "No min t-DCF: t-DCF needs scores, not decisions" in page and "| EER, pooled | 100.00%" in page
    assert all(f"| min t-DCF ({form} form" in page for form in FORMS) and "None" not in page
    found = json.loads(run(*arguments, "--json"))
    assert found["min_tdcf"] == dict.fromkeys(FORMS) and len(found["min_tdcf_lacks"]) == 1
    assert found["measures"]["min_cllr_bits"] == pytest.approx(1)


def test_command_warns_of_scores_the_wrong_way_round_and_of_other_labels(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scored = [line.split() for line in (files / "float").read_text().splitlines()]
    human = population(600, 0.05)[2]
    words = ["bonafide" if label else "spoof" for label in human]
    (files / "negated").write_text("".join(f"{trial} {-float(score)}\n" for trial, score in scored))
    swapped = [f"{trial} - {'spoof' if n < 3 else words[n]} {score}\n" for n, (trial, score) in enumerate(scored)]
    (files / "swapped").write_text("".join(swapped))
    (files / "right").write_text("".join(f"{t} - {word} {s}\n" for (t, s), word in zip(scored, words, strict=True)))
    wrong = [f"T{n}" for n in range(3) if words[n] != "spoof"]
    assert wrong
    for name, says in (
        ("negated", "worse than chance: a higher score must mean more bona fide"),
        ("swapped", f"give {len(wrong)} trials different labels, the key's are used: {', '.join(wrong)}"),
    ):
        assert says in run(files / name, files / "key.txt", "--rounds", "5")
        shown = capsys.readouterr().err
        assert f"warning: {says}" in shown or (says in shown and "warning: " in shown)
        (warning,) = json.loads(run(files / name, files / "key.txt", "--rounds", "5", "--json"))["warnings"]
        assert says in warning
        assert capsys.readouterr().err.count("warning: ") == 1
    assert json.loads(run(files / "right", files / "key.txt", "--rounds", "5", "--json"))["warnings"] == []
    assert "warning" not in capsys.readouterr().err


def test_sources_that_differ_in_level_cost_the_pooled_eer_and_not_that_within_them(files: Path) -> None:
    lines = (files / "float").read_text().split("\n")[:600]
    shifted = [f"T{n} {float(line.split()[1]) + 5 * (n // 20 % 2)}\n" for n, line in enumerate(lines)]
    (files / "shifted").write_text("".join(shifted))
    plain, moved = (
        json.loads(run(files / name, files / "key.txt", "--rounds", "5", "--json")) for name in ("float", "shifted")
    )
    assert moved["eer"]["value"] > plain["eer"]["value"] + 0.1
    assert moved["eer_within"]["value"] == pytest.approx(plain["eer_within"]["value"], abs=1e-9)
    assert moved["macro_sources"]["eer"] == pytest.approx(plain["macro_sources"]["eer"])


def test_command_refuses_in_one_line(files: Path) -> None:
    (files / "other").write_text("X1 0.5\n")
    (files / "human").write_text("T0 0.5\nT2 0.5\n")
    (files / "no-spoof").write_text("bonafide target 1\nbonafide nontarget 0\n")
    scores, key = files / "float", files / "key.txt"
    cases: list[tuple[type[Exception], str, list[str | Path]]] = [
        (UsageError, "--margin needs --against", [scores, key, "--margin", "1"]),
        (UsageError, "--margin must be", [scores, key, "--against", scores, "--margin", "nan"]),
        (UsageError, "--asv-key needs --asv-scores", [scores, key, "--asv-key", key]),
        (UsageError, "--rounds", [scores, key, "--rounds", "0"]),
        (InputError, "no trial has a score", [files / "other", key]),
        (InputError, "both bona fide and spoofed", [files / "human", key]),
        (InputError, "must share clips of both labels", [scores, key, "--against", files / "human"]),
        (InputError, "there is no spoof", [scores, key, "--asv-scores", files / "no-spoof"]),
        (InputError, "no such file", [scores, files / "absent"]),
    ]
    for kind, says, arguments in cases:
        with pytest.raises(kind, match=says) as refusal:
            run(*arguments)
        assert "\n" not in str(refusal.value)
