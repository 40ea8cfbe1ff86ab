"""Whether a stretch of sound is fit to be judged: its level, clipping, noise and damaged samples."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_runtime.decision.verdict import Reason

SILENCE_DBFS = -60.0
"""RMS below which a window holds nothing to judge: the noise floor of a fair microphone, far below speech."""
FLOOR_DBFS = -120.0
"""The level that digital silence is given, as JSON has no minus infinity."""
FULL_SCALE = 0.99
"""Magnitude from which a sample counts as clipped: a resampler rounds the flat tops off a little."""
CLIPPED_SHARE = 0.01
"""Share of clipped samples above which a score is not trusted: the distortion is not the speaker's."""
NOISY_DB = 12.0
"""Contrast under which noise hides what a voice is made of: some 7 dB of signal to noise.

On dev with noise added the model's equal error rate is 36 to 41 % there and 25 % above 25 dB, and a bona fide verdict
says half as much; of clean windows 0.5 % lie below on dev, of people's in the training clips 1.1 %. Quiet and
band-limited windows are not objected to: error rates rise by less than one and by 4 points, and the verdicts given say
as much as on others (benchmarks/results/edge-2-hours.md).
"""
FRAME = 320
"""Samples whose level counts as one, 20 ms at 16 kHz: shorter than a syllable and the pause after it."""
FEWEST_FRAMES = 50
"""Contrast of less sound, 1 s, tells nothing: it may be one vowel."""
LARGEST_DB = 120.0
"""The contrast of what has digital silence in it, or is too short to have one: never an objection."""
LEAST_SECONDS = 0.5
"""Shorter sound is repeated so often that its score says more about the seams than about the voice."""
LARGEST = 1e4
"""Magnitude (80 dB over full scale) from which a float is junk, not sound, and counts as invalid."""


@dataclass(frozen=True)
class Quality:
    """Measured on one window. Levels in dB of full scale 1.0, so that a full-scale sine has -3 dBFS RMS."""

    level_dbfs: float  # RMS about the mean: a constant offset is silence
    peak_dbfs: float
    clipped: float  # share of samples at full scale, 0 to 1
    invalid: int  # samples that were not finite or absurdly large, and were replaced by 0
    contrast_db: float = LARGEST_DB  # from the level that a tenth of the frames stay under to that which a tenth exceed

    @property
    def silent(self) -> bool:
        return self.level_dbfs < SILENCE_DBFS


def clean(samples: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Samples, float32 [n], with the invalid ones replaced by 0, and where those are, bool [n]."""
    with np.errstate(invalid="ignore"):
        magnitude = np.abs(samples)
        if magnitude.max(initial=0) <= LARGEST:  # the usual case in one pass; NaN compares as false
            return samples, np.zeros(samples.shape, np.bool_)
        invalid = ~(magnitude <= LARGEST)
    return np.where(invalid, np.float32(0), samples), invalid


def measure(samples: NDArray[np.float32], invalid: int = 0, as_it_came: NDArray[np.float32] | None = None) -> Quality:
    """The quality of cleaned samples, float32 [n], of which `invalid` had to be replaced.

    Peak and clipping are those of `as_it_came`, float32 [n], where the samples have been filtered since.
    """
    if samples.size == 0:
        return Quality(FLOOR_DBFS, FLOOR_DBFS, 0.0, invalid)
    centred = samples - samples.mean()  # NumPy adds in pairs: float32 is exact enough, and four times as fast
    whole = samples if as_it_came is None else as_it_came
    peak = float(max(whole.max(), -whole.min()))
    clipped = np.count_nonzero(np.abs(whole) >= FULL_SCALE) if peak >= FULL_SCALE else 0
    return Quality(
        level_dbfs=_dbfs(math.sqrt(float(np.dot(centred, centred)) / samples.size)),
        peak_dbfs=_dbfs(peak),
        clipped=clipped / samples.size,
        invalid=invalid,
        contrast_db=_contrast_db(centred),
    )


def objection(quality: Quality, seconds: float) -> Reason:
    """Why `seconds` of sound of this quality give no plain verdict, the gravest reason first."""
    if quality.invalid:
        return Reason.INVALID
    if quality.silent:
        return Reason.SILENT
    if seconds < LEAST_SECONDS:
        return Reason.SHORT
    if quality.clipped > CLIPPED_SHARE:
        return Reason.CLIPPED
    if quality.contrast_db < NOISY_DB:
        return Reason.NOISY
    return Reason.NONE


def _contrast_db(centred: NDArray[np.float32]) -> float:
    """Speech has pauses, and in them its noise is heard alone: how far the loud frames stand out from the faint."""
    count = centred.size // FRAME
    if count < FEWEST_FRAMES:
        return LARGEST_DB
    frames = centred[: count * FRAME].reshape(count, FRAME)
    power = np.sort(np.einsum("ij,ij->i", frames, frames))
    faint, loud = float(power[count // 10]), float(power[-1 - count // 10])
    return min(LARGEST_DB, 10 * math.log10(loud / faint)) if faint > 0 else LARGEST_DB


def _dbfs(magnitude: float) -> float:
    return max(FLOOR_DBFS, 20 * math.log10(magnitude)) if magnitude > 0 else FLOOR_DBFS
