"""Folds by source: what must hold of every assignment, and what the command writes."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.__main__ import main
from evaluation.folds.assignment import FoldClip, assign, balance, system_name

RECORDS = st.lists(
    st.builds(
        FoldClip,
        source=st.sampled_from([f"page{i}" for i in range(9)]),
        label=st.sampled_from(["bonafide", "spoof"]),
        system=st.sampled_from(["-", "HiFi-GAN", "hifigan", "VITS", "XTTS-v2", "unknown"]),
        year=st.sampled_from([None, 2019, 2023, 2024, 2025]),
        group=st.sampled_from([None, None, None, "a", "b"]),
    ),
    min_size=1,
    max_size=40,
)


def _folds(records: list[FoldClip], folds: int, seed: int = 0) -> list[int] | None:
    try:
        return assign(records, folds, seed)
    except ValueError:
        return None


@settings(max_examples=60, deadline=None)
@given(records=RECORDS, folds=st.integers(2, 4), seed=st.integers(0, 3), data=st.data())
def test_sources_and_groups_stay_whole_no_fold_is_empty_and_the_order_of_rows_is_nothing(
    records: list[FoldClip], folds: int, seed: int, data: st.DataObject
) -> None:
    found = _folds(records, folds, seed)
    shuffled = data.draw(st.permutations(list(range(len(records)))))
    other = _folds([records[i] for i in shuffled], folds, seed)
    if found is None:  # fewer sources, glued, than folds
        assert other is None
        return
    assert other == [found[i] for i in shuffled]
    assert set(found) == set(range(folds))
    for column in ("source", "group"):
        places: dict[str, set[int]] = {}
        for record, fold in zip(records, found, strict=True):
            if key := getattr(record, column):
                places.setdefault(key, set()).add(fold)
        assert all(len(held) == 1 for held in places.values())


@settings(max_examples=40, deadline=None)
@given(sizes=st.lists(st.integers(1, 60), min_size=5, max_size=20), folds=st.integers(2, 5))
def test_clips_of_one_kind_differ_between_folds_by_no_more_than_the_largest_source(
    sizes: list[int], folds: int
) -> None:
    records = [FoldClip(f"page{i}", "bonafide") for i, size in enumerate(sizes) for _ in range(size)]
    held = Counter(assign(records, folds))
    assert max(held.values()) - min(held.values()) <= max(sizes)


@settings(max_examples=20, deadline=None)
@given(clips=st.integers(1, 9), seed=st.integers(0, 20))
def test_where_systems_can_be_kept_in_one_fold_they_are(clips: int, seed: int) -> None:
    records = [
        FoldClip(f"page{page}", label, "-" if label == "bonafide" else f"system {page % 5}", 2024)
        for page in range(15)
        for label in ("bonafide", "spoof")
        for _ in range(clips)
    ]
    rows, shared = balance(records, assign(records, 5, seed))
    assert not shared
    assert all((row.bonafide, row.spoof, row.modern_spoof) == (3 * clips,) * 3 for row in rows)


def test_spellings_of_a_system_are_one_and_names_that_name_none_are_not_kept_together() -> None:
    assert system_name("XTTS-v2") == system_name("xtts v2") != system_name("XTTS")
    assert system_name("unknown") == system_name("-") == system_name("") == ""


def test_every_process_finds_the_same_folds() -> None:
    """The order of a set of strings differs from process to process."""
    program = (
        "from evaluation.folds.assignment import FoldClip, assign\n"
        "names = [f'system {i}' for i in range(40)]\n"
        "print(assign([FoldClip(f'page {i % 30}', 'spoof', names[i * i % 40], 2020 + i % 6) for i in range(300)]))"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", program],
            env=os.environ | {"PYTHONHASHSEED": str(seed)},
            capture_output=True,
            check=True,
            timeout=60,
        ).stdout
        for seed in (1, 2, 3)
    }
    assert len(found) == 1


@pytest.mark.parametrize("folds", [1, 4])
def test_too_few_folds_or_sources_are_refused(folds: int) -> None:
    with pytest.raises(ValueError, match=r"at least 2|too few"):
        assign([FoldClip(name, "bonafide") for name in "abc"], folds)


def _list(path: Path, rows: list[str]) -> Path:
    path.write_text("path,label,system,year,source,use\n" + "".join(row + "\n" for row in rows), encoding="utf-8")
    return path


def test_the_command_writes_a_line_for_each_source_and_reports_the_balance(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [f"{i}{label},{label},VITS,2024,page {i},train" for i in range(6) for label in ("bonafide", "spoof")]
    clips = _list(tmp_path / "pages.csv", [*rows, "z,spoof,VITS,2025,kept back,dev2"])
    target = tmp_path / "folds.csv"
    arguments = ["folds", "assign", str(clips), "--use", "train", "--folds", "3", "-o", str(target)]
    assert main(arguments) == 0
    page = capsys.readouterr().out
    assert "12 clips in 3 folds" in page
    assert "- VITS: folds 0, 1, 2" in page
    with target.open(encoding="utf-8") as file:
        written = {row["source"]: int(row["fold"]) for row in csv.DictReader(file)}
    assert written.keys() == {f"page {i}" for i in range(6)}
    assert sorted(Counter(written.values()).values()) == [2, 2, 2]
    assert main([*arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [row["bonafide"] for row in found["folds"]] == [2, 2, 2]


@pytest.mark.parametrize(
    ("text", "code", "says"),
    [
        ("label,system\nspoof,a\n", 3, "lacks the column source"),
        ("source,label\na,genuine\n", 3, "must be bonafide or spoof"),
        ("source,label,year\na,spoof,soon\n", 3, "year must be four digits"),
        ("source,label\na,spoof\n", 3, "too few for 5 folds"),
        ("source,label\n,spoof\n", 3, "source is empty"),
        ("source,label\n", 3, "no row"),
        ("source,label\na,spoof,more\n", 3, "more cells"),
    ],
)
def test_what_cannot_be_assigned_gets_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, code: int, says: str
) -> None:
    clips = tmp_path / "clips.csv"
    clips.write_text(text, encoding="utf-8")
    assert main(["folds", "assign", str(clips)]) == code
    error = capsys.readouterr().err
    assert says in error and len(error.splitlines()) == 1
