"""When windows become an alarm: smoothing, hysteresis, least duration and a time of rest, all in seconds."""

from __future__ import annotations

from dataclasses import dataclass

ON = "on"
OFF = "off"


@dataclass(frozen=True)
class Alarm:
    """An alarm begins (`kind` ON) or ends (OFF). Times are seconds of sound from the run's start."""

    kind: str
    number: int  # 1 is the run's first; both ends have the same
    start: float  # of the first window that led to it
    at: float  # end of the window that decided
    score: float  # smoothed log-likelihood ratio then; of OFF: the mean while it lasted
