"""What each of ONNX Runtime's session options does to the time of a window: why the runtime sets those that it sets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from benchmarks.timing.interleaved import Spread, interleave
from benchmarks.timing.sound import speech_like
from edge_runtime.errors import ModelError, UsageError
from edge_runtime.model.frontend import FilterBank
from edge_runtime.model.inputs import Inputs
from edge_runtime.model.network import INPUTS, Network
from edge_runtime.model.shape import BLOCK_OUTPUTS
from edge_runtime.system.markdown import table
from evaluation.progress import silently

Change = Callable[[onnxruntime.SessionOptions], None]


def _entry(key: str, value: str) -> Change:
    return lambda options: options.add_session_config_entry(key, value)


def _attribute(name: str, value: object) -> Change:
    return lambda options: setattr(options, name, value)


def _two_that_spin(options: onnxruntime.SessionOptions) -> None:
    options.intra_op_num_threads = 2
    options.add_session_config_entry("session.intra_op.allow_spinning", "1")


SPINNING = "2 threads, which spin"
"""Timed apart from the others: its threads go on taking a core for a while when it is done."""
CHANGES: dict[str, Change] = {
    "as the runtime sets them": lambda options: None,
    "2 threads": _attribute("intra_op_num_threads", 2),
    SPINNING: _two_that_spin,
    "no memory arena": _attribute("enable_cpu_mem_arena", False),
    "no memory pattern": _attribute("enable_mem_pattern", False),
    "no prepacked weights": _entry("session.disable_prepacking", "1"),
    "denormals flushed to zero": _entry("session.set_denormal_as_zero", "1"),
    "graph optimized only within standard operators": _attribute(
        "graph_optimization_level", onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    ),
}
"""Each beside the runtime's own settings; the last leaves out the blocked layout of convolutions (NCHWc)."""


@dataclass(frozen=True)
class Choice:
    """One set of options: the time of a window, and how much faster it is than the runtime's own."""

    options: str
    latency_ms: Spread
    speedup: Spread


def session_options(path: Path, rounds: int = 50, progress: Callable[..., Any] = silently) -> list[Choice]:
    """Times the network of a model file on one window with each of CHANGES, in turns with the runtime's own.

    Raises UsageError without a round, ModelError for the file.
    """
    if rounds < 1:
        raise UsageError("timing needs at least one round")
    network = Network.load(path)
    contract = network.contract
    feed = _feed(network)
    outputs = list(BLOCK_OUTPUTS) if contract.form == "blocks" else ["logits"]
    own = next(iter(CHANGES))
    found: dict[str, Choice] = {}
    for names in ([name for name in CHANGES if name != SPINNING], [own, SPINNING]):
        sessions = [_session(path, CHANGES[name]) for name in names]
        turns = interleave([partial(session.run, outputs, feed) for session in sessions], rounds, progress)
        for index, (name, speedup) in enumerate(zip(names, turns.speedups(turns.wall), strict=True)):
            found.setdefault(name, Choice(name, Spread.of(turns.wall[:, index], 1000), speedup))
    return [found[name] for name in CHANGES]


def _feed(network: Network) -> dict[str, NDArray[np.float32]]:
    """A window of something like speech; of a model that looks at blocks a block as well."""
    contract = network.contract
    sound = speech_like(contract.window_samples, contract.sample_rate)
    window = Inputs(network, contract.window_samples, 2 * contract.window_samples).whole(sound)[None]
    feed = {INPUTS[contract.form]: window}
    if contract.form == "blocks":
        features = FilterBank(contract.filters, contract.pool, contract.leading_zeros).whole(sound)
        feed["features"] = features[None, :, -contract.seen_frames :].copy()
        feed["level"] = np.full((1, 1, 1), features.mean(), np.float32)
    return feed


def _session(path: Path, change: Change) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    change(options)
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as reason:  # ONNX Runtime's exceptions share no narrower base
        raise ModelError(f"cannot open {path}: {' '.join(str(reason).split())[:160]}") from None


def page(path: Path, choices: Sequence[Choice], top: Sequence[str]) -> str:
    """Markdown."""
    rows = [
        [
            choice.options,
            f"{choice.latency_ms.median:.2f} ms [{choice.latency_ms.low:.2f}, {choice.latency_ms.high:.2f}]",
            f"{choice.speedup.median:.2f}x [{choice.speedup.low:.2f}, {choice.speedup.high:.2f}]",
        ]
        for choice in choices
    ]
    above = f"The network of {path.name} on a window, by session options: medians [quartiles]. Above 1x is faster."
    return "\n".join([above, *top, "", *table(["options", "time", "relative"], rows)]) + "\n"
