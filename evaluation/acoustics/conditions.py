"""What happens to speech between a mouth and a detector: each condition a function from samples to samples.

A condition is applied to bona fide and spoofed clips alike. What is random in it is drawn from a generator that depends
on the clip, the condition and a seed and on nothing else (`generator`), so that all models hear the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from edge_runtime.errors import InputError, UsageError
from evaluation.acoustics.effects import (
    RATE,
    Random,
    Samples,
    clipped,
    coded,
    filtered,
    louder,
    noisy,
    padded,
    pink,
    reverberant,
    shortened,
    speech_shaped,
    trimmed,
    unchanged,
    white,
)
from evaluation.acoustics.replay import replayed


@dataclass(frozen=True)
class Condition:
    """`apply` takes mono samples, float32 [n >= 1] at RATE, and what it may draw from, and gives float32 [m >= 1]."""

    axis: str
    name: str
    apply: Callable[[Samples, Random], Samples]


def generator(seed: int, clip: str, condition: str) -> Random:
    """The same for the same three, on every machine and in every order."""
    digest = hashlib.sha256(f"{seed}\0{clip}\0{condition}".encode("utf-8", "surrogateescape")).digest()
    return np.random.default_rng(list(digest))


def _all() -> list[Condition]:
    kinds = {"white": white, "pink": pink, "speech-shaped": speech_shaped}
    codecs: dict[str, Callable[[Samples, Random], Samples]] = {
        "mp3-24k": partial(coded, container="MP3", codec="MPEG_LAYER_III", compression=0.9),
        "vorbis-34k": partial(coded, container="OGG", codec="VORBIS", compression=0.8),
        "opus-28k": partial(coded, container="OGG", codec="OPUS", compression=0.9),
        "opus-7k": partial(coded, container="OGG", codec="OPUS", compression=1.0),
        "gsm-8khz": partial(coded, container="WAV", codec="GSM610", rate=8000),
        "ulaw-8khz": partial(coded, container="WAV", codec="ULAW", rate=8000),
        "alaw-8khz": partial(coded, container="WAV", codec="ALAW", rate=8000),
        "ima-adpcm": partial(coded, container="WAV", codec="IMA_ADPCM"),
    }
    return [
        Condition("clean", "clean", unchanged),
        *(
            Condition("noise", f"{name}-{snr_db}db", partial(noisy, kind=kind, snr_db=snr_db))
            for name, kind in kinds.items()
            for snr_db in (20, 10, 5, 0)
        ),
        *(Condition("codec", name, apply) for name, apply in codecs.items()),
        *(Condition("room", f"rt60-{rt60_s}s", partial(reverberant, rt60_s=rt60_s)) for rt60_s in (0.3, 0.6, 1.0)),
        Condition("replay", "replay", replayed),
        *(Condition("length", f"length-{s:g}s", partial(shortened, seconds=s)) for s in (0.5, 1.0, 2.0, 4.0)),
        Condition("band", "lowpass-4khz", partial(filtered, kind="lowpass", edges_hz=4000.0)),
        Condition("band", "telephone-band", partial(filtered, kind="bandpass", edges_hz=(300.0, 3400.0))),
        Condition("silence", "trimmed", trimmed),
        Condition("silence", "padded-1s", partial(padded, seconds=1.0)),
        Condition("level", "level-20db-down", partial(louder, gain_db=-20)),
        Condition("level", "clipped-6db", partial(clipped, over_db=6)),
        Condition("level", "clipped-12db", partial(clipped, over_db=12)),
    ]


CONDITIONS = {condition.name: condition for condition in _all()}
"""By name, in the order of reports; bit rates in names are those of 16 kHz speech."""


def chosen(names: Sequence[str] | None, among: Mapping[str, Condition] = CONDITIONS) -> list[Condition]:
    """Those of the names or axes given, `clean` always first; None means all. Raises UsageError for other names.

    Commas may part names, as in `clean,replay`.
    """
    if names is None:
        return list(among.values())
    named = [name for part in names for name in part.split(",") if name]
    axes = list(dict.fromkeys(condition.axis for condition in among.values()))
    for name in named:
        if name not in among and name not in axes:
            known = f"axes: {', '.join(axes)}; conditions: {', '.join(among)}"
            raise UsageError(f"no condition or axis is called {name} ({known})")
    wanted = {"clean", *named}
    return [item for item in among.values() if item.name in wanted or item.axis in wanted]


def possible(conditions: Sequence[Condition]) -> tuple[list[Condition], list[str]]:
    """Those that this machine can make, and a line for each other one: older libsndfiles lack codecs."""
    able, refusals = [], []
    sound = (0.1 * np.sin(np.arange(RATE // 2) / 5)).astype(np.float32)
    for condition in conditions:
        try:
            condition.apply(sound, np.random.default_rng(0))
        except InputError as reason:
            refusals.append(f"{condition.name} is left out: {reason}")
        else:
            able.append(condition)
    return able, refusals
