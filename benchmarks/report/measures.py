"""What `report --require` may demand, and its value for each model of a page."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.report.page import Model, Page
from evaluation.gate import FEWEST_CLIPS, Measure, Requirement, check

_DATA = "it needs labelled clips of both kinds (--data)"
_ENOUGH = f"it needs {FEWEST_CLIPS} clips or more of both labels (--data)"
_TIMED = "it needs the timing, on a processor that the file is for, and enough samples for the percentile"
_TDCF = "it needs scores of speaker verification (--asv-scores)"
ACCURACY = {
    "eer": Measure(" %", "equal error rate, pooled, in percent", _DATA),
    "eer_within": Measure(" %", "within sources, in percent", _DATA),
    "eer_macro": Measure(" %", "mean over the sources with enough clips of both labels, in percent", _DATA),
    "eer_delta": Measure(" points", "EER minus the float model's, in percentage points", _DATA),
    "eer_delta_upper": Measure(" points", "its upper bound with 95 % confidence, in percentage points", _ENOUGH),
    "correlation": Measure("", "Pearson's, of the scores with the float model's", "the scores are all alike"),
    "flipped": Measure(" %", "clips whose verdict differs from the float model's, in percent", _DATA),
    "largest_difference": Measure(" LLR", "largest difference of a clip's score from the float model's", _DATA),
    "human_called_spoof": Measure(" %", "of the human clips, in percent", _DATA),
    "spoof_found": Measure(" %", "of the spoofed clips, in percent", _DATA),
    "cllr": Measure(" bit", "cost of the log-likelihood ratios", _DATA),
    "min_dcf": Measure("", "of ASVspoof 5", _DATA),
    "act_dcf": Measure("", "of ASVspoof 5", _DATA),
    "min_tdcf_legacy": Measure("", "min t-DCF in the form of ASVspoof 2019", _TDCF),
    "min_tdcf_revised": Measure("", "min t-DCF in the form of ASVspoof 2021", _TDCF),
}
"""Figures of the clips that were scored: they say nothing of those that were not."""
LOST = {
    "missing": Measure("", "clips of the list that are not there", _DATA),
    "unscored": Measure("", "clips that it or the float model gave no score", _DATA),
}
"""What ACCURACY leaves out. A requirement on accuracy fails while any is above 0 that has no requirement of its own."""
_COSTS = {
    "latency_p50_ms": Measure(" ms", "from a window's last samples to its score, median", _TIMED),
    "latency_p90_ms": Measure(" ms", "90th percentile", _TIMED),
    "latency_p95_ms": Measure(" ms", "95th percentile", _TIMED),
    "latency_p99_ms": Measure(" ms", "99th percentile", _TIMED),
    "speedup": Measure("x", "the float model's time over this one's", _TIMED),
    "cpu_ms_per_second": Measure(" ms", "CPU time for a second of sound", _TIMED),
    "energy_mj": Measure(" mJ", "energy of a window", "it needs the timing, and a machine that measures its energy"),
    "peak_mb": Measure(" MB", "memory of the running program at its peak", _TIMED),
    "steady_mb": Measure(" MB", "memory of the running program when it has settled", _TIMED),
    "ready_s": Measure(" s", "from before the import to the opened model", _TIMED),
    "first_window_s": Measure(" s", "from before the import to the first scored window", _TIMED),
    "size_mb": Measure(" MB", "of the file", "the size is not known"),
    "size_ratio": Measure("", "size of the float file divided by this one's", "the size is not known"),
}
MEASURES = ACCURACY | LOST | _COSTS


def measured(model: Model, page: Page) -> dict[str, float | None]:
    """The value of each of MEASURES for a model of `page`, in its unit; None where it was not measured."""
    rates, against, timing = model.rates, model.against, model.timing
    found: dict[str, float | None] = dict.fromkeys(MEASURES)
    found |= {"size_mb": model.size_bytes / 1e6, "size_ratio": model.size_ratio, "unscored": _unscored(model, page)}
    if page.models[0].rates:
        found["missing"] = len(page.missing)
    if rates:
        found |= {
            "eer": 100 * rates.eer.value,
            "eer_within": None if rates.eer_within is None else 100 * rates.eer_within.value,
            "eer_macro": None if rates.eer_macro is None else 100 * rates.eer_macro,
            "human_called_spoof": 100 * rates.human_called_spoof,
            "spoof_found": 100 * rates.spoof_found,
            "cllr": rates.cllr_bits,
            "min_dcf": rates.min_dcf,
            "act_dcf": rates.act_dcf,
        }
        found |= {f"min_tdcf_{form}": cost for form, cost in rates.min_tdcf.items()}
    if against:
        found |= {
            "eer_delta": against.eer_delta_points,
            "eer_delta_upper": against.eer_delta_upper_points if against.clips >= FEWEST_CLIPS else None,
            "correlation": against.correlation,
            "flipped": 100 * against.flipped,
            "largest_difference": against.largest_difference,
        }
    if timing:
        found |= {f"latency_{name}": getattr(timing, name) for name in ("p50_ms", "p90_ms", "p95_ms", "p99_ms")}
        found |= {
            "speedup": timing.speedup.value,
            "cpu_ms_per_second": timing.cpu_ms_per_second,
            "energy_mj": timing.energy_mj,
            "peak_mb": timing.peak_mb,
            "steady_mb": timing.steady_mb,
            "ready_s": timing.ready_s,
            "first_window_s": timing.first_window_s,
        }
    return found


def _unscored(model: Model, page: Page) -> int | None:
    """Clips of the data that this model or the float one gave no score; None where that is not known.

    They are all that the two do not have in common, the clips that `gate.UNMATCHED` counts among them.
    """
    reference = page.models[0].rates
    if reference is None:
        return None
    if model is page.models[0]:
        return len(reference.unscored)
    if model.against is None:
        return None
    return reference.bonafide + reference.spoof + len(reference.unscored) - model.against.clips


def failures(page: Page, requirements: Sequence[Requirement]) -> list[str]:
    """A line for each requirement that a model does not meet: of the quantized models, or of a lone float one.

    Clips that are missing or have no score shut the gate on accuracy too, unless a requirement of `LOST` allows them:
    a model is not good because what it fails on was left out.
    """
    asked = {requirement.measure for requirement in requirements}
    judges_accuracy = bool(asked & ACCURACY.keys())
    told = []
    for index, model in enumerate(page.models[1:] or page.models):
        known = measured(model, page)
        lost = {name: known[name] for name in LOST if name not in asked and known[name]} if judges_accuracy else {}
        if "missing" in lost and not index:
            told.append(f"clips of the list that are missing: {lost['missing']:g} (missing<=N would allow that)")
        if "unscored" in lost:
            told.append(
                f"{model.name}: clips without a score by it or by the float model: {lost['unscored']:g} "
                "(unscored<=N would allow that)"
            )
        told += [f"{model.name}: {line}" for line in check(requirements, known, MEASURES)]
    return told
