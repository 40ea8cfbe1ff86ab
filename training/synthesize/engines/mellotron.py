"""Mellotron (Valle et al. 2020, here a Tacotron 2 of many Mandarin speakers), from the package ttskit, before one of
several vocoders: the over-smooth spectra of a text-to-speech model with more than one vocoder's trace.

The package is not imported, as it asks for far more than its network does; that is a pickle, which names the package's
modules. What these import and the network does not use is stood in for while it is loaded.
"""

from __future__ import annotations

import hashlib
import importlib
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from functools import cache, partial
from types import ModuleType
from typing import Any

import numpy as np
import torch

from training.synthesize.dsp import Spectrum, Wave
from training.synthesize.engine import EngineFailed, Generator, Need, Speech, SpeechEngine, Voice, load
from training.synthesize.engines import neural
from training.synthesize.engines.gan import HIFIGAN, HIFIGAN_LICENCE, hifigan, melgan, package, sound

NEED = Need(
    "pip install torch inflect; pip install --no-deps ttskit phkit pypinyin jieba hanziconv unidecode",
    ("torch", "ttskit", "phkit", "pypinyin", "jieba", "hanziconv", "unidecode"),
)
LICENCE = "MIT (ttskit)"
UNUSED = (
    "aukit", "aukit.audio_spectrogram", "aukit.audio_io", "aukit.audio_griffinlim", "librosa", "librosa.filters",
    "librosa.util",
)  # fmt: skip
SPEAKERS = (
    "Aibao", "Aicheng", "Aida", "Aijia", "Aijing", "Aimei", "Aina", "Aiqi", "Aitong", "Aiwei", "Aixia", "Aiya",
    "Aiyu", "Aiyue", "Siyue", "Xiaobei", "Xiaogang", "Xiaomei", "Xiaomeng", "Xiaowei", "Xiaoxue", "Xiaoyun", "Yina",
    "biaobei",
)  # fmt: skip
DONE = 0.5
"""Probability of the end from which on a frame is the last."""


class _Nothing(ModuleType):
    """Stands for a module of which the network uses nothing: a name in it is an empty table that can be called."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (dict,), {"__call__": lambda *_, **__: None})()


@contextmanager
def _stood_in() -> Iterator[None]:
    """While it lasts, the modules of the pickle are found, and what they import and do not use is there."""
    folder = str(package("ttskit"))
    before = set(sys.modules)
    sys.path.insert(0, folder)
    for name in UNUSED:
        if name not in before:
            sys.modules[name] = _Nothing(name)
    try:
        yield
    finally:
        sys.path.remove(folder)
        for name in UNUSED:
            if name not in before:
                del sys.modules[name]


@cache
def network() -> Any:
    """The network: `inference((ids, 0, speaker, None))` gives mels [1, 80, frames] and ends [1, frames, 1], logits."""
    path = package("ttskit") / "resource" / "model" / "mellotron.kuangdd-mspk.pt"
    if not path.is_file():
        raise EngineFailed(f"ttskit holds no {path.name}")
    with _stood_in(), warnings.catch_warnings(action="ignore"):
        return torch.load(path, map_location="cpu", weights_only=False).eval()


@cache
def front_end() -> Callable[[str, str], list[int]]:
    """phkit's Chinese text to ids."""
    with redirect_stdout(sys.stderr):
        load("jieba").setLogLevel("ERROR")
        found: Callable[[str, str], list[int]] = importlib.import_module("phkit.chinese").text_to_sequence
        return found


def speaker(name: str) -> Wave:
    """A speaker's vector [32]: the network was trained on the digits of the names' MD5."""
    return (np.array([int(digit, 16) for digit in hashlib.md5(name.encode()).hexdigest()]) - 7) / 10


def mel_of(text: str, vector: Wave) -> Spectrum:
    """Log mel [frames, 80] as HiFi-GAN takes it; EngineFailed where the network finds no end."""
    ids = torch.tensor(front_end()(text, "hanzi"))[None].long()
    with torch.no_grad(), redirect_stdout(sys.stderr):
        _, mels, ends, _ = network().inference((ids, 0, torch.from_numpy(vector)[None].float(), None))
    over = np.flatnonzero(torch.sigmoid(ends[0, :, 0]).numpy() > DONE)
    if not len(over) or over[0] < 40:
        raise EngineFailed("Mellotron found no end, or one at once")
    return np.asarray(mels[0].numpy().T[: over[0]], dtype=np.float64)


@dataclass(frozen=True)
class Mellotron:
    """Mandarin voices before `vocoder`; each a mixture of two speakers, of which the second may have no part."""

    name: str
    vocoder: Callable[[Spectrum], Wave]
    need: Need
    licence: str = LICENCE
    minutes: float = 6.0

    def missing(self) -> str | None:
        return NEED.missing() or self.need.missing()

    def voices(self) -> list[Voice]:
        return [Voice(name, "zh") for name in SPEAKERS]

    def say(self, text: str, voice: Voice, generator: Generator) -> Speech:
        other = speaker(SPEAKERS[int(generator.integers(len(SPEAKERS)))])
        part = max(0.0, generator.uniform(-0.5, 0.5))
        torch.manual_seed(int(generator.integers(2**63)))  # parts of it drop out when it speaks, too
        mel = mel_of(text, (1 - part) * speaker(voice.name) + part * other)
        return Speech(self.vocoder(mel), round(neural.RATE * generator.uniform(0.94, 1.06)))


ENGINES: list[SpeechEngine] = [
    Mellotron("mellotron-melgan", partial(sound, vocoder=melgan), NEED),
    Mellotron("mellotron-hifigan", neural.vocode, neural.NEED, f"{LICENCE}; vocoder: {neural.LICENCE}"),
    *(
        Mellotron(
            f"mellotron-{short}",
            partial(sound, vocoder=partial(hifigan, weights)),
            HIFIGAN,
            f"{LICENCE}; vocoder: {HIFIGAN_LICENCE}",
        )
        for short, weights in (("universal", "universal"), ("lj", "LJSpeech"))
    ),
]
