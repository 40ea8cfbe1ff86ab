"""Copies by VITS, whose networks are written out here: the same numbers as networks of modules, and files that are not
what they should be are told in a line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.normed import normed
from training.synthesize.catalogue import COPY
from training.synthesize.engine import EngineFailed
from training.synthesize.engines import vits

RATE = 16_000


class Posterior(nn.Module):
    """VITS' posterior encoder: gated convolutions of five taps, told the speaker in each."""

    def __init__(self) -> None:
        super().__init__()
        width, gates = 80, 16
        self.pre, self.proj = nn.Conv1d(1025, width, 1), nn.Conv1d(width, 2 * width, 1)
        self.enc = nn.ModuleDict(
            {
                "cond_layer": normed(nn.Conv1d(width, 2 * width * gates, 1)),
                "in_layers": nn.ModuleList(normed(nn.Conv1d(width, 2 * width, 5, padding=2)) for _ in range(gates)),
                "res_skip_layers": nn.ModuleList(
                    normed(nn.Conv1d(width, width * (2 if step < gates - 1 else 1), 1)) for step in range(gates)
                ),
            }
        )

    def forward(self, x: Tensor, speaker: Tensor) -> Tensor:
        x, total = self.pre(x), torch.zeros(1)
        told = self.enc["cond_layer"](speaker).reshape(16, 1, 160, 1)
        for step in range(16):
            inside, outside = (self.enc.get_submodule(f"{kind}.{step}") for kind in ("in_layers", "res_skip_layers"))
            tangent, gate = (inside(x) + told[step]).split(80, dim=1)
            out = outside(tangent.tanh() * gate.sigmoid())
            if step < 15:
                x = x + out[:, :80]
                out = out[:, 80:]
            total = total + out
        return self.proj(total)


class Block(nn.Module):
    """HiFi-GAN's residual block of the first kind."""

    def __init__(self, width: int, taps: int) -> None:
        super().__init__()
        self.convs1 = nn.ModuleList(
            normed(nn.Conv1d(width, width, taps, padding="same", dilation=dilation)) for dilation in (1, 3, 5)
        )
        self.convs2 = nn.ModuleList(normed(nn.Conv1d(width, width, taps, padding="same")) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        for first, second in zip(self.convs1, self.convs2, strict=True):
            x = x + second(functional.leaky_relu(first(functional.leaky_relu(x, 0.1)), 0.1))
        return x


class Decoder(nn.Module):
    """HiFi-GAN's generator, told the speaker."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_pre, self.cond = nn.Conv1d(80, 256, 7, padding=3), nn.Conv1d(80, 256, 1)
        sizes = list(zip((8, 8, 2, 2, 2), (16, 16, 8, 2, 2), (128, 64, 32, 16, 8), strict=True))
        self.ups = nn.ModuleList(
            normed(nn.ConvTranspose1d(2 * width, width, taps, stride, (taps - stride) // 2))
            for stride, taps, width in sizes
        )
        self.resblocks = nn.ModuleList(Block(width, taps) for _, _, width in sizes for taps in (3, 7, 11))
        self.conv_post = nn.Conv1d(8, 1, 7, padding=3, bias=False)

    def forward(self, x: Tensor, speaker: Tensor) -> Tensor:
        x = self.conv_pre(x) + self.cond(speaker)
        for step, up in enumerate(self.ups):
            x = up(functional.leaky_relu(x, 0.1))
            x = torch.stack([block(x) for block in self.resblocks[3 * step : 3 * step + 3]]).mean(0)
        return torch.tanh(self.conv_post(functional.leaky_relu(x)))


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Posterior, Decoder, Tensor]:
    """A file such as TinyTTS brings, and the networks that are in it."""
    torch.manual_seed(0)
    posterior, decoder, speaker = Posterior().eval(), Decoder().eval(), torch.randn(1, 80)
    stored = {"emb_g.weight": speaker}
    stored |= {f"enc_q.{name}": tensor for name, tensor in posterior.state_dict().items()}
    stored |= {f"dec.{name}": tensor for name, tensor in decoder.state_dict().items()}
    path = tmp_path_factory.mktemp("voice") / "G.pth"
    torch.save({"model": stored}, path)
    return path, posterior, decoder, speaker[:, :, None]


@pytest.fixture(autouse=True)
def _voice(networks: tuple[Path, Posterior, Decoder, Tensor], monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TINY_TTS_WEIGHTS", str(networks[0]))
    vits.voice.cache_clear()
    yield
    vits.voice.cache_clear()


def test_the_networks_are_those_of_the_file(networks: tuple[Path, Posterior, Decoder, Tensor]) -> None:
    _, posterior, decoder, speaker = networks
    with torch.no_grad():
        magnitude = torch.rand(1, 1025, 40)
        found = torch.cat(vits.encoded(vits.voice(), magnitude, speaker), 1)
        assert torch.allclose(found, posterior(magnitude, speaker), atol=1e-5) and found.std() > 1e-2
        latent = 3 * torch.randn(1, 80, 40)
        wave = vits.decoded(vits.voice(), latent, speaker)
        assert wave.shape == (1, 1, 40 * 512)
        assert torch.allclose(wave, decoder(latent, speaker), atol=1e-5) and wave.std() > 1e-3


@pytest.mark.parametrize("name", ["vits", "vits-smooth", "vits-worn"])
@pytest.mark.parametrize("seconds", [0.02, 0.5, 1.3])
def test_a_copy_is_as_long_as_its_original_and_the_seed_s_own(name: str, seconds: float) -> None:
    wave = 0.1 * np.random.default_rng(3).standard_normal(int(seconds * RATE))
    engine = COPY[name]
    assert engine.missing() is None
    copies = [engine.render(wave, RATE, np.random.default_rng(seed)) for seed in (1, 1, 2)]
    assert np.array_equal(copies[0], copies[1]) and not np.array_equal(copies[0], copies[2])
    short, frame = 2048 * RATE / 44_100, 512 * RATE / 33_000
    assert all(np.isfinite(copy).all() and copy.std() > 0 for copy in copies)
    assert all(abs(len(copy) - max(len(wave), short)) < 2 * frame for copy in copies if seconds > 0.1)


def test_worn_voices_decode_otherwise_each_in_its_way_and_encode_alike() -> None:
    voices = [vits.voice(number) for number in (0, 1, 2)]
    for name, tensor in voices[0].items():
        others = [voice[name] for voice in voices[1:]]
        if name.startswith("dec.") and tensor.ndim > 1:
            assert not torch.equal(tensor, others[0]) and not torch.equal(*others), name
        else:
            assert all(torch.equal(tensor, other) for other in others), name


def test_smoothed_latents_move_less_from_frame_to_frame() -> None:
    means = torch.randn(1, 80, 100)
    found = vits.smoothed(means, np.random.default_rng(0))
    assert found.shape == means.shape and found.diff(dim=2).std() < 0.9 * means.diff(dim=2).std()


def test_silence_is_copied_without_a_fault() -> None:
    assert np.isfinite(COPY["vits"].render(np.zeros(RATE), RATE, np.random.default_rng(0))).all()


@pytest.mark.parametrize("content", [b"", b"no weights", {"model": {}}, {"model": 3}, {"other": {}}])
def test_a_file_without_the_weights_is_named(content: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "other.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    monkeypatch.setenv("TINY_TTS_WEIGHTS", str(path))
    with pytest.raises(EngineFailed, match=r"other\.pth does not hold the weights of TinyTTS"):
        vits.voice()


def test_without_the_file_it_says_what_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TINY_TTS_WEIGHTS")
    assert "pip download --no-deps" in str(COPY["vits"].missing())
