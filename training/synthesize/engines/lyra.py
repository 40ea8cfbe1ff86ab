"""Copy-synthesis through Lyra V2, a neural codec: SoundStream's encoder and quantizer and the decoder LyraGAN.

Zeghidour et al., "SoundStream: An end-to-end neural audio codec", 2021; the models are those of google/lyra
(Apache-2.0, 2022). Language models of speech say their tokens through decoders of this kind. Three rates: 16, 30
and 46 quantizers a step of 20 ms are 3.2, 6 and 9.2 kbit/s.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.synthesize.dsp import Wave, fit_length, resample
from training.synthesize.engine import CopyEngine, EngineFailed, Generator, Need, load

RATE = 16_000
STEP = 320
"""Samples that are coded at once."""
FILES = ("soundstream_encoder.tflite", "quantizer.tflite", "lyragan.tflite")
FOLDER = "LYRA_MODELS"
LICENCE = "Apache-2.0 (google/lyra)"
QUANTIZERS = {"lyra": 16, "lyra-6k": 30, "lyra-9k": 46}


@dataclass(frozen=True)
class _Need(Need):
    """The package that runs the models, and the folder that holds them."""

    def missing(self) -> str | None:
        found = super().missing()
        folder = os.environ.get(FOLDER, "")
        absent = [name for name in FILES if not (Path(folder) / name).is_file()]
        if found is None and (not folder or absent):
            what = f"{folder} has no {', '.join(absent)}" if folder else f"{FOLDER} names no folder"
            found = f"{what}; install with: {self.install}"
        return found


NEED = _Need(
    f"pip install ai-edge-litert; the files {', '.join(FILES)} of github.com/google/lyra (lyra/model_coeffs), "
    f"and {FOLDER} set to their folder",
    ("ai_edge_litert",),
)


@cache
def models() -> tuple[Any, ...]:
    """The interpreters of FILES, in order. Raises EngineFailed when one cannot be read."""
    interpreter = load("ai_edge_litert.interpreter").Interpreter
    folder = Path(os.environ.get(FOLDER, ""))
    try:
        return tuple(interpreter(model_path=str(folder / name), num_threads=1) for name in FILES)
    except (ValueError, OSError, RuntimeError) as error:
        raise EngineFailed(f"{folder}: {error}") from None


def coded(steps: NDArray[np.float32], quantizers: int) -> NDArray[np.float32]:
    """Steps, float32 [n, 320] in order, through the codec: float32 [n, 320]."""
    encoder, quantizer, decoder = models()
    for model in (encoder, decoder):  # both hold state from step to step
        model.reset_all_variables()
    encode, decode = (quantizer.get_signature_runner(name) for name in ("encode", "decode"))
    run_encoder, run_decoder = (model.get_signature_runner("serving_default") for model in (encoder, decoder))
    count = np.array(quantizers, np.int32)
    found = np.empty_like(steps)
    for number, step in enumerate(steps):
        frames = run_encoder(input_audio=step[None])["output_0"]
        said = encode(input_frames=frames, num_quantizers=count)
        indices = next(value for value in said.values() if value.dtype == np.int32)
        features = decode(encoding_indices=indices)["output_0"]
        found[number] = run_decoder(input_audio=features)["output_0"][0]
    return found


def render(
    wave: Wave,
    rate: int,
    generator: Generator,
    quantizers: int,
    codec: Callable[[NDArray[np.float32], int], NDArray[np.float32]] = coded,
) -> Wave:
    """Copy [samples] of `wave` by the codec at `quantizers` a step."""
    narrow = resample(wave, rate, RATE)
    steps = fit_length(narrow, -(-len(narrow) // STEP) * STEP).reshape(-1, STEP).astype(np.float32)
    said = codec(steps, quantizers).ravel().astype(np.float64)
    return resample(said[: len(narrow)], RATE, rate)


ENGINES = [
    CopyEngine(name, LICENCE, 0.4 if name == "lyra" else 0.1, NEED, partial(render, quantizers=quantizers))
    for name, quantizers in QUANTIZERS.items()
]
