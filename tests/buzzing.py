"""Six human clips of noise and a copy of each, which buzzes; and a network small enough to learn which is which."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import soundfile

from evaluation.protocols import Clip
from export.rawnet2 import VARIANTS
from training.batches import Library

RATE = 16000
SMALL = replace(VARIANTS["hybrid"], filters=12, kernel=101, encoder_width=24, encoder_heads=3, encoder_layers=2)
SMALL = replace(SMALL, fc_nodes=8)


def buzzing_library(folder: Path) -> Library:
    """The clips, written to `folder` and read again."""
    clips = []
    for number in range(6):
        rng = np.random.default_rng(number)
        human = 0.1 * rng.standard_normal(2 * RATE) * (1 + np.sin(np.arange(2 * RATE) / 3000))
        copy = human * 0.3 + 0.1 * np.sign(np.sin(np.arange(2 * RATE) * rng.uniform(0.04, 0.1)))
        paths = [folder / f"{label}{number}.flac" for label in ("bonafide", "spoof")]
        for path, sound in zip(paths, (human, copy), strict=True):
            soundfile.write(path, sound, RATE)
        clips.append(Clip(paths[0], "bonafide", source="page"))
        clips.append(Clip(paths[1], "spoof", system="copy-buzz", source="page", original=paths[0]))
    return Library(clips, RATE)
