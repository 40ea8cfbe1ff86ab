"""How often to score: the hop widens when the box cannot keep up and narrows again when it can."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_runtime.decision.pace import RECOVERED, SLOW, HopChange, Pace
from edge_runtime.detector import Detector

SHORTEST_SECONDS = 0.1
"""The shortest hop that `--hop auto` takes: verdicts that come faster than syllables tell nothing new."""
STEP = 1.5
"""From one hop to the next wider one: load falls by a third, and five steps lead from 0.5 s to a window of 4 s."""
TOO_MUCH = 0.85
"""Share of its time that the box may spend on scoring: above it the next hiccup leaves it behind for good."""
COMFORTABLE = 0.5
"""Share of its time that it should spend at most: what `--hop auto` looks for, and what a narrower hop may cost."""
BEHIND_SECONDS = 2.0
"""Sound that may wait for the box. A card delivers in bursts of up to half a second; the ring holds a minute."""
LOOK_SECONDS = 2.0
"""Sound heard between two looks at the load, at least, and"""
LOOK_WINDOWS = 4
"""windows scored between them, so that one slow one does not decide. When sound waits, one is enough."""
PATIENCE_SECONDS = 10.0
"""Sound for which a narrower hop must look affordable. It doubles when a narrowing had to be taken back at once."""
LONGEST_PATIENCE_SECONDS = 600.0
SILENCE_SECONDS = 120.0
"""Silence after which a narrower hop is tried, a step at a time. It doubles when speech has the step taken back."""
LONGEST_SILENCE_SECONDS = 7200.0


class Governor:
    """Decides on the hop from what scoring costs. It sees no clock and no sound: it gets both as lengths of time.

    Load is the wall time that a window takes over the hop, so that other programs and a throttled processor count. Of
    windows that were not scored, as they are silent, nothing is learned. But a long silence, in which the box has
    little to do, leads the hop back to that of the start: what made it wide may be over, and speech that finds the hop
    too narrow widens it again within a few windows. The hop is never wider than the window, so all sound stays covered;
    a box that is too slow even then loses sound in the ring in front of it, which is reported there.

    With `by_sound` all sound is paid for once, scored or not, and a wider hop saves little: load is then the wall time
    over that of the sound, and is expected to stay when the hop narrows.
    """

    def __init__(
        self,
        shortest_seconds: float,
        longest_seconds: float,
        start_seconds: float | None = None,
        grain_seconds: float = 0.0,
        by_sound: bool = False,
    ) -> None:
        """Hops go from `shortest_seconds` to `longest_seconds`, the window; `start_seconds` None is the shortest.

        With `grain_seconds` they are multiples of it, as a model may demand; `by_sound` says what the model's work
        follows.
        """
        self._by_sound = by_sound
        self._ladder = ladder(shortest_seconds, longest_seconds, grain_seconds)
        start = shortest_seconds if start_seconds is None else start_seconds
        self._step = min(range(len(self._ladder)), key=lambda step: abs(self._ladder[step] - start))
        self._start = self._step
        self.pace = Pace(self.hop_seconds, widest_hop_seconds=self.hop_seconds)
        self._sound = self._busy = 0.0  # since the last look
        self._windows = 0  # scored since then
        self._calm = 0.0  # sound for which a narrower hop has looked affordable
        self._patience = PATIENCE_SECONDS
        self._since_narrowing = LONGEST_PATIENCE_SECONDS
        self._quiet = self._quiet_busy = 0.0  # sound since the last window that was scored, and what it cost
        self._silence = SILENCE_SECONDS
        self._untried = False  # the hop was narrowed in silence, and no look at the load has come since

    @property
    def hop_seconds(self) -> float:
        """The hop decided on."""
        return self._ladder[self._step]

    def heard(
        self, sound_seconds: float, busy_seconds: float, waiting_seconds: float, windows: int
    ) -> HopChange | None:
        """Takes in what some sound cost, how many windows were scored for it, and how much more was waiting then.

        Gives a new hop, or None.
        """
        if self._step > self._start:
            self.pace = dataclasses.replace(self.pace, coarse_seconds=self.pace.coarse_seconds + sound_seconds)
        self._sound += sound_seconds
        self._busy += busy_seconds
        self._windows += windows
        self._since_narrowing += sound_seconds
        behind = waiting_seconds > BEHIND_SECONDS
        self._quiet = 0.0 if windows else self._quiet + sound_seconds
        self._quiet_busy = 0.0 if windows else self._quiet_busy + busy_seconds
        if self._quiet > max(LOOK_SECONDS, 2 * self.hop_seconds):
            # What silence costs is no part of what the few windows before it did, or the first after it will.
            self._sound, self._busy, self._windows = 0.0, 0.0, 0
            return self._consider_silence(behind)
        enough = self._windows >= LOOK_WINDOWS and self._sound >= LOOK_SECONDS
        if not self._windows or not (enough or behind):
            return None
        sound, own = self._sound, self._windows * self.hop_seconds
        load = self._busy / (max(sound, own) if self._by_sound else own)
        self._sound, self._busy, self._windows = 0.0, 0.0, 0
        untried, self._untried = self._untried, False
        too_much = load > TOO_MUCH or (behind and load > COMFORTABLE)
        if untried and too_much:
            self._silence = min(2 * self._silence, LONGEST_SILENCE_SECONDS)
        elif self._step <= self._start:
            self._silence = SILENCE_SECONDS
        if too_much:
            return self._widen(load)
        return self._consider_narrower(load, sound, behind)

    def _widen(self, load: float) -> HopChange | None:
        self._calm = 0.0
        if self._since_narrowing < PATIENCE_SECONDS:
            self._patience = min(2 * self._patience, LONGEST_PATIENCE_SECONDS)
        if self._step == len(self._ladder) - 1:
            return None
        wanted = self.hop_seconds * load / COMFORTABLE
        first = self._step + 1
        step = next((s for s in range(first, len(self._ladder)) if self._ladder[s] >= wanted), len(self._ladder) - 1)
        return self._change(step, SLOW)

    def _consider_narrower(self, load: float, sound_seconds: float, behind: bool) -> HopChange | None:
        if self._since_narrowing > LONGEST_PATIENCE_SECONDS:
            self._patience = PATIENCE_SECONDS
        if self._step == 0:
            return None
        expected = load if self._by_sound else load * self.hop_seconds / self._ladder[self._step - 1]
        if expected > COMFORTABLE or behind:
            self._calm = 0.0
            return None
        self._calm += sound_seconds
        if self._calm < self._patience:
            return None
        self._calm = self._since_narrowing = 0.0
        return self._change(self._step - 1, RECOVERED)

    def _consider_silence(self, behind: bool) -> HopChange | None:
        if behind or self._quiet_busy > COMFORTABLE * self._quiet:
            self._quiet = self._quiet_busy = 0.0
        if self._step <= self._start or self._quiet < self._silence:
            return None
        self._quiet = self._quiet_busy = self._calm = 0.0
        self._untried = True
        return self._change(self._step - 1, RECOVERED)

    def _change(self, step: int, reason: str) -> HopChange:
        self._step = step
        widest = max(self.pace.widest_hop_seconds, self.hop_seconds)
        self.pace = dataclasses.replace(self.pace, hop_changes=self.pace.hop_changes + 1, widest_hop_seconds=widest)
        return HopChange(self.hop_seconds, reason)


def ladder(shortest_seconds: float, longest_seconds: float, grain_seconds: float = 0.0) -> list[float]:
    """The hops between the two, each STEP times the one before; both ends belong to it.

    With `grain_seconds` all are multiples of it, the last the largest that is no longer than `longest_seconds`.
    """
    steps = [shortest_seconds]
    while steps[-1] * STEP**1.5 < longest_seconds:  # the last step is no smaller than half a common one
        steps.append(steps[-1] * STEP)
    if longest_seconds > shortest_seconds:
        steps.append(longest_seconds)
    if not grain_seconds:
        return steps
    most = max(1, math.floor(longest_seconds / grain_seconds + 1e-6))
    return [grains * grain_seconds for grains in sorted({min(most, max(1, round(s / grain_seconds))) for s in steps})]


@dataclass(frozen=True)
class Sustained:
    """A hop that the box sustains, and the share of its time that scoring then takes."""

    hop_seconds: float
    load: float


def shortest_sustained(
    detector: Detector,
    clock: Callable[[], float],
    stopped: Callable[[], bool] = lambda: False,
    rounds: int = 3,
    sound: NDArray[np.float32] | None = None,
) -> Sustained:
    """The shortest hop of the ladder at which scoring takes at most COMFORTABLE of the time; the window at worst.

    What a window costs hardly depends on the hop: it is measured at the shortest, and the hop that follows from it is
    tried. `detector` is fed something loud for a window and some hops, or the `sound` of a window, float32 [n], that is
    not silent; and reset. `clock` gives seconds. When `stopped()` comes in between, the answer is what is known then.
    Raises ModelError when the model fails.
    """
    window_seconds = detector.window_samples / detector.sample_rate
    grain_seconds = detector.network.contract.hop_multiple / detector.sample_rate
    steps = ladder(min(SHORTEST_SECONDS, window_seconds), window_seconds, grain_seconds)
    sound = hiss(detector.window_samples) if sound is None else sound
    detector.reset()
    try:
        detector.push(sound)
        place, load = 0, math.inf
        while not stopped():
            detector.set_hop(steps[place])
            load = _load(detector, sound[: detector.hop_samples], clock, rounds)
            if load <= COMFORTABLE or place == len(steps) - 1:
                break
            wanted = load * steps[place] / COMFORTABLE
            place = next((n for n in range(place + 1, len(steps)) if steps[n] >= wanted), len(steps) - 1)
        return Sustained(steps[place], load)
    finally:
        detector.reset()


def _load(detector: Detector, block: NDArray[np.float32], clock: Callable[[], float], rounds: int) -> float:
    seconds = []
    for _ in range(rounds):
        began = clock()
        detector.push(block)
        seconds.append(clock() - began)
    return statistics.median(seconds) / detector.hop_seconds


def hiss(samples: int, level: float = 0.1) -> NDArray[np.float32]:
    """Noise of an RMS of `level`, float32 [samples]: the network takes the same time for all that is not silent."""
    noise = np.random.default_rng(0).standard_normal(samples, np.float32)
    return (level * noise).astype(np.float32)
