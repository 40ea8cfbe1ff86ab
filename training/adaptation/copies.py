"""Vocoder copies of a user's recordings: spoofed speech of the same voices, room and microphone."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from edge_runtime.errors import InputError, OutputError
from evaluation.protocols import Clip, read_clips
from training.synthesize.catalogue import COPY
from training.synthesize.clips import LIST, Human, describe
from training.synthesize.engine import CopyEngine
from training.synthesize.plan import plan_copies
from training.synthesize.run import run

CHEAP = ("hifigan", "hifigan-smooth", "hifigan-warp", "world", "world-vc", "griffin-lim", "griffin-lim-mel",
         "phase-guess", "mel-source", "lpc", "mlsa")  # fmt: skip
"""Vocoders that take less than 0.4 CPU seconds a second; which of them are installed differs."""


LEAST_COPIES = 2.5
"""Copies of a clip that are planned at least, on the average; engines that are few get larger shares."""


def engines_here(names: Sequence[str]) -> list[CopyEngine]:
    """Those of the vocoders that can run. Raises InputError when none can."""
    found = [COPY[name] for name in names if name in COPY and COPY[name].missing() is None]
    if not found:
        raise InputError(f"none of these vocoders can run here: {', '.join(names)}")
    return found


def make_copies(
    humans: Sequence[Clip], engines: Sequence[CopyEngine], folder: Path, seconds: float, jobs: int, seed: int
) -> list[Clip]:
    """Sends clips through vocoders for so many `seconds`, `jobs` at a time; gives the copies, with their originals.

    The order is shuffled over clips and vocoders: when the time is short, there is some of everything.
    """
    rows = [Human(clip.path, describe(clip.path, Path(clip.path.name))) for clip in humans]
    more = max(1.0, LEAST_COPIES / sum(engine.share for engine in engines))
    tasks = plan_copies(rows, engines, {engine.name: engine.share * more for engine in engines}, seed)
    code = run(tasks, folder, jobs, time.time() + seconds)
    if code:
        raise OutputError("the copies could not be made") if code == 5 else InputError("the copies could not be made")
    if not (folder / LIST).is_file():
        raise InputError("no vocoder could copy the recordings")
    source = {clip.path.resolve(): clip.source for clip in humans}
    return [
        Clip(c.path, "spoof", c.system, source=source[c.original.resolve()], original=c.original)
        for c in read_clips(folder / LIST)
        if c.original is not None
    ]
