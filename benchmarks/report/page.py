"""A benchmark's page as data: written as JSON, read back, compared, shown. Everything of it is of JSON's types."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cattrs

from edge_runtime.errors import InputError

SCHEMA = 1
KIND = "edge-detect benchmark"


@dataclass(frozen=True)
class Interval:
    """A figure with its 95 % interval; rates are fractions."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Group:
    """A source, a system or a condition: clips of each label, and the EER where there are enough of both."""

    name: str
    bonafide: int
    spoof: int
    eer: Interval | None


@dataclass(frozen=True)
class Rates:
    """How well a model tells both labels apart; rates are fractions, costs normalized, Cllr in bits."""

    bonafide: int
    spoof: int
    eer: Interval
    eer_over: str  # what the bootstrap drew: sources or clips
    eer_within: Interval | None  # each source centred on its own mean
    eer_macro: float | None  # mean over sources with both labels
    min_dcf: float
    act_dcf: float
    cllr_bits: float
    min_cllr_bits: float
    min_tdcf: dict[str, float]  # by the form's name; empty without scores of speaker verification
    human_called_spoof: float
    human_unsure: float
    spoof_found: float
    spoof_unsure: float
    sources: list[Group]
    systems: list[Group]
    det: list[tuple[float, float]]  # false alarms of spoof and misses of bona fide, a curve's points
    unscored: list[str]
    by_condition: list[Group] = field(default_factory=list)  # codecs and the like that the list names; often none


@dataclass(frozen=True)
class Against:
    """A model's scores against the float model's, on the clips that both scored."""

    clips: int
    unmatched: int
    correlation: float | None
    largest_difference: float  # LLR
    p99_difference: float | None  # LLR; None for clips too few to tell
    flipped: float  # verdicts, fraction
    flipped_hard: float
    eer_delta_points: float | None
    eer_delta_low_points: float | None
    eer_delta_high_points: float | None
    eer_delta_upper_points: float | None
    margin_points: float  # set before
    non_inferior: bool | None  # the upper bound lies below the margin; None where there is no bound
    mcnemar_worse: int  # right with the float model only, at its frozen threshold
    mcnemar_better: int  # right with this model only
    mcnemar_p: float


@dataclass(frozen=True)
class Timing:
    """What a window costs on the machine of the record. A percentile that its count cannot carry is None."""

    threads: int
    count: int
    processes: int
    p50_ms: float
    p90_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    between_processes_ms: tuple[float, float]  # smallest and largest median of a process
    speedup: Interval  # the float model's time over this one's within a round: median and quartiles
    cpu_ms_per_second: float  # of sound
    energy_mj: float | None  # per window
    peak_mb: float | None
    steady_mb: float | None
    ready_s: float
    first_window_s: float
    stages_ms: dict[str, float]
    sweep_p50_ms: dict[str, float]  # by the number of threads
    samples_ms: list[float]  # for the distribution; at most some hundred of all


@dataclass(frozen=True)
class Model:
    """One model file with all that was found out about it."""

    name: str
    level: str
    target: str
    sha256: str
    size_bytes: int
    size_ratio: float  # the float file's size over this one's
    rates: Rates | None
    against: Against | None  # None for the float model itself
    timing: Timing | None
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class ConditionErrors:
    """The EER of every model under one change to the sound of both labels; None where it could not be said."""

    axis: str
    name: str
    eer: dict[str, Interval | None]  # by the model's name
    delta_points: dict[str, float | None]  # to the float model


@dataclass(frozen=True)
class Page:
    """All of one run. The first model is the float one."""

    made: str  # ISO date and time, UTC
    command: str
    data: str
    hop_seconds: float
    machine: dict[str, Any]  # benchmarks.machine.record's record
    machine_lines: list[str]
    warnings: list[str]
    models: list[Model]
    conditions: list[ConditionErrors] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)  # clips of the list that are not there
    schema: int = SCHEMA
    kind: str = KIND

    def as_json(self) -> str:
        """Strict JSON, in one line: curves and samples are long."""
        return json.dumps(_plain(cattrs.unstructure(self)), allow_nan=False) + "\n"


def read(path: Path) -> Page:
    """The page of a JSON file. Raises InputError for anything else."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as reason:
        raise InputError(f"cannot read {path}: {reason.strerror}") from None
    except (UnicodeDecodeError, ValueError, RecursionError):
        raise InputError(f"{path} is no JSON") from None
    if not isinstance(values, dict) or values.get("kind") != KIND:
        raise InputError(f"{path} is not the JSON of `python -m benchmarks report`")
    if values.get("schema") != SCHEMA:
        raise InputError(f"{path} has schema {values.get('schema')}, this program reads {SCHEMA}: make it again")
    try:
        page = cattrs.structure(values, Page)
    except Exception as reason:  # cattrs groups whatever its converters raised
        raise InputError(f"{path} is damaged: {type(reason).__name__}") from None
    if not page.models:
        raise InputError(f"{path} holds no model")
    return page


def _plain(value: Any) -> Any:
    """Numbers rounded to nine digits, which is more than they are worth; what is no number becomes null."""
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, float):
        return float(f"{value:.9g}") if math.isfinite(value) else None
    return value
