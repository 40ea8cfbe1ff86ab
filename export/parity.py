"""The proof that an exported file computes what PyTorch computes, through the code that the device runs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from edge_runtime.errors import ModelError
from edge_runtime.model.contract import Contract
from edge_runtime.model.frontend import FilterBank
from edge_runtime.model.inputs import Inputs
from edge_runtime.model.network import Network
from export.graph import shortest_input
from export.rawnet2 import RawNet2

LIMIT = 1e-4
"""Largest difference of a logit that an export may show."""


@dataclass(frozen=True)
class SignalParity:
    """One comparison: `batch` windows of `samples` samples of a kind of `signal`."""

    signal: str
    batch: int
    samples: int
    difference: float  # largest absolute difference of a logit


@dataclass(frozen=True)
class Parity:
    """All comparisons of one exported file."""

    rows: tuple[SignalParity, ...]

    @property
    def difference(self) -> float:
        """The largest difference of all; NaN when a logit was NaN."""
        return float(np.max([row.difference for row in self.rows]))

    @property
    def holds(self) -> bool:
        """Whether every logit was finite and within LIMIT."""
        return self.difference <= LIMIT

    def table(self) -> str:
        """The comparisons as text, a line each."""
        lines = ["signal                     batch  samples  difference"]
        lines += [f"{row.signal:<25}{row.batch:>7}{row.samples:>9}{row.difference:>12.1e}" for row in self.rows]
        return "\n".join(lines)


def voice(samples: int, sample_rate: int) -> NDArray[np.float32]:
    """A vowel-like sound, float32 [samples], full scale 1: gliding harmonics under formants, in syllables."""
    time = np.arange(samples) / sample_rate
    pitch_hz = 120 + 30 * np.sin(2 * np.pi * 0.7 * time)
    phase = 2 * np.pi * np.cumsum(pitch_hz) / sample_rate
    first_hz, second_hz = (
        600 + 200 * np.sin(2 * np.pi * 1.3 * time),
        1500 + 500 * np.cos(2 * np.pi * 0.9 * time),
    )
    sound = np.zeros(samples)
    for harmonic in range(1, 25):
        hz = harmonic * pitch_hz
        formants = 1 / (1 + ((hz - first_hz) / 90) ** 2) + 0.4 / (1 + ((hz - second_hz) / 140) ** 2)
        sound += (0.02 + formants) * np.sin(harmonic * phase)
    syllables = np.clip(np.sin(2 * np.pi * 2.5 * time) + 0.4, 0, None)
    breath = np.random.default_rng(2).normal(0, 0.03, samples)
    sound = syllables * sound + breath
    return (0.5 * sound / np.abs(sound).max()).astype(np.float32)


def signals(samples: int, sample_rate: int) -> dict[str, NDArray[np.float32]]:
    """The signals of the proof, each float32 [samples]: loud, quiet, tonal, empty, voiced, and mixed in one window."""
    random = np.random.default_rng(1)
    time = np.arange(samples) / sample_rate
    noise = random.normal(0, 0.2, samples)
    tones = sum(0.2 * np.sin(2 * np.pi * hz * time) for hz in (110.0, 440.0, 1730.0, 6900.0))
    spoken = voice(samples, sample_rate)
    half = spoken.copy()
    half[samples // 2 :] = 0
    found = {
        "noise": noise,
        "quiet noise": 1e-4 * noise,
        "tones": tones,
        "silence": np.zeros(samples),
        "voice": spoken,
        "voice, then silence": half,
        "clipped voice": np.clip(20 * spoken, -1, 1),
    }
    return {name: np.asarray(signal, dtype=np.float32) for name, signal in found.items()}


def prove(model: RawNet2, path: str | Path) -> Parity:
    """Compares `model` (not folded, in evaluation mode) with the ONNX file at `path` on every signal.

    The file goes through the device's own loader, and the features of a `streaming` file through the device's own
    filter bank, with the filters out of the file and the signal in uneven pieces. Windows are compared singly, in
    one batch, and at another length than the file's own. Of a file of the `blocks` form a stream of several windows is
    compared as well, in uneven hops through the device's own `Inputs`. Raises ModelError when the device cannot run the
    file.
    """
    network = Network.load(path, trusted=True)
    contract = network.contract
    shortest = shortest_input(model.config, "waveform")
    other = max(shortest, contract.window_samples * 5 // 8)
    rows = [*_rows(model, network, contract.window_samples), *_rows(model, network, other, True)]
    return Parity(tuple(rows) + (tuple(_stream_rows(model, network)) if contract.form == "blocks" else ()))


def _rows(model: RawNet2, network: Network, samples: int, one_batch: bool = False) -> Iterator[SignalParity]:
    contract = network.contract
    found = signals(samples, contract.sample_rate)
    with torch.no_grad():
        wanted = [model(torch.from_numpy(signal)[None]).numpy()[0] for signal in found.values()]
    inputs = [_input(contract, signal) for signal in found.values()]
    if not one_batch:
        for name, single, logits in zip(found, inputs, wanted, strict=True):
            yield SignalParity(name, 1, samples, _difference(network.logits(single[None]), logits[None]))
    for size in (2, len(inputs)) if not one_batch else (3,):
        logits = network.logits(np.stack(inputs[-size:]))
        yield SignalParity("last ones together", size, samples, _difference(logits, np.stack(wanted[-size:])))


def _stream_rows(model: RawNet2, network: Network) -> Iterator[SignalParity]:
    """A stream of all signals after one another, its windows judged singly and several at once."""
    contract = network.contract
    window, block = contract.window_samples, contract.hop_multiple
    sound = np.concatenate(list(signals(window, contract.sample_rate).values()))
    with torch.no_grad():
        every = model.classify_stream(model.features(torch.from_numpy(sound)[None])).numpy()
    inputs = Inputs(network, window, 2 * window)
    random = np.random.default_rng(4)
    first = 0
    heard: list[NDArray[np.float32]] = []
    places: list[int] = []  # of the windows, in blocks
    while first + window <= sound.size:
        place = np.empty(network.input_shape(window), np.float32)
        base = places[-1] * block if places else 0  # what lies before the newest window was dropped
        inputs.push(sound[base:], first - base + window)
        inputs.write(sound[base:], first - base, place)
        inputs.drop(first - base)
        heard.append(place)
        places.append(first // block)
        first += block * int(random.integers(1, window // block + 1))
    wanted = every[places]
    for size in (1, network.largest_batch):
        groups = [np.stack(heard[start : start + size]) for start in range(0, len(heard), size)]
        logits = np.concatenate([network.body(group) for group in groups])
        yield SignalParity("stream, uneven hops", size, sound.size, _difference(logits, wanted))


def _input(contract: Contract, signal: NDArray[np.float32]) -> NDArray[np.float32]:
    """What the device hands to the network for this signal."""
    if contract.form == "waveform":
        return signal
    bank = FilterBank(contract.filters, contract.pool, contract.leading_zeros)
    pieces = np.split(signal, np.sort(np.random.default_rng(3).integers(0, signal.size, 5)))
    return np.concatenate([bank.push(piece) for piece in pieces], axis=1)


def _difference(got: NDArray[np.float32], wanted: NDArray[np.float32]) -> float:
    return float(np.abs(got.astype(np.float64) - wanted).max())


def demand(proof: Parity) -> None:
    """Raises ModelError unless the proof holds."""
    if not proof.holds:
        worst = max(proof.rows, key=lambda row: row.difference if np.isfinite(row.difference) else np.inf)
        raise ModelError(
            f"the exported file differs from PyTorch by {worst.difference:.1e} on {worst.signal} "
            f"(allowed is {LIMIT:.0e}): nothing was written"
        )
