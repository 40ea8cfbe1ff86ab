"""What programs say of a model that looks at blocks: hops that it has, work that it does, a trial beside another."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import soundfile

from benchmarks.__main__ import main
from benchmarks.pipelines import OurPipeline
from benchmarks.work import work
from quantization.calibration import read
from quantization.workshop import Workshop, write
from tests.blocky import BLOCK, RATE, Blocky
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
    command = [sys.executable, "-m", "benchmarks.start", "stock", str(blocks.path), "0.4", "1"]
    done = subprocess.run(command, capture_output=True, text=True)
    (line,) = done.stderr.splitlines()
    assert done.returncode == 1 and "form blocks" in line


def test_weights_quantized_with_what_enters_them_count_as_integers(blocks: Blocky, tmp_path: Path) -> None:
    path = tmp_path / "small.onnx"
    write(Workshop(blocks.path, read(None), count=8).make("int8-static", "portable"), path)
    ours, theirs = (work(OurPipeline(file, 0.4, 1)) for file in (path, blocks.path))
    assert ours.float_products + ours.integer_products == theirs.float_products
    assert ours.integer_products > 5 * ours.float_products, "what is left are the products within attention"
