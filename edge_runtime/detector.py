"""The pure core: samples in, judged windows out, the same for every split of the samples into pushes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge_runtime.decision.quality import clean, measure, objection
from edge_runtime.decision.verdict import Thresholds, Window, decide
from edge_runtime.errors import ModelError, UsageError
from edge_runtime.model.frontend import FilterBank
from edge_runtime.model.network import Network

TAIL_SECONDS = 0.05
"""An unscored end up to this long gets no window of its own: it is shorter than a syllable."""
LONGEST_WINDOW_SECONDS = 60.0
"""Bounds the memory that a window may ask for."""


class Detector:
    """Scores a mono stream in overlapping windows, one each hop; the features of the overlap are shared.

    The filter bank is fed at fixed places, the ends of windows, and not as samples happen to come in: hence
    the scores do not depend on the split. Positions are counted in samples, so that times do not drift.
    Memory is bounded by the window and the model's largest batch of hops.

    Samples that are not numbers count as 0 and make their windows unsure, as clipping does; silent windows
    are not scored (see `edge_runtime.decision.quality` for the limits).
    """

    def __init__(
        self,
        model: str | Path | Network | None = None,
        *,
        hop_seconds: float = 0.5,
        window_seconds: float | None = None,
        threshold: float | None = None,
    ) -> None:
        """`model`: a file, an opened network or None for the shipped one. `threshold` replaces both of its.

        `hop_seconds` is rounded to the model's hop multiple. `window_seconds` other than the model's needs a
        model with a dynamic time axis. Raises UsageError for values that cannot be, ModelError for the model.
        """
        self.network = model if isinstance(model, Network) else Network.load(model)
        contract = self.network.contract
        self.sample_rate = contract.sample_rate
        self.window_samples = _window_samples(self.network, window_seconds)
        self.hop_samples = _hop_samples(hop_seconds, self.sample_rate, contract.hop_multiple)
        if self.hop_samples > self.window_samples:
            raise UsageError(
                f"a hop of {hop_seconds:g} s leaves sound unheard between windows of "
                f"{self.window_samples / self.sample_rate:g} s: take a shorter hop"
            )
        self.thresholds = (
            Thresholds(contract.threshold, contract.threshold_bonafide)
            if threshold is None
            else Thresholds(threshold, threshold)
        )
        self._bank = FilterBank(contract.filters, contract.pool) if contract.form == "streaming" else None
        # Kept are the last window scored, up to a batch of new hops after it, and the hop that is coming in.
        samples = self.window_samples + (self.network.largest_batch + 1) * self.hop_samples
        self._samples = _Tape((samples,), np.float32)
        self._invalid = _Tape((samples,), np.bool_)
        frames = samples // contract.pool + 1 if self._bank else 0
        self._features = _Tape((len(contract.filters), frames), np.float32)
        self.reset()

    def reset(self) -> None:
        """Forgets everything heard: the next sample is at 0 s."""
        for tape in (self._samples, self._invalid, self._features):
            tape.clear()
        if self._bank:
            self._bank.reset()
        self._base = 0  # position in the stream of the tapes' first sample, a multiple of the hop multiple
        self._fed = 0  # samples from there on that the filter bank has seen
        self._next = 0  # start of the next window, from there on
        self._ready = 0  # complete windows that are not scored yet

    def push(self, samples: ArrayLike) -> list[Window]:
        """The windows that `samples`, mono floats [n] at `sample_rate` with full scale 1.0, complete.

        Raises UsageError unless they are one-dimensional floats, ModelError when the model fails.
        """
        block = _mono_floats(samples)
        windows: list[Window] = []
        while block.size:
            missing = self._next + self._ready * self.hop_samples + self.window_samples - self._samples.length
            values, invalid = clean(block[:missing])
            self._samples.append(values)
            self._invalid.append(invalid)
            if values.size == missing:
                self._feed(self._samples.length)
                self._ready += 1
                if self._ready == self.network.largest_batch:
                    windows += self._score_ready()
            block = block[missing:]
        return windows + self._score_ready()

    def flush(self) -> list[Window]:
        """Ends the stream and resets: the window at its end, where one is due.

        A stream shorter than a window is repeated up to one, as RawNet2 was trained, with its own end as the
        window's. A longer one gets a last window, which ends less than a hop multiple before the stream does,
        if that adds more than 0.05 s to what was scored. Raises ModelError when the model fails.
        """
        windows: list[Window] = []
        heard = self._samples.length
        if self._base + self._next == 0:
            if heard:
                windows = [self._score_short()]
        else:
            # The tapes begin with the last window scored: `start` is also how much a later one adds.
            multiple = self.network.contract.hop_multiple
            start = (heard - self.window_samples) // multiple * multiple
            if start > TAIL_SECONDS * self.sample_rate:
                self._feed(start + self.window_samples)
                windows = self._score([start])
        self.reset()
        return windows

    def _feed(self, end: int) -> None:
        """Lets the filter bank see the tape's samples up to `end`."""
        if self._bank:
            self._features.append(self._bank.push(self._samples.data[self._fed : end]))
            self._fed = end

    def _score_ready(self) -> list[Window]:
        """Scores the windows that are complete, and forgets what lies before the last of them."""
        if not self._ready:
            return []
        starts = [self._next + index * self.hop_samples for index in range(self._ready)]
        try:
            return self._score(starts)
        finally:  # also when the model failed: whoever goes on, goes on with new sound
            self._next, self._ready = self.hop_samples, 0
            self._base += starts[-1]
            self._fed -= starts[-1]
            self._samples.drop(starts[-1])
            self._invalid.drop(starts[-1])
            if self._bank:
                self._features.drop(starts[-1] // self._bank.pool)

    def _score(self, starts: list[int]) -> list[Window]:
        """The windows that begin at `starts` on the tapes, whose features are all there."""
        inputs = [self._input(start) for start in starts]
        parts = [slice(start, start + self.window_samples) for start in starts]
        return self._judge(
            inputs,
            [(self._samples.data[part], int(np.count_nonzero(self._invalid.data[part]))) for part in parts],
            [self._base + start for start in starts],
        )

    def _input(self, start: int) -> NDArray[np.float32]:
        """What the network takes for the window that begins at `start` on the tapes."""
        if self._bank is None:
            return self._samples.data[start : start + self.window_samples]
        first = start // self._bank.pool
        return self._features.data[:, first : first + self._bank.frames(self.window_samples)]

    def _score_short(self) -> Window:
        """The one window of a stream shorter than a window."""
        samples = self._samples.data
        repeated = np.resize(samples, self.window_samples)
        inputs = self._bank.whole(repeated) if self._bank else repeated
        (window,) = self._judge([inputs], [(samples, int(np.count_nonzero(self._invalid.data)))], [0])
        return window

    def _judge(
        self,
        inputs: list[NDArray[np.float32]],
        sounds: list[tuple[NDArray[np.float32], int]],
        starts: list[int],
    ) -> list[Window]:
        """Windows from the network's inputs, and the samples, invalid counts and positions they stand for."""
        qualities = [measure(samples, invalid) for samples, invalid in sounds]
        loud = [index for index, quality in enumerate(qualities) if not quality.silent]
        scores: dict[int, float] = {}
        if loud:
            logits = self.network.logits(np.stack([inputs[index] for index in loud]))
            found = zip(loud, self.network.contract.llr(logits).tolist(), strict=True)
            scores = {index: score for index, score in found if math.isfinite(score)}
        windows = []
        for index, (quality, start) in enumerate(zip(qualities, starts, strict=True)):
            length = sounds[index][0].size
            reason = objection(quality, length / self.sample_rate)
            windows.append(
                Window(
                    start=start / self.sample_rate,
                    end=(start + length) / self.sample_rate,
                    score=scores.get(index),
                    verdict=decide(scores.get(index), self.thresholds, reason),
                    level_dbfs=quality.level_dbfs,
                    peak_dbfs=quality.peak_dbfs,
                    clipped=quality.clipped,
                    invalid=quality.invalid,
                    reason=reason,
                )
            )
        return windows


class _Tape:
    """The recent part of a signal, time on the last axis; twice the room makes appending cheap."""

    def __init__(self, shape: tuple[int, ...], dtype: Any) -> None:
        """`shape` ends in the largest length that is ever held."""
        self._array = np.zeros((*shape[:-1], 2 * shape[-1]), dtype)
        self.clear()

    def clear(self) -> None:
        self._first = self._end = 0

    @property
    def length(self) -> int:
        return self._end - self._first

    @property
    def data(self) -> NDArray[Any]:
        """What is held, as a view that the next `append` may overwrite."""
        return self._array[..., self._first : self._end]

    def append(self, block: NDArray[Any]) -> None:
        added = block.shape[-1]
        if self._end + added > self._array.shape[-1]:
            held = self.data.copy()
            self._first, self._end = 0, held.shape[-1]
            self._array[..., : self._end] = held
        self._array[..., self._end : self._end + added] = block
        self._end += added

    def drop(self, count: int) -> None:
        """Forgets the oldest `count`."""
        self._first += count


def _mono_floats(samples: ArrayLike) -> NDArray[np.float32]:
    array = np.asarray(samples)
    if array.ndim != 1:
        raise UsageError(f"samples must be mono, of shape [n], not {array.shape}: mix the channels first")
    if not np.issubdtype(array.dtype, np.floating):
        raise UsageError(f"samples must be floats with full scale 1.0, not {array.dtype}: divide by full scale")
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and hence invalid
        return array.astype(np.float32, copy=False)


def _hop_samples(seconds: float, rate: int, multiple: int) -> int:
    if not (math.isfinite(seconds) and seconds > 0):
        raise UsageError(f"the hop must be a time above 0 s, not {seconds:g}")
    return max(1, round(seconds * rate / multiple)) * multiple


def _window_samples(network: Network, seconds: float | None) -> int:
    """The window in samples; another than the model's own is tried out once."""
    contract = network.contract
    if seconds is None:
        return contract.window_samples
    if not 0 < seconds <= LONGEST_WINDOW_SECONDS:
        raise UsageError(f"the window must be above 0 and at most {LONGEST_WINDOW_SECONDS:g} s, not {seconds:g}")
    samples = round(seconds * contract.sample_rate)
    if samples == contract.window_samples:
        return samples
    own = f"{contract.window_samples / contract.sample_rate:g} s"
    if not network.dynamic_time:
        raise UsageError(f"this model takes windows of {own} only, not of {seconds:g} s")
    frames = (samples - contract.filters.shape[1] + 1) // contract.pool
    shape = (1, len(contract.filters), frames) if contract.form == "streaming" else (1, samples)
    try:
        if frames < 1:
            raise ModelError("shorter than a filter")
        network.logits(np.zeros(shape, np.float32))
    except ModelError:
        raise UsageError(f"a window of {seconds:g} s is too short for this model: its own has {own}") from None
    return samples
