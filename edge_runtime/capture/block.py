"""What a source of sound hands on: blocks of samples, and what went missing beside them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # `--help` loads no NumPy
    import numpy as np
    from numpy.typing import NDArray


OVERFLOW = "overflow"
"""The sound card's driver said that input was lost (`count` times)."""
DROPPED = "dropped"
"""The analysis was slower than real time and `seconds` of sound had to be thrown away."""
HOP = "hop"
"""From now on windows come every `seconds`: the box is too slow for more, or it is fast enough again (`reason`)."""
LOST = "lost"
"""`seconds` of sound never arrived, although nobody said so: the clock went on and the frames did not."""
STATE = "state"
"""The source is in another state (`state`) from now on; `reason` says why, in words for people."""
OUTAGE = "outage"
"""A time without any microphone is over; it took `seconds`."""
IDENTITY = "identity"
"""The sound comes from another device than before, or the same one has another place now (`reason`)."""
CHANNELS = "channels"
"""The source's channels are no plain stereo: some cancel each other, are dead, or drown others (`reason`)."""
CLOCK = "clock"
"""The wall clock was set, by `seconds` (negative: back)."""
UNREAD = "unread"
"""`count` lines of standard output were lost before this one, since nobody read them in time."""


@dataclass(frozen=True)
class Event:
    """Something that happened to the sound, or to how it is scored, without ending it."""

    kind: str  # one of the words above
    count: int = 0
    seconds: float = 0.0
    reason: str = ""
    state: str = ""  # of STATE: the state that begins


@dataclass(frozen=True)
class Losses:
    """All that went missing in one run."""

    overflows: int = 0
    dropped_seconds: float = 0.0
    lost_seconds: float = 0.0

    def plus(self, event: Event) -> Losses:
        """These losses and one more event."""
        return Losses(
            self.overflows + (event.count if event.kind == OVERFLOW else 0),
            self.dropped_seconds + (event.seconds if event.kind == DROPPED else 0.0),
            self.lost_seconds + (event.seconds if event.kind == LOST else 0.0),
        )


@dataclass(frozen=True)
class Block:
    """Samples, mono float32 [n] at the rate that was asked for, and the events before them.

    A live source gives an empty block when nothing came for a moment, so that whoever reads can look around.
    """

    samples: NDArray[np.float32]
    events: tuple[Event, ...] = field(default=())
    waiting_seconds: float = 0.0  # sound that has come in after this block already
    absent_seconds: float = 0.0  # time since the last block in which there was no microphone that could have heard
