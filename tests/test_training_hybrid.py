"""What a hybrid network's training stands on: pretrained weights, partial spoofs, masks, hard clips, a teacher."""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_runtime.errors import ModelError
from export.checkpoint import load, save
from export.rawnet2 import VARIANTS, RawNet2
from tests.buzzing import RATE, SMALL, buzzing_library
from training import blend, pretrained
from training.augmentation.splice import insert, own_cut, partial_spoof
from training.batches import Crops, Library, Strengths
from training.fit import Trainer, mask
from training.recipe import Recipe


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Library:
    return buzzing_library(tmp_path_factory.mktemp("clips"))


def recipe(**changes: object) -> Recipe:
    base = Recipe(steps=30, batch=8, crop_seconds=1, warmup=5, average=0.5, workers=0, compile=False, augmentation=0)
    return replace(base, **changes)  # type: ignore[arg-type]


@given(st.integers(0, 2**32 - 1), st.integers(RATE, 4 * RATE))
@settings(max_examples=30, deadline=None)
def test_a_partial_spoof_is_the_human_clip_but_for_one_stretch_of_the_copy(seed: int, length: int) -> None:
    human, copy = np.zeros(length, np.float32), np.ones(length, np.float32)
    made = partial_spoof(human, copy, np.random.default_rng(seed), RATE)
    inside = np.flatnonzero(made)
    assert len(made) == length and np.all(np.diff(inside) == 1)
    if length >= 2 * 0.6 * RATE:
        assert 0.55 * RATE <= len(inside) <= 0.8 * length + 1
    else:
        assert np.array_equal(made, copy)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_a_cut_of_a_clips_own_sound_brings_in_nothing_foreign(seed: int) -> None:
    clip = np.random.default_rng(seed).uniform(-0.5, 0.5, 3 * RATE).astype(np.float32)
    made = own_cut(clip, np.random.default_rng(seed), RATE)
    kept = np.mean(np.isin(made, clip))
    assert made.shape == clip.shape and kept > 0.98  # all but the two crossfades


def test_an_insertion_leaves_its_host_alone() -> None:
    host, guest = np.zeros(100, np.float32), np.ones(40, np.float32)
    made = insert(host, guest, 30, 16000)
    assert not host.any() and not made[:30].any() and not made[70:].any() and made[50] == 1


@given(st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_a_mask_blanks_out_and_changes_nothing_else(seed: int) -> None:
    torch.manual_seed(seed)
    features = torch.rand(4, 20, 50) + 0.1
    masked = mask(features, 1.0)
    assert torch.all((masked == features) | (masked == 0)) and torch.equal(mask(features, 0.0), features)
    assert float((masked == 0).float().mean()) < 0.4


def test_training_begins_with_the_weights_of_a_checkpoint_and_learns(library: Library, tmp_path: Path) -> None:
    start = RawNet2(SMALL).eval()
    trainer = Trainer(SMALL, recipe(partial=0.3, masking=0.3), library, library, tmp_path, start)
    for name, weight in start.state_dict().items():
        assert torch.equal(weight, trainer.model.state_dict()[name])
    run = trainer.fit()
    assert run.history[-1]["dev_eer"] < 0.4
    assert load(tmp_path / "best.safetensors").model.config == SMALL


def test_a_pretrained_encoder_that_is_held_does_not_move(library: Library, tmp_path: Path) -> None:
    start = RawNet2(SMALL).eval()
    trainer = Trainer(SMALL, recipe(steps=3, encoder_rate=0), library, None, tmp_path, start)
    trainer.fit()
    after = trainer.model.state_dict()
    assert torch.equal(after["encoder.layers.0.dense_in.weight"], start.encoder.layers[0].dense_in.weight)  # type: ignore[union-attr, arg-type]
    assert not torch.equal(after["encoder.read.weight"], start.encoder.read.weight)  # type: ignore[union-attr]


def test_a_student_comes_nearer_to_its_teacher(library: Library, tmp_path: Path) -> None:
    torch.manual_seed(5)
    teacher = RawNet2(SMALL).eval()
    with torch.no_grad():
        teacher.fc2.weight.mul_(20)
    student = replace(VARIANTS["edge"], filters=6, kernel=65, channels=(6, 8, 8, 8), gru_nodes=8, gru_layers=1)
    trainer = Trainer(student, recipe(distillation=1.0), library, None, tmp_path, teacher=teacher)
    waveforms = Crops(library, 12, RATE, 9, 0, Strengths()).make(0)[0]

    def far() -> float:
        with torch.no_grad():
            return float(trainer.distance(waveforms, trainer.model.eval()(waveforms)))

    before = far()
    trainer.fit()
    assert far() < before


def test_the_clip_that_comes_out_worst_is_drawn_more_often(library: Library) -> None:
    library.hardness.zero_()
    worst = 4
    library.hardness[worst] = 3.0
    crops = Crops(library, 2, RATE, 0, 0, Strengths(augmentation=0, matched=0, mining=1.0))
    plain = Crops(library, 2, RATE, 0, 0, Strengths(augmentation=0, matched=0))
    counts = [sum(int(made.make_indexed(n)[2][1, 0] == worst) for n in range(200)) for made in (crops, plain)]
    library.hardness.zero_()
    assert counts[0] > 2 * counts[1] > 0


def test_a_blend_of_the_encoder_leaves_the_trained_head_alone(tmp_path: Path) -> None:
    torch.manual_seed(1)
    old, new = RawNet2(SMALL).eval(), RawNet2(SMALL).eval()
    save(tmp_path / "old.safetensors", old)
    save(tmp_path / "new.safetensors", new)
    arguments = [str(tmp_path / "old.safetensors"), str(tmp_path / "new.safetensors"), "--encoder", "--share", "0.25"]
    assert blend.main([*arguments, "-o", str(tmp_path / "made.safetensors")]) == 0
    made = load(tmp_path / "made.safetensors").model.state_dict()
    ends = old.state_dict(), new.state_dict()
    stem, head = "encoder.stem1.weight", "fc2.weight"
    assert torch.allclose(made[stem], 0.75 * ends[0][stem] + 0.25 * ends[1][stem], atol=1e-6)
    assert torch.equal(made[head], ends[1][head])
    save(tmp_path / "old.safetensors", RawNet2(replace(SMALL, encoder_layers=1)))
    assert blend.main([*arguments, "-o", str(tmp_path / "none.safetensors")]) == 4
    assert not (tmp_path / "none.safetensors").exists()


def whisper_file(path: Path, spec: bytes = b"WhisperSpec", width: int = 384) -> dict[str, np.ndarray]:
    """A CTranslate2 `model.bin` with random encoder weights (width 384: tiny, 512: base), and one of a decoder."""
    rng = np.random.default_rng(0)
    shapes: dict[str, tuple[int, ...]] = {"conv1/weight": (width, 80, 3), "conv1/bias": (width,)}
    shapes |= {"conv2/weight": (width, width, 3), "conv2/bias": (width,)}
    for layer in range(4):
        for part, rows, columns in (
            ("self_attention/linear_0", 3 * width, width), ("self_attention/linear_1", width, width),
            ("ffn/linear_0", 4 * width, width), ("ffn/linear_1", width, 4 * width),
        ):  # fmt: skip
            shapes |= {f"layer_{layer}/{part}/weight": (rows, columns), f"layer_{layer}/{part}/bias": (rows,)}
        for part in ("self_attention", "ffn"):
            shapes |= {f"layer_{layer}/{part}/layer_norm/{name}": (width,) for name in ("gamma", "beta")}
    weights = {name: rng.normal(0, 0.05, shape).astype(np.float16) for name, shape in shapes.items()}

    def text(name: bytes) -> bytes:
        return struct.pack("<H", len(name) + 1) + name + b"\0"

    entries = [(f"encoder/{name}", values) for name, values in weights.items()]
    entries.append(("decoder/scale", np.ones(3, np.float16)))
    data = struct.pack("<I", 6) + text(spec) + struct.pack("<II", 3, len(entries))
    for name, values in entries:
        data += text(name.encode()) + struct.pack(f"<B{values.ndim}I", values.ndim, *values.shape)
        data += struct.pack("<BI", 4, values.nbytes) + values.tobytes()
    path.write_bytes(data + struct.pack("<I", 0))
    return weights


@pytest.mark.parametrize(("width", "layers", "blocks"), [(384, 3, ()), (512, 2, ()), (384, 1, (50, 20, 4))])
def test_whispers_encoder_begins_a_hybrid_network(
    width: int, layers: int, blocks: tuple[int, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = whisper_file(tmp_path / "model.bin", width=width)
    start = tmp_path / "start.safetensors"
    speech = tmp_path / "speech"
    for label in ("bonafide", "spoof"):
        (speech / label).mkdir(parents=True)
    sound, rate = soundfile.read(Path(__file__).parents[1] / "examples" / "human.flac")
    for number in range(3):
        soundfile.write(speech / "bonafide" / f"{number}.flac", sound[number * rate :], rate)
    command = [str(tmp_path / "model.bin"), "--layers", str(layers), "--data", str(speech), "-o", str(start)]
    for name, size in zip(("--block-frames", "--context-frames", "--level-blocks"), blocks, strict=False):
        command += [name, str(size)]
    assert pretrained.main(command) == 0
    assert "explains 9" in capsys.readouterr().out  # of speech, more than 90 % of Whisper's spectrogram
    model = load(start).model
    encoder = model.encoder
    assert model.config.block_frames == (50 if blocks else 0)
    assert (model.config.encoder_heads, len(encoder.layers)) == (width // 64, layers)
    found = encoder.layers[layers - 1].dense_out.weight.detach().numpy()  # type: ignore[union-attr, operator]
    assert np.array_equal(found, weights[f"layer_{layers - 1}/ffn/linear_1/weight"].astype(np.float32))
    assert np.array_equal(encoder.stem2.bias.detach().numpy(), weights["conv2/bias"].astype(np.float32))  # type: ignore[union-attr]


def test_another_file_than_whispers_weights_is_refused_in_one_line(tmp_path: Path) -> None:
    whisper_file(tmp_path / "other.bin", b"TransformerSpec")
    whole = tmp_path / "model.bin"
    whisper_file(whole)
    (tmp_path / "short.bin").write_bytes(whole.read_bytes()[:1000])
    (tmp_path / "text.bin").write_text("no weights at all")
    for name in ("other", "short", "text"):
        with pytest.raises(ModelError):
            pretrained.read_weights(tmp_path / f"{name}.bin")


def test_a_network_of_another_width_cannot_take_the_weights(tmp_path: Path) -> None:
    whisper_file(tmp_path / "model.bin")
    weights = pretrained.read_weights(tmp_path / "model.bin")
    with pytest.raises(ModelError, match="conv1/weight"):
        pretrained.fill(RawNet2(SMALL), weights, torch.zeros(80, 12), torch.zeros(80))
    for layers in (0, 5):
        with pytest.raises(ModelError, match="has 4"):
            pretrained.config_for(weights, layers)
    save(tmp_path / "kept.safetensors", RawNet2(SMALL))
    assert load(tmp_path / "kept.safetensors").model.config.has_encoder


def test_joined_clips_are_of_one_label_and_a_copy_is_joined_where_its_original_is(library: Library) -> None:
    levels = Library(library.clips, RATE)
    for index, clip in enumerate(levels.clips):  # a sound that tells which clip it is from: copies are below zero
        levels.samples[index] = np.full(2 * RATE, (index // 2 + 1) * (3000 if clip.is_bonafide else -3000), np.int16)
    crops = Crops(levels, 8, 4 * RATE, 1, 0, Strengths(0.0, 0, 1.0, joined=1.0), high_pass_hz=0)
    changes = []
    for number in range(10):
        waveforms, labels = crops.make(number)
        for copy, human in waveforms.numpy().reshape(4, 2, -1):
            assert human.min() >= 0 >= copy.max(), "nothing of the other label"
            assert np.allclose(human, -copy, atol=1e-4), "pauses and cuts in the same places"
            changes.append(len(np.unique(human[human > 0])))
        assert torch.equal(waveforms, crops.make(number)[0]) and labels.tolist() == [0, 1] * 4
    assert np.mean(np.array(changes) > 1) > 0.3, "many crops go over from clip to clip"


def test_crops_of_both_labels_begin_with_silence_as_often_and_a_second_of_speech_is_left(library: Library) -> None:
    levels = Library(library.clips, RATE)
    for index, clip in enumerate(levels.clips):
        levels.samples[index] = np.full(6 * RATE, 3000 if clip.is_bonafide else -3000, np.int16)
    crops = Crops(levels, 8, 4 * RATE, 1, 0, Strengths(0.0, 0, 1.0, waiting=0.5), high_pass_hz=0)
    sounds = np.concatenate([crops.make(number)[0].numpy() != 0 for number in range(20)])
    assert sounds.sum(1).min() >= RATE, "at least a second of speech, however short the stretch of the clip"
    waits = sounds.argmax(1)
    assert waits.max() <= 3 * RATE and 0.35 < np.mean(waits > 0) < 0.65
    assert np.array_equal(waits[::2], waits[1::2]), "a copy waits as long as its original"
    assert all(sound[wait:].all() for wait, sound in zip(waits, sounds, strict=True)), "no silence later"


def test_crops_pass_an_augmentation_as_often_as_asked(library: Library) -> None:
    plain, never, always = (
        Crops(library, 8, 2 * RATE, 1, 0, Strengths(0.0, 0, 1.0, shares=shares)).make(0)[0]
        for shares in ({}, {"replay": 0.0}, {"replay": 1.0})
    )
    assert np.array_equal(plain, never)
    assert all(not np.array_equal(crop, other) for crop, other in zip(plain, always, strict=True))


def test_what_follows_a_copy_follows_its_original_at_the_same_place(library: Library) -> None:
    crops = Crops(library, 8, 4 * RATE, 1, 0, Strengths(0.0, 0, 1.0, joined=1.0))
    rng = np.random.default_rng(5)
    pauses = 0
    for _ in range(30):
        firsts = [np.full(4 * RATE, level, np.float32) for level in (-0.1, 0.1)]
        spoof, human = crops._joined(firsts, crops._pair(rng)[:2], rng)
        assert len(spoof) == len(human)
        ends = [int(np.argmax(side != side[0])) for side in (spoof, human)]
        assert ends[0] == ends[1] and 0.8 <= ends[0] / RATE <= 3.2, "the same part of both is kept"
        silent = [np.flatnonzero(side[ends[0] :]) for side in (spoof, human)]
        lengths = [int(found[0]) if len(found) else 0 for found in silent]
        assert abs(lengths[0] - lengths[1]) < 0.01 * RATE, "the same pause in both"
        pauses += lengths[0] > 0.02 * RATE
    assert 5 < pauses < 25, "some go on at once, some after a pause"


def test_crops_of_a_joined_pair_end_where_the_shorter_does(library: Library) -> None:
    uneven = Library(library.clips, RATE)
    for index, clip in enumerate(uneven.clips):
        samples = np.full(2 * RATE if clip.is_bonafide else 20000, 3000 if clip.is_bonafide else -3000, np.int16)
        uneven.samples[index] = samples
    crops = Crops(uneven, 8, 3 * RATE, 1, 0, Strengths(0.0, 0, 1.0, joined=1.0))
    for number in range(10):
        for copy, human in crops.make(number)[0].numpy().reshape(4, 2, -1):
            assert np.array_equal(copy == 0, human == 0), "pauses in the same places"
