"""Takes a steady offset, and what drifts slowly, out of a stream of samples before anything judges it."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

_SECTIONS = 2
"""First-order high-passes in a row. One of 20 Hz lets twice as much of a drift through as two of 10 Hz, which change
clean speech less (docs/offset.md)."""
_LONGEST_BLOCK = 1024
"""Samples of one pass over the recursion: long enough that NumPy's calls cost little."""
_LEAST_POWER = 1e-60
"""The pole's power at a block's end stays above this, so that its inverse is far from the end of float64."""
_GONE = 1e-12
"""A state below this (-240 dBFS) becomes 0, so that digital silence never leads to denormal numbers."""


class HighPass:
    """A second-order high-pass whose output does not depend on how the stream is split, to the last bit; or none.

    It begins as if the first sample had always been there: a constant gives zeros from its first sample on, and adding
    a constant to a signal changes nothing but float32's rounding of the signal itself. A sample that is marked as
    invalid counts as the one before it, and as 0 before there was any.
    """

    def __init__(self, corner_hz: float, rate: int) -> None:
        """`corner_hz`, at which each of its two sections halves the power, lies below a quarter of `rate`, in Hz.

        0 lets all pass. Raises ValueError for another corner.
        """
        if not 0 <= corner_hz < rate / 4:
            raise ValueError(f"a high-pass at {rate} Hz needs a corner from 0 to {rate / 4:g} Hz, not {corner_hz}")
        self._sections = [_Section(corner_hz, rate) for _ in range(_SECTIONS if corner_hz else 0)]
        self._last: float | None = None  # the newest valid sample

    def reset(self) -> None:
        """Begins a new stream."""
        self._last = None

    def push(self, samples: NDArray[np.float32], invalid: NDArray[np.bool_] | None = None) -> NDArray[np.float32]:
        """The next samples, finite float32 [n], without what is steady in them: float32 [n], a new array.

        `invalid`, bool [n], marks those whose values mean nothing.
        """
        values = samples.astype(np.float64)
        first = 0
        if invalid is not None and invalid.any():
            if self._last is None:  # the stream begins with the first sample that means something
                first = int(np.argmin(invalid)) if not invalid.all() else values.size
            values[:first] = 0
            values[first:] = _held(values[first:], invalid[first:], self._last)
        if first == values.size:
            return values.astype(np.float32)
        before, self._last = self._last, float(values[-1])
        for place, section in enumerate(self._sections):
            if before is None:
                section.begin(float(values[first]) if place == 0 else 0.0)
            values[first:] = section.push(values[first:])
        return values.astype(np.float32)


class _Section:
    """A first-order high-pass in float64: the bilinear transform of an RC circuit.

    `y[n] = pole * y[n - 1] + gain * (x[n] - x[n - 1])`. In a block that is counted from the stream's start this is a
    running sum of differences over powers of the pole, which NumPy adds one after the other. So a block may be fed in
    any pieces.
    """

    def __init__(self, corner_hz: float, rate: int) -> None:
        turn = math.tan(math.pi * corner_hz / rate)
        pole = (1 - turn) / (1 + turn)
        block = max(1, min(_LONGEST_BLOCK, int(math.log(_LEAST_POWER) / math.log(pole))))
        self._powers = pole ** np.arange(1.0, block + 1)
        self._weights = (1 + pole) / 2 / self._powers
        self.begin(0.0)

    def begin(self, value: float) -> None:
        """A stream begins before which there was nothing but `value`."""
        self._before, self._sum, self._place = value, 0.0, 0

    def push(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """The output for the next `values`, float64 [n]."""
        output = np.empty(values.size)
        done = 0
        while done < values.size:
            taken = min(values.size - done, self._powers.size - self._place)
            self._piece(values[done : done + taken], output[done : done + taken])
            done += taken
        return output

    def _piece(self, values: NDArray[np.float64], output: NDArray[np.float64]) -> None:
        """Writes the output for `values`, float64 [n], which lie in one block."""
        there = slice(self._place, self._place + values.size)
        terms = np.empty(values.size + 1)
        terms[0] = self._sum
        terms[1] = values[0] - self._before
        np.subtract(values[1:], values[:-1], out=terms[2:])
        np.multiply(terms[1:], self._weights[there], out=terms[1:])
        sums = np.cumsum(terms, out=terms)[1:]
        np.multiply(self._powers[there], sums, out=output)
        self._before, self._sum, self._place = float(values[-1]), float(sums[-1]), there.stop
        if self._place == self._powers.size:
            state = float(output[-1])
            self._sum, self._place = (state if abs(state) > _GONE else 0.0), 0


def filtered(samples: NDArray[np.float32], corner_hz: float, rate: int) -> NDArray[np.float32]:
    """A whole recording, finite float32 [n] at `rate` Hz, as a detector of this corner judges it: float32 [n]."""
    return HighPass(corner_hz, rate).push(samples)


def _held(values: NDArray[np.float64], invalid: NDArray[np.bool_], before: float | None) -> NDArray[np.float64]:
    """`values` in which an invalid one is the valid one before it; the first is valid where `before` is None."""
    places = np.maximum.accumulate(np.where(invalid, -1, np.arange(values.size)))
    return np.where(places < 0, before or 0.0, values[places])
