"""What a model file says of itself, for a reader or for a program."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

from edge_runtime.model.network import SHIPPED, Network
from edge_runtime.model.processor import ANY, judge_target, this_processor
from edge_runtime.system.text import printable

_LONGEST = 400
"""Characters of a value in the table; JSON has all of it."""


def inspect(path: str | Path | None) -> dict[str, Any]:
    """The contract of an ONNX file and the file's own facts, ready for JSON; the filters by their shape alone.

    None is the model that is shipped.
    A file made for other processors is shown too; `this_machine` tells what running it here would come to.
    Raises ModelError when the file is missing, damaged, or no edge-detect model.
    """
    path = SHIPPED if path is None else path
    network = Network.load(path, processor=ANY)
    contract = network.contract
    names = [entry.name for entry in fields(contract) if entry.name not in ("filters", "first_block")]
    found = {name: getattr(contract, name) for name in names}
    refusal, notes = judge_target(contract, this_processor())
    return {
        **found,
        "figures": dict(contract.figures),
        "filter_shape": list(contract.filters.shape),
        "frames": contract.frames,
        "first_block_bytes": len(contract.first_block),
        "hop_multiple": contract.hop_multiple,
        "window_seconds": contract.window_samples / contract.sample_rate,
        "polarity": "higher-is-bonafide",
        "dynamic_time": network.dynamic_time,
        "bytes": Path(path).stat().st_size,
        "sha256": network.sha256,
        "this_machine": f"refused: {refusal}" if refusal else "; ".join(notes) or "right",
    }


def first(facts: dict[str, Any]) -> dict[str, Any]:
    """What a person asks of a model first, of `inspect`'s facts."""
    accuracy = facts["figures"].get("accuracy") or {}
    eer, data = accuracy.get("eer_pooled"), accuracy.get("data")
    hop_seconds = facts["hop_multiple"] / facts["sample_rate"]
    low, high = facts["threshold"], facts["threshold_bonafide"]
    meaning = "log-likelihood ratio, above 0 for a human voice" if facts["calibrated"] else "not calibrated: no scale"
    return {
        "model": f"{facts['name']} ({facts['variant']}), form {facts['form']}",
        "level": f"{facts['level']} for {facts['target']}",
        "size": f"{facts['bytes'] / 1e6:.1f} MB, sha256 {facts['sha256'][:16]}",
        "sound": f"windows of {facts['window_seconds']:g} s at {facts['sample_rate']} Hz, hops n x {hop_seconds:g} s",
        "score": meaning,
        "verdict": f"synthetic below {low:+.2f}, human from {high:+.2f} on, between them unsure",
        "accuracy": f"EER {eer:.1%} on {data}" if isinstance(eer, float) else "not written into the file",
        "this machine": facts["this_machine"],
    }


def table(facts: dict[str, Any]) -> str:
    """The facts as lines of a name and a value; nested ones indented below their name.

    Names and values are somebody else's: what would move a cursor or turn text round is shown escaped.
    """
    shown = {_cut(name): value for name, value in facts.items()}
    width = max(len(name) for name in shown) + 2
    lines = []
    for name, value in shown.items():
        if isinstance(value, dict) and value:
            lines.append(name)
            lines += [f"  {line}" for line in table(value).splitlines()]
        else:
            lines.append(f"{name:<{width}}{_cut(_text(value))}")
    return "\n".join(lines)


def _cut(text: str) -> str:
    return printable(text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "...")


def _text(value: object) -> str:
    if value is None or value in ("", {}, []):
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return " x ".join(map(str, value)) if all(isinstance(part, int) for part in value) else str(value)
    return f"{value:g}" if isinstance(value, float) else str(value)
