"""What a plan does with each weight, and why one is left in float: the table of `edge-detect quantize --explain`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from edge_runtime.system import markdown
from quantization.levels import FP16, FP32, INT4, INT8, STATIC8, STORED8, Weight

_KINDS = {
    "recurrent": "GRU, recurrence",
    "input": "GRU, input",
    "sequence": "linear layer over a sequence",
    "dense": "dense layer",
    "wide": "wide dense layer",
    "conv": "convolution",
}
_WHY_FLOAT = {
    "conv": "this level leaves convolutions in float: `int8-static` gives them integers, by ranges from calibration",
    "dense": "it is read once a window: integers would save no time that counts",
    "wide": "this level stores it in few bits and multiplies it in float",
}


def table(weights: Iterable[Weight], plan: Mapping[str, str], level: str) -> str:
    """Markdown: each weight, how many values it has, how it is stored and multiplied, and why in float where it is."""
    rows = []
    for weight in weights:
        scheme = plan.get(weight.name, FP16)
        product, reason = _product(weight, scheme, level)
        rows.append((weight.name, _KINDS[weight.kind], str(weight.values.size), scheme, product, reason))
    return "\n".join(markdown.table(("weight", "kind", "values", "stored", "multiplied in", "why"), rows))


def _product(weight: Weight, scheme: str, level: str) -> tuple[str, str]:
    """What it is multiplied in, and why."""
    if scheme in (FP32, FP16):
        if level == "auto":
            return "float", "fewer bits moved the scores by more than this weight's share of the margin"
        return "float", _WHY_FLOAT.get(weight.kind, "the level keeps float weights")
    if scheme == STATIC8:
        return "int8", "ranges of what enters it are known from calibration"
    if scheme == STORED8:
        return "float", "it is stored in 8 bits alone: no ranges of what enters it are known"
    if weight.kind in ("recurrent", "input", "sequence") or (weight.kind == "wide" and scheme == INT8):
        return "int8", "widened from 4 bits when the file is loaded" if scheme == INT4 else "scaled at each run"
    return "float", _WHY_FLOAT.get(weight.kind, _WHY_FLOAT["dense"])
