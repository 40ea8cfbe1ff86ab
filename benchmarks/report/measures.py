"""What `report --require` may demand, and its value for each model of a page."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.gate import FEWEST_CLIPS, Measure, Requirement, check
from benchmarks.report.page import Model, Page

_DATA = "it needs labelled clips of both kinds (--data)"
_ENOUGH = f"it needs {FEWEST_CLIPS} clips or more of both labels (--data)"
_TIMED = "it needs the timing, on a processor that the file is for, and enough samples for the percentile"
MEASURES = {
    "eer": Measure(" %", "equal error rate, pooled, in percent", _DATA),
    "eer_within": Measure(" %", "within sources, in percent", _DATA),
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
    "latency_p50_ms": Measure(" ms", "from a window's last samples to its score, median", _TIMED),
    "latency_p90_ms": Measure(" ms", "90th percentile", _TIMED),
    "latency_p95_ms": Measure(" ms", "95th percentile", _TIMED),
    "latency_p99_ms": Measure(" ms", "99th percentile", _TIMED),
    "speedup": Measure("x", "the float model's time over this one's", _TIMED),
    "cpu_ms_per_second": Measure(" ms", "CPU time for a second of sound", _TIMED),
    "peak_mb": Measure(" MB", "memory of the running program at its peak", _TIMED),
    "ready_s": Measure(" s", "from before the import to the opened model", _TIMED),
    "size_mb": Measure(" MB", "of the file", "the size is not known"),
    "size_ratio": Measure("", "size of the float file divided by this one's", "the size is not known"),
}


def measured(model: Model) -> dict[str, float | None]:
    """The value of each of MEASURES, in its unit; None where it was not measured."""
    rates, against, timing = model.rates, model.against, model.timing
    found: dict[str, float | None] = dict.fromkeys(MEASURES)
    found |= {"size_mb": model.size_bytes / 1e6, "size_ratio": model.size_ratio}
    if rates:
        found |= {
            "eer": 100 * rates.eer.value,
            "eer_within": None if rates.eer_within is None else 100 * rates.eer_within.value,
            "human_called_spoof": 100 * rates.human_called_spoof,
            "spoof_found": 100 * rates.spoof_found,
            "cllr": rates.cllr_bits,
            "min_dcf": rates.min_dcf,
            "act_dcf": rates.act_dcf,
        }
    if against:
        found |= {
            "eer_delta": against.eer_delta_points,
            "eer_delta_upper": against.eer_delta_upper_points if against.clips >= FEWEST_CLIPS else None,
            "correlation": against.correlation,
            "flipped": 100 * against.flipped,
            "largest_difference": against.largest_difference,
            "unmatched": against.unmatched,
        }
    if timing:
        found |= {f"latency_{name}": getattr(timing, name) for name in ("p50_ms", "p90_ms", "p95_ms", "p99_ms")}
        found |= {
            "speedup": timing.speedup.value,
            "cpu_ms_per_second": timing.cpu_ms_per_second,
            "peak_mb": timing.peak_mb,
            "ready_s": timing.ready_s,
        }
    return found


def failures(page: Page, requirements: Sequence[Requirement]) -> list[str]:
    """A line for each requirement that a model does not meet: of the quantized models, or of a lone float one."""
    judged = page.models[1:] or page.models
    return [f"{model.name}: {line}" for model in judged for line in check(requirements, measured(model), MEASURES)]
