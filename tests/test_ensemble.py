"""Several heads of one encoder as one network: what it says is the mean of what each would say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from export.checkpoint import load, save
from export.rawnet2 import RawNet2
from tests.buzzing import SMALL
from tests.conftest import TINY
from training import ensemble
from training.head import fit_head, without_head

MADE = {"head": {"members": 1}}


def fitted(start: RawNet2, nodes: int, seed: int) -> RawNet2:
    """A head of `nodes` nodes that was fitted to inputs with a mean and deviations of their own."""
    torch.manual_seed(seed)
    model = without_head(start, nodes)
    channels = 2 * model.encoder.channels
    inputs = torch.randn(channels) + (0.1 + torch.rand(channels)) * torch.randn(100, channels)
    fit_head(model, inputs, (inputs[:, 0] > 0).long(), 3, 0.3)
    return model


@pytest.fixture(scope="module")
def start() -> RawNet2:
    torch.manual_seed(0)
    return RawNet2(SMALL)


def test_an_ensemble_says_the_mean_of_what_its_members_say(start: RawNet2, tmp_path: Path) -> None:
    members = [fitted(start, 8 + 4 * number, number) for number in range(3)]
    paths = [tmp_path / f"{number}.safetensors" for number in range(3)]
    for path, member in zip(paths, members, strict=True):
        save(path, member, figures=MADE)
    assert ensemble.main([*map(str, paths), "-o", str(tmp_path / "all.safetensors")]) == 0
    made = load(tmp_path / "all.safetensors")
    assert made.model.config == replace(members[0].config, fc_nodes=8 + 12 + 16)
    assert [item["sha256"] for item in made.figures["ensemble"]] == [load(path).sha256 for path in paths]
    sound = 0.1 * torch.randn(4, SMALL.window_samples)
    with torch.no_grad():
        apart = torch.stack([member(sound) for member in members])
        together = made.model(sound)
    assert apart.std(0).min() > 1e-3, "the members do not agree"
    assert torch.allclose(together, apart.mean(0), atol=1e-4)


@pytest.mark.parametrize(
    "case",
    [
        "another encoder",
        "no encoder",
        "still read",
        "another window",
        "one",
        "twice",
        "onto a member",
        "an ensemble",
        "missing",
        "no folder",
    ],
)
def test_what_is_no_ensemble_is_refused_in_a_line(
    case: str, start: RawNet2, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, other, out = (tmp_path / f"{name}.safetensors" for name in ("one", "other", "out"))
    model = RawNet2(TINY) if case == "no encoder" else without_head(start, 8)
    save(one, model, figures=MADE)
    if case == "still read":
        model = RawNet2(SMALL)
        save(one, model, figures=MADE)
    if case == "another window":
        model = without_head(RawNet2(replace(SMALL, window_samples=SMALL.window_samples // 2)), 8)
    if case == "another encoder":
        torch.manual_seed(1)
        model = without_head(RawNet2(SMALL), 8)
    if case != "missing":
        save(other, model, figures={} if case == "an ensemble" else MADE | {"number": 2})
    named = {"one": [one], "twice": [one, one]}.get(case, [one, other])
    if case == "no folder":
        out = tmp_path / "none" / "out.safetensors"
    if case == "onto a member":
        out = one
    before = sorted((path, path.read_bytes()) for path in tmp_path.iterdir())
    code = ensemble.main([*map(str, named), "-o", str(out)])
    assert code == {"missing": 4, "no folder": 5}.get(case, 2)
    printed = capsys.readouterr()
    assert printed.err.count("\n") == 1 and printed.err.startswith("edge-detect: ")
    assert before == sorted((path, path.read_bytes()) for path in tmp_path.iterdir())
