"""The graph that is written without PyTorch is the one that PyTorch's exporter writes."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import safetensors.numpy

from edge_runtime import Detector
from edge_runtime.errors import UsageError
from edge_runtime.model.contract import Contract
from edge_runtime.model.network import Network
from export import graph, plain
from export.rawnet2 import RawNet2
from tests.blocky import SOUND, Blocky
from tests.hybrids import TINY, random_hybrid


def contract_of(model: RawNet2) -> Contract:
    config = model.config
    return Contract(
        form="streaming",
        variant="hybrid",
        sample_rate=config.sample_rate,
        window_samples=config.window_samples,
        pool=config.pool,
        filters=model.filters.numpy(),
        name="small",
        scale=2.0,
    )


def test_it_computes_what_the_exporters_file_computes(tmp_path: Path) -> None:
    model = random_hybrid(read=False)
    contract = contract_of(model)
    state = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    made, wanted = plain.build(state, TINY.encoder_heads, contract), graph.build(model, contract)
    # The same nodes too: quantization looks for their patterns.
    assert Counter(node.op_type for node in made.graph.node) == Counter(node.op_type for node in wanted.graph.node)
    assert {item.name for item in made.graph.initializer if "." in item.name} == {
        item.name for item in wanted.graph.initializer if "." in item.name
    }
    onnx.save(made, tmp_path / "made.onnx")
    onnx.save(wanted, tmp_path / "wanted.onnx")
    one, other = Network.load(tmp_path / "made.onnx"), Network.load(tmp_path / "wanted.onnx")
    assert replace(one.contract, filters=contract.filters) == replace(other.contract, filters=contract.filters)
    random = np.random.default_rng(0)
    for batch, frames in ((1, contract.frames), (3, contract.frames), (2, 41), (2, 40), (1, 4)):
        features = np.abs(random.normal(size=(batch, TINY.filters, frames))).astype(np.float32)
        assert np.abs(one.logits(features) - other.logits(features)).max() < 1e-5


def test_blocks_are_what_the_exporter_makes_of_them(blocks: Blocky, tmp_path: Path) -> None:
    """The float file is made of the checkpoint as the shipped one's would be."""
    contract = Network.load(blocks.path, trusted=True).contract
    state = safetensors.numpy.load(blocks.checkpoint.read_bytes())
    made, wanted = plain.build(state, TINY.encoder_heads, contract), onnx.load(blocks.path)
    named = [{item.name for item in one.graph.initializer if ".weight" in item.name} for one in (made, wanted)]
    assert named[0] == named[1]
    onnx.save(made, tmp_path / "made.onnx")
    one, other = Network.load(tmp_path / "made.onnx"), Network.load(blocks.path)
    assert replace(one.contract, filters=contract.filters) == replace(other.contract, filters=contract.filters)
    scores = [[found.score for found in Detector(network, hop_seconds=0.2).push(SOUND)] for network in (one, other)]
    pairs = [pair for pair in zip(*scores, strict=True) if None not in pair]
    assert len(pairs) > 20 and np.abs(np.diff(np.array(pairs, np.float64), axis=1)).max() < 1e-4
    random = np.random.default_rng(0)
    for batch in (1, 3):
        features = np.abs(random.normal(size=(batch, contract.filters.shape[0], contract.seen_frames)))
        level = np.full((batch, 1, 1), 0.7, np.float32)
        mine, theirs = (network.moments(features.astype(np.float32), level) for network in (one, other))
        np.testing.assert_allclose(mine, theirs, atol=1e-4)


def test_other_networks_and_checkpoints_are_refused(tmp_path: Path) -> None:
    state = {name: tensor.numpy() for name, tensor in random_hybrid(read=True).state_dict().items()}
    with pytest.raises(UsageError, match="PyTorch"):
        plain.build(state, TINY.encoder_heads, contract_of(random_hybrid()))
    (tmp_path / "other.safetensors").write_bytes(b"other")
    assert not plain.is_shipped(tmp_path / "other.safetensors") and not plain.is_shipped(tmp_path / "none")
    with pytest.raises(UsageError, match="shipped model"):
        plain.convert_shipped(tmp_path / "other.safetensors", tmp_path / "x.onnx")
