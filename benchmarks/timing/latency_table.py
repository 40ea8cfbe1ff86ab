"""A run of `latency` as Markdown: the windows, where the time goes, the threads."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.timing.latency import LatencyRun, ModelLatency
from edge_runtime.system.markdown import table
from evaluation.percentiles import TAILS

_ABOVE = """\
A hop and the window that it completes, in the steady state, by the clock on the wall; all models in turns, in
{processes} fresh processes, whose {samples} samples are pooled. Ratio: the first model's time over this one's within a
round, median [quartiles]; above 1 is faster. Processes: how far their medians lie apart. Percentiles need as many
samples as MLPerf's early stopping asks for.{baseline}"""
_BASELINE = """
A file of the waveform form is run by the baseline pipeline, the whole window at each hop; the others by the runtime."""
_ABOVE_COST = """\
CPU time of a hop, its ratio to the first model's (which other programs disturb less than the clock's), and a second of
sound; resident memory of the running program; a fresh process until the model is open, and until its first window is
scored; energy of a window, and of it above an idle machine.{threads}"""
_ONE_THREAD = """
The memory is that of `edge-detect`, which has one thread, and not of {threads}; the baseline pipeline has them all."""
_ABOVE_STAGES = """\
Stages of a hop, each timed alone, so their sum is not quite the whole."""
_ABOVE_SWEEP = """\
Intra-op threads, each number in fresh processes of its own; the speed-up is over the first number."""
_TAILS = tuple(f"p{percent}" for percent in TAILS)


def latency_table(run: LatencyRun) -> str:
    """The page."""
    baseline = _BASELINE if any(row.form == "waveform" for row in run.rows) else ""
    above = _ABOVE.format(processes=run.processes, samples=run.rows[0].hop.samples, baseline=baseline)
    threads = run.record.threads
    one_thread = _ONE_THREAD.format(threads=threads) if threads > 1 else ""
    above_cost = _ABOVE_COST.format(threads=one_thread)
    parts = [
        "\n".join(["# Latency of a window", "", *run.record.lines()]),
        above + "\n\n" + _windows(run.rows),
        above_cost + "\n\n" + _cost(run.rows),
    ]
    if any(row.stages for row in run.rows):
        parts.append(_ABOVE_STAGES + "\n\n" + _stages(run.rows))
    if any(row.sweep for row in run.rows):
        parts.append(_ABOVE_SWEEP + "\n\n" + _sweep(run.rows))
    return "\n\n".join(parts) + "\n"


def _windows(rows: Sequence[ModelLatency]) -> str:
    cells = [
        [
            row.name,
            row.level,
            f"{row.size_bytes / 1e6:.2f} MB",
            *row.hop.cells(),
            f"{row.mean_ms:.2f} ± {row.deviation_ms:.2f} ms",
            f"{row.ratio.median:.2f} [{row.ratio.low:.2f}, {row.ratio.high:.2f}]",
            f"{row.between_processes:.1%}" if len(row.process_medians_ms) > 1 else "one process",
        ]
        for row in rows
    ]
    heads = ("model", "level", "size", "p50", *_TAILS, "mean ± deviation", "ratio", "processes")
    return "\n".join(table(heads, cells))


def _cost(rows: Sequence[ModelLatency]) -> str:
    cells = [
        [
            row.name,
            f"{row.cpu_ms.median:.2f} ms [{row.cpu_ms.low:.2f}, {row.cpu_ms.high:.2f}]",
            f"{row.cpu_ratio.median:.2f} [{row.cpu_ratio.low:.2f}, {row.cpu_ratio.high:.2f}]",
            f"{row.cpu_ms_per_audio_second:.1f} ms",
            "not known" if row.live is None else f"{row.live.peak_mb:.0f} / {row.live.steady_mb:.0f} MB",
            f"{row.ready_s:.2f} / {row.first_window_s:.2f} s",
            _energy(row),
        ]
        for row in rows
    ]
    heads = (
        *("model", "CPU per hop", "CPU ratio", "CPU per second", "memory, peak / steady", "ready / first window"),
        "energy of a window",
    )
    return "\n".join(table(heads, cells))


def _energy(row: ModelLatency) -> str:
    if row.energy is None:
        return "not exposed"
    return f"{row.energy.window_mj:.1f} mJ, {row.energy.above_idle_mj:.1f} above idle ({row.energy.source})"


def _stages(rows: Sequence[ModelLatency]) -> str:
    cells = [
        [row.name, stage.name, *stage.wall.cells(), f"{stage.cpu_ms:.2f} ms"] for row in rows for stage in row.stages
    ]
    return "\n".join(table(("model", "stage", "p50", *_TAILS, "CPU"), cells))


def _sweep(rows: Sequence[ModelLatency]) -> str:
    cells = [
        [row.name, str(point.threads), *point.hop.cells(), f"{point.cpu_ms:.2f} ms", f"{point.speedup:.2f}"]
        for row in rows
        for point in row.sweep
    ]
    return "\n".join(table(("model", "threads", "p50", *_TAILS, "CPU", "speed-up"), cells))
