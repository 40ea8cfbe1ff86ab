"""Scores with another model the windows that the running one scored."""

from __future__ import annotations

import math
import time

import numpy as np
from numpy.typing import NDArray

from edge_runtime.decision.quality import clean
from edge_runtime.detector import MOST_NUMBERLESS, Detector
from edge_runtime.errors import ModelError
from edge_runtime.model.highpass import HighPass
from edge_runtime.model.inputs import Inputs, Tape

_HELD_SECONDS = 30.0
"""Sound that may wait for its windows. The running program takes in up to a minute at once where it was held up; what
the candidate then misses counts against it."""


class Candidate:
    """The candidate's stream. Positions are samples from the start of the run, as the running program tells them.

    What windows share is computed once, as in `Detector`, so that the time measured is the time that it would take;
    after sound that was dropped, and after a time without a microphone, it begins again. Its windows lie on a grid of
    its own, of frames or blocks: of each of the running model's it scores its newest that had ended by then.
    """

    def __init__(self, detector: Detector) -> None:
        """`detector` says what the candidate's network, window and hop would be; it is not used itself."""
        self._network = detector.network
        self._window = detector.window_samples
        self._held = max(2 * self._window, round(_HELD_SECONDS * detector.sample_rate))
        self._high_pass = HighPass(self._network.contract.high_pass_hz, detector.sample_rate)
        self._tape = Tape((self._held,))
        self._inputs = Inputs(self._network, self._window, 2 * self._window)
        self._batch = np.empty((1, *self._network.input_shape(self._window)), np.float32)
        self._first = 0  # position of the tape's first sample, the start of the newest window
        self.begins: int | None = None
        """Where the sound begins that it was given: what was before, it was loaded too late for."""
        self._fresh = True  # nothing was computed of what is on the tape
        self._paused = False  # what comes next does not follow what is on the tape
        self._numberless = 0  # windows in a row for which the model gave no number

    def hear(self, start: int, samples: NDArray[np.float32]) -> int:
        """Takes sound in; gives how many samples before it never came."""
        if self.begins is None:
            self.begins = self._first = start
        missing = max(0, start - self._end)
        if start != self._end:
            self._tape.reset()
            self._first, self._fresh = start, True
            self.pause()
        self._fresh |= self._paused
        self._paused = False
        samples = self._high_pass.push(*clean(samples))
        excess = self._tape.length + len(samples) - self._held
        if excess > 0:
            gone = min(excess, self._tape.length)
            self._forget(gone)
            self._first += excess - gone
            samples = samples[excess - gone :]
            self._fresh = True
        self._tape.push(samples)
        return missing

    def pause(self) -> None:
        """What comes next does not follow what came before: no microphone was there in between."""
        self._high_pass.reset()
        self._paused = True

    def score(self, start: int, end: int, wanted: bool) -> tuple[float | None, float | None]:
        """The log-likelihood ratio of a window, and the seconds of processor time that it took.

        None where it cannot be scored: its sound did not come, it is shorter than a window, or is not `wanted`; then
        only what the next one shares with it is computed. One of its own that it had scored before has no time.
        Raises ModelError when the model fails.
        """
        if end - start != self._window or start < self._first or end > self._end:
            return None, None
        # The process has the lowest priority, so the time of day would tell what others do; what waiting for them
        # costs shows in the sound that is dropped.
        began = time.thread_time()
        past = start - self._first
        shift = past - past % self._network.contract.hop_multiple
        known = not self._fresh and shift == 0
        if self._fresh or shift > self._window:
            self._forget(past)
            self._inputs.reset()
            self._fresh, shift = False, 0
        data = self._tape.data
        self._inputs.push(data, shift + self._window)
        score = None
        if wanted:
            self._inputs.write(data, shift, self._batch[0])
            score = float(self._network.contract.llr(self._network.body(self._batch))[0])
        self._inputs.drop(shift)
        self._forget(shift)
        if not wanted:
            return None, None
        seconds = None if known else time.thread_time() - began
        if score is not None and math.isfinite(score):
            self._numberless = 0
            return score, seconds
        self._numberless += 1
        if self._numberless >= MOST_NUMBERLESS:
            raise ModelError(f"it gave NaN or infinity for {MOST_NUMBERLESS} windows in a row")
        return None, seconds

    @property
    def _end(self) -> int:
        return self._first + self._tape.length

    def _forget(self, samples: int) -> None:
        self._tape.drop(samples)
        self._first += samples
