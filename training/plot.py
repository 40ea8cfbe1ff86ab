"""The picture of a run: loss and dev EER over the steps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure


def plot_run(history: Sequence[dict[str, float]], target: Path) -> None:
    """Writes a PNG with the smoothed training loss and, where there is one, the dev EER in percent."""
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axis = figure.subplots()
    steps = np.array([entry["step"] for entry in history])
    losses = np.array([entry["loss"] for entry in history])
    width = max(1, min(50, len(losses) // 10))
    smooth = np.convolve(losses, np.ones(width) / width, mode="valid")
    axis.plot(steps[width - 1 :], smooth, color="tab:blue", label="training loss")
    axis.set(xlabel="step", ylabel="loss (nats)")
    evaluated = [(entry["step"], entry["dev_eer"] * 100) for entry in history if "dev_eer" in entry]
    lines = axis.get_lines()
    if evaluated:
        right = axis.twinx()
        right.plot(*zip(*evaluated, strict=True), color="tab:orange", marker="o", markersize=3, label="dev EER")
        right.set_ylabel("dev EER (%)")
        lines = [*lines, *right.get_lines()]
    axis.legend(lines, [str(line.get_label()) for line in lines], loc="upper right")
    figure.savefig(target, dpi=120)
