"""The model that we ship, through the real program: what it says of itself and of the example clips."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from edge_runtime import Detector, Verdict
from edge_runtime.model.highpass import filtered
from edge_runtime.model.network import SHIPPED, Network
from export.checkpoint import load
from export.convert import contract_of
from tests.rigs.pulse import PulseMicrophone

ROOT = Path(__file__).parent.parent
HUMAN, SYNTHETIC = ROOT / "examples" / "human.flac", ROOT / "examples" / "synthetic.flac"
CHECKPOINT = ROOT / "training" / "edge-7.safetensors"
PROGRAM = [sys.executable, "-m", "edge_runtime"]


def scored(*arguments: str) -> tuple[int, list[dict[str, Any]]]:
    done = subprocess.run([*PROGRAM, *arguments, "--json"], capture_output=True, text=True, timeout=120)
    assert done.stderr == ""
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]


def test_it_is_small_calibrated_and_tells_its_figures() -> None:
    contract = Network.load().contract
    assert SHIPPED.stat().st_size <= 20e6
    assert CHECKPOINT.stat().st_size <= 45e6
    assert contract.form == "blocks" and contract.variant == "hybrid" and contract.calibrated
    assert 0 < contract.figures["accuracy"]["eer_pooled"] < 0.5
    assert contract.figures["accuracy"]["data"]


def test_it_is_quantized_for_any_processor_and_carries_the_proof_of_what_that_costs() -> None:
    contract = Network.load().contract
    assert contract.level != "fp32" and contract.target == "portable" and contract.int8_bits == 7
    compared = contract.figures["quantization"]["compared"]
    assert compared["correlation"] >= 0.999
    assert compared["eer_delta_points"] <= 0.3 and compared["eer_delta_upper_points"] <= 1.0
    assert compared["flipped_hard"] == 0


def test_it_was_made_from_the_checkpoint_beside_it() -> None:
    checkpoint = load(CHECKPOINT)
    contract, expected = Network.load().contract, contract_of(checkpoint)
    assert contract.source_sha256 == checkpoint.sha256
    assert contract.threshold == expected.threshold and contract.scale == expected.scale
    samples, _ = soundfile.read(SYNTHETIC, dtype="float32")
    (window, *_) = Detector().push(samples)
    waveform = filtered(samples, contract.high_pass_hz, contract.sample_rate)[: contract.window_samples]
    import torch

    with torch.no_grad():
        logits = checkpoint.model(torch.from_numpy(waveform)[None]).numpy()
    allowed = contract.figures["quantization"]["compared"]["largest_difference"]
    assert window.score == pytest.approx(contract.llr(logits)[0], abs=allowed)


def test_the_human_clip_is_human_and_the_synthetic_one_is_not() -> None:
    code, lines = scored("--fail-on-spoof", "--file", str(HUMAN))
    assert code == 0 and lines[-1]["verdict"] == Verdict.BONAFIDE
    code, lines = scored("--fail-on-spoof", "--file", str(SYNTHETIC))
    assert code == 10 and lines[-1]["verdict"] == Verdict.SPOOF


def test_a_microphone_hears_first_the_one_and_then_the_other() -> None:
    """Through PortAudio, as `--device hw:1`: windows that lie wholly in one clip get that clip's verdict."""
    human, synthetic = (soundfile.read(path, dtype="int16")[0] for path in (HUMAN, SYNTHETIC))
    with PulseMicrophone() as rig:
        program = subprocess.Popen(
            [*PROGRAM, "--device", "hw:1", "--json", "--duration", "17"],
            env=rig.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert program.stdout
        first = json.loads(program.stdout.readline())
        while first["type"] != "window":  # it says that it connects, and listens
            first = json.loads(program.stdout.readline())
        rig.feed.play(np.concatenate([human, synthetic]))
        out, err = program.communicate(timeout=60)
    assert program.returncode == 0, err
    windows = [line for line in map(json.loads, out.splitlines()) if line["type"] == "window"]
    assert first["verdict"] == Verdict.SILENT
    # A window that began in the human clip comes before any that ended in the synthetic one.
    found = [line["verdict"] for line in windows]
    assert Verdict.BONAFIDE in found and Verdict.SPOOF in found
    assert found.index(Verdict.BONAFIDE) < found.index(Verdict.SPOOF)
