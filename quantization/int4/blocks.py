"""Matrices in blocks of 4-bit codes, and four ways to round one.

A row is cut into blocks of inputs, each with a scale and, if not symmetric, a zero point:
weight = (code - zero) * scale.
The methods weigh each input's error with its mean square on calibration data, where that is given, since the error of
a product is the sum of (x dw)^2:

- `rtn`: the scale from the extremes, every weight to the nearest code (as ONNX Runtime's own quantizer does);
- `clipped`: the multiple of that scale, down to 0.4, with the least squared error;
- `hqq`: half-quadratic quantization (Badri and Shaji, 2023): outliers are split off by shrinkage, the rest is fitted;
- `kquant`: llama.cpp's k-quants (ggml-quants.c, make_qx_quants, make_qkx2_quants): many scales, and zero points, are
  tried, each refitted by weighted least squares to the codes that it gives.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import UsageError
from quantization.int4 import Floats

Codes = NDArray[np.uint8]
LARGEST_CODE = 15
MIDDLE = 8
"""The zero point of symmetric codes."""
BLOCKS = (16, 32, 64, 128, 256)
_TINY = np.float32(1e-12)


@dataclass(frozen=True)
class Quantized:
    """A matrix [rows, columns] in 4 bits. Codes beyond `columns` fill the last block; they meet no input."""

    codes: Codes  # [rows, blocks * block], 0 to 15
    scales: Floats  # [rows, blocks]; negative ones are allowed
    zero_points: Codes | None  # [rows, blocks], 0 to 15; None: 8 everywhere
    block: int
    columns: int

    def dequantized(self) -> Floats:
        """The matrix that the codes stand for, float32 [rows, columns]."""
        rows, blocks = self.scales.shape
        codes = self.codes.reshape(rows, blocks, self.block).astype(np.float32)
        zero = np.float32(MIDDLE) if self.zero_points is None else self.zero_points[:, :, None].astype(np.float32)
        return ((codes - zero) * self.scales[:, :, None]).reshape(rows, -1)[:, : self.columns]

    @property
    def nbytes(self) -> int:
        """Bytes in a file: half of one a code, two for the scale of a block, one for its zero point if it has any."""
        return self.codes.size // 2 + self.scales.size * (2 if self.zero_points is None else 3)


def check_block(block: int) -> None:
    """Raises UsageError unless blocks may have this size."""
    if block not in BLOCKS:
        raise UsageError(f"a block of {block} inputs is not supported: take one of {', '.join(map(str, BLOCKS))}")


def cut(matrix: Floats, block: int, importance: Floats | None = None) -> tuple[Floats, Floats]:
    """A matrix [rows, columns] as [rows, blocks, block], with the importance [1, blocks, block] of each input.

    The last block is filled up with zeros of no importance. Importance is float32 [columns], mean squares of the
    inputs; None: all alike. Raises UsageError for a block of another size than BLOCKS.
    """
    check_block(block)
    rows, columns = matrix.shape
    weight = np.ones(columns, np.float32) if importance is None else np.asarray(importance, np.float32)
    # A floor keeps inputs that were silent on the calibration data from being rounded at will.
    weight = np.maximum(weight / max(float(weight.mean()), 1e-20), np.float32(1e-3))
    fill = -columns % block
    blocked = np.pad(matrix, ((0, 0), (0, fill))).reshape(rows, -1, block)
    return blocked, np.pad(weight, (0, fill)).reshape(1, -1, block)


def assemble(blocked: Floats, scales: Floats, zero: NDArray[np.float32] | None, columns: int) -> Quantized:
    """Rounds [rows, blocks, block] with scales [rows, blocks, 1] and whole zero points of the same shape."""
    rows, _, block = blocked.shape
    codes = _nearest(blocked, scales, np.float32(MIDDLE) if zero is None else zero).astype(np.uint8)
    points = None if zero is None else zero[:, :, 0].astype(np.uint8)
    return Quantized(codes.reshape(rows, -1), scales[:, :, 0].astype(np.float32), points, block, columns)


def _nearest(blocked: Floats, scales: Floats, zero: Floats | np.float32) -> Floats:
    safe = np.where(np.abs(scales) < _TINY, _TINY, scales)
    return np.clip(np.rint(blocked / safe + zero), 0, LARGEST_CODE)


def _extremes(blocked: Floats, symmetric: bool) -> tuple[Floats, Floats | None]:
    """Scales and zero points [rows, blocks, 1] that reach every weight of a block."""
    if symmetric:
        # Signed, so that the largest weight lies at code 0 and the codes reach one further on its side.
        place = np.abs(blocked).argmax(axis=2, keepdims=True)
        return np.take_along_axis(blocked, place, axis=2) / np.float32(-MIDDLE), None
    low = np.minimum(blocked.min(axis=2, keepdims=True), 0)
    high = np.maximum(blocked.max(axis=2, keepdims=True), 0)
    scales = np.maximum((high - low) / np.float32(LARGEST_CODE), _TINY)
    return scales, np.clip(np.rint(-low / scales), 0, LARGEST_CODE)


def rtn(matrix: Floats, block: int, symmetric: bool = True, importance: Floats | None = None) -> Quantized:
    """Round to nearest. `importance` makes no difference."""
    blocked, _ = cut(matrix, block)
    scales, zero = _extremes(blocked, symmetric)
    return assemble(blocked, scales, zero, matrix.shape[1])


def clipped(matrix: Floats, block: int, symmetric: bool = True, importance: Floats | None = None) -> Quantized:
    """Round to nearest with the range shrunk to where the (weighted) squared error is least."""
    blocked, weight = cut(matrix, block, importance)
    widest, zero = _extremes(blocked, symmetric)
    best = _Best(blocked, weight)
    for share in np.linspace(1.0, 0.4, 25, dtype=np.float32):
        best.offer(widest * share, zero)
        if symmetric:
            best.offer(-widest * share, zero)  # the long side of the codes may serve the other sign better
    return assemble(blocked, best.scales, best.zero if not symmetric else None, matrix.shape[1])


def hqq(matrix: Floats, block: int, symmetric: bool = True, importance: Floats | None = None) -> Quantized:
    """Half-quadratic quantization: the l_0.7 norm of the error, so that few large errors count less than many small.

    The paper keeps the scale and fits a float zero point; here zero points are whole, so the scale is fitted to the
    zero point that results (and alone, when symmetric). It looks at weights only: `importance` makes no difference.
    """
    blocked, weight = cut(matrix, block)
    scales, start = _extremes(blocked, symmetric)
    zero: Floats = np.full_like(scales, MIDDLE) if start is None else start
    sharpness, power = 10.0, 0.7
    spread = np.maximum(np.abs(blocked).mean(axis=2, keepdims=True), _TINY)  # the paper's constants are for scale 1
    best = _Best(blocked, weight, power)
    for _ in range(20):
        best.offer(scales, None if symmetric else zero)
        steps = _nearest(blocked, scales, zero) - zero
        error = (blocked - steps * scales) / spread
        size = np.abs(error)
        shrunk = np.sign(error) * np.maximum(size - np.power(np.maximum(size, 1e-8), power - 1) / sharpness, 0) * spread
        if not symmetric:
            codes = steps + zero
            zero = np.clip(np.rint((codes - (blocked - shrunk) / scales).mean(axis=2, keepdims=True)), 0, LARGEST_CODE)
            steps = codes - zero
        scales = _fitted(blocked - shrunk, steps, weight, scales)
        sharpness *= 1.01
    return assemble(blocked, best.scales, None if symmetric else best.zero, matrix.shape[1])


def kquant(matrix: Floats, block: int, symmetric: bool = True, importance: Floats | None = None) -> Quantized:
    """Searches scales and zero points, refitting each by weighted least squares."""
    blocked, weight = cut(matrix, block, importance)
    widest, zero = _extremes(blocked, symmetric)
    best = _Best(blocked, weight)
    shifts = (-1, 0, 1) if zero is not None else (0,)
    signs = (1, -1) if symmetric else (1,)
    for share in np.linspace(1.05, 0.5, 12, dtype=np.float32):
        for shift in shifts:
            for sign in signs:
                point = None if zero is None else np.clip(zero + shift, 0, LARGEST_CODE)
                centre: Floats | np.float32 = np.float32(MIDDLE) if point is None else point
                scales = widest * share * np.float32(sign)
                for _ in range(2):
                    scales = _fitted(blocked, _nearest(blocked, scales, centre) - centre, weight, scales)
                best.offer(scales, point)
    return assemble(blocked, best.scales, None if symmetric else best.zero, matrix.shape[1])


def _fitted(target: Floats, steps: Floats, weight: Floats, otherwise: Floats) -> Floats:
    """The scales that bring `steps` nearest to `target` in weighted squares; `otherwise` where all steps are 0."""
    power = (weight * steps * steps).sum(axis=2, keepdims=True)
    fit = (weight * steps * target).sum(axis=2, keepdims=True) / np.maximum(power, _TINY)
    return np.where((power > 0) & (np.abs(fit) > _TINY), fit, otherwise).astype(np.float32)


class _Best:
    """Keeps, for each block, the scale and zero point with the least weighted error offered so far."""

    def __init__(self, blocked: Floats, weight: Floats, power: float = 2.0) -> None:
        self._blocked, self._weight, self._power = blocked, weight, power
        self.scales = np.zeros((*blocked.shape[:2], 1), np.float32)
        self.zero = np.full_like(self.scales, MIDDLE)
        self._error = np.full_like(self.scales, np.inf)

    def offer(self, scales: Floats, zero: Floats | None) -> None:
        centre = np.full_like(scales, MIDDLE) if zero is None else zero
        missed = np.abs(self._blocked - (_nearest(self._blocked, scales, centre) - centre) * scales)
        error = (self._weight * missed**self._power).sum(axis=2, keepdims=True)
        better = error < self._error
        self.scales = np.where(better, scales, self.scales)
        self.zero = np.where(better, centre, self.zero)
        self._error = np.where(better, error, self._error)


Method = Callable[[Floats, int, bool, Floats | None], Quantized]
METHODS: dict[str, Method] = {"rtn": rtn, "clipped": clipped, "hqq": hqq, "kquant": kquant}
