"""Where in a checkpoint the weights are: under which key of its containers, and behind which prefix of their names.

Training programs save weights beside much else: `{"epoch": …, "state_dict": …, "ema": …}`, one or two levels down, and
wrappers put `module.`, `model.` or `_orig_mod.` before every name. The weights are known by the one name that every
RawNet2 has, so no list of keys has to be complete; the list says which of several to take.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from edge_runtime.errors import ModelError
from export.untrusted import shown

ANCHOR = "first_bn.weight"
"""The one name that every variant has."""
_PREFERRED = ("state_dict", "model_state_dict", "model_state", "model", "net", "net_params", "params", "weights")
"""Of several containers with such weights the first of these. A smoothed copy (`ema`) only where nothing else is."""
_DEEPEST = 3
_MOST_CONTAINERS = 10_000


def find(content: object) -> tuple[dict[str, Tensor], str]:
    """The tensors of the container that holds the weights, and where that is, in words; "" at the top.

    Raises ModelError when there is none.
    """
    if not isinstance(content, Mapping):
        raise ModelError("the checkpoint holds no state dict: save the network's state_dict()")
    found = list(_containers(content))
    fitting = [(path, state) for path, state in found if any(_is_anchor(key) for key in state)]
    if not fitting:
        names = sorted({shown(key) for _, state in found for key in state})
        what = ", ".join(names[:3]) or "nothing"
        raise ModelError(f"the checkpoint is no RawNet2: it has no {ANCHOR} but {what}, ...")
    path, state = min(fitting, key=lambda item: _rank(item[0]))
    if not path:
        return state, ""
    where = "under " + ".".join(map(shown, path))
    others = [".".join(map(shown, other)) for other, _ in fitting if other != path]
    return state, f"{where}, not {', '.join(others[:3])}" if others else where


def prefix_of(state: Mapping[str, Any]) -> str:
    """What stands before every name: the shortest, where several copies of the weights lie side by side."""
    anchors = sorted((key for key in state if _is_anchor(key)), key=lambda key: ("ema" in key, len(key), key))
    return anchors[0].removesuffix(ANCHOR) if anchors else ""


def _is_anchor(key: str) -> bool:
    return key == ANCHOR or key.endswith("." + ANCHOR)


def _containers(content: Mapping[Any, Any]) -> Iterator[tuple[tuple[str, ...], dict[str, Tensor]]]:
    """The tensors that each container holds itself, level by level; each is looked at once, as it may hold itself."""
    level: list[tuple[tuple[str, ...], Mapping[Any, Any]]] = [((), content)]
    seen: set[int] = set()
    for _ in range(_DEEPEST + 1):
        below: list[tuple[tuple[str, ...], Mapping[Any, Any]]] = []
        for path, container in level:
            if id(container) in seen or len(seen) >= _MOST_CONTAINERS:
                continue
            seen.add(id(container))
            yield path, {str(key): value for key, value in container.items() if isinstance(value, Tensor)}
            below += [((*path, str(key)), value) for key, value in container.items() if isinstance(value, Mapping)]
        level = below


def _rank(path: tuple[str, ...]) -> tuple[bool, int, tuple[int, ...], tuple[str, ...]]:
    places = tuple(_PREFERRED.index(key) if key in _PREFERRED else len(_PREFERRED) for key in path)
    return any("ema" in key.lower() for key in path), len(path), places, path
