"""The page on hours of mixed sound, and what stands in its JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from benchmarks.alarms.mixed_stream import HUMAN, SPOOF
from benchmarks.alarms.stream import AlarmOutcome, ScoredStream, scored_share, verdicts
from edge_runtime.system.markdown import table


@dataclass(frozen=True)
class StreamRun:
    """A stream as it was heard with the gate, or without it."""

    gate: str  # "on" or "off"
    heard: ScoredStream
    usual: AlarmOutcome  # under the settings' defaults, or what was asked for in their place
    grid: Sequence[AlarmOutcome]


def as_json(about: Mapping[str, Any], runs: Sequence[StreamRun]) -> dict[str, Any]:
    """All figures, in plain types."""
    return dict(about) | {
        "runs": [
            {
                "gate": run.gate,
                "windows": len(run.heard.windows),
                "scored_share": scored_share(run.heard),
                "cpu_seconds_per_hour": run.heard.cpu_seconds / (run.heard.seconds / 3600),
                "usual": asdict(run.usual),
                "verdicts": verdicts(run.heard),
                "grid": [asdict(outcome) for outcome in run.grid],
            }
            for run in runs
        ]
    }


def page(title: str, about: Sequence[str], runs: Sequence[StreamRun]) -> str:
    """Markdown."""
    first = runs[0].heard
    turns = {kind: [p for p in first.pieces if p.kind == kind] for kind in sorted({p.kind for p in first.pieces})}
    sounds = ", ".join(
        f"{kind} {sum(p.end - p.start for p in own) / 60:.0f} min in {len(own)}" for kind, own in turns.items()
    )
    rules = runs[0].usual.rules
    lines = [
        f"# Hours of mixed sound: {title}",
        "",
        f"{first.seconds / 3600:.2f} h ({sounds} pieces; the rest is gaps). {' '.join(about)}",
        "",
        f"An alarm begins when scores, averaged over {rules.smoothing_seconds:g} s, have been below {rules.on:.3g} for "
        f"{rules.duration_seconds:g} s, and ends {rules.hold_seconds:g} s after the last below {rules.off:.3g}; no "
        f"other begins for {rules.refractory_seconds:g} s. It is false unless it begins in a spoofed turn or soon "
        "after. Intervals are 95 %, from a bootstrap over sources; where nothing was found they reach to 3 in that "
        "time.",
        "",
        *table(["", *(f"gate {run.gate}" for run in runs)], _rows(runs)),
        "",
        "## Verdicts by kind of sound",
        "",
        "Of windows that lie wholly within a piece.",
        "",
    ]
    names = sorted({name for run in runs for own in verdicts(run.heard).values() for name in own} - {"windows"})
    names = ["scored", *(name for name in names if name != "scored")]
    rows = [
        [run.gate, kind, f"{own['windows']:.0f}", *(f"{own.get(name, 0.0):.1%}" for name in names)]
        for run in runs
        for kind, own in verdicts(run.heard).items()
    ]
    lines += table(["gate", "sound", "windows", *names], rows)
    for run in runs:
        if run.grid:
            lines += ["", f"## The same windows under other rules, gate {run.gate}", "", *_grid(run.grid)]
    return "\n".join(lines) + "\n"


def _rows(runs: Sequence[StreamRun]) -> list[list[str]]:
    """A row for each figure, a cell for each run."""
    told = {
        "false alarms in human turns, per hour of these": lambda run: str(run.usual.false_per_human_hour),
        "false alarms, all, per hour of the stream": lambda run: f"{run.usual.false_per_hour:.2f}",
        "false alarms by the sound they began in": lambda run: _kinds(run.usual),
        "spoofed turns found": lambda run: f"{run.usual.found} of {run.usual.spoofed_turns}",
        "share found": lambda run: str(run.usual.found_share),
        "spoofed turns missed": lambda run: f"{run.usual.spoofed_turns - run.usual.found}",
        "from a turn's start to its alarm, median": lambda run: _seconds(run.usual.delay_seconds),
        "windows scored": lambda run: f"{scored_share(run.heard):.1%} of {len(run.heard.windows)}",
        "CPU time per hour of sound": lambda run: f"{run.heard.cpu_seconds / (run.heard.seconds / 3600):.0f} s",
        "turns lasted, median": lambda run: ", ".join(
            f"{kind} {np.median([p.end - p.start for p in run.heard.pieces if p.kind == kind] or [0]):.0f} s"
            for kind in (HUMAN, SPOOF)
        ),
    }
    return [[name, *(show(run) for run in runs)] for name, show in told.items()]


def _grid(outcomes: Sequence[AlarmOutcome]) -> list[str]:
    rows = [
        [
            f"{outcome.rules.smoothing_seconds:g} s",
            f"{outcome.rules.duration_seconds:g} s",
            f"{outcome.rules.on:.3g}",
            f"{outcome.rules.off:.3g}",
            f"{outcome.rules.hold_seconds:g} s",
            f"{outcome.rules.refractory_seconds:g} s",
            str(outcome.false_per_human_hour),
            f"{outcome.false_per_hour:.2f}",
            f"{outcome.found} of {outcome.spoofed_turns}",
            _seconds(outcome.delay_seconds),
        ]
        for outcome in outcomes
    ]
    heads = ["smoothing", "duration", "on", "off", "hold", "refractory", "false per human hour", "all per hour"]
    return table([*heads, "found", "delay"], rows)


def _kinds(outcome: AlarmOutcome) -> str:
    return ", ".join(f"{kind} {count}" for kind, count in outcome.false_alarms.items()) or "none"


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f} s"
