"""Samples in containers wider than they need: whether they lie at the low end or at the top is what the samples show.

ALSA's S24_LE, as `arecord -f S24_LE` writes it, has 24 bits at the low end of 4 bytes; others put them at the top, as
the WAV standard has it. Both write the same header.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from edge_runtime.capture.pcm import ENCODINGS, Piece, RawFormat, decode, integers
from edge_runtime.errors import InputError

_PROOF = 1 << 15
"""Samples with something in the low bits, while nothing stands above: enough to call the low end proved."""
_PATIENCE = 1 << 18
"""Samples that are held back at most, from the first that is not zero."""


class WideParser:
    """Interleaved signed integers whose place in their container is not known at first.

    Zeros mean the same in both places, and pass. From the first other sample on all is held back until one is met that
    reaches above the low bits (then they lie at the top), or until so many fit there that they lie at the low end. The
    answer depends on the samples alone, not on how the bytes were split.
    """

    def __init__(self, form: RawFormat, bits: int, at_top: bool = False) -> None:
        """`form` has the container's encoding; `bits` of each are the sample.

        With `at_top` they lie at the low end only where something stands below what would be their bits at the top.
        """
        self._form = form
        self._bits = bits
        self._at_top = at_top
        self._low = dataclasses.replace(form, low_bits=bits)
        self._decided: RawFormat | None = None
        self._held = b""
        self._looked = 0  # samples held that were looked at
        self._proofs = 0
        self._rest = b""
        self._contradiction = False

    def push(self, data: bytes) -> Iterator[Piece]:
        """Takes bytes of any number, gives the frames that are settled. Raises InputError for a contradiction."""
        data = self._rest + data
        whole = len(data) - len(data) % self._form.frame_bytes
        data, self._rest = data[:whole], data[whole:]
        if self._decided is None:
            if not self._held:
                zeros = self._leading_zeros(data)
                if zeros:
                    yield self._form.rate, decode(data[:zeros], self._form)
                data = data[zeros:]
            if not data:
                return
            self._held += data
            data = self._decide()
        if data:
            yield from self._settled(data)

    def flush(self) -> Iterator[Piece]:
        """The bytes ended: what is still held back, at the low end where nothing speaks against it."""
        if self._held:
            self._decided = self._form if self._at_top and not self._proofs else self._low
            held, self._held = self._held, b""
            yield from self._settled(held)

    def _leading_zeros(self, data: bytes) -> int:
        """Bytes of whole frames of zeros that `data` begins with."""
        set_bytes = np.flatnonzero(np.frombuffer(data, dtype=np.uint8))
        zeros = int(set_bytes[0]) if len(set_bytes) else len(data)
        return zeros - zeros % self._form.frame_bytes

    def _decide(self) -> bytes:
        """Looks at what was held and not looked at yet; gives all of it once the place is known, else nothing."""
        width = self._form.sample_bytes
        values = self._values(self._held[self._looked * width :])
        fits = self._fits_low(values)
        used = np.cumsum(fits & (values & ((1 << (8 * width - self._bits)) - 1) != 0)) + self._proofs
        above = np.flatnonzero(~fits)
        proved = int(np.searchsorted(used, _PROOF))  # the place of the last proof that is needed, or the length
        enough = min(proved, _PATIENCE - 1 - self._looked)
        if len(above) and above[0] <= enough:
            self._decided = self._form
        elif enough < len(values):
            self._decided = self._form if self._at_top and not used[enough] else self._low
        else:
            self._looked += len(values)
            self._proofs = int(used[-1]) if len(used) else self._proofs
            return b""
        held, self._held = self._held, b""
        return held

    def _settled(self, data: bytes) -> Iterator[Piece]:
        if self._contradiction:
            return
        assert self._decided is not None
        if self._decided is self._low:
            wrong = np.flatnonzero(~self._fits_low(self._values(data)))
            if len(wrong):
                self._contradiction = True
                data = data[: int(wrong[0]) // self._form.channels * self._form.frame_bytes]
        if data:
            yield self._form.rate, decode(data, self._decided)
        if self._contradiction:
            raise InputError(
                f"its samples of {self._bits} bits lie in {self._form.sample_bytes} bytes each, sometimes at the low "
                "end and sometimes at the top: convert it with the program that wrote it, to 16-bit WAV"
            )

    def _values(self, data: bytes) -> NDArray[np.int64]:
        kind = ENCODINGS[self._form.encoding][0]
        values = integers(data, kind).astype(np.int64)
        return values >> 8 if kind.endswith("i3") else values

    def _fits_low(self, values: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Where nothing stands above the low bits: there are zeros, or copies of the sign."""
        top = values >> self._bits
        sign = (values >> (self._bits - 1)) & 1
        fits: NDArray[np.bool_] = (top == 0) | ((top == -1) & (sign == 1))
        return fits
