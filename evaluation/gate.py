"""A gate on what a model file may cost: `--require "eer_delta<=0.5"`, and an exit code when it costs more."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from edge_runtime.errors import EdgeDetectError, UsageError
from evaluation.comparison import Comparison

GATE_FAILED = 11
"""Exit code when a file was measured and does not meet a requirement."""


@dataclass(frozen=True)
class Measure:
    """What a requirement may be about."""

    unit: str
    meaning: str
    missing: str  # why it may not be there, and what to do


_LABELS = "it needs clips of both labels in the evaluation data"
FEWEST_CLIPS = 40
"""With fewer, draws of the bootstrap are all alike, and a bound of 0 would say that nothing can be worse."""
_ENOUGH = f"it needs clips of both labels, {FEWEST_CLIPS} or more, in the evaluation data"
MEASURES = {
    "eer_delta": Measure(" points", "EER minus the float model's, in percentage points", _LABELS),
    "eer_delta_upper": Measure(" points", "its upper bound with 95 % confidence, in percentage points", _ENOUGH),
    "correlation": Measure("", "Pearson's, of the scores with the float model's", "the scores are all alike"),
    "flipped": Measure(" %", "clips whose verdict differs, in percent", "there are no verdicts"),
    "largest_difference": Measure(" LLR", "largest difference of a clip's score", "no clip was scored"),
    "size_ratio": Measure("", "size of the float file divided by this one's", "the sizes are not known"),
}
_OPERATORS: dict[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}
_FORM = re.compile(r"\s*(\w+)\s*(<=|>=|<|>)\s*([^\s<>=]+)\s*")
UNMATCHED = "unmatched"
"""The key under which `check` finds how many clips only one of the two models could score."""


class RequirementFailed(EdgeDetectError):
    """A file that was measured and falls short of a `--require`."""

    exit_code = GATE_FAILED


@dataclass(frozen=True)
class Requirement:
    """One `MEASURE OPERATOR LIMIT`, the limit in the measure's unit."""

    measure: str
    operator: str
    limit: float

    def holds(self, value: float) -> bool:
        """Whether a measured value meets it; what differs by the last bits of its arithmetic counts as equal."""
        return _OPERATORS[self.operator](round(value, 9), round(self.limit, 9))

    def __str__(self) -> str:
        return f"{self.measure} {self.operator} {self.limit:.12g}"


def parse_all(texts: Sequence[str], known_measures: Mapping[str, Measure] = MEASURES) -> list[Requirement]:
    """Reads what was given: each text one requirement, or several with commas between. Raises UsageError."""
    return [parse(part, known_measures) for text in texts for part in text.split(",")]


def parse(text: str, known_measures: Mapping[str, Measure] = MEASURES) -> Requirement:
    """Reads `eer_delta<=0.5`; blanks do not matter. Raises UsageError, with what is known, for anything else."""
    found = _FORM.fullmatch(text)
    if found is None:
        raise UsageError(
            f'cannot read the requirement "{text}": write MEASURE<=NUMBER as in "eer_delta<=0.5"; '
            f"{known(known_measures)}"
        )
    measure, sign, number = found.groups()
    if measure not in known_measures:
        raise UsageError(f'"{text}" requires {measure}, which is not measured; {known(known_measures)}')
    try:
        limit = float(number)
    except ValueError:
        limit = math.nan
    if not math.isfinite(limit):
        raise UsageError(f'the limit of "{text}" is no number: {number}')
    return Requirement(measure, sign, limit)


def known(known_measures: Mapping[str, Measure] = MEASURES) -> str:
    """The measures and operators, for help and errors."""
    return f"known are {', '.join(known_measures)} with {', '.join(_OPERATORS)}"


def measures(comparison: Comparison, float_bytes: int, file_bytes: int) -> dict[str, float | None]:
    """What `check` looks at, in the units of MEASURES: the sizes are of the float file and of the one judged."""
    return {
        "eer_delta": comparison.eer_delta_points,
        "eer_delta_upper": comparison.eer_delta_upper_points if comparison.clips >= FEWEST_CLIPS else None,
        "correlation": comparison.correlation,
        "flipped": None if comparison.flipped is None else 100 * comparison.flipped,
        "largest_difference": comparison.largest_difference,
        "size_ratio": float_bytes / file_bytes if file_bytes else None,
        UNMATCHED: comparison.unmatched,
    }


def check(
    requirements: Sequence[Requirement],
    measured: Mapping[str, float | None],
    known_measures: Mapping[str, Measure] = MEASURES,
) -> list[str]:
    """A line for each requirement that `measured` does not meet; empty when all hold.

    What could not be measured, None or absent, fails its requirement: a gate does not open on ignorance. So do
    clips that only one of the models could score (`unmatched`), as the other figures leave them out.
    """
    failures = []
    lost = measured.get(UNMATCHED)
    if requirements and lost:
        failures.append(f"{lost:g} clips have a score from one of the two models only")
    for requirement in requirements:
        measure, value = known_measures[requirement.measure], measured.get(requirement.measure)
        if value is None or math.isnan(value):
            failures.append(
                f"{requirement.measure} could not be measured, required is {requirement}: {measure.missing}"
            )
        elif not requirement.holds(value):
            failures.append(
                f"{requirement.measure} is {_shown(value, requirement)}{measure.unit}, required is {requirement}"
            )
    return failures


def _shown(value: float, requirement: Requirement) -> str:
    """As few digits, from three on, as still show that the requirement fails."""
    for digits in range(3, 17):
        text = f"{value:.{digits}g}"
        if not requirement.holds(float(text)):
            return text
    return repr(value)
