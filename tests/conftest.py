"""Shared fixtures: tiny RawNet2 models with random weights, exported to both forms, and sounds to score."""

from __future__ import annotations

import copy
import dataclasses
import signal
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
import torch
from hypothesis import HealthCheck, settings
from numpy.typing import NDArray

from edge_runtime.model.contract import Contract
from edge_runtime.model.network import Network
from export import graph
from export.rawnet2 import VARIANTS, Config, RawNet2

if TYPE_CHECKING:
    from tests.blocky import Blocky

settings.register_profile("edge-detect", deadline=None, max_examples=30, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("edge-detect")
torch.set_num_threads(1)
# Whoever runs the tests may ignore it, as nohup does; the programs that they start would too, and hear of no reload.
signal.signal(signal.SIGHUP, signal.SIG_DFL)

TINY = replace(
    VARIANTS["edge"],
    window_samples=16000,
    kernel=65,
    filters=6,
    channels=(6, 8, 8, 8),
    gru_nodes=8,
    gru_layers=2,
    fc_nodes=8,
)
TINY_PUBLIC = replace(
    VARIANTS["asvspoof5"],
    window_samples=16000,
    kernel=65,
    filters=6,
    channels=(6, 8, 8, 8),
    gru_nodes=8,
    gru_layers=2,
    fc_nodes=8,
    pool=9,
)
"""Like the public networks: its first block depends on nothing of the window as a whole, so that windows share it."""


def random_model(config: Config, seed: int = 0) -> RawNet2:
    """A network in evaluation whose weights and running statistics are random, so that all have an effect."""
    torch.manual_seed(seed)
    model = RawNet2(config)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm1d):
            assert module.running_mean is not None and module.running_var is not None
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.uniform_(module.bias, -0.5, 0.5)
            torch.nn.init.uniform_(module.running_mean, -0.5, 0.5)
            torch.nn.init.uniform_(module.running_var, 0.5, 2.0)
    # A random head gives logits that hardly differ between sounds; a larger one makes differences visible.
    torch.nn.init.normal_(model.fc2.weight, 0.0, 4.0)
    return model.eval()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--nightly", action="store_true", help="also what takes long")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out what takes long, unless it is asked for, and counts it as deselected."""
    if config.getoption("--nightly"):
        return
    slow = [item for item in items if item.get_closest_marker("nightly")]
    if slow:
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if item not in slow]


@pytest.fixture(scope="session")
def tiny_model() -> RawNet2:
    """The PyTorch network that the exported tiny models come from: 1 s windows, 6 filters, pool 9."""
    return random_model(TINY)


@pytest.fixture(scope="session")
def public_model() -> RawNet2:
    """The same for the `shared` form, which `edge` cannot have: 1 s windows, 6 filters, pool 9."""
    return random_model(TINY_PUBLIC, seed=1)


@pytest.fixture(scope="session")
def exported(
    tiny_model: RawNet2, public_model: RawNet2, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """Gives the ONNX file of a form, exported once. Its score is twice the logits' difference, plus 0.25.

    `shared` comes from `public_model`, and so does `public`, which has the form `streaming`; others from `tiny_model`.
    """
    folder = tmp_path_factory.mktemp("models")

    def path(form: str) -> Path:
        file = folder / f"{form}.onnx"
        if not file.exists():
            model = public_model if form in ("shared", "public") else tiny_model
            contract = Contract(
                form="streaming" if form == "public" else form,
                variant=model.config.variant,
                sample_rate=TINY.sample_rate,
                window_samples=TINY.window_samples,
                pool=model.config.pool,
                filters=model.filters.numpy(),
                calibrated=True,
                scale=2.0,
                offset=0.25,
                threshold=-0.5,
                threshold_bonafide=0.5,
                name="tiny",
            )
            onnx.save(graph.build(model, contract), str(file))
        return file

    return path


@pytest.fixture(scope="session")
def blocks(tmp_path_factory: pytest.TempPathFactory) -> Blocky:
    """A small model that looks at blocks, whose encoder is summed up as it is."""
    from tests.blocky import blocky  # imports this file

    return blocky(tmp_path_factory.mktemp("blocks"), read=False)


@pytest.fixture(scope="session")
def model(exported: Callable[[str], Path]) -> str:
    """What `--model` takes: the tiny model of the form `streaming`."""
    return str(exported("streaming"))


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few seconds of speech at 22050 Hz."""
    path = tmp_path_factory.mktemp("clips") / "speech.wav"
    text = "The quick brown fox jumps over the lazy dog, and nobody in the village knows the reason why."
    subprocess.run(["espeak-ng", "-w", str(path), text], check=True)
    return path


@pytest.fixture(scope="session", params=["streaming", "waveform", "shared"])
def network(request: pytest.FixtureRequest, exported: Callable[[str], Path]) -> Network:
    """A tiny model opened by the runtime, in each form."""
    return Network.load(exported(request.param))


@pytest.fixture(scope="session")
def original(network: Network, tiny_model: RawNet2, public_model: RawNet2) -> RawNet2:
    """The PyTorch network that `network` was exported from."""
    return public_model if network.contract.form == "shared" else tiny_model


def without_high_pass(network: Network) -> Network:
    """The same network for a detector that judges the sound as it comes."""
    plain = copy.copy(network)
    plain.contract = dataclasses.replace(network.contract, high_pass_hz=0.0)
    return plain


def voice(seconds: float, seed: int = 0, rate: int = 16000) -> NDArray[np.float32]:
    """Something like speech, float32 [n]: gliding harmonics in syllables with pauses, over faint noise."""
    generator = np.random.default_rng(seed)
    time = np.arange(round(seconds * rate)) / rate
    pitch = 120 + 60 * generator.random() + 20 * np.sin(2 * np.pi * (0.5 + generator.random()) * time)
    phase = 2 * np.pi * np.cumsum(pitch) / rate
    harmonics = sum(np.sin(k * phase + generator.random()) / k for k in range(1, 20))
    syllables = np.maximum(0, np.sin(2 * np.pi * (2 + generator.random()) * time)) ** 2
    sound = 0.1 * harmonics * syllables + 0.003 * generator.standard_normal(time.size)
    return np.asarray(sound, np.float32)
