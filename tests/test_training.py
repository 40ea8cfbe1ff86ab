"""The chain that a user runs: folders of clips -> training -> calibration -> export -> accuracy, all for real."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from edge_runtime.errors import InputError
from evaluation.protocols import read_clips
from export.rawnet2 import VARIANTS
from training.augmentation.augment import CHAIN, augment
from training.batches import Crops, Library, Strengths
from training.fit import Trainer
from training.qat import rounded, widths
from training.recipe import Recipe

RATE = 16000
SMALL = [
    *("--filters", "6", "--kernel", "65", "--channels", "6,8,8,8", "--gru-nodes", "8", "--gru-layers", "1"),
    *("--batch", "8", "--crop-seconds", "1", "--workers", "0", "--no-compile", "--augmentation", "0.3"),
    *("--warmup", "10", "--average", "0.9", "--learning-rate", "0.003", "--matched", "0"),
]


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True, timeout=300)


def clip(label: str, seed: int) -> np.ndarray:
    """Noise in bursts stands for one label, a buzz in bursts for the other: a difference that is quick to learn."""
    rng = np.random.default_rng(seed)
    time = np.arange(int(rng.uniform(1.0, 2.0) * RATE)) / RATE
    bursts = 0.55 + 0.45 * np.sin(2 * np.pi * rng.uniform(2, 5) * time)
    hiss = rng.standard_normal(len(time))
    buzz = np.sign(np.sin(2 * np.pi * rng.uniform(90, 220) * time))
    return 0.1 * bursts * (hiss if label == "bonafide" else buzz + 0.1 * hiss)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve clips of each label, in two sources."""
    folder = tmp_path_factory.mktemp("data")
    for label in ("bonafide", "spoof"):
        for number in range(12):
            path = folder / label / f"source{number % 2}" / f"{label}-{number}.flac"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, clip(label, number + 100 * (label == "spoof")), RATE)
    return folder


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    common = ["training", "--data", str(data), "--dev", str(data), "-o", str(folder), *SMALL]
    first = run(*common, "--steps", "30", "--evaluate-every", "30")
    assert first.returncode == 0, first.stderr
    second = run(*common, "--steps", "60", "--evaluate-every", "30")
    assert second.returncode == 0, second.stderr
    assert "going on from step 30" in second.stdout and "steps: 30 -> 60" in second.stderr
    return folder


def test_a_resumed_run_ends_with_the_weights_of_an_unbroken_one(data: Path, tmp_path: Path) -> None:
    library = Library(read_clips(data), RATE)
    config = replace(VARIANTS["edge"], filters=6, kernel=65, channels=(6, 8, 8, 8), gru_nodes=8, gru_layers=1)
    recipe = Recipe(steps=12, batch=4, crop_seconds=1, long_share=0, evaluate_every=6, workers=0, compile=False)
    whole = Trainer(config, recipe, library, None, tmp_path)
    whole.fit()
    broken = Trainer(config, recipe, library, None, tmp_path / "broken")
    broken.folder.mkdir()
    for number in range(6):
        broken.step(*Crops(library, 4, RATE, recipe.seed, 0, Strengths()).make(number))
    broken.save()
    again = Trainer(config, recipe, library, None, tmp_path / "broken")
    assert again.resume() and again.run.step == 6 and not again.changed
    again.fit()
    for one, other in zip(whole.network.parameters(), again.network.parameters(), strict=True):
        assert torch.allclose(one, other, atol=1e-6)


@pytest.mark.parametrize(
    "wrong",
    [("--steps", "0"), ("--crop-seconds", "0"), ("--batch", "3"), ("--average", "1"), ("--weight-bits", "3")],
)
def test_settings_out_of_range_get_one_clear_line(data: Path, tmp_path: Path, wrong: tuple[str, str]) -> None:
    done = run("training", "--data", str(data), "-o", str(tmp_path), *wrong)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("edge-detect: ") and "Traceback" not in done.stderr


@pytest.mark.nightly
def test_training_resumes_and_leaves_a_plot_and_its_history(trained: Path) -> None:
    history = json.loads((trained / "history.json").read_text())
    assert [entry["step"] for entry in history] == list(range(1, 61))
    assert (trained / "training.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.nightly
def test_from_a_run_to_verdicts_on_the_clips(trained: Path, data: Path, tmp_path: Path) -> None:
    calibrated, model, scores = tmp_path / "model.safetensors", tmp_path / "model.onnx", tmp_path / "scores.txt"
    source = str(trained / "best.safetensors")
    done = run("training.calibrate", source, "--data", str(data), "-o", str(calibrated), "--name", "buzz")
    assert done.returncode == 0, done.stderr
    done = run("export", str(calibrated), "-o", str(model))
    assert done.returncode == 0, done.stderr
    done = run("benchmarks", "accuracy", str(model), "--data", str(data), "--json", "--scores", str(scores))
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["pooled"]["value"] <= 0.1, "a buzz and a hiss are not told apart"
    assert len(scores.read_text().splitlines()) == 24
    # Calibrated on these very clips: at most the 5 % asked for, of windows, and hence hardly a clip.
    assert result["human_called_spoof"] <= 1 / 12
    wav = next((data / "spoof").rglob("*.flac"))
    done = run("edge_runtime", "--model", str(model), "--file", str(wav), "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["type"] == "summary"


def test_batches_are_balanced_and_the_same_for_the_same_seed(data: Path) -> None:
    library = Library(read_clips(data), RATE)
    first, again = (Crops(library, 8, RATE, 3, 0, Strengths()) for _ in range(2))
    waveforms, labels = first.make(5)
    assert waveforms.shape == (8, RATE) and labels.tolist() == [0, 1] * 4
    assert np.array_equal(waveforms.numpy(), again.make(5)[0].numpy())
    assert not np.array_equal(waveforms.numpy(), first.make(6)[0].numpy())


def test_a_copy_and_its_original_are_cut_and_augmented_alike(tmp_path: Path) -> None:
    """With the copy equal to the original's beginning, a matched pair is the same sound twice."""
    sound = np.tile(clip("bonafide", 1), 3)
    for label, length in (("bonafide", len(sound)), ("spoof", len(sound) // 2)):
        (tmp_path / label).mkdir()
        soundfile.write(tmp_path / label / "a.flac", sound[:length], RATE)
    with (tmp_path / "clips.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerows([["file", "label", "original"], ["bonafide/a.flac", "bonafide", ""]])
        rows.writerow(["spoof/a.flac", "spoof", str(tmp_path / "bonafide" / "a.flac")])
    library = Library(read_clips(tmp_path), RATE)
    waveforms, _ = Crops(library, 16, RATE, 0, 0, Strengths(ramp=0, matched=1.0)).make(0)
    assert np.array_equal(waveforms[0::2].numpy(), waveforms[1::2].numpy())


@pytest.mark.parametrize("augmentation", [function for function, _ in CHAIN], ids=lambda f: f.__name__)
def test_augmentations_keep_sound_finite_and_about_as_long(augmentation: object) -> None:
    assert callable(augmentation)
    for seed in range(5):
        samples = clip("bonafide", seed).astype(np.float32)
        changed = augmentation(samples, np.random.default_rng(seed), RATE)
        assert changed.dtype == np.float32 and np.isfinite(changed).all()
        assert 0.85 < len(changed) / len(samples) < 1.15
    silent = augmentation(np.zeros(RATE, np.float32), np.random.default_rng(0), RATE)
    assert np.isfinite(silent).all()


def test_no_augmentation_leaves_the_clip_alone() -> None:
    samples = clip("spoof", 0).astype(np.float32)
    assert np.array_equal(augment(samples, np.random.default_rng(0), RATE, 0.0), samples)


def test_protocols_of_2019_2021_and_5_are_read_by_content(tmp_path: Path) -> None:
    for trial in ("T1", "T2"):
        soundfile.write(tmp_path / f"{trial}.flac", clip("spoof", 0), RATE)
    layouts = {
        "2019": "S1 T1 - A11 spoof\nS2 T2 - - bonafide\n",
        "2021": "S1 T1 alaw ita_tx A07 spoof notrim eval\nS2 T2 none loc_tx bonafide bonafide notrim eval\n",
        "5": "S1 T1 F - AC1 spoof\nS2 T2 F - - bonafide\n",
    }
    for name, text in layouts.items():
        (tmp_path / f"{name}.txt").write_text(text)
        spoof, bonafide = read_clips(tmp_path / f"{name}.txt", tmp_path)
        assert (spoof.path.stem, spoof.label, spoof.speaker) == ("T1", "spoof", "S1")
        assert (bonafide.path.stem, bonafide.label) == ("T2", "bonafide")
        assert spoof.system.startswith("A")


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda folder: folder / "nowhere", "no such file"),
        (lambda folder: folder, "has no folder bonafide"),
        (lambda folder: _written(folder / "a.csv", "name\nx\n"), "needs the columns file and label"),
        (lambda folder: _written(folder / "p.txt", "S1 T1 - A1 spoof\n"), "--audio"),
    ],
)
def test_data_that_cannot_be_read_get_one_clear_line(tmp_path: Path, make: object, says: str) -> None:
    assert callable(make)
    with pytest.raises(InputError, match=says):
        read_clips(make(tmp_path))
    done = run("training", "--data", str(make(tmp_path)), "-o", str(tmp_path / "run"))
    assert done.returncode == 3
    assert done.stderr.startswith("edge-detect: ") and done.stderr.count("\n") == 1


def test_one_label_alone_is_refused_and_unreadable_clips_are_named(data: Path, tmp_path: Path) -> None:
    for label in ("bonafide", "spoof"):
        (tmp_path / label).mkdir()
    soundfile.write(tmp_path / "bonafide" / "a.flac", clip("bonafide", 0), RATE)
    (tmp_path / "spoof" / "broken.flac").write_bytes(b"no sound")
    done = run("training", "--data", str(tmp_path), "-o", str(tmp_path / "run"))
    assert done.returncode == 3
    assert "broken.flac" in done.stderr and "need both" in done.stderr


def test_fake_quantization_gives_gradients_of_rounded_weights_and_moves_exact_ones(data: Path, tmp_path: Path) -> None:
    library = Library(read_clips(data), RATE)
    config = replace(VARIANTS["edge"], filters=6, kernel=65, channels=(6, 8, 8, 8), gru_nodes=8, gru_layers=1)
    batch = Crops(library, 8, RATE, 7, 0, Strengths()).make(0)
    recipe = Recipe(steps=1, batch=8, crop_seconds=1, workers=0, compile=False, warmup=0, learning_rate=1e-4)
    few = Trainer(config, replace(recipe, weight_bits=4), library, None, tmp_path)
    exact = [weight.detach().clone() for weight in few.model.parameters()]
    already = Trainer(config, recipe, library, None, tmp_path, start=few.model)
    with torch.no_grad():
        for name, width in widths(few.model, 4).items():
            weight = already.model.get_parameter(name)
            weight.copy_(rounded(weight, width))
    assert few.step(*batch) == pytest.approx(already.step(*batch), rel=1e-5)
    for before, after, other in zip(exact, few.model.parameters(), already.model.parameters(), strict=True):
        torch.testing.assert_close(after.grad, other.grad)
        assert 0 < (after - before).abs().max() <= 2e-4 or after.ndim < 2, "what is kept was rounded, or not moved"


def test_a_run_that_goes_on_with_other_bits_chooses_its_best_weights_anew(data: Path, tmp_path: Path) -> None:
    library = Library(read_clips(data), RATE)
    config = replace(VARIANTS["edge"], filters=6, kernel=65, channels=(6, 8, 8, 8), gru_nodes=8, gru_layers=1)
    recipe = Recipe(steps=2, batch=4, crop_seconds=1, long_share=0, evaluate_every=2, workers=0, compile=False)
    Trainer(config, recipe, library, library, tmp_path).fit()
    last = torch.load(tmp_path / "last.pt", weights_only=True)
    del last["recipe"]["weight_bits"]  # as runs of before have it
    last["run"]["best_eer"] = 0.25
    torch.save(last, tmp_path / "last.pt")
    same = Trainer(config, recipe, library, library, tmp_path)
    assert same.resume() and not same.changed and same.run.best_eer == 0.25
    other = Trainer(config, replace(recipe, steps=4, weight_bits=8), library, library, tmp_path)
    assert other.resume() and other.changed == ["steps: 2 -> 4", "weight_bits: 0 -> 8"] and other.run.best_eer == 1
    other.fit()
    kept = torch.load(tmp_path / "last.pt", weights_only=True)["averaged"]
    weight = kept["module.gru.weight_hh_l0"]
    assert not torch.allclose(rounded(weight, 8), weight), "what is kept was rounded"


def _written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path
