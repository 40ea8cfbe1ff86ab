"""What the suite's parts found, as a page has it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks.report.page import Against, ConditionErrors, Group, Interval, Rates, Timing
from benchmarks.report.plots import decimated
from benchmarks.robustness.error_rates import Robustness
from benchmarks.timing.latency import LatencyRun, ModelLatency
from edge_runtime.errors import InputError
from evaluation.accuracy import Accuracy, ClipVerdict, accuracy
from evaluation.bootstrap import Estimate
from evaluation.comparison import matched
from evaluation.metrics import det_curve, measures
from evaluation.paired import paired
from evaluation.tdcf import FORMS, AsvScores, min_tdcf

_MOST_SAMPLES = 400
"""Latencies that a page keeps, evenly of all that were sorted."""


def rates_of(judged: Sequence[ClipVerdict], unscored: Sequence[str], asv: AsvScores | None) -> Rates:
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
        eer_macro=None if found.macro is None else found.macro.value,
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
        by_condition=[Group(row.name, row.bonafide, row.spoof, _some(row.eer)) for row in found.conditions],
    )


def against_of(reference: Sequence[ClipVerdict], other: Sequence[ClipVerdict], margin_points: float) -> Against:
    """A model against the float one on the clips that both scored. Raises InputError unless these have both labels."""
    pairs, unmatched = matched(reference, other)
    if len({one.clip.is_bonafide for one, _ in pairs}) < 2:
        raise InputError("the clips that both models scored are all of one label")
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


def timing_of(row: ModelLatency, run: LatencyRun) -> Timing:
    """What `benchmarks.timing.latency` found for one model, as a page has it."""
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


def conditions_of(found: Robustness, names: Sequence[str]) -> list[ConditionErrors]:
    """What `benchmarks.robustness.error_rates` found, as a page has it; `names` are those of the models on it."""
    return [
        ConditionErrors(
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
