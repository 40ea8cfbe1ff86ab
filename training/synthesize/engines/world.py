"""Copy-synthesis and voice conversion by the WORLD vocoder (Morise, Yokomori and Ozawa 2016)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from training.synthesize.dsp import Spectrum, Wave, fit_length, warp_axis
from training.synthesize.engine import CopyEngine, Generator, Need, load

NEED = Need("pip install pyworld 'setuptools<81'", ("pyworld", "pkg_resources"))
LICENCE = "MIT (WORLD, pyworld)"
FRAME_MS = 5.0


@dataclass(frozen=True)
class Voiceprint:
    """What WORLD keeps of a wave: pitch [frames] in Hz (0 unvoiced), power envelope and aperiodicity
    [frames, bins], one frame each 5 ms."""

    pitch: Wave
    envelope: Spectrum
    aperiodicity: Spectrum


def pyworld() -> Any:
    """The module (which still asks for setuptools' old pkg_resources), imported when first used."""
    return load("pyworld")


def pitch_of(wave: Wave, rate: int) -> Wave:
    """Pitch [frames] in Hz, 0 where unvoiced, a frame each 5 ms (DIO refined by StoneMask)."""
    rough, times = pyworld().dio(wave, rate, frame_period=FRAME_MS)
    return np.asarray(pyworld().stonemask(wave, rough, times, rate))


def pitch_of_samples(wave: Wave, rate: int) -> Wave:
    """Pitch [samples] in Hz, 0 where unvoiced, constant within each 5 ms."""
    step = int(rate * FRAME_MS / 1000)
    return fit_length(np.repeat(pitch_of(wave, rate), step), len(wave))


def analyse(wave: Wave, rate: int) -> Voiceprint:
    pitch = pitch_of(wave, rate)
    times = np.arange(len(pitch)) * FRAME_MS / 1000
    return Voiceprint(pitch, pyworld().cheaptrick(wave, pitch, times, rate), pyworld().d4c(wave, pitch, times, rate))


def build(print_: Voiceprint, rate: int, samples: int) -> Wave:
    parts = (np.ascontiguousarray(part) for part in (print_.pitch, print_.envelope, print_.aperiodicity))
    return fit_length(pyworld().synthesize(*parts, rate, FRAME_MS), samples)


def copy(wave: Wave, rate: int, generator: Generator) -> Wave:
    """Analysis and synthesis with nothing changed."""
    return build(analyse(wave, rate), rate, len(wave))


def convert_voice(wave: Wave, rate: int, generator: Generator) -> Wave:
    """Another speaker: pitch moved by 1.5 to 6 semitones, its swing scaled, the tract by up to 18 %."""
    found = analyse(wave, rate)
    direction = generator.choice([-1.0, 1.0])
    shift = direction * generator.uniform(1.5, 6.0) / 12.0
    voiced = found.pitch > 0
    octave = np.log2(np.where(voiced, found.pitch, 1.0))
    centre = float(np.median(octave[voiced])) if voiced.any() else 0.0
    moved = centre + (octave - centre) * generator.uniform(0.6, 1.3) + shift
    pitch = np.where(voiced, 2.0**moved, 0.0)
    factor = 1.0 + direction * generator.uniform(0.03, 0.18)
    envelope = np.exp(warp_axis(np.log(found.envelope + 1e-16), factor))
    return build(Voiceprint(pitch, envelope, found.aperiodicity), rate, len(wave))


ENGINES = [
    CopyEngine("world", LICENCE, 1 / 6, NEED, copy),
    CopyEngine("world-vc", LICENCE, 1 / 6, NEED, convert_voice),
]
