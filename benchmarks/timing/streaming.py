"""The baseline pipeline and ours next to each other: a hop's time, a long file, memory, start, stages, the bound."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.machine.record import Record, record
from benchmarks.timing.interleaved import InterleavedTimes, Spread, interleave
from benchmarks.timing.memory import Memory, file_memory, live_memory
from benchmarks.timing.operations import work
from benchmarks.timing.pipelines import OurPipeline, Pipeline, open_all
from benchmarks.timing.roofline import CoreLimits, Roofline, bound, measure_machine
from benchmarks.timing.stages import BANK, BLOCKS, ENCODER, FIRST, GRU, RESAMPLE, REST, Stages, stages
from benchmarks.timing.start import ready_seconds
from benchmarks.timing.subgraph import need_onnx
from edge_runtime.errors import UsageError
from edge_runtime.system.markdown import table
from evaluation.percentiles import Percentiles, needed
from evaluation.progress import silently

CHUNK_HOPS = 8
"""Hops of a long file that each pipeline takes in a turn: two of our largest batches."""
_CHUNK_ROUNDS = 5  # rounds of single hops for one of chunks


_ABOVE_PIPELINES = """\
CPU time of a hop of sound at the model's rate, medians [quartiles], all pipelines in turns in one process; a ratio is
taken within a round. Baseline: ONNX Runtime's defaults but its threads, the whole window at each hop. A long file:
large blocks, so that ours may score several windows in one run. Latency: from a window's last samples to its score.
Memory: of the running program, sound piped in a hop at a time, and of `--file`; `edge-detect` has one thread, however
many are timed. Ready: from before the import."""
_ABOVE_STAGES = """\
CPU time of a hop by stage, each timed alone; the rest is the difference to the whole, and holds their error."""
_ABOVE_BOUNDS = """\
The network (first block, blocks, GRU, head; no filter bank) and the least that it could take here. Peak:
{machine.float_products:.0f} (float32) and {machine.integer_products:.0f} (uint8 by int8) 10^9 multiply-adds a second;
reading {megabytes:.0f} MB, more than the caches hold: {last.gb_per_s:.0f} GB/s."""


@dataclass(frozen=True)
class PipelineTimes:
    """One pipeline. A speedup is the first pipeline's time over this one's, taken within a round."""

    pipeline: str
    kind: str  # baseline or ours
    model: str
    level: str
    form: str
    hop_samples: int
    batch: int
    cpu_ms: Spread  # of a hop in steady state
    speedup: Spread
    latency_ms: float  # from the push of a window's last samples to the window, by the clock on the wall: median
    latency_p90_ms: float | None  # None for rounds too few to carry it
    file_ms: Spread  # CPU time of a hop of a long file
    file_speedup: Spread
    live: Memory | None
    file_peak_mb: float | None
    ready_s: float
    first_window_s: float


@dataclass(frozen=True)
class StreamingPage:
    """All that the command prints."""

    record: Record
    rows: list[PipelineTimes]
    stages: list[Stages]
    machine: CoreLimits
    bounds: list[Roofline]

    def as_json(self) -> dict[str, Any]:
        """The page as JSON takes it."""
        told = asdict(self) | {"record": self.record.as_json()}
        for values, item in zip(told["bounds"], self.bounds, strict=True):
            values |= {"bound_ms": item.bound_ms, "times_bound": item.times_bound}
        for values, stage in zip(told["stages"], self.stages, strict=True):
            values["network_ms"] = stage.network_ms
        return told


def streaming(
    paths: Sequence[Path],
    *,
    hop_seconds: float = 0.5,
    rounds: int = 70,
    threads: int = 1,
    starts: int = 5,
    file_seconds: float = 120,
    progress: Callable[..., Any] = silently,
) -> StreamingPage:
    """Measures the pipelines of `paths`; the first file is a float one of the `waveform` form, run as a user would.

    70 rounds are the 64 that a p90 takes, and some more. `starts` fresh processes are timed, and a WAV of
    `file_seconds` is read for the memory of `--file`. Raises UsageError for numbers that cannot be or without onnx,
    ModelError for a file that cannot be run.
    """
    if min(rounds, threads, starts) < 1 or not 1 <= file_seconds <= 86_400:
        raise UsageError("measuring needs at least one round, thread and start, and a file of 1 s to a day")
    need_onnx()  # before minutes of timing, not after
    about = record(threads, hop_seconds, rounds)
    pipelines = open_all(list(paths), hop_seconds, threads)
    ours = [pipeline for pipeline in pipelines if isinstance(pipeline, OurPipeline)]
    hops = interleave([pipeline.hop for pipeline in pipelines], rounds, progress, "hops")
    chunks = interleave(
        [partial(pipeline.stretch, CHUNK_HOPS) for pipeline in pipelines],
        -(-rounds // _CHUNK_ROUNDS),
        progress,
        "a long file",
        warm_up=1,
    )
    broken_down = [stages(pipeline, rounds, threads, progress) for pipeline in ours]
    amounts = [work(pipeline) for pipeline in ours]
    machine = measure_machine([max((item.bytes for item in each.recurrences), default=0) for each in amounts])
    rows = []
    for index in progress(range(len(pipelines)), desc="memory and start", unit="model"):
        rows.append(_row(pipelines[index], index, hops, chunks, about, starts, file_seconds))
    bounds = [
        bound(stage.pipeline, each, machine, stage.network_ms) for stage, each in zip(broken_down, amounts, strict=True)
    ]
    return StreamingPage(about.finished(), rows, broken_down, machine, bounds)


def _row(
    pipeline: Pipeline,
    index: int,
    hops: InterleavedTimes,
    chunks: InterleavedTimes,
    about: Record,
    starts: int,
    file_seconds: float,
) -> PipelineTimes:
    contract, hop_seconds, threads = pipeline.contract, about.hop_seconds, about.threads
    ready, first_window = ready_seconds(pipeline.kind, pipeline.path, hop_seconds, threads, starts)
    latency = Percentiles.of(1000 * hops.wall[:, index])
    return PipelineTimes(
        pipeline=pipeline.name,
        kind=pipeline.kind,
        model=pipeline.path.stem,
        level=contract.level,
        form=contract.form,
        hop_samples=pipeline.hop_samples,
        batch=pipeline.batch,
        cpu_ms=Spread.of(hops.cpu[:, index], 1000),
        speedup=hops.speedups(hops.cpu)[index],
        latency_ms=latency.p50_ms,
        latency_p90_ms=latency.p90_ms,
        file_ms=Spread.of(chunks.cpu[:, index], 1000 / CHUNK_HOPS),
        file_speedup=chunks.speedups(chunks.cpu)[index],
        live=live_memory(pipeline, hop_seconds, threads),
        file_peak_mb=None if pipeline.kind == "baseline" else file_memory(pipeline, hop_seconds, file_seconds),
        ready_s=ready,
        first_window_s=first_window,
    )


def markdown(page: StreamingPage) -> str:
    """The page: what makes it comparable, the table, the stages, the bound."""
    parts = [
        _lines(["# Streaming: the baseline pipeline and ours", "", *page.record.lines()]),
        _pipelines(page.rows),
        _stages(page.stages),
        _bounds(page.machine, page.bounds),
    ]
    return "\n".join(parts)


def _lines(lines: Sequence[str]) -> str:
    return "\n".join(lines) + "\n"


def _share(speedup: Spread) -> str:
    return f"1/{speedup.median:.2f} [{speedup.low:.2f}, {speedup.high:.2f}]"


def _pipelines(rows: Sequence[PipelineTimes]) -> str:
    cells = [
        [
            row.pipeline,
            f"{row.cpu_ms.median:.2f} ms [{row.cpu_ms.low:.2f}, {row.cpu_ms.high:.2f}]",
            _share(row.speedup),
            _latency(row),
            f"{row.file_ms.median:.2f} ms",
            _share(row.file_speedup),
            "not known" if row.live is None else f"{row.live.peak_mb:.0f} / {row.live.steady_mb:.0f} MB",
            "-" if row.file_peak_mb is None else f"{row.file_peak_mb:.0f} MB",
            f"{row.ready_s:.2f} s",
            f"{row.first_window_s:.2f} s",
        ]
        for row in rows
    ]
    heads = (
        *("pipeline", "CPU per hop", "of baseline", "latency, median / p90", "long file, per hop", "of baseline"),
        *("memory live, peak / steady", "peak on a file", "ready", "first window"),
    )
    return _lines([_ABOVE_PIPELINES, "", *table(heads, cells)])


def _latency(row: PipelineTimes) -> str:
    if row.latency_p90_ms is None:
        return f"{row.latency_ms:.1f} ms / needs {needed(90)} samples"
    return f"{row.latency_ms:.1f} / {row.latency_p90_ms:.1f} ms"


def _stages(found: Sequence[Stages]) -> str:
    names = [
        name
        for name in (RESAMPLE, BANK, FIRST, BLOCKS, GRU, ENCODER, REST)
        if any(name in item.parts for item in found)
    ]
    cells = [[item.pipeline, *(_part(item, name) for name in names), f"{item.whole_ms:.2f} ms"] for item in found]
    return _lines([_ABOVE_STAGES, "", *table(["pipeline", *names, "whole, with resampling"], cells)])


def _part(found: Stages, name: str) -> str:
    if name not in found.parts:
        return "-"
    return f"{found.parts[name]:.2f} ms ({found.parts[name] / found.whole_ms:.0%})"


def _bounds(machine: CoreLimits, found: Sequence[Roofline]) -> str:
    cells = [
        [
            item.pipeline,
            f"{item.reading.bytes / 1e6:.2f} MB in {item.reading.lies_in}, {item.reading.gb_per_s:.0f} GB/s",
            f"{item.weights_ms:.2f} ms",
            f"{item.work.float_products / 1e6:.0f} / {item.work.integer_products / 1e6:.0f} million",
            f"{item.products_ms:.2f} ms",
            f"{item.bound_ms:.2f} ms",
            f"{item.measured_ms:.2f} ms",
            f"{item.times_bound:.2f}",
        ]
        for item in found
    ]
    heads = (
        *("pipeline", "largest recurrent matrix", "GRU weights times steps", "multiply-adds, float / integer"),
        *("at the peak", "bound", "measured", "measured / bound"),
    )
    above = _ABOVE_BOUNDS.format(machine=machine, last=machine.readings[-1], megabytes=machine.readings[-1].bytes / 1e6)
    return _lines([above, "", *table(heads, cells)])
