"""Whether a session's inputs and outputs are those that the contract promises: names, types, ranks, fixed axes."""

from __future__ import annotations

from typing import Any

import onnxruntime

from edge_runtime.errors import ModelError
from edge_runtime.model.contract import COLUMN_FRAMES, Contract

INPUTS = {"waveform": "waveform", "streaming": "features", "shared": "columns", "blocks": "window"}
"""What the logits are computed from, by form."""
BLOCK_INPUTS = ("features", "level", "window")
BLOCK_OUTPUTS = ("moments", "logits")
_FLOAT = "tensor(float)"
_MOST_CHANNELS = 4096
_MOST_MOMENTS = 65_536
"""Channels of a block's moments."""


def check_body(session: onnxruntime.InferenceSession, contract: Contract) -> list[Any]:
    """The input's shape, in which a number is fixed and anything else dynamic. Raises ModelError."""
    if contract.form == "blocks":
        return _check_blocks(session, contract)
    inputs, outputs = session.get_inputs(), session.get_outputs()
    name = INPUTS[contract.form]
    if [node.name for node in inputs] != [name] or "logits" not in [node.name for node in outputs]:
        found = f"{_names(inputs)} -> {_names(outputs)}"
        raise ModelError(f"its graph is {found}, a {contract.form} model has {name} -> logits")
    shape = list(inputs[0].shape)
    expected = {
        "waveform": [1, contract.window_samples],
        "streaming": [1, len(contract.filters), contract.frames],
        "shared": [1, *shape[1:2], 1, contract.frames // COLUMN_FRAMES],
    }[contract.form]
    if not _fits(inputs[0], expected):
        raise ModelError(f"its input is {_about(inputs[0])}, its metadata says {_FLOAT} {expected}")
    logits = next(node for node in outputs if node.name == "logits")
    if not _fits(logits, [1, 2], unknown=True):
        raise ModelError(f"its output is {_about(logits)}, it must be {_FLOAT} [1, 2]")
    return shape


def check_first_block(session: onnxruntime.InferenceSession, contract: Contract, channels: Any) -> None:
    """Raises ModelError unless it makes of the filter bank's features what a body of `channels` takes."""
    inputs, outputs = session.get_inputs(), session.get_outputs()
    if [node.name for node in (*inputs, *outputs)] != ["features", "columns"]:
        raise ModelError("its first block is not one from features to columns")
    if not isinstance(channels, int) or not 0 < channels <= _MOST_CHANNELS:
        raise ModelError(f"its body must take 1 to {_MOST_CHANNELS} channels of columns, not {str(channels)[:40]!r}")
    shape, bands = inputs[0].shape, len(contract.filters)
    if not _fits(inputs[0], [1, bands, None]) or isinstance(shape[2], int):
        raise ModelError(f"its first block takes {_about(inputs[0])}, its filter bank gives {bands} bands, any length")
    if not _fits(outputs[0], [1, channels, 1, None], unknown=True) or isinstance((outputs[0].shape or [""])[-1], int):
        raise ModelError(
            f"its first block gives {_about(outputs[0])}, its body takes [1, {channels}, 1, of any length]"
        )


def _check_blocks(session: onnxruntime.InferenceSession, contract: Contract) -> list[Any]:
    """The shape of `window`. Raises ModelError unless both halves of the graph are what the contract promises."""
    inputs, outputs = session.get_inputs(), session.get_outputs()
    if [[node.name for node in nodes] for nodes in (inputs, outputs)] != [list(BLOCK_INPUTS), list(BLOCK_OUTPUTS)]:
        found = f"{_names(inputs)} -> {_names(outputs)}"
        wanted = f"{', '.join(BLOCK_INPUTS)} -> {', '.join(BLOCK_OUTPUTS)}"
        raise ModelError(f"its graph is {found}, a blocks model has {wanted}")
    features, level, window = inputs
    channels, blocks = _channels(window), contract.window_samples // contract.hop_multiple
    shapes: tuple[tuple[Any, list[int | None], bool], ...] = (
        (features, [1, len(contract.filters), contract.seen_frames], False),
        (level, [1, 1, 1], False),
        (window, [1, blocks, 2, channels], False),
        (outputs[0], [1, 2, channels], True),
        (outputs[1], [1, 2], True),
    )
    for node, expected, unknown in shapes:
        if not _fits(node, expected, unknown):
            raise ModelError(f"its {node.name} is {_about(node)}, its metadata says {_FLOAT} {expected}")
    if any(isinstance(node.shape[0], int) for node in inputs):
        raise ModelError("its blocks and its windows must be of any number, none among them: each half runs alone")
    return list(window.shape)


def _channels(window: Any) -> int:
    """Of the moments that a window has. Raises ModelError where their number is open, or absurd."""
    shape = list(window.shape or [])
    channels = shape[3] if len(shape) == 4 else None
    if not isinstance(channels, int) or not 0 < channels <= _MOST_MOMENTS:
        raise ModelError(f"its {window.name} is {_about(window)}, which leaves its channels open or is absurd")
    return channels


def _fits(node: Any, expected: list[int | None], unknown: bool = False) -> bool:
    """Whether type and shape are those; a dynamic axis fits any, and `unknown` says that no shape at all does too."""
    shape = node.shape or []
    if node.type != _FLOAT:
        return False
    if unknown and not shape:
        return True
    return len(shape) == len(expected) and all(
        want is None or not isinstance(axis, int) or axis == want for axis, want in zip(shape, expected, strict=True)
    )


def _names(nodes: Any) -> str:
    text = ", ".join(node.name for node in nodes)
    return text if len(text) <= 100 else text[:97] + "..."


def _about(node: Any) -> str:
    text = f"{node.type} {list(node.shape or [])}"
    return text if len(text) <= 120 else text[:117] + "..."
