"""The head of a hybrid network, fitted to what its encoder, held, sums up of crops; and files of these."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from edge_runtime.errors import UsageError
from export.checkpoint import load, save
from export.rawnet2 import Config, RawNet2
from tests.buzzing import SMALL, buzzing_library
from tests.conftest import TINY
from tests.small_disk import small_disk
from training import head
from training.batches import Library
from training.blocks import with_blocks
from training.heads.crop_features import Summaries, check_distinct, read, without
from training.scoring import score_clips


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Library:
    return buzzing_library(tmp_path_factory.mktemp("clips"))


def table_of(library: Library, folder: Path) -> Path:
    """A CSV of the clips, three of whose copies are by another system."""
    rows = [
        f"{clip.path},{clip.label},{'other' if number > 6 else clip.system},{clip.source},{clip.original or ''}"
        for number, clip in enumerate(library.clips)
    ]
    (folder / "clips.csv").write_text("\n".join(["file,label,system,source,original", *rows]) + "\n")
    return folder / "clips.csv"


@pytest.mark.parametrize("config", [SMALL, with_blocks(SMALL, 50, 20, 4)], ids=["windows", "blocks"])
def test_a_head_is_fitted_to_the_encoder_as_it_is(config: Config, library: Library, tmp_path: Path) -> None:
    start, out = tmp_path / "start.safetensors", tmp_path / "out.safetensors"
    torch.manual_seed(0)
    save(start, RawNet2(config))
    table = table_of(library, tmp_path)
    options = ["--crops", "64", "--augmentation", "0", "--epochs", "100"]
    assert head.main([str(start), "--data", str(table), "-o", str(out), *options]) == 0
    fitted, began = load(out).model, load(start).model
    assert load(out).name == "out" and load(out).figures["head"]["crops"] == 64, "it says how it was made"
    for name, tensor in began.state_dict().items():
        if name.startswith(("first_bn", "encoder.stem", "encoder.layers")):
            assert torch.equal(fitted.state_dict()[name], tensor), name
    scores = score_clips(fitted, library.samples, 4.0)
    bonafide = np.array([clip.is_bonafide for clip in library.clips])
    assert scores[bonafide].min() > scores[~bonafide].max(), "human noise and buzzing copies are told apart"
    assert not fitted.train().summary_bn.training, "its norm stays as it was fitted"


def test_a_head_s_norm_is_that_of_what_it_was_fitted_to() -> None:
    torch.manual_seed(1)
    model = head.without_head(RawNet2(SMALL), 8)
    inputs = 3 + 2 * torch.randn(200, 2 * model.encoder.channels)
    labels = (inputs[:, 0] > 3).long()
    before = model.fc1.weight.clone()
    head.fit_head(model, inputs, labels, 2, 0.3)
    kept = model.summary_bn.state_dict()
    assert torch.allclose(kept["running_mean"], inputs.mean(0), atol=1e-5)
    assert torch.allclose(kept["running_var"], inputs.var(0), atol=1e-5)
    assert not torch.equal(model.fc1.weight, before)


def test_members_of_a_head_give_the_mean_of_what_each_would_say_alone() -> None:
    many = head.without_head(RawNet2(SMALL), 3 * 8)
    inputs = 3 + 2 * torch.randn(200, 2 * many.encoder.channels)
    labels = (inputs[:, 0] > 3).long()
    torch.manual_seed(1)
    loss = head.fit_head(many, inputs, labels, 4, 0.3, members=3)
    alone = [head.without_head(RawNet2(SMALL), 8) for _ in range(3)]
    torch.manual_seed(1)  # the members are drawn one after the other: three runs go through the same numbers
    losses = [head.fit_head(model, inputs, labels, 4, 0.3) for model in alone]

    def logits(model: RawNet2) -> torch.Tensor:
        with torch.no_grad():
            return model.judge(inputs)

    assert torch.allclose(logits(many), torch.stack([logits(model) for model in alone]).mean(0), atol=1e-5)
    assert np.isclose(loss, np.mean(losses)) and not torch.allclose(logits(alone[0]), logits(alone[1]), atol=1e-3)


@pytest.mark.parametrize(
    ("options", "code", "word"),
    [
        (["--members", "0"], 2, "--members"),
        (["--seed", "-1"], 2, "--seed"),
        (["--seed", str(1 << 64)], 2, "--seed"),
        (["--nodes", "1000000000"], 2, "65536 at most"),
        (["--augmentation", "nan"], 2, "augmentation"),
        (["--waiting", "1.5"], 2, "--waiting"),
        (["--share", "codec=0.3", "--share", "codec=0.5"], 2, "--share"),
        ([], 5, "no folder"),
    ],
)
def test_what_a_head_cannot_do_is_said_before_the_work(
    options: list[str], code: int, word: str, library: Library, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save(tmp_path / "start.safetensors", RawNet2(SMALL))
    out = tmp_path / ("out" if options else "missing") / "x.safetensors"
    if options:
        out = tmp_path / "x.safetensors"
    command = [str(tmp_path / "start.safetensors"), "--data", str(library.clips[0].path.parent), "-o", str(out)]
    assert head.main([*command, *options]) == code
    printed = capsys.readouterr()
    assert word in printed.err and "looking at crops" not in printed.err and not out.exists()


@pytest.mark.parametrize(
    ("share", "word"), [("replay=1.1", "between 0 and 1"), ("codec=much", "between 0 and 1"), ("tape=0.1", "'tape'")]
)
def test_a_share_that_makes_no_sense_is_refused(share: str, word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert head.main(["start.safetensors", "--data", ".", "--share", share, "-o", "x.safetensors"]) == 2
    assert word in capsys.readouterr().err


def test_a_network_without_an_encoder_has_no_head_to_fit(
    library: Library, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save(tmp_path / "edge.safetensors", RawNet2(TINY))
    folder = str(library.clips[0].path.parent)
    assert head.main([str(tmp_path / "edge.safetensors"), "--data", folder, "-o", str(tmp_path / "none")]) == 2
    assert "encoder" in capsys.readouterr().err and not (tmp_path / "none").exists()


def test_crops_that_were_kept_give_the_head_that_they_gave(
    library: Library, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start, kept = tmp_path / "start.safetensors", tmp_path / "kept.safetensors"
    save(start, RawNet2(SMALL))
    fit = [str(start), "--epochs", "3", "--seed", "2", "-o"]
    look = ["--data", str(table_of(library, tmp_path)), "--crops", "64", "--keep", str(kept)]
    names = ("at_once", "later", "twice", "fewer")
    at_once, later, twice, fewer = (tmp_path / f"{name}.safetensors" for name in names)
    assert head.main([*fit, str(at_once), *look]) == 0
    assert head.main([*fit, str(later), "--also", str(kept)]) == 0
    assert head.main([*fit, str(twice), "--also", str(kept), *look[:-2], "--seed", "3"]) == 0
    assert head.main([*fit, str(tmp_path / "same"), "--also", str(kept), *look[:-2]]) == 2, "the same crops"
    assert "--seed" in capsys.readouterr().err and not (tmp_path / "same").exists()
    assert head.main([*fit, str(tmp_path / "none"), *look[:-2], "--without", "pipper"]) == 2
    printed = capsys.readouterr().err
    assert "pipper" in printed and "looking at crops" not in printed, "found before the looking"
    assert head.main([*fit, str(tmp_path / "none"), "--also", str(kept), "--without", "pipper"]) == 2
    assert head.main([*fit, str(tmp_path / "none"), *look[:-2], "--without", ""]) == 2
    printed = capsys.readouterr().err
    assert "left" in printed and "looking at crops" not in printed
    assert head.main([*fit, str(fewer), "--also", str(kept), "--without", "oth"]) == 0
    models = {path: load(path) for path in (at_once, later, twice, fewer)}
    for name, tensor in models[at_once].model.state_dict().items():
        assert torch.equal(models[later].model.state_dict()[name], tensor), name
    assert models[twice].figures["head"]["crops"] == 128 and len(models[twice].figures["head"]["looked"]) == 2
    crops = read(kept)
    assert len(crops) == 64 and set(crops.systems) == {"copy-buzz", "other"}
    left = models[fewer].figures["head"]["crops"]
    assert 0 < left < 64 and left == crops.systems.count("copy-buzz"), "each spoofed crop goes with its human one"
    assert without([crops], ["other"])[0].labels.tolist() == [0, 1] * (left // 2)
    with pytest.raises(UsageError):
        without([crops], ["copy", "other"])
    mostly = Summaries(crops.inputs.clone(), crops.labels, crops.systems, crops.encoder, crops.made)
    mostly.inputs[:40] += 1  # as another augmentation would have changed them
    with pytest.raises(UsageError):
        check_distinct([crops, mostly])


@pytest.mark.parametrize("damage", ["missing", "cut", "other encoder", "no crops", "torn", "infinite", "named twice"])
def test_crops_that_cannot_be_used_are_refused_in_a_line(
    damage: str, library: Library, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start, kept, out = (tmp_path / f"{name}.safetensors" for name in ("start", "kept", "out"))
    save(start, RawNet2(SMALL))
    channels = head.without_head(RawNet2(SMALL), 8).fc1.in_features
    inputs, labels = torch.zeros(4, channels).half(), torch.tensor([0, 1] * 2)
    inputs[0, 0] = torch.inf if damage == "infinite" else 0
    encoder = "0" * 64 if damage == "other encoder" else load(start).sha256
    Summaries(inputs, labels[: 3 if damage == "torn" else 4], ("x",) * 4, encoder, ()).save(kept)
    if damage == "missing":
        kept.unlink()
    elif damage == "cut":
        kept.write_bytes(kept.read_bytes()[:-10])
    target = kept if damage == "named twice" else out
    command = [str(start), "-o", str(target)] + ([] if damage == "no crops" else ["--also", str(kept)])
    before = kept.read_bytes() if kept.exists() else b""
    assert head.main(command) == (2 if damage in ("other encoder", "no crops", "named twice") else 3)
    assert damage == "missing" or kept.read_bytes() == before
    printed = capsys.readouterr()
    assert printed.err.count("\n") == 1 and printed.err.startswith("edge-detect: ") and not out.exists()


def test_a_full_disk_for_the_crops_is_said_in_a_line(
    library: Library, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start = tmp_path / "start.safetensors"
    save(start, RawNet2(SMALL))
    command = [str(start), "-o", str(tmp_path / "out.safetensors"), "--data", str(table_of(library, tmp_path))]
    with small_disk(tmp_path / "disk", 64) as disk:
        disk.fill()
        assert head.main([*command, "--crops", "32", "--keep", str(disk.folder / "kept")]) == 5
        disk.free()
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("edge-detect: ")]
    assert "cannot write" in line
