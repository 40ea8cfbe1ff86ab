"""Make one clip of one task: the work of a worker process."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge_runtime.errors import InputError, OutputError
from training.synthesize.catalogue import COPY, SPEECH
from training.synthesize.clips import RATE, ClipRow, read_wave, write_clip
from training.synthesize.dsp import Wave, as_narrow, resample, rms, set_level
from training.synthesize.engine import EngineFailed, Generator
from training.synthesize.plan import CopyTask, SpeechTask, Task

LONGEST = 5 * RATE
SHORTEST = RATE // 2
QUIET = 1e-4
"""RMS below which an output counts as silence."""


@dataclass(frozen=True)
class TaskResult:
    """How a task went: `seconds` of audio made in `cost` CPU seconds, or what `failed` in one line.

    `stop` is the exit code where going on makes no sense (an unreadable clip, a full disk), else 0.
    """

    engine: str
    seconds: float = 0.0
    cost: float = 0.0
    failed: str = ""
    stop: int = 0


def attempt(task: Task, folder: Path) -> TaskResult:
    """Make the clip of `task` and its row in `folder`; what users or engines do wrong is in the outcome."""
    try:
        return TaskResult(task.engine, make(task, folder))
    except InputError as error:
        return TaskResult(task.engine, failed=str(error), stop=3)
    except OutputError as error:
        return TaskResult(task.engine, failed=str(error), stop=5)
    except (
        EngineFailed,
        ArithmeticError,
        ImportError,
        LookupError,
        OSError,
        RuntimeError,
        TypeError,
        ValueError,
    ) as error:
        return TaskResult(task.engine, failed=" ".join(str(error).split())[:200] or type(error).__name__)


def make(task: Task, folder: Path) -> float:
    """Make the clip of `task`; its seconds."""
    wave, row = copied(task) if isinstance(task, CopyTask) else spoken(task)
    if not np.isfinite(wave).all() or rms(wave) < QUIET:
        raise EngineFailed("the engine gave silence")
    write_clip(folder, wave, row)
    return len(wave) / RATE


def copied(task: CopyTask) -> tuple[Wave, ClipRow]:
    """The copy, with the original's level, its speaker and its source, and its length unless the vocoder made less.

    Zeros in the place of what a vocoder leaves out would tell copies from their originals.
    """
    engine = COPY[task.engine]
    original = read_wave(task.human.path)[:LONGEST]
    found = engine.render(original, RATE, np.random.default_rng(task.seed))
    wave = set_level(as_narrow(found[: len(original)], original, RATE), rms(original))
    old = task.human.row
    licence = f"{old.licence}; vocoder: {engine.licence}"
    row = ClipRow(
        task.file, "spoof", f"copy-{task.engine}", old.speaker, old.source, licence,
        old.source_rate, old.source_codec, f"{len(wave) / RATE:.3f}", str(task.human.path.resolve()),
    )  # fmt: skip
    return wave, row


def spoken(task: SpeechTask) -> tuple[Wave, ClipRow]:
    """What the voice said, its silent ends cut to a random rest, at a random level, at most 5 s."""
    engine = SPEECH[task.engine]
    generator = np.random.default_rng(task.seed)
    speech = engine.say(task.text, task.voice, generator)
    wave = window(trim(resample(np.asarray(speech.wave, dtype=np.float64), speech.rate, RATE), generator), generator)
    if len(wave) < SHORTEST:
        raise EngineFailed("the engine gave less than half a second")
    row = ClipRow(
        task.file, "spoof", task.engine, f"{task.engine}-{task.voice.name}", f"synth-{task.engine}",
        engine.licence, str(speech.rate), "lossless", f"{len(wave) / RATE:.3f}",
    )  # fmt: skip
    return set_level(wave, 10 ** generator.uniform(-1.7, -0.9)), row


def trim(wave: Wave, generator: Generator) -> Wave:
    """`wave` without its silent ends, except for a rest of up to 0.3 s each, as in a cut recording."""
    loud = np.flatnonzero(np.abs(wave) > 0.01 * np.max(np.abs(wave), initial=0.0))
    if not len(loud):
        return wave[:0]
    rest = (generator.uniform(0.0, 0.3, 2) * RATE).astype(int)
    return wave[max(0, int(loud[0]) - rest[0]) : int(loud[-1]) + rest[1]]


def window(wave: Wave, generator: Generator) -> Wave:
    """At most 5 s of `wave`, from a random place."""
    start = int(generator.integers(0, max(1, len(wave) - LONGEST)))
    return wave[start : start + LONGEST]
