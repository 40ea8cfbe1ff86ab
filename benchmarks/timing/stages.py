"""Where a hop's time goes: each stage of the runtime timed alone, in turns with the whole."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from benchmarks.timing.interleaved import interleave
from benchmarks.timing.pipelines import OurPipeline
from benchmarks.timing.sound import speech_like
from benchmarks.timing.subgraph import is_recurrent, part, read, recurrent_input
from edge_runtime.capture.resample import Resampler
from edge_runtime.model.blocks import BlockStream
from edge_runtime.model.contract import COLUMN_FRAMES
from edge_runtime.model.frontend import FilterBank
from edge_runtime.model.inputs import Inputs
from edge_runtime.model.network import INPUTS, Network
from evaluation.progress import silently

MICROPHONE_RATE = 48_000
"""Hz: what most sound cards give, whatever they are asked for."""
RESAMPLE, BANK, FIRST, BLOCKS, GRU, REST = "resample", "filter bank", "first block", "blocks", "GRU and head", "rest"
ENCODER = "encoder and head"
NETWORK = (FIRST, BLOCKS, GRU, ENCODER)
_REACH_FRAMES = 2
"""Beyond a column's own frames, on which it depends as well: what `edge_runtime.model.inputs` keeps to itself."""


@dataclass(frozen=True)
class Stages:
    """CPU time of a hop, in milliseconds, medians. `parts` sum up to `whole_ms`, a hop with its resampling."""

    pipeline: str
    parts: dict[str, float]
    whole_ms: float

    @property
    def network_ms(self) -> float:
        """What the network takes of it."""
        return sum(self.parts[name] for name in NETWORK if name in self.parts)


def stages(pipeline: OurPipeline, rounds: int, threads: int, progress: Callable[..., Any] = silently) -> Stages:
    """Times the stages of one of our pipelines.

    `rest` is what the parts leave of the detector's whole: the sound's quality, verdicts, copies; it holds their
    error too, and may come out below 0. A part finds the caches as the others left them, as at each hop it does.

    Raises UsageError without onnx, ModelError when the file cannot be cut before its GRU.
    """
    calls: dict[str, Callable[[], object]] = {
        "hop": pipeline.hop,
        **front_end_calls(pipeline),
        **network_calls(pipeline, threads),
    }
    turns = interleave(list(calls.values()), rounds, progress, f"stages of {pipeline.path.stem}")
    parts = dict(zip(calls, (1000 * np.median(turns.cpu, axis=0)).tolist(), strict=True))
    hop = parts.pop("hop")
    whole = hop + parts[RESAMPLE]
    parts[REST] = whole - sum(parts.values())
    return Stages(pipeline.name, parts, whole)


def first_block_frames(network: Network, hop_samples: int) -> int:
    """Feature frames that the first block takes at each hop: the new ones, with what they need of the old.

    What `Inputs` does, written down a second time, because the count is wanted without doing it; a test has `Inputs`
    do it and compares.
    """
    contract = network.contract
    new, held = hop_samples // contract.pool, contract.frames
    # It goes back to the last column that silence after it had a part in, and one more.
    settled = max(0, (held - _REACH_FRAMES) // COLUMN_FRAMES)
    return new + held - COLUMN_FRAMES * max(0, settled - 1)


def front_end_calls(pipeline: OurPipeline) -> dict[str, Callable[[], object]]:
    """What stands before the network at each hop, by stage: calls that each do the work of one."""
    contract, network = pipeline.contract, pipeline.detector.network
    rate, hop = contract.sample_rate, pipeline.hop_samples
    sound = speech_like(contract.window_samples + hop, rate)
    bank = FilterBank(contract.filters, contract.pool, contract.leading_zeros)
    bank.push(sound[hop:])
    microphone = speech_like(round(hop * MICROPHONE_RATE / rate), MICROPHONE_RATE)
    resampler = Resampler(MICROPHONE_RATE, rate)
    calls: dict[str, Callable[[], object]] = {
        RESAMPLE: partial(resampler.push, microphone),
        BANK: partial(bank.push, sound[:hop]),
    }
    if contract.form == "shared":
        features = FilterBank(contract.filters, contract.pool, contract.leading_zeros).whole(sound)[None]
        new = np.ascontiguousarray(features[..., : first_block_frames(network, hop)])
        beginning = np.ascontiguousarray(features[..., : 2 * COLUMN_FRAMES])  # for the first column, computed apart

        def first_block() -> None:
            network.first_block(new)
            network.first_block(beginning)

        calls[FIRST] = first_block
    return calls


def network_calls(pipeline: OurPipeline, threads: int) -> dict[str, Callable[[], object]]:
    """The network's stages, cut apart, as calls on a window; one with an encoder is one stage.

    Of a model that looks at blocks a call is on the blocks that a hop brings, and on a window. Raises UsageError
    without onnx, ModelError.
    """
    contract, network = pipeline.contract, pipeline.detector.network
    if contract.form == "blocks":
        return {ENCODER: _block_calls(pipeline)}
    model = read(pipeline.path)
    if not is_recurrent(model):
        sound = speech_like(contract.window_samples, contract.sample_rate)
        window = Inputs(network, contract.window_samples, 2 * contract.window_samples).whole(sound)[None]
        return {ENCODER: partial(network.logits, window)}
    middle, source = recurrent_input(model), INPUTS[contract.form]
    blocks = part(model, source, middle, threads, f"the blocks out of {pipeline.path}")
    gru = part(model, middle, "logits", threads, f"the GRU out of {pipeline.path}")
    sound = speech_like(contract.window_samples, contract.sample_rate)
    window = Inputs(network, contract.window_samples, 2 * contract.window_samples).whole(sound)[None]
    (sequence,) = blocks.run([middle], {source: window})
    return {
        BLOCKS: partial(blocks.run, [middle], {source: window}),
        GRU: partial(gru.run, ["logits"], {middle: sequence}),
    }


def _block_calls(pipeline: OurPipeline) -> Callable[[], object]:
    """A call on the blocks of a hop and on the window that they complete."""
    contract, network = pipeline.contract, pipeline.detector.network
    hop = pipeline.hop_samples // contract.pool
    bank = FilterBank(contract.filters, contract.pool, contract.leading_zeros)
    features = bank.whole(speech_like(contract.window_samples, contract.sample_rate))
    stream = BlockStream(network)
    moments = stream.push(features)
    window = moments[None]
    new = np.ascontiguousarray(features[:, -hop:])

    def blocks_and_window() -> None:
        stream.push(new)
        network.body(window)

    return blocks_and_window
