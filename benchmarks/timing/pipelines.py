"""The pipelines that `python -m benchmarks streaming` holds against each other, fed with the same endless sound."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.timing.baseline import Baseline
from benchmarks.timing.sound import speech_like
from edge_runtime.detector import Detector
from edge_runtime.errors import ModelError
from edge_runtime.model.contract import Contract
from edge_runtime.model.network import Network
from evaluation.hop import at_hop

PERIOD_SECONDS = 61.7
"""Of the endless sound: no multiple of a usual hop, so that windows do not come again soon."""


@cache
def _two_periods(sample_rate: int) -> NDArray[np.float32]:
    period = speech_like(round(PERIOD_SECONDS * sample_rate), sample_rate)
    return np.concatenate((period, period))


class Loop:
    """Something like speech without an end, repeated from a period that all loops of a rate share."""

    def __init__(self, sample_rate: int) -> None:
        """`sample_rate` in Hz."""
        self._sound = _two_periods(sample_rate)
        self._position = 0

    def take(self, samples: int) -> NDArray[np.float32]:
        """The next `samples` of it, at most a period: a view, float32 [samples]."""
        start = self._position
        self._position = (start + samples) % (len(self._sound) // 2)
        return self._sound[start : start + samples]


class Pipeline:
    """A model file with the way in which it is run. `hop` and `stretch` each do the work of so much new sound."""

    kind: str
    path: Path
    contract: Contract
    hop_samples: int
    batch: int  # windows that it scores in one run where a stretch lets it

    @property
    def name(self) -> str:
        """How it is called in a table."""
        level = "" if self.kind == "baseline" else f" {self.contract.level}"
        return f"{self.kind}{level} ({self.path.stem})"

    def hop(self) -> None:
        """One hop of new sound, and the window that it completes."""
        self.stretch(1)

    def stretch(self, hops: int) -> None:
        """So many hops of new sound at once, as from a file, and their windows."""
        raise NotImplementedError


class StockPipeline(Pipeline):
    """A `waveform` file, by `benchmarks.timing.baseline`: the whole window at each hop, one at a time."""

    kind = "baseline"

    def __init__(self, path: Path, hop_seconds: float, threads: int) -> None:
        """Raises ModelError for the file, UsageError for the hop."""
        self.path, self.batch = path, 1
        # Asked of the runtime: what it refuses as a hop has no meaning here either.
        self.hop_samples = at_hop(
            Detector(Network.load(path, exact=True), hop_seconds=hop_seconds), hop_seconds
        ).hop_samples
        self._baseline = Baseline(path, threads)
        self.contract = self._baseline.contract
        self._sound = Loop(self.contract.sample_rate)
        self._baseline.push(self._sound.take(self.contract.window_samples))

    def stretch(self, hops: int) -> None:
        for _ in range(hops):
            self._baseline.push(self._sound.take(self.hop_samples))


class OurPipeline(Pipeline):
    """A file of another form, by the runtime's detector."""

    kind = "ours"

    def __init__(self, path: Path, hop_seconds: float, threads: int) -> None:
        """Raises ModelError for the file, UsageError for the hop."""
        self.path = path
        self.detector = at_hop(Detector(Network.load(path, threads), hop_seconds=hop_seconds), hop_seconds)
        self.contract = self.detector.network.contract
        self.hop_samples = self.detector.hop_samples
        self.batch = self.detector.network.largest_batch
        self._sound = Loop(self.contract.sample_rate)
        self.detector.push(self._sound.take(self.detector.window_samples))

    def stretch(self, hops: int) -> None:
        for first in range(0, hops, self.batch):
            together = min(self.batch, hops - first)
            windows = self.detector.push(self._sound.take(together * self.hop_samples))
            if [window.score is None for window in windows] != [False] * together:
                raise ModelError(f"{self.path} gave no score to something like speech: its time would mean nothing")


def open_pipeline(path: Path, hop_seconds: float, threads: int) -> Pipeline:
    """The pipeline for a file: its form decides. Raises ModelError or UsageError."""
    # Asked of the runtime, which has the better words for what is no model of ours.
    form = Network.load(path, exact=True).contract.form
    return (StockPipeline if form == "waveform" else OurPipeline)(path, hop_seconds, threads)


def open_all(paths: list[Path], hop_seconds: float, threads: int) -> list[Pipeline]:
    """The pipelines of `paths`, the first of which must be a float file of the `waveform` form, for windows alike.

    Raises ModelError or UsageError.
    """
    pipelines = [open_pipeline(path, hop_seconds, threads) for path in paths]
    first = pipelines[0]
    if first.kind != "baseline" or first.contract.level != "fp32":
        raise ModelError(
            f"{first.path} is a {first.contract.level} file of the form {first.contract.form}: give a float one first "
            "that `python -m export CHECKPOINT --form waveform` wrote"
        )
    window = (first.contract.window_samples, first.contract.sample_rate)
    for other in pipelines:
        if (other.contract.window_samples, other.contract.sample_rate) != window:
            raise ModelError(f"{other.path} has other windows than {first.path}: they are not of the same network")
    return pipelines
