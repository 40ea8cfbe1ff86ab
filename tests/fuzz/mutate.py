"""Small changes to bytes that readers of headers and texts stumble over."""

from __future__ import annotations

import random
from collections.abc import Sequence

_NUMBERS = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
_WIDE = (0, 1, 2**31, 2**32 - 1, 2**32, 2**63 - 1, 2**63, 2**64 - 1)
_HEAD = 256
"""Headers lie here: half of all changes are made in these bytes."""
_LARGEST = 1 << 20


def mutate(generator: random.Random, sample: bytes, seeds: Sequence[bytes], tokens: Sequence[bytes]) -> bytes:
    """One to eight changes of `sample`; pieces of other `seeds` and `tokens` are put in."""
    data = bytearray(sample)
    for _ in range(generator.choice((1, 1, 2, 3, 8))):
        _change(generator, data, seeds, tokens)
    return bytes(data[:_LARGEST])


def _change(generator: random.Random, data: bytearray, seeds: Sequence[bytes], tokens: Sequence[bytes]) -> None:
    place = _place(generator, data)
    kind = generator.randrange(9 if tokens else 8)
    length = generator.choice((1, 2, 4, 8, 16, 64, 1024))
    if kind == 0 and data:
        data[min(place, len(data) - 1)] ^= 1 << generator.randrange(8)
    elif kind == 1 and data:
        data[min(place, len(data) - 1)] = generator.randrange(256)
    elif kind == 2:
        size = generator.choice((1, 2, 4))
        number = generator.choice(_NUMBERS) & ((1 << 8 * size) - 1)
        data[place : place + size] = number.to_bytes(size, generator.choice(("little", "big")))
    elif kind == 3:
        data[place : place + 8] = generator.choice(_WIDE).to_bytes(8, generator.choice(("little", "big")))
    elif kind == 4:
        del data[place : place + length]
    elif kind == 5:
        data[place:place] = data[place : place + length] * generator.choice((1, 2, 16))
    elif kind == 6:
        del data[place:]
    elif kind == 7:
        other = generator.choice(seeds)
        start = _place(generator, other)
        data[place : place + length] = other[start : start + length]
    else:
        token = generator.choice(tokens)
        data[place : place + generator.choice((0, len(token)))] = token * generator.choice((1, 1, 1, 100))


def _place(generator: random.Random, data: Sequence[int]) -> int:
    length = len(data)
    return generator.randrange(min(length, _HEAD) + 1) if generator.random() < 0.5 else generator.randrange(length + 1)
