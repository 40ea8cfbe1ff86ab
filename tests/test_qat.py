"""Weights of few bits while training: that they are rounded well, and as `quantization` will round them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import onnx
import pytest
import torch

from export.checkpoint import load
from export.convert import contract_of
from export.graph import build
from quantization import levels, schemes
from quantization.targets import target_of
from tests.conftest import random_model
from tests.test_quantization_hybrid import TINY, float_file
from training import qat
from training.qat import LARGEST, rounded, widths

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize(("bits", "shape", "inputs"), [(4, (5, 150), 64), (8, (5, 150), 150), (8, (6, 4, 3), 12)])
def test_rounded_weights_are_whole_numbers_of_steps_and_none_is_nearer(
    bits: int, shape: tuple[int, ...], inputs: int
) -> None:
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(bits))
    weight *= torch.logspace(-3, 3, weight.numel()).reshape(shape)  # no two blocks could share a scale
    once = rounded(weight, bits)
    for values, exact in zip(once.flatten(1), weight.flatten(1), strict=True):
        for block, wanted in zip(values.split(inputs), exact.split(inputs), strict=True):
            step = wanted.abs().max() / LARGEST[bits]
            assert (block - wanted).abs().max() <= step / 2 * 1.001
            torch.testing.assert_close(block / step, (block / step).round(), rtol=0, atol=1e-3)
    torch.testing.assert_close(rounded(once, bits), once)


def test_the_levels_and_training_say_the_same_of_scales() -> None:
    assert qat.BLOCK == schemes.BLOCK
    assert qat.SMALL_SHARE == levels.SMALL_SHARE
    assert LARGEST[8] == target_of("portable").largest


@pytest.mark.parametrize("network", ["a GRU", "an encoder", "an encoder that is read"])
def test_four_bits_are_for_the_weights_that_the_level_gives_four(network: str, tmp_path: Path) -> None:
    if network == "a GRU":
        checkpoint = load(ROOT / "training" / "edge.safetensors")
        model, graph = checkpoint.model, build(checkpoint.model, contract_of(checkpoint, "streaming"))
    else:
        model = random_model(replace(TINY, encoder_read="read" in network), seed=3)
        graph = onnx.load(float_file(tmp_path / "float.onnx", read="read" in network))
    found = levels.weights(graph)
    plan = levels.plan_of("int4", found)
    trained = [model.get_parameter(name).numel() for name, bits in widths(model, 4).items() if bits == 4]
    assert trained and sorted(trained) == sorted(w.values.size for w in found if plan[w.name] == levels.INT4)
