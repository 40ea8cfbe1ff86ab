"""All engines by name."""

from __future__ import annotations

from training.synthesize import classic, gan, mandarin, neural, speak_neural, speak_programs, vits, world
from training.synthesize.engine import CopyEngine, SpeechEngine

COPY: dict[str, CopyEngine] = {
    engine.name: engine
    for engine in [
        *neural.ENGINES,
        *gan.ENGINES,
        *vits.ENGINES,
        *mandarin.COPY_ENGINES,
        *world.ENGINES,
        *classic.ENGINES,
    ]
}
VOICES: list[SpeechEngine] = [*speak_neural.ENGINES, *speak_programs.ENGINES]
SPEECH: dict[str, SpeechEngine] = {engine.name: engine for engine in VOICES}
