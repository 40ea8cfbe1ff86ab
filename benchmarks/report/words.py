"""How figures read on a page, the same in Markdown, HTML and error messages."""

from __future__ import annotations

from benchmarks.report.page import Against, Interval, Model, Page, Timing
from evaluation.comparison import correlation_text

NOT_KNOWN = "-"


def conclusion(page: Page) -> str:
    """What to take, in a sentence or two: the fastest file whose EER is proved to rise by less than the margin."""
    rivals = [model for model in page.models[1:] if model.against]
    proved = [model for model in rivals if model.against and model.against.non_inferior]
    if proved:
        best = max(proved, key=lambda model: (model.timing.speedup.value if model.timing else 0.0, model.size_ratio))
        assert best.against
        gains = [f"{best.size_ratio:.1f} times smaller"]
        if best.timing:
            gains.insert(0, f"{best.timing.speedup.value:.1f} times as fast")
        upper = best.against.eer_delta_upper_points
        costs = "" if upper is None else f", and its EER rises by at most {max(0.0, upper):.2f} points (95 %)"
        return f"Take {best.name} ({best.level}): {' and '.join(gains)} than the float file{costs}."
    if any(model.against.non_inferior is not None for model in rivals if model.against):
        margin = next(model.against.margin_points for model in rivals if model.against)
        return (
            f"No file is proved to stay within {margin:g} points of the float one's EER: that is no proof that it does "
            "not. Take the float file, or measure on more clips."
        )
    timed = [model for model in page.models[1:] if model.timing]
    if timed:
        best = max(timed, key=lambda model: model.timing.speedup.value if model.timing else 0.0)
        assert best.timing
        return (
            f"{best.name} ({best.level}) is the fastest, {best.timing.speedup.value:.1f} times as fast as the float "
            "file. What it costs in accuracy was not measured: name labelled clips with --data."
        )
    return "Nothing can be concluded: there is no other file, or too few clips of both labels."


def percent(value: float | None) -> str:
    """A fraction."""
    return NOT_KNOWN if value is None else f"{value:.1%}"


def interval(value: Interval | None) -> str:
    """A fraction with its interval."""
    return NOT_KNOWN if value is None else f"{value.value:.1%} [{value.low:.1%}, {value.high:.1%}]"


def milliseconds(value: float | None, digits: int = 2) -> str:
    """None is a percentile that too few samples were there for, or what was not measured."""
    return NOT_KNOWN if value is None else f"{value:.{digits}f} ms"


def megabytes(value: float | None) -> str:
    """10^6 bytes."""
    return NOT_KNOWN if value is None else f"{value:.0f} MB"


def size(model: Model) -> str:
    """Of the file, and how it compares with the float one's."""
    return f"{model.size_bytes / 1e6:.2f} MB (1/{model.size_ratio:.2f})"


def correlation(value: float | None) -> str:
    """Cut and not rounded, so that what is short of 1 does not read as 1."""
    return NOT_KNOWN if value is None else correlation_text(value)


def delta(found: Against) -> str:
    """The EER's rise in points with its one-sided bound."""
    if found.eer_delta_points is None:
        return NOT_KNOWN
    upper = "" if found.eer_delta_upper_points is None else f" [≤ {found.eer_delta_upper_points:+.2f}]"
    return f"{found.eer_delta_points:+.2f}{upper}"


def differences(found: Against) -> str:
    """Of scores: the largest, and the 99th percentile where there are enough clips for one."""
    high = NOT_KNOWN if found.p99_difference is None else f"{found.p99_difference:.3f}"
    return f"{found.largest_difference:.3f} / {high}"


def verdict(found: Against) -> str:
    """Whether the rise stays below the margin."""
    if found.non_inferior is None:
        return "cannot be said"
    return f"{'yes' if found.non_inferior else 'not proved'} (margin {found.margin_points:g})"


def speedup(found: Timing) -> str:
    """Relative to the float model."""
    ratio = found.speedup
    return f"{ratio.value:.2f}x [{ratio.low:.2f}, {ratio.high:.2f}]"
