"""Trained weights from and to files: public `.pth` state dicts and our own safetensors, read without trust."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from edge_runtime.atomic import whole_file
from edge_runtime.errors import ModelError, UsageError
from edge_runtime.model import limits
from export import layout, untrusted, wrappings
from export.encoder import REACH
from export.rawnet2 import LONGEST_FRAMES, VARIANTS, Config, RawNet2
from export.untrusted import shown

_LARGEST_FIGURE = 1e9
"""Of a calibration: log-likelihood ratios, and their scale."""


@dataclass(frozen=True)
class Calibration:
    """Raw score to natural-log LLR, `scale * raw + offset`, and the LLRs between which the verdict is unsure."""

    scale: float = 1.0
    offset: float = 0.0
    threshold: float = 0.0
    threshold_bonafide: float = 0.0


@dataclass(frozen=True)
class Checkpoint:
    """A network in evaluation mode with what its file says of it. `found` tells the user how it was recognised."""

    model: RawNet2
    sha256: str
    found: str
    calibration: Calibration | None = None
    figures: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""


def load(
    path: str | Path,
    variant: str | None = None,
    *,
    kernel: int | None = None,
    window_samples: int | None = None,
    ignore_extra: bool = False,
) -> Checkpoint:
    """Reads a checkpoint into a RawNet2 on the CPU, float32, in evaluation mode.

    `kernel` (taps of the sinc filters) and `window_samples` stand in for the variant's defaults, as no shape
    tells them. An even kernel becomes the next odd one, as in the published code. `ignore_extra` leaves out weights
    that the network does not have, which else are an error.

    Raises ModelError for a file that is missing, damaged, hostile, of another network or of another variant than
    named, and UsageError when the variant must be named or an option contradicts the file.
    """
    data = untrusted.read(Path(path))
    try:
        return _checkpoint(data, variant, kernel, window_samples, ignore_extra)
    except ModelError as reason:  # several are read at times: which of them is it?
        raise ModelError(f"{path}: {reason}") from None


def _checkpoint(
    data: bytes, variant: str | None, kernel: int | None, window_samples: int | None, ignore_extra: bool
) -> Checkpoint:
    sha256 = hashlib.sha256(data).hexdigest()
    content, metadata = untrusted.content(data)
    state, where = wrappings.find(content)
    state, extra = layout.strip(state)
    if extra and not ignore_extra:
        raise ModelError(_too_many(extra, "a RawNet2"))
    state = untrusted.plain(state, drop=ignore_extra)
    if "config" in metadata:
        config = _config(metadata["config"])
        if variant not in (None, config.variant):
            raise ModelError(f"the checkpoint is not {variant}: it says that it is {shown(config.variant)}")
        if kernel not in (None, config.kernel):
            raise UsageError(f"the checkpoint's filters have {config.kernel} taps: leave out --sinc-kernel")
        found = f"{shown(config.variant)}, as its own metadata says"
        if layout.widths(state).items() - asdict(config).items():
            raise ModelError("the checkpoint's metadata and its weights disagree on the network's widths")
    else:
        chosen = layout.detect(state, variant)
        found = f"{chosen}, {layout.evidence(state, chosen)}"
        config = VARIANTS[chosen]
        state = layout.rename(state, layout.style(state), config.live_bn1)
        config = replace(config, **layout.widths(state))
        config = config if kernel is None else replace(config, kernel=kernel + 1 - kernel % 2)
    found += f"; {where}" if where else ""
    config = config if window_samples is None else replace(config, window_samples=window_samples)
    check_window(config)
    calibration = Calibration(**_numbers(metadata["calibration"])) if "calibration" in metadata else None
    name, figures = metadata.get("name", ""), _json(metadata.get("figures", "{}"))
    if len(name) > limits.LONGEST_TEXT or limits.depth(figures) > limits.DEEPEST_FIGURES:
        raise ModelError("the checkpoint's name or figures are longer or deeper than any: it is damaged")
    return Checkpoint(
        _fill(config, state, ignore_extra),
        sha256,
        found,
        calibration,
        figures,
        name,
    )


def save(
    path: str | Path,
    model: RawNet2,
    calibration: Calibration | Mapping[str, float] | None = None,
    figures: Mapping[str, Any] | None = None,
    name: str = "",
    half: bool = False,
) -> None:
    """Writes `model` as safetensors that `load` reads; the file appears whole or not at all.

    `half` stores matrices and kernels as float16; biases and BatchNorm statistics stay float32, where half
    precision would cost most and save nothing. Raises ModelError when a weight is NaN, infinite or too large for
    float16, OutputError when the file cannot be written.
    """
    state = {key: tensor.detach().cpu() for key, tensor in model.state_dict().items() if tensor.is_floating_point()}
    state = {
        key: (tensor.half() if half and tensor.ndim > 1 else tensor.float()).contiguous()
        for key, tensor in state.items()
    }
    untrusted.check_weights(state)
    metadata = {
        "config": json.dumps(asdict(model.config)),
        "figures": json.dumps(dict(figures or {})),
        "name": name,
    }
    if calibration is not None:
        values = asdict(calibration) if isinstance(calibration, Calibration) else dict(calibration)
        metadata["calibration"] = json.dumps(asdict(Calibration(**values)))
    with whole_file(path) as temporary:
        temporary.write_bytes(safetensors.torch.save(state, metadata))


def check_window(config: Config) -> None:
    """Raises UsageError when a window is shorter or longer than the network can take."""
    window = config.window_samples
    shortest = config.pool * config.shortest_frames + config.kernel - 1 - config.leading_zeros
    if config.has_blocks and (window % (config.block_frames * config.pool) or window < 2 * shortest):
        raise UsageError(
            f"a window of {window} samples is not two or more whole blocks of {config.block_frames * config.pool}"
        )
    if window < shortest:
        raise UsageError(f"a window of {window} samples is too short: the network needs {shortest}")
    longest = (LONGEST_FRAMES + 1) * config.pool + config.kernel - 2
    if config.has_encoder and not config.has_blocks and window > longest:  # of blocks it sees one at a time
        raise UsageError(f"a window of {window} samples is too long: the network takes at most {longest}")


def _fill(config: Config, state: Mapping[str, Tensor], ignore_extra: bool) -> RawNet2:
    with torch.device("meta"):
        expected = {key: tensor.shape for key, tensor in RawNet2(config).state_dict().items() if tensor.ndim}
    if missing := sorted(expected.keys() - state.keys()):
        raise ModelError(f"the checkpoint lacks {_some(missing)}: it is cut short or of another variant")
    if (foreign := sorted(state.keys() - expected.keys())) and not ignore_extra:
        raise ModelError(_too_many(foreign, config.variant))
    state = {key: state[key] for key in expected}
    untrusted.check_weights(state)
    for key, shape in expected.items():
        if state[key].shape != shape:
            raise ModelError(f"the checkpoint's {key} has the shape {list(state[key].shape)}, not {list(shape)}")
    model = RawNet2(config)
    model.load_state_dict({key: tensor.float() for key, tensor in state.items()}, strict=False)
    return model.eval()


def _config(text: str) -> Config:
    """The Config in a checkpoint's metadata. Raises ModelError when a field is missing, foreign or absurd."""
    values = _json(text)
    kinds = {entry.name: entry.type for entry in fields(Config)}
    if foreign := sorted(values.keys() - kinds.keys()):
        raise ModelError(f"the checkpoint's config has fields that this release does not know: {_some(foreign)}")
    try:
        config = Config(**{**values, "channels": tuple(values["channels"])})
    except (KeyError, TypeError):
        raise ModelError("the checkpoint's config lacks a field or is damaged") from None
    may_be_zero = {"extra_mel_points", "encoder_width", "block_frames", "context_frames", "level_blocks"}
    may_be_zero |= {"gru_nodes", "gru_layers"} if config.encoder_width else {"encoder_heads", "encoder_layers"}
    for name, kind in kinds.items():
        value = getattr(config, name)
        if kind == "int":
            good = type(value) is int and (name in may_be_zero or value > 0) and 0 <= value <= 1 << 22
        elif kind == "tuple[int, ...]":
            blocks = not config.encoder_width  # an encoder stands in their place
            good = bool(value) == blocks and all(type(width) is int and width > 0 for width in value)
        else:
            good = type(value).__name__ == kind
        if not good:
            raise ModelError(f"the checkpoint's config says {name} = {shown(repr(value))}, which cannot be")
    if config.compression not in ("none", "log") or config.filters * config.kernel > 1 << 22:
        raise ModelError("the checkpoint's config describes a network that this release cannot build")
    width, heads = config.encoder_width, config.encoder_heads
    if config.has_encoder and (width < 4 or width % 2 or width % heads):
        raise ModelError(f"the checkpoint's config says encoder_width = {width} with {heads} heads, which cannot be")
    block, context = config.block_frames, config.context_frames
    if (block or context or config.level_blocks) and not (
        config.has_encoder and block > 0 and block % 2 == context % 2 == 0 and 0 < config.level_blocks <= LONGEST_FRAMES
        and config.compression == "log" and REACH + block + context <= LONGEST_FRAMES
    ):  # fmt: skip
        raise ModelError(
            f"the checkpoint's config says block_frames = {block} and context_frames = {context}, "
            f"level_blocks = {config.level_blocks}, which cannot be"
        )
    return config


def _numbers(text: str) -> dict[str, float]:
    values = _json(text)
    names = {entry.name for entry in fields(Calibration)}
    # Compared before they become floats: JSON has integers of any length.
    if values.keys() - names or not all(
        type(value) in (int, float) and -_LARGEST_FIGURE <= value <= _LARGEST_FIGURE for value in values.values()
    ):
        raise ModelError("the checkpoint's calibration is damaged")
    return {name: float(value) for name, value in values.items()}


def _json(text: object) -> dict[str, Any]:
    try:
        values = json.loads(str(text))
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict):
        raise ModelError("the checkpoint's metadata is damaged")
    return values


def _too_many(keys: list[str], network: str) -> str:
    many = f"{len(keys)} weights" if len(keys) > 1 else "a weight"
    return (
        f"the checkpoint holds {_some(keys)}: {many} that {network} does not have "
        "(--ignore-extra leaves out what is not of the network)"
    )


def _some(names: list[str]) -> str:
    return ", ".join(map(shown, names[:3])) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
