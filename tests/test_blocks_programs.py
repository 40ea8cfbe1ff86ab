"""What programs say of a model that looks at blocks: hops that it has, work that it does, a trial beside another."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from benchmarks.__main__ import main
from benchmarks.timing.operations import work
from benchmarks.timing.pipelines import OurPipeline
from edge_runtime import Detector
from edge_runtime.model.network import Network
from edge_runtime.shadow.candidate import Candidate
from quantization.calibration import read
from quantization.quantizer import Quantizer, write
from tests.blocky import BLOCK, RATE, SOUND, Blocky
from tests.conftest import voice
from tests.program import run

BLOCK_SECONDS = BLOCK / RATE


def test_a_hop_that_it_has_not_is_told_and_its_own_is_taken(blocks: Blocky, tmp_path: Path) -> None:
    sound = tmp_path / "sound.wav"
    soundfile.write(sound, voice(3), RATE)
    words = ("--model", blocks.path, "--file", sound, "--json")
    far, near = run(*words, "--hop", "0.1"), run(*words, "--hop", str(BLOCK_SECONDS))
    assert (far.returncode, far.stdout) == (0, near.stdout)
    told = "a verdict every 0.2 s, not every 0.1 s: its hops are multiples of 0.2 s"
    assert far.stderr.count(told) == 1 and "not every" not in near.stderr


def test_no_figures_are_made_at_another_hop_than_was_asked_for(
    blocks: Blocky, exported: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """At half the hop a second of sound would seem to cost twice as much."""
    clips = tmp_path / "clips"
    for label in ("bonafide", "spoof"):
        (clips / label).mkdir(parents=True)
        soundfile.write(clips / label / f"{label}.wav", voice(3), RATE)
    other = exported("streaming")
    for words in (
        ("latency", other, blocks.path),
        ("streaming", exported("waveform"), blocks.path),
        ("soak", blocks.path, "--hours", "0.01"),
        ("instructions", blocks.path),
        ("report", other, blocks.path, "--data", clips, "--no-latency", "-o", tmp_path / "page"),
        ("accuracy", blocks.path, "--data", clips),
        ("score", blocks.path, "--data", clips, "--scores", tmp_path / "scores"),
        ("files", blocks.path, "--data", clips),
        ("hours", blocks.path, "--data", clips),
    ):
        code = main([*map(str, words), "--hop", "0.1"])
        (line,) = capsys.readouterr().err.splitlines()
        assert (code, "not every 0.1 s" in line, str(blocks.path) in line) == (2, True, True), (words, line)


def test_a_start_that_cannot_be_timed_ends_in_one_line(blocks: Blocky) -> None:
    command = [sys.executable, "-m", "benchmarks.timing.start", "baseline", str(blocks.path), "0.4", "1"]
    done = subprocess.run(command, capture_output=True, text=True)
    (line,) = done.stderr.splitlines()
    assert done.returncode == 1 and "form blocks" in line


def test_weights_quantized_with_what_enters_them_count_as_integers(blocks: Blocky, tmp_path: Path) -> None:
    path = tmp_path / "small.onnx"
    write(Quantizer(blocks.path, read(None), count=8).make("int8-static", "portable"), path)
    ours, theirs = (work(OurPipeline(file, 0.4, 1)) for file in (path, blocks.path))
    assert ours.float_products + ours.integer_products == theirs.float_products
    assert ours.integer_products > 5 * ours.float_products, "what is left are the products within attention"


def test_commissioning_tells_of_such_a_hop(blocks: Blocky, tmp_path: Path) -> None:
    (tmp_path / "edge-detect.toml").write_text(f'model = "{blocks.path}"\nhop = 0.1\ndevice = "none"\n')
    done = run("commission", "--config", tmp_path / "edge-detect.toml", "--json")
    (hop,) = (check for check in json.loads(done.stdout)["checks"] if check["check"] == "hop")
    assert (hop["verdict"], hop["todo"]) == ("warn", "set hop = 0.2 in the configuration")
    assert "every 0.2 s, not every 0.1 s" in hop["found"]


def heard(candidate: Candidate, sound: np.ndarray, begin: int, starts: list[int]) -> dict[int, float]:
    """Scores by start of windows of a second, of `sound` that begins at `begin`; both are samples of the run."""
    candidate.hear(begin, sound)
    scores = {start: candidate.score(start, start + 5 * BLOCK, wanted=True)[0] for start in starts}
    return {start: score for start, score in scores.items() if score is not None}


def test_a_candidate_scores_its_own_windows_whatever_the_running_models_hop(blocks: Blocky) -> None:
    """Those that it would score if it ran: nothing is computed twice, and nothing is left out."""
    network = Network.load(blocks.path, trusted=True)
    detector = Detector(network, hop_seconds=BLOCK_SECONDS)
    own = {round(window.start * RATE): window.score for window in detector.push(SOUND)}
    for hop in (BLOCK // 2, 1000, 3 * BLOCK // 2, 4 * BLOCK + 1000):
        starts = list(range(0, len(SOUND) - 5 * BLOCK, hop))
        found = heard(Candidate(detector), SOUND, 0, starts)
        pairs = [(found[start], own[start // BLOCK * BLOCK]) for start in starts]
        scored = np.array([pair for pair in pairs if pair[1] is not None], np.float64)
        assert len(scored) > 5
        np.testing.assert_allclose(scored[:, 0], scored[:, 1], atol=1e-5)


def test_only_windows_that_it_had_to_compute_tell_how_long_it_takes(blocks: Blocky) -> None:
    """Of ten windows a block, nine cost it nothing: with them a slow candidate would seem fast."""
    candidate = Candidate(Detector(Network.load(blocks.path, trusted=True)))
    candidate.hear(0, SOUND)
    times = [candidate.score(start, start + 5 * BLOCK, wanted=True)[1] for start in range(0, 3 * BLOCK, BLOCK // 10)]
    assert [time is not None for time in times] == [place % 10 == 0 for place in range(30)]


def test_a_candidate_begins_again_after_a_time_without_a_microphone(blocks: Blocky) -> None:
    """What was heard before is no context of what comes then, even where no sample is missing."""
    network = Network.load(blocks.path, trusted=True)
    candidate = Candidate(Detector(network))
    heard(candidate, SOUND[: 10 * BLOCK], 0, [0, 5 * BLOCK])
    candidate.pause()
    after = SOUND[10 * BLOCK : 16 * BLOCK]
    found = heard(candidate, after, 10 * BLOCK, [10 * BLOCK, 11 * BLOCK])
    expected = [window.score for window in Detector(network, hop_seconds=BLOCK_SECONDS).push(after)]
    np.testing.assert_allclose(np.array([*found.values()]), np.array(expected, np.float64), atol=1e-5)
