"""Score files: written and read back without loss in every form; whatever does not fit a key is counted and named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.errors import InputError, OutputError, UsageError
from evaluation.protocols import Clip, read_list
from evaluation.scorefiles import SCORE_FORMS, ScoreForm, contradicted, match, read_scores, write_scores

FLOATS = st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=20)


def clips_of(count: int) -> list[Clip]:
    """T0, T1, ..., every third of them human."""
    return [
        Clip(Path(f"below/T{n}.flac"), *(("spoof", f"system {n}") if n % 3 else ("bonafide", "-")))
        for n in range(count)
    ]


@given(FLOATS, st.sampled_from(SCORE_FORMS))
def test_every_form_gives_back_every_bit(
    tmp_path_factory: pytest.TempPathFactory, values: list[float], form: ScoreForm
) -> None:
    file = tmp_path_factory.mktemp("scores") / "scores"
    clips = clips_of(len(values))
    write_scores(file, clips, values, form)
    assert read_scores(file).scores == {f"T{n}": value for n, value in enumerate(values)}
    assert match(read_scores(file).scores, clips).scores.tolist() == values


def test_forms_are_what_the_packages_of_the_challenges_read(tmp_path: Path) -> None:
    expected = {
        "2019": "T0 - bonafide 0.5\nT1 system_1 spoof -1.25\n",
        "2021": "T0 0.5\nT1 -1.25\n",
        "asvspoof5": "filename\tcm-score\nT0\t0.5\nT1\t-1.25\n",
    }
    assert expected.keys() == set(SCORE_FORMS)
    for form in SCORE_FORMS:
        write_scores(tmp_path / "scores", clips_of(2), [0.5, -1.25], form)
        assert (tmp_path / "scores").read_text() == expected[form]


@pytest.mark.parametrize(
    "text",
    [
        "T0 0.5\nT1 -1.25\n",
        "  T0.flac   0.5\r\n\r\nT1.wav -1.25",
        "T0 - bonafide 0.5\nT1 A07 spoof -1.25\n",
        "S1 T0 0.5 bonafide\nS2 T1 -1.25 spoof\n",
        "filename\tcm-score\nT0\t0.5\nT1\t-1.25\n",
        "spk\tfilename\tcm-score\tasv-score\nS1\tT0\t0.5\t7\nS1\tT1\t-1.25\t7\n",
    ],
)
def test_a_form_is_known_by_its_content(text: str, tmp_path: Path) -> None:
    (tmp_path / "scores.csv").write_text(text)
    assert read_scores(tmp_path / "scores.csv").scores == {"T0": 0.5, "T1": -1.25}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "holds no score"),
        ("filename\tcm-score\n", "no score below its header"),
        ("T0 0.5 what\n", "line 1: not a score file"),
        ("T0 high\n", "line 1: 'high' is no score"),
        ("T0 1_000\n", "line 1: '1_000' is no score"),
        ("T0 \u0661\u0662\n", "is no score"),
        ("T0 0x1p3\n", "is no score"),
        ("T0 0.5\nT1\n", "line 2: 1 columns, after lines of 2: is it cut off"),
        ("T0 nan\nT1 1\nT2 inf\n", "2 trials have a score that is no finite number: T0, T2"),
        ("T0 1\nT1 1\nT0.flac 1\nT1 1\nT1 1\n", "3 trials are there more than once: T0, T1, T1"),
    ],
)
def test_a_score_file_that_a_challenge_would_refuse_is_refused_in_one_line(
    text: str, says: str, tmp_path: Path
) -> None:
    (tmp_path / "scores").write_text(text)
    with pytest.raises(InputError, match=says) as refusal:
        read_scores(tmp_path / "scores")
    assert "\n" not in str(refusal.value)


@given(st.sets(st.integers(0, 30), min_size=1), st.sets(st.integers(0, 30), min_size=1), st.sets(st.integers(0, 30)))
def test_no_trial_gets_lost_between_scores_and_key(scored: set[int], listed: set[int], other_subsets: set[int]) -> None:
    clips = [clip for n, clip in enumerate(clips_of(31)) if n in listed]
    scores = {f"T{n}": float(n) for n in scored}
    left_out = [f"T{n}" for n in other_subsets - listed]
    if not scored & listed:
        with pytest.raises(InputError, match="no trial has a score"):
            match(scores, clips, left_out)
        return
    found = match(scores, clips, left_out)
    assert [f"T{score:.0f}" for score in found.scores] == [clip.trial for clip in found.clips]
    assert {clip.trial for clip in found.clips} == {f"T{n}" for n in scored & listed}
    assert set(found.missing) == {f"T{n}" for n in listed - scored}
    assert set(found.unknown) == {f"T{n}" for n in scored - listed - other_subsets}


def test_labels_of_a_score_file_that_contradict_the_key_are_found(tmp_path: Path) -> None:
    clips = clips_of(4)
    for text in (
        "T0 - bonafide 1\nT1 A07 bonafide 2\nT2 A07 spoof 3\nT3 A07 spoof 4\n",
        "S T0 1 bonafide\nS T1 2 bonafide\nS T2 3 spoof\nS T3 4 spoof\n",
        "filename\tcm-score\tcm-label\nT0\t1\tbonafide\nT1\t2\tbonafide\nT2\t3\tspoof\nT3\t4\tspoof\n",
    ):
        (tmp_path / "scores").write_text(text)
        assert contradicted(read_scores(tmp_path / "scores").labels, clips) == ["T1", "T3"]
    (tmp_path / "scores").write_text("T0 1\nT1 2\n")
    assert contradicted(read_scores(tmp_path / "scores").labels, clips) == []


def test_a_key_that_names_a_trial_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("S1 T1 - A1 spoof\nS2 T1 - - bonafide\nS2 T2 - - bonafide\n")
    listed = read_list(tmp_path / "key", needs_audio=False)
    with pytest.raises(InputError, match="1 trials more than once: T1"):
        match({"T1": 0.0}, listed.clips)


def test_what_must_not_be_written_is_not(tmp_path: Path) -> None:
    target = tmp_path / "scores"
    twice = [Clip(Path("a/T1.wav"), "spoof"), Clip(Path("b/T1.wav"), "bonafide")]
    with pytest.raises(InputError, match="1 trials have a score that is no finite number: T1"):
        write_scores(target, clips_of(2), [0.0, np.nan])
    with pytest.raises(InputError, match="1 names are of more than one trial: T1"):
        write_scores(target, twice, [0.0, 1.0])
    with pytest.raises(InputError, match="1 trials have a blank in their name, which parts columns: my clip"):
        write_scores(target, [Clip(Path("my clip.wav"), "spoof")], [0.0])
    with pytest.raises(UsageError, match="no such form"):
        write_scores(target, clips_of(1), [0.0], "2020")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="2 clips"):
        write_scores(target, clips_of(2), [0.0])
    assert not target.exists()
    with pytest.raises(OutputError, match="cannot write"):
        write_scores(tmp_path / "absent" / "scores", clips_of(1), [0.0])
