"""Finds sound that never arrived, by holding the frames received against the clock."""

from __future__ import annotations

_LOOK_SECONDS = 4.0
_NOTICEABLE_SECONDS = 0.25


class LossMeter:
    """Counts seconds lost although no driver said so.

    Delivery is uneven: a burst comes late and makes good for it. So the lag of the frames behind the clock is
    judged by its smallest value over some seconds. When that rises at once by over a quarter of a second, so
    much is lost; when it creeps, the sound card's clock differs from ours, which is no loss.
    """

    def __init__(self, rate: int) -> None:
        """`rate`: frames a second that ought to come."""
        self._rate = rate
        self._began: float | None = None
        self._frames = 0
        self._look_ends = 0.0
        self._smallest: float | None = None
        self._usual: float | None = None

    def add(self, now_seconds: float, frames: int) -> float:
        """Tells that `frames` came at `now_seconds` on a monotonic clock; gives the seconds found lost."""
        if self._began is None:
            self._began = now_seconds
            self._look_ends = now_seconds + _LOOK_SECONDS
            return 0.0
        self._frames += frames
        lag = now_seconds - self._began - self._frames / self._rate
        self._smallest = lag if self._smallest is None else min(self._smallest, lag)
        if now_seconds < self._look_ends:
            return 0.0
        smallest, self._smallest = self._smallest, None
        self._look_ends = now_seconds + _LOOK_SECONDS
        rise = 0.0 if self._usual is None else smallest - self._usual
        self._usual = smallest
        return rise if rise > _NOTICEABLE_SECONDS else 0.0
