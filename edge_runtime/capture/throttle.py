"""Keeps the sound of a pipe from running ahead of the clock: what comes faster than it can have been made waits."""

from __future__ import annotations

LONGEST_GAP_SECONDS = 3.0
"""After a longer gap nothing is made good. Shorter than a look of the loss meter, which counts such a gap as lost."""
_LOOK_SECONDS = 4.0
_NOTHING = 1e-6
"""Seconds that nobody waits for."""
_FASTER = 0.001
"""So much faster may a source's clock be than ours; a sound card's differs by a tenth of that."""


class Throttle:
    """Decides when sound may pass, so that all that passed is never longer than the time in which it did.

    A late burst makes good for a short gap before it. A clock that is a little faster than ours is followed, as what
    it sends would otherwise pile up; one that is slower is no matter.
    """

    def __init__(self, rate: int, longest_gap_seconds: float = LONGEST_GAP_SECONDS) -> None:
        """`rate`: frames a second."""
        self._rate = rate
        self._longest_gap = longest_gap_seconds
        self._began: float | None = None
        self._frames = 0  # since then
        self._usual = 0.0  # how far the frames are behind the clock: the smallest of the look before
        self._smallest = 0.0
        self._look_ends = 0.0
        self._passed = 0.0  # when the last frame did

    def wait(self, now_seconds: float, frames: int) -> float:
        """How long `frames` have to wait at `now_seconds` on a monotonic clock; with 0 they have passed."""
        if self._began is None or now_seconds - self._passed > self._longest_gap:
            self._began = self._passed = now_seconds
            self._frames = 0  # the first frames were made before they came
            self._usual = self._smallest = 0.0
            self._look_ends = now_seconds + _LOOK_SECONDS
            return 0.0
        behind = now_seconds - self._began - (self._frames + frames) / self._rate
        least = self._usual - _FASTER * _LOOK_SECONDS
        if least - behind > _NOTHING:
            return least - behind
        self._frames += frames
        self._passed = now_seconds
        self._smallest = min(self._smallest, behind)
        if now_seconds >= self._look_ends:
            self._usual, self._smallest = self._smallest, float("inf")
            self._look_ends = now_seconds + _LOOK_SECONDS
        return 0.0
