"""Copies through Lyra V2: what surrounds the codec, whose models are not in the tree, and what it says without them."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from training.synthesize.catalogue import COPY
from training.synthesize.engine import EngineFailed
from training.synthesize.engines import lyra

Steps = NDArray[np.float32]
GENERATOR = np.random.default_rng(0)


def same(steps: Steps, quantizers: int) -> Steps:
    assert steps.dtype == np.float32 and steps.shape[1:] == (lyra.STEP,) and quantizers == 16
    return steps


def tone(samples: int, rate: int) -> NDArray[np.float64]:
    return 0.3 * np.sin(2 * np.pi * 440 * np.arange(samples) / rate)


@given(samples=st.integers(1, 5_000))
def test_whole_steps_reach_the_codec_and_no_sample_moves(samples: int) -> None:
    wave = tone(samples, lyra.RATE)
    copy = lyra.render(wave, lyra.RATE, GENERATOR, 16, codec=same)
    assert len(copy) == samples and np.allclose(copy, wave, atol=1e-6)


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 48_000])
def test_other_rates_come_back_as_they_were(rate: int) -> None:
    wave = tone(2 * rate, rate)
    copy = lyra.render(wave, rate, GENERATOR, 16, codec=same)
    assert abs(len(copy) - len(wave)) <= rate // 1_000
    middle = slice(rate // 2, rate)
    assert np.abs(copy[middle] - wave[middle]).max() < 0.01


def test_three_rates_and_the_lowest_most_often() -> None:
    found = {name: engine for name, engine in COPY.items() if name.startswith("lyra")}
    assert set(found) == set(lyra.QUANTIZERS) and sorted(lyra.QUANTIZERS.values()) == [16, 30, 46]
    for name, engine in found.items():
        assert isinstance(engine.render, partial) and engine.render.keywords == {"quantizers": lyra.QUANTIZERS[name]}
        assert engine.share <= found["lyra"].share and "Apache-2.0" in engine.licence
    assert found["lyra"].share == max(engine.share for engine in found.values())


def missing(folder: Path | None, modules: tuple[str, ...] = ("numpy",)) -> str | None:
    """What the need says with LYRA_MODELS as given, where `modules` stand for the interpreter."""
    before = os.environ.pop(lyra.FOLDER, None)
    try:
        if folder is not None:
            os.environ[lyra.FOLDER] = str(folder)
        return type(lyra.NEED)(lyra.NEED.install, modules).missing()
    finally:
        os.environ.pop(lyra.FOLDER, None)
        if before is not None:
            os.environ[lyra.FOLDER] = before


def test_what_is_missing_is_named_and_how_to_get_it(tmp_path: Path) -> None:
    said = {
        "interpreter": missing(tmp_path, ("no_such_interpreter",)),
        "variable": missing(None),
        "files": missing(tmp_path),
    }
    assert "no_such_interpreter not found" in str(said["interpreter"])
    assert "LYRA_MODELS names no folder" in str(said["variable"])
    assert all(name in str(said["files"]) for name in lyra.FILES)
    for line in said.values():
        assert line and "\n" not in line and "pip install ai-edge-litert" in line and "google/lyra" in line
    for name in lyra.FILES:
        (tmp_path / name).write_bytes(b"")
    assert missing(tmp_path) is None


def test_without_the_models_a_run_names_the_engine_and_copies_nothing(tmp_path: Path) -> None:
    (tmp_path / "human").mkdir()
    soundfile.write(tmp_path / "human" / "a.wav", tone(2 * lyra.RATE, lyra.RATE), lyra.RATE)
    command = [sys.executable, "-m", "training.synthesize", "--bonafide", str(tmp_path / "human")]
    environment = {name: value for name, value in os.environ.items() if name != lyra.FOLDER}
    done = subprocess.run(
        [*command, "-o", str(tmp_path / "out"), "--engines", "lyra"],
        capture_output=True,
        encoding="utf-8",
        env=environment,
        timeout=60,
    )
    assert done.returncode != 0 or not (tmp_path / "out" / "clips.csv").exists()
    assert "lyra" in done.stdout + done.stderr and "ai-edge-litert" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_models_that_cannot_be_read_are_one_line(tmp_path: Path) -> None:
    for name in lyra.FILES:
        (tmp_path / name).write_bytes(b"no model")
    code = "from training.synthesize.engines import lyra\nfrom training.synthesize.engine import EngineFailed\n"
    code += "try:\n    lyra.models()\nexcept EngineFailed as reason:\n    print('refused:', reason)\n"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        encoding="utf-8",
        env=os.environ | {lyra.FOLDER: str(tmp_path)},
        timeout=60,
    )
    assert done.returncode == 0 and done.stdout.startswith("refused:") and done.stdout.count("\n") == 1, done.stderr
    assert issubclass(EngineFailed, Exception)
