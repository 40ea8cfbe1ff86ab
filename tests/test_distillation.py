"""Heads that learn from what others say of crops that these did not learn from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from export.checkpoint import load, save
from export.rawnet2 import RawNet2
from tests.buzzing import SMALL, buzzing_library
from tests.conftest import TINY
from training import head
from training.batches import Library
from training.heads.crop_features import DIGEST, Summaries
from training.heads.distillation import Teacher, read_teacher, same_run, soft_targets

RUNS = tuple({"crops": 200, "seed": seed} for seed in range(3))


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Library:
    return buzzing_library(tmp_path_factory.mktemp("clips"))


def crops(run: dict[str, int], channels: int, count: int = 200) -> Summaries:
    """Of what `run` looked at; labels and inputs have nothing to do with each other."""
    inputs = torch.randn(count, channels, generator=torch.Generator().manual_seed(run["seed"])).half()
    return Summaries(inputs, torch.arange(count) % 2, ("x",) * count, "0" * 64, (run,))


def teacher(channel: int, *looked: dict[str, int]) -> Teacher:
    """One that says bona fide where `channel` is above its mean."""
    torch.manual_seed(channel)
    model = head.without_head(RawNet2(SMALL), 8)
    inputs = torch.randn(400, 2 * model.encoder.channels)
    head.fit_head(model, inputs, (inputs[:, channel] > 0).long(), 30, 0.0)
    return Teacher(model, f"{channel:064}", looked)


def test_those_teach_that_did_not_learn_from_a_run_and_all_where_each_did() -> None:
    one, other = teacher(0, RUNS[0], RUNS[2]), teacher(1, RUNS[1], RUNS[2])
    parts = [crops(run, one.model.fc1.in_features) for run in RUNS]
    wanted = soft_targets(parts, [one, other], 1.0, 0.05)
    said = [torch.stack([who.bonafide(part.inputs) for who in (one, other)]) for part in parts]
    assert torch.allclose(wanted[:, 1], torch.cat((said[0][1], said[1][0], said[2].mean(0))))
    assert torch.allclose(wanted.sum(1), torch.ones(600)) and not torch.allclose(said[0][0], said[0][1], atol=0.1)


def test_without_weight_labels_are_learnt_as_ever() -> None:
    one = teacher(0)
    part = crops(RUNS[0], one.model.fc1.in_features)
    wanted = soft_targets([part], [one], 0.0, head.SMOOTHING)
    fitted = []
    for target in (part.labels, wanted):
        torch.manual_seed(3)
        model = head.without_head(RawNet2(SMALL), 8)
        head.fit_head(model, part.inputs.float(), target, 2, 0.3)
        fitted.append(model.fc1.weight)
    assert torch.allclose(fitted[0], fitted[1], atol=1e-4)


def test_a_pupil_comes_to_say_what_its_teacher_says_whatever_the_labels() -> None:
    one = teacher(0)
    torch.manual_seed(1)
    part, unmet = (crops(run, one.model.fc1.in_features, 2000) for run in RUNS[:2])
    pupil = head.without_head(RawNet2(SMALL), 8)
    head.fit_head(pupil, part.inputs.float(), soft_targets([part], [one], 1.0, 0.05), 40, 0.0)
    said = [Teacher(model, "", ()).bonafide(unmet.inputs) for model in (one.model, pupil)]
    assert torch.corrcoef(torch.stack(said))[0, 1] > 0.7


def test_a_teacher_is_named_and_its_runs_are_known(library: Library, tmp_path: Path) -> None:
    start, kept, first, second = (tmp_path / f"{name}.safetensors" for name in ("start", "kept", "first", "second"))
    torch.manual_seed(0)
    save(start, RawNet2(SMALL))
    rows = [f"{clip.path},{clip.label},{clip.system},{clip.source},{clip.original or ''}" for clip in library.clips]
    (tmp_path / "clips.csv").write_text("\n".join(["file,label,system,source,original", *rows]) + "\n")
    look = ["--data", str(tmp_path / "clips.csv"), "--crops", "64", "--keep", str(kept), "--epochs", "2"]
    assert head.main([str(start), *look, "-o", str(first)]) == 0
    assert head.main([str(start), "--also", str(kept), "--teacher", str(first), "-o", str(second)]) == 0
    made = load(second).figures["head"]
    assert made["teachers"] == [load(first).sha256] and made["distillation"] == 0.5
    assert "teachers" not in load(first).figures["head"]
    run = made["looked"][0]
    known = read_teacher(first, load(second).model)
    assert known.looked == (run,)
    assert known.met(Summaries(torch.zeros(2, 1), torch.arange(2), ("x",) * 2, "", (run,)))


def test_a_run_is_known_again_by_its_crops_and_an_old_one_by_its_options() -> None:
    old = {"crops": 64, "augmentation": 0.25, "replayed": 0.4, "seed": 30, "bfloat16": True}
    new = {"crops": 64, "augmentation": 0.25, "shares": {"replay": 0.4}, "seed": 30, "bfloat16": True}
    assert same_run(old, new) and same_run(old, {**new, DIGEST: "a"})
    assert not same_run(old, {**new, "shares": {}}) and not same_run(old, {**new, "seed": 31})
    assert not same_run({**new, DIGEST: "a"}, {**new, DIGEST: "b"}), "of other clips"


def test_a_run_of_left_out_systems_alone_is_no_run_that_was_learnt(tmp_path: Path) -> None:
    start, out = tmp_path / "start.safetensors", tmp_path / "out.safetensors"
    save(start, RawNet2(SMALL))
    channels = head.without_head(RawNet2(SMALL), 8).fc1.in_features
    also = []
    for number, system in enumerate("xy"):
        part = replace(crops(RUNS[number], channels), encoder=load(start).sha256, systems=(system,) * 200)
        part.save(tmp_path / f"{system}.crops")
        also += ["--also", str(tmp_path / f"{system}.crops")]
    assert head.main([str(start), *also, "--epochs", "1", "--without", "x", "-o", str(out)]) == 0
    assert load(out).figures["head"]["looked"] == [RUNS[1]]


@pytest.mark.parametrize(
    ("case", "code", "word"),
    [
        ("another encoder", 2, "START's encoder"),
        ("another window", 2, "START's encoder"),
        ("no encoder", 2, "START's encoder"),
        ("says nothing", 4, "learnt from"),
        ("as before", 4, "learnt from"),
        ("twice", 2, "twice"),
        ("damaged", 4, "other.safetensors"),
        ("share", 2, "--distillation"),
        ("onto a teacher", 2, "--teacher"),
    ],
)
def test_what_cannot_teach_is_refused_in_a_line(
    case: str, code: int, word: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start, other, kept = (tmp_path / f"{name}.safetensors" for name in ("start", "other", "kept"))
    torch.manual_seed(0)
    own = RawNet2(SMALL)
    save(start, own)
    config = SMALL
    if case == "another window":
        config = replace(SMALL, window_samples=SMALL.window_samples // 2)
    elif case == "no encoder":
        config = TINY
    network = RawNet2(config)
    if case != "another encoder" and config.has_encoder:
        network.load_state_dict(own.state_dict(), strict=False)
    figures: dict[str, Any] = {"head": {"looked": [RUNS[1]]}}
    if case in ("says nothing", "as before"):
        figures = {} if case == "says nothing" else {"head": {"nodes": 8}}
    save(other, head.without_head(network, 8) if config.has_encoder else network, figures=figures)
    if case == "damaged":
        other.write_bytes(other.read_bytes()[:-10])
    part = crops(RUNS[0], head.without_head(own, 8).fc1.in_features)
    replace(part, encoder=load(start).sha256).save(kept)
    out = other if case == "onto a teacher" else tmp_path / "out.safetensors"
    before = other.read_bytes()
    command = [str(start), "--also", str(kept), "--teacher", str(other), "-o", str(out)]
    if case == "twice":
        (tmp_path / "copy").write_bytes(before)
    more = {"share": ["--distillation", "2"], "twice": ["--teacher", str(tmp_path / "copy")]}
    assert head.main([*command, *more.get(case, [])]) == code
    printed = capsys.readouterr().err
    assert word in printed and printed.count("\n") == 1 and other.read_bytes() == before
    assert out == other or not out.exists()
