"""Copy-synthesis through VITS (Kim et al., "Conditional variational autoencoder with adversarial learning for
end-to-end text-to-speech", 2021): a voice's posterior encoder and decoder, by which any human clip can go.

What most published weights lack, the posterior encoder, those of TinyTTS have. Its code is not run: the two networks,
gated convolutions as in WaveNet and a generator as of HiFi-GAN, are written out below, and of the file the numbers
alone are read.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path
from pickle import UnpicklingError
from struct import error as StructError

import numpy as np
import torch
from scipy.ndimage import gaussian_filter1d
from torch import Tensor
from torch.nn import functional

from training.synthesize.dsp import Wave, fit_length, resample
from training.synthesize.engine import CopyEngine, EngineFailed, Generator, Need
from training.synthesize.engines.weightnorm import multiplied_out

INSTALL = (
    "pip install torch; pip download --no-deps --no-binary :all: tiny-tts==0.2.0, unpack it, "
    "and TINY_TTS_WEIGHTS set to its checkpoints/G.pth"
)
LICENCE = "Apache-2.0 (TinyTTS 0.2.0)"
RATE = 44_100
SIZE, HOP = 2048, 512
WIDTH, GATES = 80, 16
STRIDES, KERNELS, TAPS, DILATIONS = (8, 8, 2, 2, 2), (16, 16, 8, 2, 2), (3, 7, 11), (1, 3, 5)
WORN = 12

Weights = Mapping[str, Tensor]
Change = Callable[[Tensor, Generator], Tensor]


class NeedWeights(Need):
    """The file that TINY_TTS_WEIGHTS names."""

    def missing(self) -> str | None:
        if not Path(os.environ.get("TINY_TTS_WEIGHTS", "")).is_file():
            return f"TINY_TTS_WEIGHTS names no file; install with: {self.install}"
        return super().missing()


NEED = NeedWeights(INSTALL, ("torch",))


@cache
def voice(worn: int = 0) -> Weights:
    """The weights by name; those of the decoder moved at random unless `worn` is 0: another generator's faults.

    Raises EngineFailed where the file does not hold them.
    """
    path = os.environ.get("TINY_TTS_WEIGHTS", "")
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)["model"]
        weights = multiplied_out({name: tensor.float() for name, tensor in stored.items()})
        sizes = [weights[name].shape[1] for name in ("dec.conv_pre.weight", "emb_g.weight", "enc_q.pre.weight")]
        if sizes != [WIDTH, WIDTH, SIZE // 2 + 1]:
            raise KeyError("other sizes")
    except (
        OSError,
        EOFError,
        LookupError,
        TypeError,
        AttributeError,
        ValueError,
        RuntimeError,
        UnpicklingError,
        StructError,
    ) as error:
        why = type(error).__name__
        raise EngineFailed(f"{path} does not hold the weights of TinyTTS 0.2.0 ({why})") from None
    if worn:
        dice = torch.Generator().manual_seed(worn)
        size = 0.01 + 0.07 * float(torch.rand(1, generator=dice))
        for name, tensor in weights.items():
            if name.startswith("dec.") and tensor.ndim > 1:
                weights[name] = tensor * (1 + size * torch.randn(tensor.shape, generator=dice))
    return weights


def convolved(weights: Weights, name: str, x: Tensor, dilation: int = 1) -> Tensor:
    """The convolution `name` of odd length over x [1, channels, frames], which keeps the number of frames."""
    weight = weights[f"{name}.weight"]
    reach = weight.shape[2] // 2 * dilation
    return functional.conv1d(x, weight, weights.get(f"{name}.bias"), padding=reach, dilation=dilation)


def encoded(weights: Weights, magnitude: Tensor, speaker: Tensor) -> tuple[Tensor, Tensor]:
    """The posterior's means and log deviations [1, 80, frames] of magnitudes [1, 1025, frames]."""
    x = convolved(weights, "enc_q.pre", magnitude)
    told = convolved(weights, "enc_q.enc.cond_layer", speaker).chunk(GATES, dim=1)
    total = torch.zeros_like(x)
    for step in range(GATES):
        inner = convolved(weights, f"enc_q.enc.in_layers.{step}", x) + told[step]
        gated = torch.tanh(inner[:, :WIDTH]) * torch.sigmoid(inner[:, WIDTH:])
        out = convolved(weights, f"enc_q.enc.res_skip_layers.{step}", gated)
        if step < GATES - 1:
            x = x + out[:, :WIDTH]
        total = total + out[:, -WIDTH:]
    means, deviations = convolved(weights, "enc_q.proj", total).chunk(2, dim=1)
    return means, deviations


def decoded(weights: Weights, latent: Tensor, speaker: Tensor) -> Tensor:
    """Wave [1, 1, 512 * frames] at 44.1 kHz of latents [1, 80, frames]."""
    x = convolved(weights, "dec.conv_pre", latent) + convolved(weights, "dec.cond", speaker)
    for step, (stride, kernel) in enumerate(zip(STRIDES, KERNELS, strict=True)):
        up = f"dec.ups.{step}."
        x = functional.leaky_relu(x, 0.1)
        x = functional.conv_transpose1d(x, weights[up + "weight"], weights[up + "bias"], stride, (kernel - stride) // 2)
        blocks = torch.zeros_like(x)
        for number in range(len(TAPS)):
            block, y = f"dec.resblocks.{step * len(TAPS) + number}", x
            for layer, dilation in enumerate(DILATIONS):
                inner = convolved(weights, f"{block}.convs1.{layer}", functional.leaky_relu(y, 0.1), dilation)
                y = y + convolved(weights, f"{block}.convs2.{layer}", functional.leaky_relu(inner, 0.1))
            blocks = blocks + y
        x = blocks / len(TAPS)
    return torch.tanh(convolved(weights, "dec.conv_post", functional.leaky_relu(x, 0.01)))


def spectrum(wave: Wave) -> Tensor:
    """Magnitudes float32 [1, 1025, frames] of a wave at 44.1 kHz, as VITS takes them."""
    padded = np.pad(wave, (SIZE - HOP) // 2, mode="reflect")
    samples = torch.from_numpy(padded.astype(np.float32))
    found = torch.stft(samples, SIZE, HOP, window=torch.hann_window(SIZE), center=False, return_complex=True)
    return torch.sqrt(found.abs().square() + 1e-6)[None]


def kept(means: Tensor, generator: Generator) -> Tensor:
    """The latents as they are."""
    return means


def smoothed(means: Tensor, generator: Generator) -> Tensor:
    """The latents' means blurred over time, as a text encoder's, which knows no more than the sound in each moment."""
    blurred = gaussian_filter1d(means.numpy(), generator.uniform(0.4, 1.5), axis=2)
    return torch.from_numpy(blurred * np.float32(generator.uniform(0.85, 1.05)))


@torch.no_grad()
def render(wave: Wave, rate: int, generator: Generator, change: Change = kept, worn: bool = False) -> Wave:
    """Copy [samples] of `wave` by the voice, or by a worn one at another speed than it learnt."""
    speed = int(RATE * generator.uniform(0.75, 1.25)) if worn else RATE
    weights = voice(int(generator.integers(1, WORN + 1)) if worn else 0)
    source = fit_length(resample(wave, rate, speed), max(SIZE, round(len(wave) * speed / rate)))
    source = source * (0.6 / max(float(np.max(np.abs(source))), 1e-9))  # the level of what it learnt from
    speaker = weights["emb_g.weight"][:1, :, None]
    means, deviations = encoded(weights, spectrum(source), speaker)
    noise = torch.from_numpy(generator.standard_normal(means.shape).astype(np.float32))
    latent = change(means, generator) + noise * torch.exp(deviations) * generator.uniform(0.2, 1.0)
    return resample(decoded(weights, latent, speaker).numpy().ravel().astype(np.float64), speed, rate)


ENGINES = [
    CopyEngine("vits", LICENCE, 0.4, NEED, render),
    CopyEngine("vits-smooth", LICENCE, 0.2, NEED, partial(render, change=smoothed)),
    CopyEngine("vits-worn", LICENCE, 0.3, NEED, partial(render, worn=True)),
]
