"""Accuracy of scored clips: by source, system and condition, and what the command finds out before it scores."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.accuracy import Judged, accuracy, markdown
from benchmarks.breakdown import FEWEST, by_condition, by_source, by_system
from benchmarks.protocols import Clip
from benchmarks.tasks import accuracy as command
from edge_runtime.decision.verdict import Verdict
from edge_runtime.errors import OutputError


def judged(seed: int, clips: int, sources: int, conditions: tuple[str, ...]) -> list[Judged]:
    """Clips of three systems; bona fide scores are higher by two, and each source has a level of its own."""
    rng = np.random.default_rng(seed)
    level = rng.normal(0, 1, sources)
    found = []
    for n in range(clips):
        human, source = n % 2 == 0, int(rng.integers(sources))
        clip = Clip(
            Path(f"{n}.wav"),
            "bonafide" if human else "spoof",
            "-" if human else f"A{n % 3}",
            source=f"s{source}",
            condition=conditions[int(rng.integers(len(conditions)))],
        )
        found.append(Judged(clip, float(level[source] + rng.standard_normal() + 2 * human), Verdict.UNSURE))
    return found


@settings(max_examples=25)
@given(st.integers(0, 1000), st.integers(8, 60), st.integers(1, 8))
def test_rates_of_the_parts_are_those_that_the_score_file_gives(seed: int, clips: int, sources: int) -> None:
    scored = judged(seed, clips, sources, ("opus", "alaw", "none"))
    result = accuracy(scored)
    listed, scores = [item.clip for item in scored], np.array([item.score for item in scored])
    for rows, parts in (
        (result.systems, by_system(listed, scores)),
        (result.conditions, by_condition(listed, scores)),
        (result.sources if len(result.sources) > 1 else [], by_source(listed, scores)),
    ):
        told = [(row.name, row.bonafide, row.spoof, row.eer and row.eer.value) for row in rows]
        assert told == [(part.name, part.bonafide, part.spoof, part.eer) for part in parts]
    known = [row for row in result.sources if row.eer is not None]
    assert all(min(row.bonafide, row.spoof) >= FEWEST for row in known)
    assert (result.macro is None) == (result.within is None) == (not known)


def test_conditions_have_rows_only_where_there_are_several() -> None:
    several = accuracy(judged(0, 300, 12, ("opus", "alaw")))
    assert [row.name for row in several.conditions] == ["alaw", "opus"]
    assert all(row.eer is not None and row.eer.over == "sources" for row in several.conditions)
    assert "## Per condition" in markdown(several, "A")
    alone = accuracy(judged(0, 300, 12, ("-",)))
    assert alone.conditions == [] and "Per condition" not in markdown(alone, "A")


def test_report_says_what_the_interval_is_over() -> None:
    assert "bootstrap over sources (" in markdown(accuracy(judged(1, 200, 12, ("-",))), "A")
    assert "bootstrap over clips, as a label has fewer than 5 sources" in markdown(
        accuracy(judged(1, 200, 2, ("-",))), "A"
    )


@pytest.mark.parametrize("option", ["--scores", "--figures", "--output"])
def test_a_file_that_cannot_be_written_is_refused_before_anything_is_opened(tmp_path: Path, option: str) -> None:
    parser = argparse.ArgumentParser()
    command.declare(parser.add_subparsers())
    for target, says in ((tmp_path / "absent" / "x", "no such folder"), (tmp_path, "is a folder")):
        arguments = parser.parse_args(["accuracy", "absent.onnx", "--data", "absent", option, str(target)])
        with pytest.raises(OutputError, match=says) as refusal:
            arguments.run(arguments)
        assert "\n" not in str(refusal.value)
