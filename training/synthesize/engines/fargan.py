"""Copy-synthesis through FARGAN (Valin, Mustafa and Büthe, "Very low complexity speech synthesis using framewise
autoregressive GAN with pitch prediction", 2024), the neural vocoder that comes with Opus 1.5: from the features of each
10 ms as they are, over-smooth, of another pitch, or as they come out of Opus' deep redundancy.

The two programs are those that a build of Opus leaves beside the library and that no distribution installs.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from training.synthesize.dsp import Wave, resample
from training.synthesize.engine import CopyEngine, EngineFailed, Generator, Need

RATE = 16_000
FRAME = 160
FEATURES, BANDS, PITCH = 36, 18, 18
"""Numbers in a frame of features (20 are used), its cepstral coefficients, and the place of its pitch."""
LAG = 240
"""Samples by which what is synthesized lies behind the wave that its features were taken of."""
PITCHES = (np.log2(256 / 255) - 1.5, np.log2(256 / 32) - 1.5)
"""The features of the longest and the shortest period (255 and 32 samples) that the network knows."""
PACKET = 320

Features = NDArray[np.float32]
Change = Callable[[Features, Generator], Features]

NEED = Need(
    "the source of Opus 1.5 (Debian's package opus), ./configure --enable-deep-plc --enable-dred && make, "
    "and its folder in PATH",
    programs=("fargan_demo", "opus_demo"),
)
LICENCE = "BSD-3-Clause (Opus 1.5)"


def call(*command: object) -> None:
    """Run a program that is quiet unless it fails."""
    try:
        subprocess.run([str(part) for part in command], check=True, capture_output=True, timeout=120)
    except (OSError, subprocess.SubprocessError) as error:
        raise EngineFailed(f"{command[0]}: {error}") from None


def write(path: Path, wave: Wave) -> None:
    """`wave` [samples] as the 16-bit numbers that the programs read."""
    np.clip(np.round(wave * 32768), -32768, 32767).astype("<i2").tofile(path)


def read(path: Path) -> Wave:
    return np.asarray(np.fromfile(path, "<i2") / 32768.0, dtype=np.float64)


def kept(features: Features, generator: Generator) -> Features:
    """The features as they are: the vocoder's trace alone."""
    return features


def smoothed(features: Features, generator: Generator) -> Features:
    """The cepstra, and half the time the pitch, blurred over time and with less contrast, as by an acoustic model."""
    count = BANDS + int(generator.integers(2))
    blurred = gaussian_filter1d(features[:, :count], generator.uniform(0.5, 2.0), axis=0)
    mean = blurred.mean(axis=0)
    features[:, :count] = mean + (blurred - mean) * generator.uniform(0.9, 1.05)
    features[:, PITCH] = np.clip(features[:, PITCH], *PITCHES)
    return features


def repitched(features: Features, generator: Generator) -> Features:
    """The pitch moved by up to half an octave, and its movement flattened or widened: a voice converter's."""
    pitch = features[:, PITCH]
    middle = np.median(pitch)
    moved = middle + generator.uniform(-0.5, 0.5) + (pitch - middle) * generator.uniform(0.6, 1.3)
    features[:, PITCH] = np.clip(moved, *PITCHES)
    return features


def render(wave: Wave, rate: int, generator: Generator, change: Change = kept) -> Wave:
    """Copy of `wave` from its features [frames, 36] after `change`."""
    with TemporaryDirectory() as folder:
        sound, numbers, out = (Path(folder) / name for name in ("in.pcm", "features.f32", "out.pcm"))
        write(sound, np.pad(resample(wave, rate, RATE), (5 * FRAME, LAG + FRAME)))
        call("fargan_demo", "-features", sound, numbers)
        found = np.fromfile(numbers, "<f4")
        if not found.size or found.size % FEATURES:
            raise EngineFailed(f"fargan_demo wrote no frames of {FEATURES} numbers: it is not that of Opus 1.5")
        features = found.reshape(-1, FEATURES)
        change(features, generator).astype("<f4").tofile(numbers)
        call("fargan_demo", "-fargan-synthesis", numbers, out)
        return resample(read(out)[LAG:], RATE, rate)


def render_fast(wave: Wave, rate: int, generator: Generator) -> Wave:
    """Copy of `wave` as if it had been slower: the vocoder's trace moves up in pitch and in frequency."""
    speed = int(RATE * generator.uniform(1.08, 1.35))
    return resample(render(resample(wave, rate, speed), RATE, generator), speed, rate)


def render_redundancy(wave: Wave, rate: int, generator: Generator) -> Wave:
    """What Opus' decoder makes of one packet in 20 to 42: of the others the features that deep redundancy tells.

    A variational autoencoder has had them in some 20 numbers every 40 ms, quantized: about 1 kbit/s.
    """
    with TemporaryDirectory() as folder:
        sound, losses, out = (Path(folder) / name for name in ("in.pcm", "losses.txt", "out.pcm"))
        period, first = int(generator.integers(20, 43)), int(generator.integers(42))
        spoken = np.pad(resample(wave, rate, RATE), (0, 43 * PACKET))
        heard = [number == 0 or (first + number) % period == 0 for number in range(len(spoken) // PACKET + 1)]
        losses.write_text("".join(f"{int(not one)}\n" for one in heard))
        write(sound, spoken)
        bits = int(generator.integers(64, 97)) * 1000
        options = ("-dred", 100, "-loss", 95, "-lossfile", losses, "-dec_complexity", 7)
        call("opus_demo", "voip", RATE, 1, bits, *options, sound, out)
        return resample(read(out), RATE, rate)[: len(wave)]


ENGINES = [
    CopyEngine("fargan", LICENCE, 0.4, NEED, render),
    CopyEngine("fargan-fast", LICENCE, 0.3, NEED, render_fast),
    CopyEngine("fargan-smooth", LICENCE, 0.2, NEED, partial(render, change=smoothed)),
    CopyEngine("fargan-pitch", LICENCE, 0.15, NEED, partial(render, change=repitched)),
    CopyEngine("opus-dred", LICENCE, 0.3, NEED, render_redundancy),
]
