"""Adaptation to a room: from long recordings to a checkpoint and a card, and nothing held out is trained on."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from edge_runtime.decision.verdict import Verdict, Window
from evaluation.protocols import Clip, read_clips
from export.checkpoint import load, save
from export.rawnet2 import VARIANTS, Config, RawNet2
from tests.conftest import TINY, random_model, voice
from training import adapt
from training.adaptation.recordings import RecordingPiece, cut, held_out, units, write_pieces
from training.adaptation.room import listen, spectra
from training.adaptation.trial import AdaptationTrial, keep_share
from training.adaptation.tune import TuningSettings, tune
from training.batches import Library
from training.blend import between
from training.verdicts import ScoredClip

RATE = 16000
TINY_HYBRID = replace(
    VARIANTS["hybrid"], window_samples=16000, filters=20, fc_nodes=8, encoder_width=24, encoder_heads=2
)
EXAMPLES = Path(__file__).parent.parent / "examples"
FEW = ("--steps", "3", "--batch", "4", "--engines", "phase-guess,griffin-lim", "--threads", "1", "--copy-minutes", "1")


@pytest.fixture(scope="module")
def model(tiny_model: RawNet2, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tiny") / "tiny.safetensors"
    save(path, tiny_model, name="tiny")
    return path


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One stereo recording of 45 s at 44.1 kHz, of which the seconds 10 to 25 are a pause with a little noise."""
    folder = tmp_path_factory.mktemp("recordings")
    sound = voice(45, seed=1, rate=44100)
    pause = slice(10 * 44100, 25 * 44100)
    sound[pause] = 3e-4 * np.random.default_rng(0).standard_normal(15 * 44100)
    soundfile.write(folder / "talk.wav", np.stack([sound, sound], 1), 44100)
    return folder


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six short clips of either label, cut from the two examples."""
    folder = tmp_path_factory.mktemp("labelled")
    for label, name in (("bonafide", "human"), ("spoof", "synthetic")):
        sound, _ = soundfile.read(EXAMPLES / f"{name}.flac", dtype="float32")
        for number in range(6):
            path = folder / label / f"source{number}" / f"{number}.flac"
            path.parent.mkdir(parents=True)
            soundfile.write(path, sound[number * 8000 : number * 8000 + 24000], RATE)
    return folder


@pytest.mark.nightly
def test_from_one_long_recording_to_a_calibrated_checkpoint_and_a_card(
    model: Path, recordings: Path, labelled: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    places = ("--bonafide", str(recordings), "--keep", str(labelled), "--dev", str(labelled), "-o", str(out))
    command = [sys.executable, "-m", "training", "adapt", "--model", str(model), *places, *FEW]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    card = (out / "card.md").read_text()
    print(card)
    assert card in done.stdout
    for said in ("dev EER", "false alarms", "held out", "spoof below", "copy-griffin-lim"):
        assert said in card
    assert sorted(path.name for path in out.iterdir()) == ["adapted.safetensors", "card.md"], "recordings were left"
    found, old = load(out / "adapted.safetensors"), load(model)
    assert found.calibration is not None
    assert found.calibration.threshold <= found.calibration.threshold_bonafide
    assert found.figures["adapted_from"]["sha256"] == old.sha256
    assert 0 < found.figures["adapted"]["steps"] <= 3
    weights = [checkpoint.model.state_dict()["fc2.weight"] for checkpoint in (old, found)]
    assert torch.equal(*weights) == (found.figures["adapted"]["share_of_the_new_weights"] == 0)


def test_without_dev_half_the_way_is_gone_and_a_warning_comes_first(
    model: Path, recordings: Path, labelled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = ["--bonafide", str(recordings), "--keep", str(labelled), "-o", str(tmp_path / "out")]
    assert adapt.main(["--model", str(model), *places, *FEW]) == 0, capsys.readouterr().err
    card = (tmp_path / "out" / "card.md").read_text()
    assert card.index("WARNING") < card.index("## Before and after") and "| dev EER | not known" in card
    assert load(tmp_path / "out" / "adapted.safetensors").figures["adapted"]["share_of_the_new_weights"] == 0.5


def test_what_is_held_out_is_not_trained_on_nor_are_its_copies(
    model: Path, recordings: Path, labelled: Path, tmp_path: Path
) -> None:
    asked = ["--bonafide", str(recordings), "--spoof", str(recordings), "--keep", str(labelled), "--dev", str(labelled)]
    arguments = adapt.parser().parse_args(["--model", str(model), *asked, "-o", str(tmp_path), *FEW])
    mine, aside = adapt.split(arguments, tmp_path / "work", RATE)
    trained, held = ({clip.source for clip in library.clips} for library in (mine, aside))
    print(trained, held)
    assert trained and held and not trained & held
    sounds = {samples.tobytes() for samples in mine.samples}
    assert not any(samples.tobytes() in sounds for samples in aside.samples)
    for library in (mine, aside):
        inside = {clip.path for clip in library.clips}
        originals = [clip.original for clip in library.clips if clip.system.startswith("copy-")]
        assert originals and set(originals) <= inside


def test_long_recordings_are_cut_and_pauses_left_out(recordings: Path) -> None:
    pieces = list(cut(recordings / "talk.wav", "talk.wav", RATE))
    assert [len(piece.samples) for piece in pieces] == [5 * RATE] * 6
    soundfile.write(recordings / "silence.flac", np.zeros(6 * RATE), RATE)
    assert not list(cut(recordings / "silence.flac", "silence.flac", RATE))
    (recordings / "silence.flac").unlink()


@pytest.mark.parametrize(
    ("pieces", "held"),
    [
        ([(f"{n}.wav", 0) for n in range(10)], [4, 9]),  # by file
        ([("a.wav", n // 2) for n in range(12)], [8, 9]),  # by minute
        ([("a.wav", 0)] * 11, [4, 9]),  # by piece, where all is one minute
    ],
)
def test_every_fifth_recording_minute_or_piece_is_held_out(pieces: list[tuple[str, int]], held: list[int]) -> None:
    cut_pieces = [RecordingPiece(name, minute, np.zeros(0, np.int16)) for name, minute in pieces]
    assert np.flatnonzero(held_out(units(cut_pieces))).tolist() == held


def test_a_damaged_recording_is_named_and_its_good_part_used(
    recordings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = (recordings / "talk.wav").read_bytes()
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "talk.wav").write_bytes(whole[: len(whole) * 9 // 10])
    (tmp_path / "in" / "noise.flac").write_bytes(b"no sound")
    train, held = write_pieces(tmp_path / "in", "bonafide", tmp_path / "out", RATE)
    assert len(train) + len(held) == 5  # 40 s, of which 15 s are a pause, and a rest of half a second
    assert capsys.readouterr().err.count("left out") == 2


def test_the_room_is_put_upon_other_clips_and_their_level_stays() -> None:
    """Recordings through a dull microphone in a noisy room: clips heard there are as dull and as noisy."""
    plain = [(voice(3, seed) * 32767).astype(np.int16) for seed in range(4)]
    rng = np.random.default_rng(0)
    dull = []
    for samples in plain:
        heard = np.convolve(samples, np.ones(8) / 8, mode="same")  # nothing is left at 2, 4, 6 and 8 kHz
        dull.append((heard + 200 * rng.standard_normal(len(heard))).astype(np.int16))
    room = listen(dull, plain)
    sound = voice(4, seed=9)
    there = room.put_on(sound, np.random.default_rng(1))
    assert there.shape == sound.shape and there.dtype == np.float32
    assert np.std(there) == pytest.approx(np.std(sound), rel=0.1)
    before, after = (spectra([(s * 32767).astype(np.int16)]) for s in (sound, there))
    band = slice(55, 74)  # about 2 kHz
    assert after[0][band].sum() < before[0][band].sum()
    assert after[1].sum() > 2 * before[1].sum(), "no noise in the pauses"
    assert np.array_equal(there, room.put_on(sound, np.random.default_rng(1)))


@pytest.mark.parametrize(
    "config", [TINY, TINY_HYBRID, replace(TINY_HYBRID, encoder_read=False)], ids=["edge", "hybrid", "fitted ending"]
)
def test_the_descent_moves_weights_and_no_statistics_and_leaves_the_old_network_alone(
    config: Config, labelled: Path
) -> None:
    library = Library(read_clips(labelled), RATE)
    old = random_model(config)
    kept = {key: tensor.clone() for key, tensor in old.state_dict().items()}
    room = listen(library.samples, library.samples)
    new, steps = tune(old, library, library, room, TuningSettings(steps=2, batch=4, learning_rate=1e-3), 60)
    assert steps == 2
    for key, tensor in new.state_dict().items():
        assert torch.equal(kept[key], old.state_dict()[key]), key
        held = "running" in key or "num_batches" in key
        if config.has_encoder and not config.encoder_read:
            held = not key.startswith("fc")  # the encoder that its ending was fitted to
        assert torch.equal(kept[key], tensor) == held, key
    assert all(parameter.requires_grad for parameter in new.parameters())
    assert tune(old, library, library, room, TuningSettings(steps=3, batch=4), 0)[1] == 1  # there is no time for more


def test_the_line_between_two_networks_ends_in_them() -> None:
    old, new = random_model(TINY, 0), random_model(TINY, 1)
    sound = torch.from_numpy(voice(1)[None])
    with torch.no_grad():
        for share, end in ((0.0, old), (1.0, new)):
            assert torch.allclose(between(old, new, share)(sound), end(sound), atol=1e-4)
        middle = between(old, new, 0.5).fc1.weight
    assert torch.allclose(middle, (old.fc1.weight + new.fc1.weight) / 2)


@pytest.mark.parametrize(("bearable", "share"), [(1.0, 1.0), (0.6, 0.5), (0.1, 0.0)])
def test_as_much_of_the_adaptation_is_kept_as_dev_bears(bearable: float, share: float) -> None:
    """Dev is right until the weights went further than is bearable, and wrong from there on."""
    old, new = random_model(TINY, 0), random_model(TINY, 1)
    way = new.fc1.bias[0] - old.fc1.bias[0]

    def trial(model: RawNet2) -> AdaptationTrial:
        gone = ((model.fc1.bias[0] - old.fc1.bias[0]) / way).item()
        sign = 1.0 if gone <= bearable + 1e-6 else -1.0
        windows = [Window(0, 4, s, Verdict.UNSURE, -20.0, -3.0, 0.0, 0) for s in (sign, -sign)]
        clips = [Clip(Path("a.flac"), label) for label in ("bonafide", "spoof")]
        return AdaptationTrial([ScoredClip(clip, (window,)) for clip, window in zip(clips, windows, strict=True)], [])

    found, model, _ = keep_share(old, new, trial(old), trial)
    assert found == share
    assert torch.allclose(model.fc1.bias, between(old, new, share).fc1.bias, atol=1e-6)


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        (("--bonafide", "nowhere"), 3),
        (("--spoof", "nowhere"), 3),
        (("--keep", "nowhere"), 3),
        (("--dev", "nowhere"), 3),
        (("--model", "nowhere"), 4),
        (("--steps", "0"), 2),
        (("--batch", "6"), 2),
        (("--minutes", "0"), 2),
        (("--false-alarms", "2"), 2),
    ],
)
def test_what_is_missing_or_out_of_range_gets_one_clear_line(
    model: Path,
    recordings: Path,
    labelled: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    wrong: tuple[str, str],
    code: int,
) -> None:
    options = {"--model": str(model), "--bonafide": str(recordings), "--keep": str(labelled), "-o": str(tmp_path)}
    options[wrong[0]] = str(tmp_path / wrong[1]) if wrong[1] == "nowhere" else wrong[1]
    assert adapt.main([part for option in options.items() for part in option]) == code
    said = capsys.readouterr().err
    assert said.startswith("edge-detect: ") and said.count("\n") == 1
    assert not (tmp_path / "adapted.safetensors").exists()


def test_too_little_speech_is_refused(
    model: Path, labelled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in").mkdir()
    soundfile.write(tmp_path / "in" / "short.wav", voice(7), RATE)
    places = ["--bonafide", str(tmp_path / "in"), "--keep", str(labelled), "-o", str(tmp_path / "out")]
    assert adapt.main(["--model", str(model), *places]) == 3
    assert "has 2 pieces of speech" in capsys.readouterr().err
