"""What the running program tells the trial: frames on a pipe, of a kind (one byte), a length (four) and a content."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from edge_runtime.decision.verdict import Reason, Verdict, Window

_HEAD = struct.Struct("<cI")
_START = struct.Struct("<q")
_SOUND, _WINDOW, _BREAK = b"S", b"W", b"B"
_LARGEST_BYTES = 1 << 26

Sound = tuple[int, NDArray[np.float32]]
"""Where it begins in the run, in samples, and the samples, float32 [n]."""


def sound_head(start: int, samples: int) -> bytes:
    """What comes before `samples` float32 samples that begin at `start`; they follow as they lie in memory."""
    return _HEAD.pack(_SOUND, _START.size + 4 * samples) + _START.pack(start)


def window_frame(window: Window) -> bytes:
    """A window of the running model, with what the trial needs of it."""
    told = [window.start, window.end, window.score, str(window.verdict), str(window.reason)]
    return _frame(_WINDOW, told)


def break_frame(at_seconds: float) -> bytes:
    """There was a time without a microphone."""
    return _frame(_BREAK, at_seconds)


def read(take: Callable[[int], bytes]) -> Iterator[Sound | Window | float]:
    """What comes, until the pipe ends: sound, windows, and the seconds at which the sound breaks off.

    `take` gives so many bytes, fewer only at the end. Raises ValueError for what is no frame.
    """
    while len(head := take(_HEAD.size)) == _HEAD.size:
        kind, length = _HEAD.unpack(head)
        if length > _LARGEST_BYTES:
            raise ValueError("a frame that large cannot be")
        content = take(length)
        if len(content) < length:
            return
        if kind == _SOUND:
            yield _START.unpack_from(content)[0], np.frombuffer(content, np.float32, offset=_START.size)
        elif kind == _BREAK:
            yield float(json.loads(content))
        elif kind == _WINDOW:
            start, end, score, verdict, reason = json.loads(content)
            yield Window(start, end, score, Verdict(verdict), 0.0, 0.0, 0.0, 0, Reason(reason))
        else:
            raise ValueError(f"a frame of the kind {kind!r}")


def _frame(kind: bytes, told: object) -> bytes:
    content = json.dumps(told).encode()
    return _HEAD.pack(kind, len(content)) + content
