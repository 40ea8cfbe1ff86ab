"""Long recordings as files: they are what they say, and a window that was not scored again has the score it had."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from benchmarks.__main__ import main
from benchmarks.alarms.recordings import SHORTEST_SECONDS, gated, hear, human, insert
from edge_runtime.detector import Detector
from edge_runtime.model.network import Network
from evaluation.acoustics.effects import RATE
from evaluation.protocols import read_clips
from tests.conftest import voice


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of twelve human clips of two sources, and of four spoofed ones."""
    folder = tmp_path_factory.mktemp("clips")
    rows = ["file,label,system,source"]
    for index in range(16):
        label = "bonafide" if index < 12 else "spoof"
        soundfile.write(folder / f"{index}.wav", 0.3 * voice(2.0, index), RATE)
        rows.append(f"{index}.wav,{label},{'-' if index < 12 else 'made'},source{index % 2}")
    (folder / "clips.csv").write_text("\n".join(rows) + "\n")
    return folder / "clips.csv"


def ears(model: str) -> Detector:
    return Detector(Network.load(model), hop_seconds=0.5, gate=True, least_speech_seconds=0.0)


def test_recordings_are_of_one_source_and_use_each_clip_once(model: str, data: Path) -> None:
    heard = human(ears(model), read_clips(data), seconds=SHORTEST_SECONDS)
    assert {one.name for one in heard} == {"source0", "source1"}
    assert all(one.seconds >= SHORTEST_SECONDS for one in heard)
    assert 12 * 2.0 < sum(one.seconds for one in heard) < 12 * 3.5, "pauses come on top of the clips"
    assert all(one.windows[-1].end == pytest.approx(one.seconds, abs=0.1) for one in heard)


@pytest.mark.parametrize(("at", "seconds"), [(4.0, 2.0), (8.0, 1.5)])
def test_an_inserted_voice_is_heard_as_in_the_whole_recording(model: str, at: float, seconds: float) -> None:
    base, part, detector = 0.3 * voice(8.0, 1), 0.3 * voice(seconds, 2), ears(model)
    place = round(at * RATE)
    whole = hear(detector, np.concatenate([base[:place], part, base[place:]]))
    found = insert(detector, base, hear(detector, base), part, at)
    assert [one.start for one in found] == pytest.approx([one.start for one in whole])
    assert [one.end for one in found] == pytest.approx([one.end for one in whole])
    assert [one.score for one in found] == pytest.approx([one.score for one in whole], abs=1e-4)


def test_what_the_gate_leaves_is_what_a_gated_detector_scores(model: str) -> None:
    sound = np.concatenate([0.3 * voice(3.0, 3), 0.01 * np.random.default_rng(0).standard_normal(4 * RATE)])
    sound = sound.astype(np.float32)
    own = hear(Detector(Network.load(model), hop_seconds=0.5, gate=True, least_speech_seconds=0.5), sound)
    found = gated(hear(ears(model), sound), 0.5)
    assert [(one.verdict, one.reason) for one in found] == [(one.verdict, one.reason) for one in own]
    assert [one.score for one in found] == pytest.approx([one.score for one in own])


def test_the_command_prints_all_tables(model: str, data: Path, tmp_path: Path) -> None:
    page, figures = tmp_path / "page.md", tmp_path / "page.json"
    arguments = ["files", model, "--data", str(data), "--seconds", "10"]
    assert main([*arguments, "--voices", "1", "-o", str(page)]) == 0
    text = page.read_text()
    assert all(title in text for title in ("## People alone", "## A synthetic voice", "## The gate on clips"))
    more = ["--people", str(data), "--voices", "0", "--json"]
    assert main([*arguments, *more, "-o", str(figures)]) == 0
    found = json.loads(figures.read_text())
    assert {row["gate"] for row in found["alone"]} == {True, False}
    assert not found["inserted"] and all(f"| {length} s" in text for length in (2, 3, 5, 8, 12))
    assert sum(row["clips"] for row in found["gate"]) == 16


@pytest.mark.parametrize("wrong", [("--voices", "-1"), ("--seconds", "0"), ("--threads", "0")])
def test_options_out_of_range_are_refused(
    model: str, data: Path, wrong: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["files", model, "--data", str(data), *wrong]) == 2
    assert capsys.readouterr().err.startswith("edge-detect: ")
