"""The published mathematics of each RawNet2 variant, written out plainly, and checkpoints in each one's own key names.

Nothing here uses export.rawnet2: the exporter's tests compare it with this file. The tests below check this file
itself against facts that are known from elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Published:
    """What a variant's code does; `bn` is the name of a block's BatchNorm between its two convolutions."""

    filters: int
    kernel: int
    block: str = "block{}.0."
    attention: str = "fc_attention{}.0."
    down: str = "conv_downsample"
    bn: str = "bn2"
    has_bn1: bool = True
    live_bn1: bool = False
    head: str = "_gru"
    mel: bool = True
    spare_points: int = 0
    pool: int = 3
    blocks: int = 6
    layers: int = 3
    log: bool = False


PUBLISHED = {
    "asvspoof2021": Published(20, 1025),
    "asvspoof5": Published(20, 1025, live_bn1=True),
    "eurecom2019": Published(128, 129, live_bn1=True, spare_points=2),
    "lanceaking": Published(
        20, 1025, block="block{}.", attention="fc_attention{}.", down="downsample", bn="bn1", has_bn1=False
    ),
    "edge": Published(
        12, 101, block="blocks.{}.", attention="blocks.{}.attention.", down="downsample", live_bn1=True, head="",
        mel=False, pool=9, blocks=5, layers=2, log=True,
    ),
}  # fmt: skip
GRU_NODES, FC_NODES = 10, 8
WINDOW_SAMPLES = 7000


def widths(variant: str) -> list[int]:
    """Filters, then the width of each block, all narrow; one change of width on the way."""
    facts = PUBLISHED[variant]
    return [facts.filters] + [facts.filters] * 2 + [facts.filters // 2] * (facts.blocks - 2)


def state_dict(variant: str, seed: int = 0) -> dict[str, Tensor]:
    """Random weights as the variant's own code would save them."""
    facts, random = PUBLISHED[variant], torch.Generator().manual_seed(seed)
    state: dict[str, Tensor] = {}

    def uniform(shape: tuple[int, ...], low: float, high: float) -> Tensor:
        return torch.rand(shape, generator=random) * (high - low) + low

    def weights(name: str, *shape: int) -> None:
        bound = 1.7 / np.sqrt(np.prod(shape[1:]))
        state[f"{name}.weight"] = uniform(shape, -bound, bound)
        state[f"{name}.bias"] = uniform(shape[:1], -bound, bound)

    def norm(name: str, size: int) -> None:
        state[f"{name}.weight"] = uniform((size,), 0.5, 1.5)
        state[f"{name}.bias"] = uniform((size,), -0.5, 0.5)
        state[f"{name}.running_mean"] = uniform((size,), -0.3, 0.3)
        state[f"{name}.running_var"] = uniform((size,), 0.2, 2.0)
        state[f"{name}.num_batches_tracked"] = torch.tensor(3)

    size = widths(variant)
    norm("first_bn", size[0])
    for index, (inputs, outputs) in enumerate(pairwise(size)):
        block = facts.block.format(index)
        if facts.has_bn1 and index > 0:
            norm(f"{block}bn1", inputs)
        weights(f"{block}conv1", outputs, inputs, 3)
        norm(f"{block}{facts.bn}", outputs)
        weights(f"{block}conv2", outputs, outputs, 3)
        if inputs != outputs:
            weights(f"{block}{facts.down}", outputs, inputs, 1)
        weights(facts.attention.format(index).removesuffix("."), outputs, outputs)
    norm("bn_before_gru", size[-1])
    for layer in range(facts.layers):
        inputs = GRU_NODES if layer else size[-1]
        for kind, width in (("ih", inputs), ("hh", GRU_NODES)):
            state[f"gru.weight_{kind}_l{layer}"] = uniform((3 * GRU_NODES, width), -0.6, 0.6)
            state[f"gru.bias_{kind}_l{layer}"] = uniform((3 * GRU_NODES,), -0.6, 0.6)
    weights(f"fc1{facts.head}", FC_NODES, GRU_NODES)
    weights(f"fc2{facts.head}", 2, FC_NODES)
    return state


def bank(variant: str) -> Tensor:
    """The filters, float64 [filters, 1, kernel]: differences of ideal low-passes times a Hamming window."""
    facts = PUBLISHED[variant]
    points = facts.filters + 1 + facts.spare_points
    edges = np.linspace(0, 8000, points)
    if facts.mel:
        edges = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + 8000 / 700), points) / 2595) - 1)
    n = np.arange(facts.kernel) - (facts.kernel - 1) // 2
    rows = []
    for low, high in pairwise(edges[: facts.filters + 1]):
        ideal = 2 * high / 16000 * np.sinc(2 * high * n / 16000) - 2 * low / 16000 * np.sinc(2 * low * n / 16000)
        rows.append(ideal * np.hamming(facts.kernel))
    return torch.from_numpy(np.stack(rows)).unsqueeze(1)


def envelopes(variant: str, waveform: Tensor) -> Tensor:
    """The front end in float64: [batch, samples] -> [batch, filters, frames]."""
    bands = functional.conv1d(waveform.double().unsqueeze(1), bank(variant))
    return functional.max_pool1d(bands.abs(), PUBLISHED[variant].pool)


@torch.no_grad()
def logits(variant: str, state: dict[str, Tensor], waveform: Tensor) -> Tensor:
    """What the variant's published code gives before any softmax: [batch, samples] -> float64 [batch, 2]."""
    facts = PUBLISHED[variant]
    w = {name: tensor.double() for name, tensor in state.items()}

    def norm(name: str, x: Tensor) -> Tensor:
        parts = (w[f"{name}.running_mean"], w[f"{name}.running_var"], w[f"{name}.weight"], w[f"{name}.bias"])
        return functional.batch_norm(x, *parts, training=False)

    def conv(name: str, x: Tensor, padding: int) -> Tensor:
        return functional.conv1d(x, w[f"{name}.weight"], w[f"{name}.bias"], padding=padding)

    def linear(name: str, x: Tensor) -> Tensor:
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    x = envelopes(variant, waveform)
    if facts.log:
        x = torch.log(x / (x.mean(dim=(1, 2), keepdim=True) + 1e-5) + 1e-3)
    x = functional.selu(norm("first_bn", x))
    for index in range(facts.blocks):
        block = facts.block.format(index)
        y = x
        if facts.live_bn1 and index > 0:
            y = functional.leaky_relu(norm(f"{block}bn1", x), 0.3)
        y = functional.leaky_relu(norm(f"{block}{facts.bn}", conv(f"{block}conv1", y, 1)), 0.3)
        y = conv(f"{block}conv2", y, 1)
        skip = conv(f"{block}{facts.down}", x, 0) if f"{block}{facts.down}.weight" in w else x
        x = functional.max_pool1d(y + skip, 3)
        gate = torch.sigmoid(linear(facts.attention.format(index).removesuffix("."), x.mean(-1)))[:, :, None]
        x = x * gate + gate
    steps = functional.selu(norm("bn_before_gru", x)).permute(2, 0, 1)
    for layer in range(facts.layers):
        state_now, outputs = torch.zeros(steps.shape[1], GRU_NODES, dtype=torch.float64), []
        for step in steps:
            new = step @ w[f"gru.weight_ih_l{layer}"].T + w[f"gru.bias_ih_l{layer}"]
            old = state_now @ w[f"gru.weight_hh_l{layer}"].T + w[f"gru.bias_hh_l{layer}"]
            reset, update = (
                torch.sigmoid(a + b) for a, b in list(zip(new.chunk(3, 1), old.chunk(3, 1), strict=True))[:2]
            )
            candidate = torch.tanh(new.chunk(3, 1)[2] + reset * old.chunk(3, 1)[2])
            state_now = update * state_now + (1 - update) * candidate
            outputs.append(state_now)
        steps = torch.stack(outputs)
    return linear(f"fc2{facts.head}", linear(f"fc1{facts.head}", steps[-1]))


def speech_like(clips: int, samples: int, seed: int = 0) -> Tensor:
    """Clips that differ from each other: harmonics under a syllabic envelope, in noise; float32 [clips, samples]."""
    random = np.random.default_rng(seed)
    time = np.arange(samples) / 16000
    found = []
    for clip in range(clips):
        pitch_hz = 100 + 40 * clip + 15 * np.sin(2 * np.pi * 3 * time)
        phase = 2 * np.pi * np.cumsum(pitch_hz) / 16000
        tones = sum(np.sin(k * phase) / k for k in range(1, 12))
        found.append(0.2 * tones * (0.6 + 0.4 * np.sin(2 * np.pi * 4 * time)) + 0.01 * random.normal(size=samples))
    return torch.from_numpy(np.stack(found).astype(np.float32))


@pytest.mark.parametrize(
    ("variant", "entries"),
    [("asvspoof2021", 119), ("asvspoof5", 119), ("eurecom2019", 119), ("lanceaking", 94)],
)
def test_the_written_checkpoints_have_as_many_entries_as_the_published_ones(variant: str, entries: int) -> None:
    assert len(state_dict(variant)) == entries


def test_the_top_edges_are_the_published_ones() -> None:
    """asvspoof's bank reaches 8 kHz; eurecom's, which leaves two mel points unused, ends near 7,669 Hz."""
    for variant, top_hz in (("asvspoof2021", 8000), ("eurecom2019", 7669)):
        response = np.abs(np.fft.rfft(bank(variant).sum(0)[0].numpy(), 1 << 15))
        passed_hz = np.flatnonzero(response > 0.5).max() * 16000 / (1 << 15)
        assert abs(passed_hz - top_hz) < 10, (variant, passed_hz)
