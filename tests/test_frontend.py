"""The streaming filter bank against direct convolution, for all signals and all splits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge_runtime.model.frontend import FilterBank
from export.rawnet2 import VARIANTS, sinc_filters
from tests.conftest import voice

BANKS = {name: (sinc_filters(config), config.pool) for name, config in VARIANTS.items()}


def direct(samples: NDArray[np.float32], filters: NDArray[np.float32], pool: int) -> NDArray[np.float64]:
    """The definition in float64: correlate, absolute value, max-pool."""
    bands = torch.nn.functional.conv1d(
        torch.from_numpy(samples).double()[None, None], torch.from_numpy(filters).double()[:, None]
    )
    return np.asarray(torch.nn.functional.max_pool1d(bands.abs(), pool)[0])


@pytest.mark.parametrize("name", BANKS)
def test_equals_direct_convolution(name: str) -> None:
    filters, pool = BANKS[name]
    samples = voice(1.3)
    frames = FilterBank(filters, pool).whole(samples)
    expected = direct(samples, filters, pool)
    assert frames.dtype == np.float32 and frames.shape == expected.shape
    np.testing.assert_allclose(frames, expected, atol=1e-6)


def test_quiet_stretch_after_a_loud_one_keeps_its_relative_precision() -> None:
    filters, pool = BANKS["edge"]
    generator = np.random.default_rng(1)
    samples = generator.standard_normal(16000).astype(np.float32)
    samples[3000:] *= 1e-6  # 120 dB down, in the same FFT block
    frames = FilterBank(filters, pool).whole(samples)
    expected = direct(samples, filters, pool)
    quiet = slice(3000 // pool + 1, None)
    np.testing.assert_allclose(frames[:, quiet], expected[:, quiet], rtol=1e-5)


@given(
    seed=st.integers(0, 2**32 - 1),
    taps=st.integers(1, 300),
    pool=st.integers(1, 12),
    count=st.integers(1, 5),
    sizes=st.lists(st.integers(0, 4000), max_size=12),
)
def test_any_split_gives_the_same_frames(seed: int, taps: int, pool: int, count: int, sizes: list[int]) -> None:
    generator = np.random.default_rng(seed)
    filters = (generator.standard_normal((count, taps)) / taps).astype(np.float32)
    samples = generator.standard_normal(sum(sizes)).astype(np.float32)
    bank = FilterBank(filters, pool)
    pieces = [bank.push(piece) for piece in np.split(samples, np.cumsum(sizes)[:-1])] if sizes else []
    joined = np.concatenate([np.empty((count, 0), np.float32), *pieces], axis=1)
    whole = FilterBank(filters, pool).whole(samples)
    assert joined.shape == whole.shape == (count, bank.frames(samples.size))
    expected = direct(samples, filters, pool) if whole.size else np.zeros_like(whole, np.float64)
    # An FFT in float32 spreads its error over a block: it is measured against the loudest output, here up to 20.
    limit = 1e-6 * max(1.0, float(expected.max(initial=0)))
    np.testing.assert_allclose(joined, whole, atol=limit)
    np.testing.assert_allclose(whole, expected, atol=limit)


def test_a_frame_comes_with_its_last_sample_and_not_before() -> None:
    filters, pool = BANKS["asvspoof2021"]
    bank = FilterBank(filters, pool)
    needed = filters.shape[1] - 1 + pool
    assert bank.push(voice(1)[: needed - 1]).shape[1] == 0
    assert bank.push(voice(1)[needed - 1 : needed]).shape[1] == 1


def test_reset_forgets_the_stream_and_whole_leaves_it_alone() -> None:
    filters, pool = BANKS["edge"]
    first, second = voice(0.5, seed=1), voice(0.5, seed=2)
    bank = FilterBank(filters, pool)
    bank.push(first)
    bank.reset()
    np.testing.assert_array_equal(bank.push(second), bank.whole(second))
    bank.reset()
    head = bank.push(second[:3000])
    bank.whole(first)
    np.testing.assert_allclose(np.hstack((head, bank.push(second[3000:]))), bank.whole(second), atol=1e-6)


@pytest.mark.parametrize(("shape", "pool"), [((0, 5), 3), ((5, 0), 3), ((5,), 3), ((2, 5), 0)])
def test_an_impossible_bank_is_refused(shape: tuple[int, ...], pool: int) -> None:
    with pytest.raises(ValueError, match="bank needs"):
        FilterBank(np.ones(shape, np.float32), pool)
