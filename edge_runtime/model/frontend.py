"""RawNet2's front end as a stream: the filter bank by overlap-save FFT, absolute value, max-pool."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_LARGEST_FFT = 9216
"""Longer blocks waste less on the overlap, shorter ones stay in the cache: 9,216 points measured best."""
_GROUP = 16
"""Filters transformed at once: their work space (3 MB) bounds the memory and stays near the cache."""
_EVEN = 300.0
"""Ratio of a block's RMS to that of its quietest part (50 dB) up to which float32 keeps four digits everywhere."""
_PART = 256
"""Samples of a part: shorter than any filter of a RawNet2, so that no output lies in a quieter one alone."""
_FAST_SIZES = tuple(
    sorted(2**twos * odd for twos in range(5, 14) for odd in (3, 9, 15, 135) if 2**twos * odd <= _LARGEST_FFT)
)
"""FFT lengths 2^a * 3^b * 5^c, at most 1.5 apart, so that a short push does not pay for a long block.

8,640 points are there for half a second at 16 kHz.
"""
_RESPONSES = 2
"""Tables of transfer functions that are kept, 3 to 6 MB each: a stream's hops need one length in both precisions."""
_LONG_POOL = 64
"""From so many neighbours on, NumPy's own maximum of each stretch is the faster one."""


class FilterBank:
    """Filters, float32 [F, K], correlated with a stream of samples, then |x|, then the maximum of `pool`.

    Frame `i` is the maximum over outputs `i * pool` to `i * pool + pool - 1`, where output `t` is the sum of
    `filters[:, j] * samples[t + j]`. So frame `i` comes as soon as sample `i * pool + pool - 1 + K - 1` is
    there, and any split of a signal into pushes gives the same frames except for the last bit of a float32.

    The method is overlap-save (Oppenheim and Schafer, "Discrete-Time Signal Processing", 8.7.3). The error of an
    FFT is spread over its block and set by the loudest part, and the logarithm that may follow would show it in a
    quiet part: blocks that hold both are computed in float64, all others in float32, which takes two thirds of the
    time. State between pushes: fewer than `K + pool` samples. Samples must be finite and 1-D; the detector sees to it.
    """

    def __init__(self, filters: NDArray[np.float32], pool: int, leading_zeros: int = 0) -> None:
        """`leading_zeros` samples of silence stand before the first sample of every signal.

        Raises ValueError unless `filters` is a non-empty [F, K] and `pool` is positive.
        """
        if filters.ndim != 2 or 0 in filters.shape or pool < 1:
            raise ValueError(f"a bank needs filters [F, K] and a positive pool, not {filters.shape}, {pool}")
        self.pool = pool
        self._filters = filters.astype(np.float64)
        self._taps: int = filters.shape[1]
        # One frame must fit a block; from twice the taps on, at most half of a block is overlap.
        least = max(self._taps + pool - 1, min(2 * self._taps, _LARGEST_FFT))
        self._sizes = [size for size in _FAST_SIZES if size >= least] or [2 * least]
        self._responses: dict[tuple[int, type[np.generic]], NDArray[Any]] = {}
        self._spaces: dict[str, NDArray[Any]] = {}
        self._silence = np.zeros(leading_zeros, np.float32)
        self.reset()

    def reset(self) -> None:
        """Forgets the samples seen: the next one is a stream's first."""
        self._pending = self._silence

    def frames(self, samples: int) -> int:
        """How many frames a signal of `samples` samples has."""
        return self._count(samples + self._silence.size)

    def _count(self, samples: int) -> int:
        return max(0, (samples - self._taps + 1) // self.pool)

    def push(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """The frames, float32 [F, n], that `samples`, float32 [any], complete."""
        signal = np.concatenate((self._pending, samples))
        frames = self._transform(signal)
        self._pending = signal[frames.shape[1] * self.pool :].copy()
        return frames

    def whole(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """All frames, float32 [F, n], of a signal that stands alone; the stream's state is not touched."""
        return self._transform(np.concatenate((self._silence, samples)) if self._silence.size else samples)

    def _transform(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        count = self._count(samples.size)
        frames = np.empty((self._filters.shape[0], count), np.float32)
        done = 0
        while done < count:
            size = self._size_for(count - done)
            block = min((size - self._taps + 1) // self.pool, count - done)
            first = done * self.pool
            self._block(samples[first : first + size], size, frames[:, done : done + block])
            done += block
        return frames

    def _block(self, samples: NDArray[np.float32], size: int, frames: NDArray[np.float32]) -> None:
        """Writes the frames of at most `size` samples, by one FFT there and one per filter back."""
        real, complex_ = (np.float32, np.complex64) if _even(samples) else (np.float64, np.complex128)
        spectrum = np.fft.rfft(samples.astype(real, copy=False), size)
        response = self._response(size, complex_)
        used = frames.shape[1] * self.pool
        for first in range(0, len(frames), _GROUP):
            group = slice(first, min(first + _GROUP, len(frames)))
            rows = group.stop - first
            product = self._scratch(f"product {complex_.__name__}", rows, size // 2 + 1, complex_)
            np.multiply(response[group], spectrum, out=product)
            bands = np.fft.irfft(product, size, out=self._scratch(f"bands {real.__name__}", rows, size, real))[:, :used]
            if real is np.float64:
                envelope = self._scratch("envelope", rows, used, np.float32)
                np.copyto(envelope, bands, casting="same_kind")
                bands = envelope
            np.abs(bands, out=bands)
            if self.pool >= _LONG_POOL:
                np.maximum.reduceat(bands, range(0, used, self.pool), axis=1, out=frames[group])
                continue
            _largest(bands, self.pool, frames[group], self._scratch("spare", rows, used, np.float32))

    def _scratch(self, use: str, rows: int, columns: int, dtype: type[np.generic]) -> NDArray[Any]:
        """Work space that lives from call to call: fresh pages for every product cost a third of the time."""
        space = self._spaces.get(use)
        if space is None or space.size < rows * columns or space.dtype != dtype:
            space = self._spaces[use] = np.empty(rows * columns, dtype)
        return space[: rows * columns].reshape(rows, columns)

    def _size_for(self, frames: int) -> int:
        """The shortest FFT that gives `frames` frames at once, else the longest there is."""
        needed = frames * self.pool + self._taps - 1
        return next((size for size in self._sizes if size >= needed), self._sizes[-1])

    def _response(self, size: int, kind: type[np.generic]) -> NDArray[Any]:
        """Transfer functions, complex [F, size // 2 + 1]; conjugate, as this is a correlation."""
        response = self._responses.pop((size, kind), None)
        if response is None:
            response = np.empty((len(self._filters), size // 2 + 1), kind)
            for first in range(0, len(response), _GROUP):  # all at once would take three times the table
                part = slice(first, first + _GROUP)
                np.conjugate(np.fft.rfft(self._filters[part], size), out=response[part], casting="same_kind")
        self._responses[size, kind] = response  # the newest
        while len(self._responses) > _RESPONSES:
            del self._responses[next(iter(self._responses))]
        return response


def _even(samples: NDArray[np.float32]) -> bool:
    """Whether float32 will do: no part of the samples, float32 [n], is much quieter than the whole."""
    parts = samples[: samples.size // _PART * _PART].reshape(-1, _PART)
    if not len(parts):
        return False
    powers = np.einsum("ij,ij->i", parts, parts)  # of sound too faint for float32's squares they are 0
    return bool(powers.min() * np.float32(_EVEN**2) > powers.mean())


def _largest(values: NDArray[Any], pool: int, out: NDArray[np.float32], spare: NDArray[np.float32]) -> None:
    """Writes the maxima of `pool` neighbours in each row; `values` and `spare`, of one shape, are overwritten.

    The maxima of 2, 4, 8... neighbours at every place come from those of half as many, in passes over contiguous
    memory; two of them that overlap make up `pool`. A strided pass for each neighbour took twice as long.
    """
    width, length = 1, values.shape[1]
    while 2 * width <= pool:
        length -= width
        np.maximum(values[:, :length], values[:, width : width + length], out=spare[:, :length])
        values, spare = spare, values
        width *= 2
    last = pool - width
    columns = out.shape[1]
    np.maximum(values[:, :length:pool][:, :columns], values[:, last:length:pool][:, :columns], out=out)
