"""Figures of out-of-fold scores: equal to those of `evaluation.metrics`, slice by slice and fold by fold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.breakdown import by_source, macro
from evaluation.folds.figures import Sheet, judge, threshold_at
from evaluation.folds.slices import slices
from evaluation.folds.table import FoldScores, matched, read_scored
from evaluation.metrics import cllr, eer, min_cllr
from evaluation.within import within_sources

HEADER = "file,label,source,system,kind,year,language,fold,score,duration"
PER_SOURCE = 7


def written(path: Path, seed: int, folds: int = 3, sources: int = 4, shift: float = 0.0) -> Path:
    """A table: each source has PER_SOURCE clips of each label and one of two systems, one of them in all folds."""
    rng = np.random.default_rng(seed)
    lines = [HEADER]
    for fold in range(folds):
        for source in range(sources):
            for label in ("bonafide", "spoof"):
                for clip in range(PER_SOURCE):
                    system = "-" if label == "bonafide" else "HiFi-GAN" if source % 2 else f"own {fold}"
                    year = "" if label == "bonafide" else 2021 if source % 2 else 2025
                    score = rng.normal() + (1 if label == "bonafide" else -1 + shift) + fold
                    name = f"{fold}/{source}/{label}{clip}.wav"
                    lines.append(
                        f"{name},{label},page {fold}-{source},{system},tts,{year},en,f{fold},{score:.6f},{clip}"
                    )
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def _fold(of: FoldScores, name: str) -> np.ndarray:
    return np.array([fold == name for fold in of.folds])


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000), shift=st.floats(-1, 2))
def test_each_folds_figures_are_those_of_metrics_and_the_figure_is_their_mean(
    tmp_path_factory: pytest.TempPathFactory, seed: int, shift: float
) -> None:
    of = read_scored(written(tmp_path_factory.mktemp("folds") / "s.csv", seed, shift=shift), folded=True)
    cuts = slices(of)
    found = judge(Sheet(of, cuts, llr=True), rounds=20).figures
    for name in ("f0", "f1", "f2"):
        own = _fold(of, name)
        clips = [clip for clip, mine in zip(of.clips, own, strict=True) if mine]
        human, spoof = of.scores[own & of.human], of.scores[own & ~of.human]
        within = within_sources(of.scores[own], of.human[own], clips, [clip.source for clip in clips], rounds=2)
        assert within is not None
        expected = {
            "eer": eer(human, spoof)[0],
            "eer_within": within.value,
            "eer_macro": macro(by_source(clips, of.scores[own])).eer,
            "cllr": cllr(human, spoof),
            "min_cllr": min_cllr(human, spoof),
            "found_at_3_percent": float(np.mean(spoof < threshold_at(human, 0.03))),
        }
        for figure, value in expected.items():
            assert found["", "", figure].by_fold[name] == pytest.approx(value, abs=1e-12), figure
        modern = cuts["year"]["2024 on"] & own
        assert found["year", "2024 on", "eer"].by_fold[name] == pytest.approx(eer(human, of.scores[modern])[0])
    for judged in found.values():
        values = [value for value in judged.by_fold.values() if value is not None]
        assert judged.value is not None and judged.value == pytest.approx(np.mean(values))
        assert judged.low is not None and judged.high is not None
        assert judged.low <= judged.value <= judged.high
    assert found["", "", "eer"].as_one == pytest.approx(eer(of.scores[of.human], of.scores[~of.human])[0])


@settings(max_examples=50, deadline=None)
@given(
    scores=st.lists(st.floats(-5, 5) | st.sampled_from([0.0, 1.0]), min_size=1, max_size=120),
    rate=st.sampled_from([0.01, 0.02, 0.03]),
)
def test_a_threshold_calls_no_more_human_clips_spoof_than_it_may_and_any_higher_one_does(
    scores: list[float], rate: float
) -> None:
    human = np.array(scores)
    threshold = threshold_at(human, rate)
    assert np.sum(human < threshold) <= rate * len(human) + 1e-9
    assert np.sum(human <= threshold) > rate * len(human)


def test_a_system_is_met_when_its_name_lies_in_another_fold(tmp_path: Path) -> None:
    of = read_scored(written(tmp_path / "s.csv", 1), folded=True)
    cuts = slices(of)["system"]
    names = {cut: {of.clips[i].system for i in np.flatnonzero(members)} for cut, members in cuts.items()}
    assert names == {"never met in training": {"own 0", "own 1", "own 2"}, "met in training": {"HiFi-GAN"}}


def test_a_paired_difference_is_far_surer_than_two_figures_apart(tmp_path: Path) -> None:
    of = read_scored(written(tmp_path / "a.csv", 1), folded=True)
    lines = (tmp_path / "a.csv").read_text(encoding="utf-8").splitlines()
    moved = [lines[0]]
    for row in lines[:0:-1]:  # the other order: clips are matched by name
        cells = row.split(",")
        cells[8] = f"{float(cells[8]) + (0.5 if cells[1] == 'spoof' else 0):.6f}"
        moved.append(",".join(cells))
    (tmp_path / "b.csv").write_text("\n".join(moved) + "\n", encoding="utf-8")
    other, further = matched(tmp_path / "b.csv", of, folded=True)
    assert further == 0
    cuts = slices(of)
    judged = judge(Sheet(of, cuts, llr=True), Sheet(other, cuts, llr=True), rounds=200)
    assert judged.other is not None and judged.difference is not None
    this, that, apart = (table["", "", "eer"] for table in (judged.figures, judged.other, judged.difference))
    assert this.value is not None and that.value is not None and apart.value == pytest.approx(this.value - that.value)
    assert apart.low is not None and apart.high is not None and apart.high < 0
    same, _ = matched(tmp_path / "a.csv", of, folded=True)
    none = judge(Sheet(of, cuts, llr=True), Sheet(same, cuts, llr=True), rounds=20).difference
    assert none is not None
    assert all((figure.value, figure.low, figure.high) == (0, 0, 0) for figure in none.values())


def test_one_label_a_source_counts_in_the_pooled_figure_alone_and_few_sources_get_no_interval(tmp_path: Path) -> None:
    path = written(tmp_path / "s.csv", 2, folds=2, sources=3)
    extra = [f"h{i}.wav,bonafide,only human,-,human,,en,f0,{i},3" for i in range(8)]
    extra += [f"z{i}.wav,spoof,only human 2,VITS,vc,2023,zh,f1,{-i},3" for i in range(8)]
    path.write_text(path.read_text(encoding="utf-8") + "\n".join(extra) + "\n", encoding="utf-8")
    of = read_scored(path, folded=True)
    found = judge(Sheet(of, slices(of), llr=False), rounds=20).figures
    both = 2 * 3 * PER_SOURCE
    assert (found["", "", "eer"].bonafide, found["", "", "eer"].spoof) == (both + 8, both + 8)
    assert (found["", "", "eer_within"].bonafide, found["", "", "eer_macro"].spoof) == (both, both)
    chinese = found["language", "zh", "eer"]
    assert chinese.folds == 1 and chinese.value is not None and chinese.low is None
    assert ("", "", "cllr") not in found
