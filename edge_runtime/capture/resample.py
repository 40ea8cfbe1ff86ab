"""Brings sound to the model's rate as it streams, through soxr's low-pass filter, so that nothing aliases."""

from __future__ import annotations

import numpy as np
import soxr
from numpy.typing import NDArray

from edge_runtime.capture.pcm import check_limits
from edge_runtime.errors import InputError


class Resampler:
    """A streaming resampler for one channel; equal rates pass the samples through untouched.

    soxr takes silence to have been before the first sample. A constant under the sound would begin and end with a step
    there and ring for some milliseconds; hence the first sample is taken off before and put back after.

    A sample that is not a number would spread over the whole length of the filter. It goes in as zero, and
    the output samples at its place are set to NaN again, so that whoever counts invalid samples sees them.
    """

    def __init__(self, in_rate: int, out_rate: int) -> None:
        """`in_rate`, `out_rate` in Hz. Raises InputError when soxr cannot do that ratio, or it is absurd."""
        check_limits(in_rate, 1)
        self._in_rate = in_rate
        self._out_rate = out_rate
        self._stream: soxr.ResampleStream | None = None
        self._taken = 0  # input samples so far
        self._given = 0  # output samples so far
        self._base: np.float32 | None = None  # what is taken off; None before the first sample
        self._invalid: list[NDArray[np.int64]] = []  # output positions still to be marked
        if in_rate != out_rate:
            try:
                self._stream = soxr.ResampleStream(in_rate, out_rate, 1, dtype="float32", quality="HQ")
            except (ValueError, RuntimeError, OverflowError) as reason:
                raise InputError(f"cannot convert from {in_rate} Hz to {out_rate} Hz: {reason}") from None

    def push(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Takes float32 [n] at the input rate, gives float32 [m] at the output rate, as much as is ready."""
        if self._stream is None:
            return samples
        finite = np.isfinite(samples)
        if not finite.all():
            where = np.flatnonzero(~finite).astype(np.int64) + self._taken
            self._invalid.append(np.unique(where * self._out_rate // self._in_rate))
            samples = np.where(finite, samples, np.float32(0))
        if self._base is None and len(samples):
            # What exceeds full scale is damaged: taking it off would cost the others their last digits.
            self._base = samples[0] if abs(samples[0]) <= 1 else np.float32(0)
        self._taken += len(samples)
        return self._mark(self._resampled(samples))

    def flush(self) -> NDArray[np.float32]:
        """The rest, float32 [m]; the resampler is at its end then."""
        if self._stream is None:
            return np.zeros(0, dtype=np.float32)
        return self._mark(self._resampled(np.zeros(0, dtype=np.float32), last=True))

    def _resampled(self, samples: NDArray[np.float32], last: bool = False) -> NDArray[np.float32]:
        assert self._stream is not None
        base = self._base or np.float32(0)
        centred = np.ascontiguousarray(samples - base, dtype=np.float32)
        output: NDArray[np.float32] = self._stream.resample_chunk(centred, last=last) + base
        return output

    def _mark(self, output: NDArray[np.float32]) -> NDArray[np.float32]:
        if self._invalid:
            waiting = np.concatenate(self._invalid)
            end = self._given + len(output)
            output = output.copy()
            output[waiting[waiting < end] - self._given] = np.nan
            later = waiting[waiting >= end]
            self._invalid = [later] if len(later) else []
        self._given += len(output)
        return output
