"""Gathers a page: scores, measures and times of model files, from the parts of the suite that know each."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.accuracy import Accuracy, Judged, accuracy
from benchmarks.comparison import Row as Facts
from benchmarks.comparison import describe, matched
from benchmarks.latency import LatencyRun, Row
from benchmarks.machine import Record
from benchmarks.metrics import Estimate, det_curve, measures
from benchmarks.paired import paired
from benchmarks.protocols import ClipList
from benchmarks.report.page import Against, Condition, Group, Interval, Model, Page, Rates, Timing
from benchmarks.report.plots import decimated
from benchmarks.robustness import Robustness
from benchmarks.scoring import score
from benchmarks.tdcf import FORMS, AsvScores, min_tdcf
from benchmarks.turns import silently
from edge_runtime.errors import InputError, ModelError
from edge_runtime.model.network import Network

_MOST_SAMPLES = 400
"""Latencies that a page keeps, evenly of all that were sorted."""


@dataclass(frozen=True)
class Data:
    """What models are scored on, and how."""

    name: str
    clips: ClipList
    asv: AsvScores | None = None
    stores: Path | None = None  # folder in which scores are kept, so that a run that was killed goes on
    jobs: int | None = None
    cluster: str | None = None
    margin_points: float = 0.5


@dataclass(frozen=True)
class File:
    """A model file that was opened: what it is called on the page, and why the runtime refuses it here, if it does."""

    path: Path
    name: str
    network: Network
    refusal: str | None
    facts: Facts


def open_files(paths: Sequence[Path]) -> list[File]:
    """The files of a page, the float one first. Raises ModelError for one that opens nowhere, or a first not float."""
    names = _unique_names(paths)
    files = []
    for path, name in zip(paths, names, strict=True):
        network, refusal = _open_anywhere(path)
        files.append(File(path, name, network, refusal, describe(path, paths[0], network.contract, None)))
    if files[0].refusal:
        raise ModelError(files[0].refusal)
    if files[0].facts.level != "fp32":
        raise ModelError(f"{paths[0]} is quantized: give the float file that the others were made from first")
    return files


def build(
    files: Sequence[File],
    data: Data | None,
    timings: Sequence[Timing | None],
    conditions: Sequence[Condition],
    about: Record,
    command: str,
    hop_seconds: float,
    progress: Callable[..., Any] = silently,
) -> Page:
    """The page of files, the float one first. `timings` has one for each, None where it was not timed.

    Raises InputError when the float model gives no clip a score or the clips have one label only, and as `score` does.
    """
    reference: list[Judged] = []
    models = []
    for file, timing in zip(files, timings, strict=True):
        path, name, facts = file.path, file.name, file.facts
        notes = list(file.network.notes)
        if file.refusal:
            notes.append(f"{file.refusal}. Its accuracy was measured with exact sums, its speed was not")
        rates = against = None
        if data:
            shown = partial(_labelled, progress, f"scoring, {name}")
            store = data.stores / f"{name}.sqlite" if data.stores else None
            judged, unscored = score(
                path, data.clips.clips, store, hop_seconds, data.jobs, data.cluster, shown, anywhere=True
            )
            if judged:
                rates = rates_of(judged, unscored, data.asv)
            elif not reference:
                raise InputError(f"{path} gave no clip of {data.name} a score")
            else:
                notes.append("it gave no clip a score")
            if judged and reference:
                against = against_of(reference, judged, data.margin_points)
            reference = reference or judged
        models.append(
            Model(
                name=name,
                level=facts.level,
                target=facts.target,
                sha256=file.network.sha256,
                size_bytes=facts.size_bytes,
                size_ratio=facts.size_ratio,
                rates=rates,
                against=against,
                timing=timing,
                notes=notes,
            )
        )
    lines = [line for line in about.lines() if not line.startswith("**")]  # the warning stands apart
    return Page(
        made=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        command=command,
        data=data.name if data else "none",
        hop_seconds=hop_seconds,
        machine=about.as_json(),
        machine_lines=lines,
        warnings=[about.warning] if about.warning else [],
        models=models,
        conditions=list(conditions),
        missing=data.clips.missing if data else [],
    )


def _labelled(progress: Callable[..., Any], description: str, items: Any, **told: Any) -> Any:
    return progress(items, **(told | {"desc": description}))


def _open_anywhere(path: Path) -> tuple[Network, str | None]:
    """The model, and why the runtime would not run it on this processor: it is then opened with exact sums.

    Raises ModelError when it can be run nowhere.
    """
    try:
        return Network.load(path), None
    except ModelError as refusal:
        return Network.load(path, exact=True), str(refusal)


def _unique_names(paths: Sequence[Path]) -> list[str]:
    """What each file is called on a page: its name, with the folder where two have the same."""
    stems = [path.stem for path in paths]
    names = [
        stem if stems.count(stem) == 1 else f"{path.parent.name}-{stem}"
        for path, stem in zip(paths, stems, strict=True)
    ]
    return [name if names.count(name) == 1 else f"{name}-{index}" for index, name in enumerate(names, start=1)]


def rates_of(judged: Sequence[Judged], unscored: Sequence[str], asv: AsvScores | None) -> Rates:
    """All rates and costs of scored clips. Raises InputError unless both labels are there."""
    found: Accuracy = accuracy(judged, unscored)
    scores = np.array([item.score for item in judged])
    human = np.array([item.clip.is_bonafide for item in judged], bool)
    costs = measures(scores, human)
    misses, alarms, _ = det_curve(scores[human], scores[~human])
    return Rates(
        bonafide=found.pooled.bonafide,
        spoof=found.pooled.spoof,
        eer=_interval(found.pooled),
        eer_over=found.pooled.over,
        eer_within=_some(found.within),
        eer_macro=found.macro,
        min_dcf=costs.min_dcf,
        act_dcf=costs.act_dcf,
        cllr_bits=costs.cllr_bits,
        min_cllr_bits=costs.min_cllr_bits,
        min_tdcf={form: min_tdcf(scores[human], scores[~human], asv.rates(), form)[0] for form in FORMS} if asv else {},
        human_called_spoof=found.human_called_spoof,
        human_unsure=found.human_unsure,
        spoof_found=found.spoof_found,
        spoof_unsure=found.spoof_unsure,
        sources=[Group(row.name, row.bonafide, row.spoof, _some(row.eer)) for row in found.sources],
        systems=[Group(row.name, row.bonafide, row.spoof, _some(row.eer)) for row in found.systems],
        det=decimated(alarms, misses),
        unscored=list(unscored),
    )


def against_of(reference: Sequence[Judged], other: Sequence[Judged], margin_points: float) -> Against:
    """A model against the float one on the clips that both scored. Raises InputError when there is no such clip."""
    pairs, unmatched = matched(reference, other)
    found = paired(
        [one.score for one, _ in pairs],
        [two.score for _, two in pairs],
        [one.clip.is_bonafide for one, _ in pairs],
        [one.clip.source for one, _ in pairs],
        margin_points,
        verdicts=([one.verdict for one, _ in pairs], [two.verdict for _, two in pairs]),
        unmatched=unmatched,
    )
    compared = found.comparison
    return Against(
        clips=compared.clips,
        unmatched=compared.unmatched,
        correlation=compared.correlation,
        largest_difference=compared.largest_difference,
        p99_difference=found.p99_difference,
        flipped=compared.flipped or 0.0,
        flipped_hard=compared.flipped_hard or 0.0,
        eer_delta_points=compared.eer_delta_points,
        eer_delta_low_points=compared.eer_delta_low_points,
        eer_delta_high_points=compared.eer_delta_high_points,
        eer_delta_upper_points=compared.eer_delta_upper_points,
        margin_points=margin_points,
        non_inferior=found.not_inferior,
        mcnemar_worse=found.mcnemar.only_reference,
        mcnemar_better=found.mcnemar.only_other,
        mcnemar_p=found.mcnemar.p_mid,
    )


def timing_of(row: Row, run: LatencyRun) -> Timing:
    """What `benchmarks.latency` found for one model, as a page has it."""
    samples = row.samples_ms
    step = -(-len(samples) // _MOST_SAMPLES)
    return Timing(
        threads=run.record.threads,
        count=row.hop.samples,
        processes=run.processes,
        p50_ms=row.hop.p50_ms,
        p90_ms=row.hop.p90_ms,
        p95_ms=row.hop.p95_ms,
        p99_ms=row.hop.p99_ms,
        between_processes_ms=(min(row.process_medians_ms), max(row.process_medians_ms)),
        speedup=Interval(row.ratio.median, row.ratio.low, row.ratio.high),
        cpu_ms_per_second=row.cpu_ms_per_audio_second,
        energy_mj=row.energy.window_mj if row.energy else None,
        peak_mb=row.live.peak_mb if row.live else None,
        steady_mb=row.live.steady_mb if row.live else None,
        ready_s=row.ready_s,
        first_window_s=row.first_window_s,
        stages_ms={stage.name: stage.cpu_ms for stage in row.stages},
        sweep_p50_ms={str(item.threads): item.hop.p50_ms for item in row.sweep},
        samples_ms=sorted(samples)[step // 2 :: step],
    )


def conditions_of(found: Robustness, names: Sequence[str]) -> list[Condition]:
    """What `benchmarks.robustness` found, as a page has it; `names` are those of the models on it."""
    return [
        Condition(
            line.axis,
            line.condition,
            {name: _some(cell.eer) for name, cell in zip(names, line.cells, strict=True)},
            {
                name: cell.difference.eer_delta_points if cell.difference else None
                for name, cell in zip(names, line.cells, strict=True)
            },
        )
        for line in found.lines
    ]


def _interval(value: Estimate) -> Interval:
    return Interval(value.value, value.low, value.high)


def _some(value: Estimate | None) -> Interval | None:
    return None if value is None else _interval(value)
