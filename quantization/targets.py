"""Processors that a file can be made for, and the integer weights that are right on each.

A product of uint8 activations and int8 weights is computed on x86 without VNNI by VPMADDUBSW, which adds two
products in 16 bits: 255 * 127 * 2 does not fit and saturates silently. Weights within +-64 cannot do that
(255 * 64 * 2 = 32640). VNNI adds in 32 bits. Products of uint8 by uint8 take another way on AVX2, exact at full range
and slower. ARM is exact for weights within +-127; ONNX Runtime's kernels for processors without dot product (A72) fail
at -128, which no weight is here. Sources: ONNX Runtime's page on quantization, its `mlas/lib/platform.cpp`, and
measurements of the project (`tests/aarch64`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import DTypeLike

from edge_runtime.errors import UsageError
from edge_runtime.model.contract import TARGETS as NAMES


@dataclass(frozen=True)
class Target:
    """What a kind of processor wants of integer weights and activations."""

    name: str
    largest: int = 64  # of the absolute value of an integer weight in a product
    unsigned: bool = False  # such weights are stored as uint8 around 128
    wide_filters: bool = False  # convolutions have 8-bit weights, not 7-bit ones
    signed_inputs: bool = False  # of convolutions: the kernels want int8 activations

    @property
    def dtype(self) -> DTypeLike:
        """Of the integer weights of a product in the file."""
        return np.uint8 if self.unsigned else np.int8

    @property
    def int8_bits(self) -> int:
        """What the contract says of files with integer products: 0 where nothing can saturate."""
        if self.unsigned:
            return 0
        return 8 if self.largest > 64 else 7


_TABLE = {
    target.name: target
    for target in (
        Target("portable"),
        Target("arm64", 127, False, True, True),
        Target("arm64-dotprod", 127, False, True, True),
        Target("x86-avx2", 127, True),
        Target("x86-vnni", 127, False, True),
    )
}
INTEGER_LEVELS = ("int8", "int8-static", "int4", "auto")


def target_of(name: str) -> Target:
    """The target of a name. Raises UsageError for an unknown one."""
    if name not in _TABLE:
        raise UsageError(f"there is no target {name!r}; known are {', '.join(NAMES)}")
    return _TABLE[name]


def family(levels: tuple[str, ...]) -> list[tuple[str, Target]]:
    """Every level with every target at which its file is another: float files are the same for all."""
    return [
        (level, target)
        for level in levels
        for target in (_TABLE.values() if level in INTEGER_LEVELS else [_TABLE["portable"]])
    ]
