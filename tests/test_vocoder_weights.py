"""Vocoders' weights out of packages that are read and not imported: the same sound, and no code of theirs runs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.normed import normed
from training.synthesize.engine import EngineFailed
from training.synthesize.engines import gan


class Stack(nn.Module):
    """MelGAN's residual stack."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.LeakyReLU(0.2),
                nn.ReflectionPad1d(3**step),
                normed(nn.Conv1d(width, width, 3, dilation=3**step)),
                nn.LeakyReLU(0.2),
                normed(nn.Conv1d(width, width, 1)),
            )
            for step in range(3)
        )
        self.shortcuts = nn.ModuleList(normed(nn.Conv1d(width, width, 1)) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        for block, shortcut in zip(self.blocks, self.shortcuts, strict=True):
            x = shortcut(x) + block(x)
        return x


class Melgan(nn.Module):
    """MelGAN's generator as its package pickles it, with few channels."""

    def __init__(self) -> None:
        super().__init__()
        parts: list[nn.Module] = [nn.ReflectionPad1d(3), normed(nn.Conv1d(80, 16, 7))]
        for inputs, outputs, stride in ((16, 12, 8), (12, 8, 8), (8, 6, 2), (6, 4, 2)):
            up = nn.ConvTranspose1d(inputs, outputs, 2 * stride, stride, stride // 2)
            parts += [nn.LeakyReLU(0.2), normed(up), Stack(outputs)]
        parts += [nn.LeakyReLU(0.2), nn.ReflectionPad1d(3), normed(nn.Conv1d(4, 1, 7)), nn.Tanh()]
        self.generator = nn.Sequential(*parts)

    def forward(self, mel: Tensor) -> Tensor:
        return self.generator((mel + 5.0) / 5.0)


class Hostile:
    """What runs code wherever a file is unpickled as it says."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def packaged(folder: Path, stored: object, monkeypatch: pytest.MonkeyPatch, zipped: bool = True) -> None:
    """An installed `ttskit` whose module cannot even be imported, with `stored` for its weights."""
    place = folder / "ttskit" / "resource" / "model"
    place.mkdir(parents=True)
    (folder / "ttskit" / "__init__.py").write_text("raise SystemExit('imported')\n")
    torch.save(stored, place / "melgan.kuangdd.pt", _use_new_zipfile_serialization=zipped)
    monkeypatch.syspath_prepend(folder)


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    """Neither what another test loaded nor what these do is used again."""
    gan.melgan.cache_clear()
    yield
    gan.melgan.cache_clear()


def test_melgan_sounds_as_the_network_that_was_pickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    network = Melgan().eval()
    packaged(tmp_path, network, monkeypatch)
    mel = torch.randn(1, 80, 21) - 4
    with torch.no_grad():
        ours, theirs = gan.melgan()(mel), network(mel)
    assert ours.shape == (1, 1, 21 * 256)
    assert torch.allclose(ours, theirs, atol=1e-7) and theirs.std() > 1e-4
    assert "ttskit" not in sys.modules


@pytest.mark.parametrize("zipped", [True, False], ids=["zipped", "as before torch 1.6"])
def test_no_code_of_a_pickled_network_runs(zipped: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trap = tmp_path / "trap"
    network = Melgan()
    network.extra = Hostile(trap)  # type: ignore[assignment]
    packaged(tmp_path, network, monkeypatch, zipped)
    assert gan.melgan()(torch.zeros(1, 80, 8)).shape == (1, 1, 8 * 256)
    assert not trap.exists()


def test_a_package_that_is_not_there_is_named() -> None:
    with pytest.raises(EngineFailed, match="no_such_vocoder is not installed"):
        gan.package("no_such_vocoder")
