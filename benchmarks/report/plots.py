"""The page's plots as SVG: DET curves, latency distributions, accuracy against latency."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.stats import norm

from benchmarks.report.page import Page

_RATE_TICKS = (0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9)
_HIGHEST_RATE = 0.92
"""Where the DET plot ends: beyond it a detector is of no use, and all curves are steps of single clips."""
_STYLES = ("-", "--", "-.", ":")


def plots(page: Page) -> list[tuple[str, str, str]]:
    """Title, explanation and SVG of each plot that there are figures for."""
    made = []
    rated = [model for model in page.models if model.rates]
    timed = [model for model in page.models if model.timing]
    if rated:
        text = (
            "Missed bona fide against accepted spoof, on axes on which normally distributed scores give straight "
            "lines. The dots are the equal error rates. Curves that lie on each other: models that decide alike."
        )
        made.append(("DET curves", text, _drawn(lambda axes: _det(axes, page), (6.4, 6.0))))
    if timed:
        text = "The share of windows that were scored within so much time; the dots are the medians."
        made.append(("Latency distributions", text, _drawn(lambda axes: _latencies(axes, page), (7.2, 4.4))))
    if [model for model in rated if model.timing]:
        text = (
            "Down and to the left is better. The area of a marker is the size of the file; bars are the EER's 95 % "
            "interval and the latency's quartiles."
        )
        made.append(("Accuracy against latency", text, _drawn(lambda axes: _trade(axes, page), (8.4, 5.0))))
    return made


def _drawn(draw: Callable[[Any], None], size: tuple[float, float]) -> str:
    """The SVG of one figure, to stand within HTML."""
    import matplotlib

    with matplotlib.rc_context({"svg.fonttype": "path", "svg.hashsalt": "edge-detect", "font.size": 9}):
        from matplotlib.figure import Figure

        figure = Figure(figsize=size, layout="constrained")
        draw(figure.add_subplot())
        target = io.StringIO()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a layout that does not converge is still a picture
            figure.savefig(target, format="svg", metadata={"Date": None})
    text = target.getvalue()
    return text[text.index("<svg") :]


def _colour(index: int) -> str:
    return f"C{index % 10}"


def _det(axes: Any, page: Page) -> None:
    lowest = 0.5
    for index, model in enumerate(page.models):
        if not model.rates:
            continue
        alarms, misses = np.array(model.rates.det).T
        inner = (alarms > 0) & (alarms < 1) & (misses > 0) & (misses < 1)
        style = _STYLES[index // 10 % len(_STYLES)] if len(page.models) > 10 else _STYLES[index % len(_STYLES)]
        axes.plot(
            norm.ppf(alarms[inner]),
            norm.ppf(misses[inner]),
            style,
            color=_colour(index),
            label=model.name,
            linewidth=1.4,
        )
        axes.plot(*[norm.ppf(min(max(model.rates.eer.value, 1e-4), 1 - 1e-4))] * 2, "o", color=_colour(index), ms=4)
        seen = np.concatenate((alarms[inner], misses[inner]))
        if seen.size:
            lowest = min(lowest, float(seen.min()))
    ticks = [tick for tick in _RATE_TICKS if lowest / 1.5 <= tick]
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_ticks(norm.ppf(ticks), [f"{tick:.1%}" if tick < 0.01 else f"{tick:.0%}" for tick in ticks])
    limits = norm.ppf([max(lowest / 1.5, 1e-4), _HIGHEST_RATE])
    axes.set(xlim=limits, ylim=limits, xlabel="spoof accepted", ylabel="bona fide missed", aspect="equal")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="upper right")


def _latencies(axes: Any, page: Page) -> None:
    largest = 0.0
    for index, model in enumerate(page.models):
        if not model.timing or not model.timing.samples_ms:
            continue
        samples = np.sort(model.timing.samples_ms)
        shares = (np.arange(samples.size) + 1) / samples.size
        style = _STYLES[index % len(_STYLES)]
        axes.step(samples, shares, style, where="post", color=_colour(index), label=model.name, linewidth=1.4)
        axes.plot(model.timing.p50_ms, 0.5, "o", color=_colour(index), ms=4)
        largest = max(largest, float(np.percentile(samples, 99)))
    axes.set(xlabel="latency of a window, ms", ylabel="share of windows", ylim=(0, 1.02))
    axes.set_xlim(left=0, right=1.15 * largest if largest else None)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="lower right")


def _trade(axes: Any, page: Page) -> None:
    largest = max(model.size_bytes for model in page.models)
    for index, model in enumerate(page.models):
        if not (model.rates and model.timing and model.timing.samples_ms):
            continue
        eer, timing = model.rates.eer, model.timing
        low, high = np.percentile(timing.samples_ms, [25, 75])
        axes.errorbar(
            timing.p50_ms,
            100 * eer.value,
            xerr=[[max(0, timing.p50_ms - low)], [max(0, high - timing.p50_ms)]],
            yerr=[[100 * max(0, eer.value - eer.low)], [100 * max(0, eer.high - eer.value)]],
            color=_colour(index),
            linewidth=0.8,
            capsize=2,
            zorder=2,
        )
        axes.scatter(
            timing.p50_ms,
            100 * eer.value,
            s=30 + 370 * model.size_bytes / largest,
            color=_colour(index),
            alpha=0.75,
            label=f"{model.name} ({model.size_bytes / 1e6:.2f} MB)",
            zorder=3,
        )
    axes.set(xlabel="latency of a window, ms (median)", ylabel="EER, %")
    axes.margins(0.12)
    axes.set_xlim(left=0)
    axes.grid(alpha=0.3)
    legend = axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    for handle in legend.legend_handles:
        handle.set_sizes([40])


def decimated(alarms: np.ndarray[Any, Any], misses: np.ndarray[Any, Any], most: int = 400) -> list[tuple[float, float]]:
    """A DET curve's points, at most about `most`: those in the corners, and others evenly along it."""
    if alarms.size != misses.size:
        raise ValueError("a curve has as many false alarms as misses")
    steps = max(1, math.ceil(alarms.size / most))
    chosen = sorted({*range(0, alarms.size, steps), alarms.size - 1, *range(min(10, alarms.size))})
    return [(float(alarms[index]), float(misses[index])) for index in chosen]
