"""Training of a network that sees each frame once: its windows are those of a stream, as the runtime takes them."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge_runtime.decision.summary import Summarizer
from edge_runtime.detector import Detector
from edge_runtime.model.network import Network
from evaluation.protocols import Clip
from export import __main__ as export_program
from export.checkpoint import Calibration, load, save
from export.rawnet2 import RawNet2
from tests.buzzing import RATE, SMALL, buzzing_library
from tests.conftest import TINY, random_model, voice
from tests.hybrids import TINY as TINY_HYBRID
from training import blocks
from training.adaptation.room import listen
from training.adaptation.tune import TuningSettings, tune
from training.batches import Library
from training.blend import between
from training.blocks import crop_samples, with_blocks
from training.ensemble import ensemble
from training.fit import Trainer, _front_end
from training.head import without_head
from training.recipe import Recipe
from training.scoring import as_judged, score_at, score_clips
from training.verdicts import hear, judge

BLOCKED = with_blocks(TINY_HYBRID, 20, 10, 3)
"""Windows of 1 s, five blocks of 0.2 s each."""
CALIBRATION = Calibration(scale=0.5, offset=0.25, threshold=-0.5, threshold_bonafide=0.5)
SMALL_BLOCKED = with_blocks(SMALL, 50, 20, 4)


@pytest.fixture(scope="module")
def model() -> RawNet2:
    return random_model(replace(BLOCKED, encoder_read=False), seed=3)


@pytest.fixture(scope="module")
def network(model: RawNet2, tmp_path_factory: pytest.TempPathFactory) -> Network:
    folder = tmp_path_factory.mktemp("blocks")
    save(folder / "tiny.safetensors", model, CALIBRATION)
    assert export_program.main([str(folder / "tiny.safetensors"), "-o", str(folder / "tiny.onnx")]) == 0
    return Network.load(folder / "tiny.onnx")


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Library:
    return buzzing_library(tmp_path_factory.mktemp("clips"))


def clip(seconds: float, seed: int) -> NDArray[np.int16]:
    """A voice, silent from 1.2 to 2.5 s."""
    sound = (np.clip(voice(seconds, seed), -1, 1) * 32767).astype(np.int16)
    sound[int(1.2 * RATE) : int(2.5 * RATE)] = 3
    return sound


@pytest.mark.parametrize("hop", [0.2, 0.5])
def test_windows_and_scores_are_those_of_the_exported_file(model: RawNet2, network: Network, hop: float) -> None:
    sounds = [clip(seconds, n) for n, seconds in enumerate([0.3, 0.9, 1.0, 1.04, 1.3, 2.0, 3.77, 3.77, 5.31])]
    clips = [Clip(Path(f"{n}.flac"), "bonafide") for n in range(len(sounds))]
    detector = Detector(network, hop_seconds=hop)
    assert network.contract.form == "blocks"
    for sound, heard in zip(sounds, hear(model, clips, sounds, hop, "clips"), strict=True):
        theirs = detector.push(sound.astype(np.float32) / np.float32(32768)) + detector.flush()
        summarizer = Summarizer(detector.thresholds)
        for window in theirs:
            summarizer.add(window)
        ours = judge(heard, CALIBRATION)
        assert ours.summary.verdict is summarizer.summary().verdict
        for one, other in zip(ours.windows, theirs, strict=True):
            assert replace(one, score=None) == replace(other, score=None)
            assert (one.score is None) == (other.score is None)
            assert one.score is None or other.score is None or abs(one.score - other.score) < 1e-3


def test_a_window_of_a_stream_has_its_history_and_a_short_clip_has_none(model: RawNet2) -> None:
    long, short = as_judged(clip(2.8, 1), RATE), as_judged(clip(0.7, 2), RATE)
    block, window = 3200, BLOCKED.window_samples
    starts = list(range(0, len(long) - window + 1, block))
    raw = score_at(model, [long, short, long], [starts, [0], starts[3:]])
    with torch.no_grad():
        logits = model.stream(torch.from_numpy(long))
        alone = model(torch.from_numpy(np.stack([np.resize(short, window), long[starts[3] : starts[3] + window]])))
    wanted = (logits[:, 1] - logits[:, 0]).numpy()
    np.testing.assert_allclose(raw[: len(starts)], wanted, atol=1e-3)
    np.testing.assert_allclose(raw[len(starts) + 1 :], wanted[3:], atol=1e-3)
    by_itself = (alone[:, 1] - alone[:, 0]).numpy()
    assert abs(raw[len(starts)] - by_itself[0]) < 1e-4
    assert abs(wanted[3] - by_itself[1]) > 0.01, "the same sound without what came before it"
    whole = score_clips(model, [clip(2.8, 1)], 0.2)[0]
    assert whole == pytest.approx(wanted.mean(), abs=1e-3)


def test_a_long_stream_goes_through_in_parts(model: RawNet2) -> None:
    sound = as_judged(clip(30, 4), RATE)
    starts = list(range(0, len(sound) - BLOCKED.window_samples + 1, 3200))
    whole = score_at(model, [sound], [starts])
    begun = score_at(model, [sound[:48000], sound, sound[:50000]], [starts[:11], starts[:1], []])
    assert len(whole) == 146
    np.testing.assert_allclose(begun, [*whole[:11], whole[0]], atol=1e-4)


@given(st.integers(1, 200).map(lambda half: 2 * half), st.integers(1, 16), st.floats(0.01, 1.5))
def test_crops_are_whole_blocks(frames: int, count: int, share: float) -> None:
    block = frames * SMALL.pool
    config = replace(SMALL, block_frames=frames, level_blocks=1, window_samples=count * block)
    samples = crop_samples(config, share * config.window_samples)
    assert samples % block == 0 and samples >= block
    assert abs(samples - share * config.window_samples) <= block / 2 + 1 or samples == block
    assert crop_samples(SMALL, 100.4) == 100


def test_an_encoder_gets_blocks_and_whole_windows_again(tmp_path: Path) -> None:
    start, blocked, back = (tmp_path / f"{name}.safetensors" for name in ("start", "blocked", "back"))
    began = random_model(replace(SMALL, encoder_read=False))
    save(start, began, CALIBRATION)
    sizes = ["--block-frames", "40", "--context-frames", "0", "--level-blocks", "10"]
    assert blocks.main([str(start), "-o", str(blocked), *sizes]) == 0
    found = load(blocked)
    assert found.model.config == replace(began.config, block_frames=40, context_frames=0, level_blocks=10)
    assert found.figures["blocks_of"]["sha256"] == load(start).sha256
    assert found.calibration is None, "that of a head that fits no more"
    none = [word for name in sizes[::2] for word in (name, "0")]
    assert blocks.main([str(blocked), "-o", str(back), *none]) == 0
    again = load(back).model
    assert again.config == began.config
    for name, tensor in began.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name


@pytest.mark.parametrize(
    ("options", "code", "word"),
    [
        (["--block-frames", "31"], 2, "even"),
        (["--context-frames", "-2"], 2, "--context-frames"),
        (["--level-blocks", "0"], 2, "--level-blocks"),
        (["--level-blocks", "6001"], 2, "6000 at most"),
        (["--block-frames", "4000", "--context-frames", "4000"], 2, "5996"),
        (["--block-frames", "60"], 2, "whole blocks"),
        (["--block-frames", "0", "--context-frames", "0", "--level-blocks", "0"], 2, "already"),
        (["no encoder"], 2, "encoder"),
        (["onto start"], 2, "START"),
        (["no folder"], 5, "folder"),
    ],
)
def test_blocks_that_cannot_be_are_refused_in_a_line(
    options: list[str], code: int, word: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start, out = tmp_path / "start.safetensors", tmp_path / "out.safetensors"
    save(start, RawNet2(TINY if options == ["no encoder"] else SMALL))
    out = {"onto start": start, "no folder": tmp_path / "none" / "out"}.get(options[0], out)
    before = start.read_bytes()
    assert blocks.main([str(start), "-o", str(out), *(options if options[0][0] == "-" else [])]) == code
    printed = capsys.readouterr().err
    assert word in printed and printed.startswith("edge-detect: ") and printed.count("\n") == 1
    assert start.read_bytes() == before and (out == start or not out.exists())


def test_a_run_of_training_with_blocks_learns_and_resumes(library: Library, tmp_path: Path) -> None:
    recipe = Recipe(
        steps=6, batch=4, crop_seconds=1.1, long_crop_seconds=2, warmup=1, workers=0, compile=False, evaluate_every=6
    )
    trainer = Trainer(SMALL_BLOCKED, recipe, library, library, tmp_path)
    waveforms = torch.from_numpy(np.stack([voice(1, 1), voice(1, 2)]))
    features, _, _ = _front_end(trainer.model.filters, SMALL_BLOCKED, (waveforms, torch.zeros(2), torch.zeros(2)))
    assert torch.equal(features, trainer.model.features_fft(waveforms))
    assert features.shape[2] == trainer.model.config.lead_frames + 100
    run = trainer.fit()
    assert run.step == 6 and all(np.isfinite(entry["loss"]) for entry in run.history)
    assert load(tmp_path / "best.safetensors").model.config == SMALL_BLOCKED
    assert Trainer(SMALL_BLOCKED, recipe, library, None, tmp_path).resume()


def test_a_run_from_before_there_were_blocks_resumes(library: Library, tmp_path: Path) -> None:
    recipe = Recipe(steps=1, batch=2, crop_seconds=1, long_crop_seconds=1, workers=0, compile=False)
    Trainer(SMALL, recipe, library, None, tmp_path).fit()
    state = torch.load(tmp_path / "last.pt", weights_only=True)
    old = {name: value for name, value in asdict(SMALL).items() if not name.endswith(("_frames", "_blocks"))}
    torch.save(state | {"config": json.loads(json.dumps(old))}, tmp_path / "last.pt")
    assert Trainer(SMALL, recipe, library, None, tmp_path).resume()


def test_heads_of_blocks_stand_beside_each_other_and_adapt(library: Library) -> None:
    torch.manual_seed(0)
    start = RawNet2(SMALL_BLOCKED)
    members = [without_head(start, 8) for _ in range(2)]
    both = ensemble(members)
    with torch.no_grad():
        sound = torch.from_numpy(voice(6, 3))
        logits = [member.stream(sound) for member in (*members, both)]
    assert torch.allclose(torch.stack(logits[:2]).mean(0), logits[2], atol=1e-4)
    humans = [samples for clip, samples in zip(library.clips, library.samples, strict=True) if clip.is_bonafide]
    adapted, steps = tune(
        both, library, library, listen(humans, humans), TuningSettings(steps=2, batch=4, warmup=0), 600
    )
    assert steps == 2 and not torch.equal(adapted.fc2.weight, both.fc2.weight)
    assert between(both, adapted, 0.5).config == both.config
