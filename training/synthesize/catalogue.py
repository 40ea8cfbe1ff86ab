"""All engines by name."""

from __future__ import annotations

from training.synthesize.engine import CopyEngine, SpeechEngine
from training.synthesize.engines import (
    classic,
    fargan,
    gan,
    lyra,
    mandarin,
    mellotron,
    neural,
    speak_neural,
    speak_programs,
    vits,
    world,
)

COPY: dict[str, CopyEngine] = {
    engine.name: engine
    for engine in [
        *neural.ENGINES,
        *gan.ENGINES,
        *vits.ENGINES,
        *fargan.ENGINES,
        *lyra.ENGINES,
        *mandarin.COPY_ENGINES,
        *world.ENGINES,
        *classic.ENGINES,
    ]
}
VOICES: list[SpeechEngine] = [*speak_neural.ENGINES, *mellotron.ENGINES, *speak_programs.ENGINES]
SPEECH: dict[str, SpeechEngine] = {engine.name: engine for engine in VOICES}
