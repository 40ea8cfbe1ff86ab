"""A small network that looks at blocks of a stream, with random weights, as a checkpoint and as a file."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from edge_runtime.model.contract import Contract
from edge_runtime.model.network import Network
from export.checkpoint import Calibration, load, save
from export.convert import contract_of, convert
from export.parity import Parity, signals
from export.rawnet2 import RawNet2
from tests.conftest import voice
from tests.hybrids import TINY as HYBRID
from tests.hybrids import random_hybrid

RATE = 16000
BLOCK = 3200
"""Samples: five blocks are a window, and the context is no whole number of them."""
TINY = replace(HYBRID, window_samples=5 * BLOCK, block_frames=20, context_frames=30, level_blocks=3)
CALIBRATION = Calibration(scale=2.0, offset=0.25, threshold=-0.5, threshold_bonafide=0.5)
SOUND = np.concatenate([0.3 * voice(3, seed=5), *signals(RATE, RATE).values()]).astype(np.float32)
"""10 s: speech, noise, tones, silence and clipping."""


def random_blocks(read: bool = True) -> RawNet2:
    """Random weights everywhere, so that whatever is forgotten is seen."""
    return random_hybrid(read, TINY)


@dataclass(frozen=True)
class Blocky:
    """The network in PyTorch, and the file that was made of its checkpoint."""

    model: RawNet2
    checkpoint: Path
    path: Path
    proof: Parity

    @property
    def contract(self) -> Contract:
        """The file's."""
        return Network.load(self.path, trusted=True).contract

    def stream(self, sound: NDArray[np.float32], window_blocks: int = 5) -> NDArray[np.float64]:
        """By PyTorch, the log-likelihood ratio of every window that ends with a block, over the whole stream."""
        model = RawNet2(replace(self.model.config, window_samples=window_blocks * BLOCK)).eval()
        model.load_state_dict(self.model.state_dict())
        with torch.no_grad():
            features = model.features(torch.from_numpy(np.array(sound, np.float32))[None])
            return self.contract.llr(model.classify_stream(features).numpy())


def blocky(folder: Path, read: bool = True) -> Blocky:
    """Checkpoint and file in `folder`, by the exporter's own way."""
    model, checkpoint, path = random_blocks(read), folder / "blocks.safetensors", folder / "blocks.onnx"
    save(checkpoint, model, CALIBRATION, name="small blocks")
    loaded = load(checkpoint)
    return Blocky(model, checkpoint, path, convert(loaded, contract_of(loaded), path))
