"""Decide what to make, by the seed alone: which clip goes through which vocoder, which voice says what."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from training.synthesize.clips import Human
from training.synthesize.engine import CopyEngine, Generator, SpeechEngine, Voice
from training.synthesize.texts import Texts

SHORT_SECONDS = 1.5
"""Clips below this hold a word or a letter: worth less, so SHORT_SHARE of them is used."""
SHORT_SHARE = 1 / 6
MEAN_SECONDS = 3.5
"""Expected length of a spoken clip, to turn minutes into a number of clips."""


@dataclass(frozen=True)
class CopyTask:
    """Send one human clip through one vocoder."""

    engine: str
    human: Human
    seed: int

    @property
    def file(self) -> str:
        return f"spoof/copy_{self.engine}_{self.seed:016x}.flac"


@dataclass(frozen=True)
class SpeechTask:
    """Have one voice say one text."""

    engine: str
    voice: Voice
    text: str
    seed: int

    @property
    def file(self) -> str:
        return f"spoof/tts_{self.engine}_{self.seed:016x}.flac"


Task = CopyTask | SpeechTask


def mix(*parts: object) -> int:
    """A 64-bit seed of `parts`, the same on every machine and in every run."""
    text = "\x1f".join(map(str, parts))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


def generator_of(*parts: object) -> Generator:
    return np.random.default_rng(mix(*parts))


def plan_copies(
    humans: Sequence[Human], engines: Sequence[CopyEngine], shares: Mapping[str, float], seed: int
) -> list[CopyTask]:
    """Copies in an order shuffled over clips and engines, long clips first, so that any part is a mixture.

    A share above 1 sends every clip through the engine more than once, each time with other settings.
    """
    tasks = []
    for human in humans:
        brief = float(human.row.seconds) < SHORT_SECONDS
        for engine in engines:
            share = shares.get(engine.name, engine.share) * (SHORT_SHARE if brief else 1.0)
            whole, rest = divmod(share, 1.0)
            lot = generator_of(seed, engine.name, human.row.file).random()
            for time in range(int(whole) + (lot < rest)):
                task_seed = mix(seed, engine.name, human.row.file, time)
                tasks.append(((brief, task_seed), CopyTask(engine.name, human, task_seed)))
    return [task for _, task in sorted(tasks, key=lambda pair: pair[0])]


def plan_speech(
    engines: Sequence[SpeechEngine], minutes: Mapping[str, float], texts: Texts, seed: int
) -> list[SpeechTask]:
    """Spoken clips, the engines interleaved in proportion to their minutes."""
    tasks = []
    for engine in engines:
        voices = [voice for voice in engine.voices() if texts.speaks(voice.language)]
        count = round(minutes.get(engine.name, engine.minutes) * 60 / MEAN_SECONDS) if voices else 0
        for number in range(count):
            task_seed = mix(seed, engine.name, number)
            draw = np.random.default_rng(task_seed)
            voice = voices[int(draw.integers(len(voices)))]
            task = SpeechTask(engine.name, voice, texts.draw(voice.language, draw), task_seed)
            tasks.append(((number / count, engine.name), task))
    return [task for _, task in sorted(tasks, key=lambda pair: pair[0])]
