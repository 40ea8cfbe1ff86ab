"""Accuracy of scored clips: by source, system and condition, and what the command finds out before it scores."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.__main__ import main
from benchmarks.report.accuracy import markdown
from benchmarks.tasks import accuracy as command
from edge_runtime.decision.verdict import Verdict
from edge_runtime.errors import OutputError
from evaluation.accuracy import ClipVerdict, accuracy
from evaluation.breakdown import FEWEST, Members, by_condition, by_source, by_system
from evaluation.false_alarms import alarms, share
from evaluation.metrics import Floats, auc
from evaluation.protocols import Clip
from evaluation.trained import parts, trained, unseen
from evaluation.within import auc_within, macro_eer, within_sources
from tests.conftest import voice


def judged(seed: int, clips: int, sources: int, conditions: tuple[str, ...]) -> list[ClipVerdict]:
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
        found.append(ClipVerdict(clip, float(level[source] + rng.standard_normal() + 2 * human), Verdict.UNSURE))
    return found


@settings(max_examples=25)
@given(st.integers(0, 1000), st.integers(8, 60), st.integers(1, 8))
def test_rates_of_the_parts_are_those_that_the_score_file_gives(seed: int, clips: int, sources: int) -> None:
    scored = judged(seed, clips, sources, ("opus", "alaw", "none"))
    result = accuracy(scored)
    listed, scores = [item.clip for item in scored], np.array([item.score for item in scored])
    for rows, expected in (
        (result.systems, by_system(listed, scores)),
        (result.conditions, by_condition(listed, scores)),
        (result.sources if len(result.sources) > 1 else [], by_source(listed, scores)),
    ):
        told = [(row.name, row.bonafide, row.spoof, row.eer and row.eer.value) for row in rows]
        assert told == [(part.name, part.bonafide, part.spoof, part.eer) for part in expected]
    known = [row for row in result.sources if row.eer is not None]
    assert all(min(row.bonafide, row.spoof) >= FEWEST for row in known)
    assert (result.macro is None) == (result.within is None) == (result.auc_within is None) == (not known)
    if result.macro is not None:
        assert result.macro.value == pytest.approx(np.mean([row.eer.value for row in known if row.eer]))


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


def arrays(scored: list[ClipVerdict]) -> tuple[Floats, Members, list[Clip]]:
    clips = [item.clip for item in scored]
    return np.array([item.score for item in scored]), np.array([clip.is_bonafide for clip in clips]), clips


@settings(max_examples=15)
@given(st.integers(0, 1000), st.integers(30, 90), st.integers(1, 8), st.floats(0.1, 1000))
def test_offsets_of_sources_change_nothing_within_them(seed: int, clips: int, sources: int, size: float) -> None:
    scores, human, listed = arrays(judged(seed, clips, sources, ("-",)))
    level = {
        clip.source: value
        for clip, value in zip(listed, np.random.default_rng(seed).normal(0, size, clips), strict=True)
    }
    moved = scores + np.array([level[clip.source] for clip in listed])
    alike = [clip.source for clip in listed]
    for before, after in (
        (macro_eer(scores, human, listed), macro_eer(moved, human, listed)),
        (auc_within(scores, human, listed), auc_within(moved, human, listed)),
        (
            within_sources(scores, human, listed, alike, rounds=20),
            within_sources(moved, human, listed, alike, rounds=20),
        ),
    ):
        assert (before is None) == (after is None)
        assert before is None or after is None or before.value == pytest.approx(after.value, abs=1e-9)


def test_a_score_that_knows_only_the_source_is_good_in_all_and_guesses_within_sources() -> None:
    """Sources that are mostly spoof, or mostly human, are what fools a pooled figure."""
    random = np.random.default_rng(0)
    mostly = {f"s{n}": n % 2 == 0 for n in range(12)}
    clips = [
        Clip(Path(f"{name}-{n}.wav"), "bonafide" if (n < 25) == human else "spoof", source=name)
        for name, human in mostly.items()
        for n in range(30)
    ]
    scored = [ClipVerdict(clip, 9.0 * mostly[clip.source] + random.standard_normal(), Verdict.UNSURE) for clip in clips]
    result = accuracy(scored)
    assert result.pooled.value < 0.2 and result.macro and result.within and result.auc_within
    assert all(figure.value == pytest.approx(0.5, abs=0.1) for figure in (result.macro, result.within))
    assert result.auc_within.low < 0.5 < result.auc_within.high


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=9), st.lists(st.integers(-3, 3), min_size=1, max_size=9))
def test_auc_is_the_share_of_pairs_in_the_right_order(bonafide: list[int], spoof: list[int]) -> None:
    pairs = [1.0 if b > s else 0.5 if b == s else 0.0 for b in bonafide for s in spoof]
    assert auc(bonafide, spoof) == pytest.approx(np.mean(pairs))


def test_false_alarms_are_counted_source_by_source() -> None:
    said = {"a": "SSU", "b": "BBBBBS", "c": "SB"}  # human clips' verdicts
    verdict = {"S": Verdict.SPOOF, "B": Verdict.BONAFIDE, "U": Verdict.UNSURE}
    clips = [Clip(Path(f"{s}{n}"), "bonafide", source=s) for s, row in said.items() for n in range(len(row))]
    verdicts = [verdict[letter] for row in said.values() for letter in row]
    clips.append(Clip(Path("x"), "spoof", "A", source="only spoof"))
    found = alarms(clips, [*verdicts, Verdict.SPOOF])
    assert [(row.name, row.human, row.called_spoof, row.unsure) for row in found.sources] == [
        ("a", 3, 2, 1), ("c", 2, 1, 0), ("b", 6, 1, 0)]  # fmt: skip
    assert found.human_called_spoof is not None and found.human_called_spoof.value == pytest.approx(4 / 11)
    assert found.largest is not None and found.largest.name == "b" and found.without_largest == pytest.approx(3 / 5)
    assert found.mean_of_sources == pytest.approx(np.mean([2 / 3, 1 / 6, 1 / 2]))
    assert found.spoof_found is not None and found.spoof_found.value == 1
    none = share(np.zeros(30, bool), [f"s{n % 10}" for n in range(30)])
    assert none is not None and none.value == none.low == 0 and none.high == pytest.approx(0.3), "no alarm is no proof"


def test_names_of_systems_meet_in_all_their_spellings() -> None:
    known = trained(
        Clip(Path(str(n)), "spoof", name, source="Page/One")
        for n, name in enumerate(("Thorsten hifigan", "vocoder UnivNet", "FastSpeech2", "VALL-E", "copysyn-WORLD"))
    )
    for name in ("vocoder HiFi-GAN", "Tacotron2+HGAN_V1", "univnet", "VC World", "FastSpeech", "valle(repro)"):
        assert known.knows_system(name), (name, parts(name))
    for name in ("VITS", "Glow-TTS", "TTS+D (ours)", "BigVGAN", "-"):
        assert not known.knows_system(name), (name, parts(name))
    assert known.knows_source(" page/one") and not known.knows_source("page/two") and not known.knows_source("unknown")


@settings(max_examples=10)
@given(st.integers(0, 1000), st.integers(30, 90))
def test_seen_and_unseen_are_all_clips(seed: int, clips: int) -> None:
    scored = judged(seed, clips, 4, ("-",))
    scores, human, listed = arrays(scored)
    known = trained([Clip(Path("t"), "spoof", "A1", source="s0")])
    found = unseen(known, listed, scores, [item.verdict for item in scored])
    assert set(found.systems_seen) <= {"A1"} and set(found.sources_seen) <= {"s0"}
    new, old, elsewhere, here, neither = found.splits
    assert new.spoof + old.spoof == elsewhere.spoof + here.spoof == int((~human).sum())
    assert new.bonafide == old.bonafide == elsewhere.bonafide + here.bonafide == int(human.sum())
    assert old.spoof == sum(clip.system == "A1" for clip in listed)
    assert neither.spoof == sum(clip.system not in ("-", "A1") and clip.source != "s0" for clip in listed)


def test_command_tells_what_the_training_data_lacks(
    exported: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for n in range(24):
        group = tmp_path / ("bonafide", "spoof")[n % 2] / f"page{n % 4 // 2}"
        group.mkdir(parents=True, exist_ok=True)
        soundfile.write(group / f"{n}.wav", voice(1.2, n), 16000)
    trained_on = tmp_path / "clips of training.csv"
    trained_on.write_text("file,label,system,source\nx.wav,spoof,vocoder page1,elsewhere\n")
    words = ["accuracy", str(exported("streaming")), "--data", str(tmp_path), "--trained-on"]
    assert main([*words, str(trained_on)]) == 0
    page = capsys.readouterr().out
    assert (
        "1 of 2 systems and 0 of 2 sources were trained on" in page and "Systems taken for trained on: page1." in page
    )
    assert "## Human speech at the model's thresholds, per source" in page and "AUC within sources" in page
    assert main([*words, str(trained_on), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["unseen"]["splits"][0]["spoof"] == told["unseen"]["splits"][1]["spoof"] == 6
    assert main([*words, str(tmp_path / "absent.csv")]) == 3
    assert capsys.readouterr().err.startswith("edge-detect: ")
