"""Properties of recordings that are no trace of synthesis: what each alone tells of labels is what a shortcut gives.

A model whose EER is no better than that of the best of these may have learned it and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.signal
import scipy.stats
from numpy.typing import NDArray

from evaluation import breakdown
from evaluation.acoustics.effects import RATE, Samples
from evaluation.bootstrap import Estimate
from evaluation.metrics import Floats, eer, eer_clustered
from evaluation.progress import silently
from evaluation.protocols import Clip
from evaluation.scoring.perturbation import read_samples

_ROUNDS = 200  # of the bootstrap, as of other parts
_FRAME = RATE // 50
_QUIET_DB = 40.0  # below the loudest frame, as in `effects.trimmed`
_LEAST = 1e-10  # power of what is digital silence
_EDGE_DB = 50.0  # the band ends where the long-term spectrum is that far below its highest
FEATURES = {
    "duration": "s",
    "leading silence": "s",
    "trailing silence": "s",
    "level": "dB, RMS",
    "noise floor": "dB, quietest 5 % of frames against the loudest",
    "roll-off": "Hz, 95 % of the power below",
    "bandwidth": "Hz, where the spectrum falls 50 dB below its highest",
    "offset": "dB, constant part",
}
"""Names, and what they are measured in."""


@dataclass(frozen=True)
class FeatureAlone:
    """How well a feature alone tells the labels apart, higher or lower being bona fide, whichever is better here."""

    name: str
    unit: str
    bonafide: float  # median
    spoof: float
    pooled: Estimate
    within: Estimate | None
    correlation: float | None  # Spearman's, with the model's score, within sources and labels


def features(samples: Samples) -> list[float]:
    """Those of FEATURES, of a clip, float32 [n >= 1] at RATE."""
    sound = samples.astype(np.float64)
    power = np.mean(np.pad(sound, (0, -sound.size % _FRAME)).reshape(-1, _FRAME) ** 2, axis=1) + _LEAST
    loud = np.flatnonzero(power >= power.max() / 10 ** (_QUIET_DB / 10))
    # No window of 1024 fits a clip of fewer samples; SciPy would warn of that.
    frequencies, density = scipy.signal.welch(sound, RATE, nperseg=min(1024, sound.size), detrend=False)
    total = np.cumsum(density)
    top = density >= density.max() / 10 ** (_EDGE_DB / 10)
    return [
        sound.size / RATE,
        loud[0] * _FRAME / RATE,
        (power.size - 1 - loud[-1]) * _FRAME / RATE,
        10 * float(np.log10(np.mean(sound**2) + _LEAST)),
        10 * float(np.log10(np.quantile(power, 0.05) / power.max())),
        float(frequencies[np.searchsorted(total, 0.95 * total[-1])]),
        float(frequencies[np.flatnonzero(top)[-1]]),
        20 * float(np.log10(abs(np.mean(sound)) + 1e-6)),
    ]


def measured(clips: Sequence[Clip], progress: Callable[..., Any] = silently) -> Floats:
    """The features of clips, [clips, FEATURES]. Raises InputError for one that cannot be read."""
    return np.array([features(read_samples(clip.path)) for clip in progress(clips, desc="features", unit="clip")])


def alone(values: Floats, clips: Sequence[Clip], scores: Floats) -> list[FeatureAlone]:
    """What each feature tells by itself: `values` [clips, FEATURES]; `scores` [clips] are the model's.

    Raises ValueError without both labels.
    """
    human = np.array([clip.is_bonafide for clip in clips], bool)
    sources = np.array([clip.source for clip in clips])
    found = []
    for column, (name, unit) in zip(values.T, FEATURES.items(), strict=True):
        untied = _untied(column)
        moved, known = breakdown.centred(untied, human, breakdown.sources(clips))
        found.append(
            FeatureAlone(
                name,
                unit,
                float(np.median(column[human])),
                float(np.median(column[~human])),
                _better(untied, human, sources),
                _better(moved[known], human[known], sources[known]) if known.any() else None,
                _correlation(column, scores, clips),
            )
        )
    return found


def _better(column: Floats, human: breakdown.Members, sources: NDArray[np.str_]) -> Estimate:
    """Of both signs, the one that makes for the lower EER."""
    chosen = min((column, -column), key=lambda side: eer(side[human], side[~human])[0])
    return eer_clustered(chosen, human, sources.tolist(), _ROUNDS)


def _untied(column: Floats) -> Floats:
    """With what is equal told apart at random: an EER of many equal values depends on the order of the clips."""
    least = 1e-6 * (float(np.ptp(column)) or 1.0)
    return column + np.random.default_rng(0).uniform(-least, least, column.size)


def _correlation(column: Floats, scores: Floats, clips: Sequence[Clip]) -> float | None:
    """Spearman's, of ranks within each source and label: what the labels and the sources have in common is out."""
    groups = np.array([f"{clip.source}\0{clip.label}" for clip in clips])
    pairs = []
    for name in np.unique(groups):
        own = groups == name
        if own.sum() >= breakdown.FEWEST:
            ranks = [scipy.stats.rankdata(side[own]) / own.sum() for side in (column, scores)]
            pairs.append(np.stack([rank - rank.mean() for rank in ranks]))
    if not pairs:
        return None
    first, second = np.concatenate(pairs, axis=1)
    size = float(np.linalg.norm(first) * np.linalg.norm(second))
    return float(first @ second) / size if size else None
