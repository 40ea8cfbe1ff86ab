"""How each public implementation names its weights, and what can be read from the names and shapes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from edge_runtime.errors import ModelError, UsageError
from export import wrappings
from export.rawnet2 import VARIANTS

ORIGINAL = "original"  # block0.0.conv1, fc_attention0.0: ASVspoof 2021 and 5, AASIST, EURECOM 2019
FORK = "fork"  # block0.conv1, fc_attention0, bn1 for the only BatchNorm of a block: LanceaKing
OWN = "own"  # the names of export.rawnet2
_STYLE = {"asvspoof2021": ORIGINAL, "asvspoof5": ORIGINAL, "eurecom2019": ORIGINAL, "lanceaking": FORK}

_RENAMES: dict[str, tuple[tuple[re.Pattern[str], str], ...]] = {
    ORIGINAL: (
        (re.compile(r"^block(\d+)\.0\.conv_downsample\."), r"blocks.\1.downsample."),
        (re.compile(r"^block(\d+)\.0\."), r"blocks.\1."),
        (re.compile(r"^fc_attention(\d+)\.0\."), r"blocks.\1.attention."),
    ),
    FORK: (
        (re.compile(r"^block(\d+)\.bn1\."), r"blocks.\1.bn2."),
        (re.compile(r"^block(\d+)\."), r"blocks.\1."),
        (re.compile(r"^fc_attention(\d+)\."), r"blocks.\1.attention."),
    ),
    OWN: (),
}
_HEAD = re.compile(r"^fc([12])_gru\.")
_COUNTERS = re.compile(r"(^|\.)(num_batches_tracked|n_averaged)$")
_DEAD_BN1 = re.compile(r"^blocks\.\d+\.bn1\.")
_ANCHOR = wrappings.ANCHOR
_ENCODER_ANCHOR = "encoder.stem1.weight"  # and one that every network with an encoder has


def strip(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Takes off what wrappers put before every name (`module.`, `_orig_mod.`, `model.`) and the step counters.

    Gives the weights, and the names of those that do not begin as the others do.
    """
    prefix = wrappings.prefix_of(state)
    kept = {key: tensor for key, tensor in state.items() if not _COUNTERS.search(key)}
    named = {key.removeprefix(prefix): tensor for key, tensor in kept.items() if key.startswith(prefix)}
    return named, sorted(key for key in kept if not key.startswith(prefix))


def style(state: Mapping[str, Tensor]) -> str:
    """The naming style of a stripped state dict. Raises ModelError for an unknown one."""
    for name, key in (
        (ORIGINAL, "block0.0.conv1.weight"),
        (FORK, "block0.conv1.weight"),
        (OWN, "blocks.0.conv1.weight"),
        (OWN, _ENCODER_ANCHOR),
    ):
        if key in state:
            return name
    raise ModelError("the checkpoint is no RawNet2 of a known variant: it has no first residual block (block0)")


def detect(state: Mapping[str, Tensor], named: str | None) -> str:
    """The variant of a public checkpoint (stripped state dict), checked against the one that the user named.

    Raises UsageError when two variants fit and the user must name one, ModelError when the named one does not
    fit.
    """
    if named is not None and named not in VARIANTS:
        raise UsageError(f"there is no variant {named!r}; known are {', '.join(VARIANTS)}")
    if style(state) == OWN:
        raise ModelError(
            "the checkpoint has this project's own names but not its config: write it with export.checkpoint.save"
        )
    fitting = _fitting(state)
    if named is None:
        if len(fitting) == 1:
            return fitting[0]
        raise UsageError(
            f"the checkpoint fits {' and '.join(fitting)}, which have the same names and shapes but score "
            "differently: say which trained it with --variant NAME"
        )
    if named not in fitting:
        raise ModelError(
            f"the checkpoint is not {named}: its names and its {_filters(state)} filters are those of "
            f"{' or '.join(fitting)}"
        )
    return named


def evidence(state: Mapping[str, Tensor], variant: str) -> str:
    """How sure the choice of `variant` is, in words for the user."""
    others = [name for name in _fitting(state) if name != variant]
    return f"as you named it; {' and '.join(others)} would fit as well" if others else "by its names and shapes"


def _fitting(state: Mapping[str, Tensor]) -> list[str]:
    """The public variants that a stripped state dict's names and filter count allow."""
    found = style(state)
    named_so = [name for name, kind in _STYLE.items() if kind == found]
    if found != ORIGINAL:
        return named_so
    # The filter count separates EURECOM's network from the ASVspoof baselines; another width separates nothing.
    return [name for name in named_so if VARIANTS[name].filters == _filters(state)] or named_so


def _filters(state: Mapping[str, Tensor]) -> int:
    return int(state[_ANCHOR].shape[0]) if state[_ANCHOR].ndim else 0


def rename(state: Mapping[str, Tensor], naming: str, live_bn1: bool) -> dict[str, Tensor]:
    """A stripped state dict under the names of export.rawnet2.

    Without `live_bn1` a block's `bn1` is dropped: the published code computes it and throws the result away.
    """
    renamed = {}
    for key, tensor in state.items():
        for pattern, replacement in _RENAMES[naming]:
            key, changed = pattern.subn(replacement, key)
            if changed:
                break
        key = _HEAD.sub(r"fc\1.", key)
        if live_bn1 or not _DEAD_BN1.match(key):
            renamed[key] = tensor
    return renamed


def widths(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """The fields of a Config that the shapes of a renamed state dict tell.

    Raises ModelError when a weight that tells one is missing or flat.
    """

    def size(key: str, axis: int = 0) -> int:
        if key not in state:
            raise ModelError(f"the checkpoint lacks {key}: it is cut short or of another network")
        if state[key].ndim <= axis or 0 in state[key].shape:
            raise ModelError(f"the checkpoint's {key} has the shape {list(state[key].shape)}: it is damaged")
        return int(state[key].shape[axis])

    def count(pattern: str) -> int:
        return 1 + max((int(match[1]) for key in state if (match := re.match(pattern, key))), default=0)

    if _ENCODER_ANCHOR in state:
        return {
            "filters": size(_ANCHOR),
            "channels": (),
            "gru_nodes": 0,
            "gru_layers": 0,
            "fc_nodes": size("fc1.weight"),
            "encoder_width": size(_ENCODER_ANCHOR),
            "encoder_layers": count(r"encoder\.layers\.(\d{1,2})\."),
            "encoder_read": "encoder.read.weight" in state,
        }
    return {
        "filters": size(_ANCHOR),
        "channels": tuple(size(f"blocks.{index}.conv1.weight") for index in range(count(r"blocks\.(\d{1,2})\."))),
        "gru_nodes": size("gru.weight_hh_l0", 1),
        "gru_layers": count(r"gru\.\w+_l(\d{1,2})$"),
        "fc_nodes": size("fc1.weight"),
        "encoder_width": 0,
    }
