"""What a run of `python -m training.pages` prints: counts, and a line for each fault."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edge_runtime.system.text import printable
from training.pages.cut import RATE
from training.pages.listed import ListedClip
from training.pages.tables import RowResult
from training.pages.work import NO_CLONE


@dataclass(frozen=True)
class CuttingReport:
    """`clips` are in the table; `twice` are left out for the clip beside them; `apart` lie in the other folder."""

    asked: Sequence[ListedClip]
    clips: Sequence[tuple[ListedClip, RowResult]]
    twice: Sequence[tuple[ListedClip, ListedClip]]
    apart: Sequence[tuple[ListedClip, ListedClip]]
    faults: Sequence[tuple[ListedClip, str]]


def fault_lines(faults: Sequence[tuple[ListedClip, str]]) -> list[str]:
    """A line for each repository without a clone, and for each other clip that was left out."""
    absent = Counter(row.source for row, fault in faults if fault == NO_CLONE)
    lines = [f"there is no clone of {source}; clips left out: {count}" for source, count in sorted(absent.items())]
    lines += [f"left out: {row.path}: {fault}" for row, fault in faults if fault != NO_CLONE]
    return [printable(line) for line in lines]


def report(found: CuttingReport) -> dict[str, Any]:
    """The counts, ready for JSON."""
    spoofed = [row for row, _ in found.clips if row.label == "spoof"]
    human = [row for row, _ in found.clips if row.label == "bonafide"]
    systems = Counter(year for year, _ in {(row.year or "unknown", row.system) for row in spoofed})
    samples = Counter[str]()
    for row, made in found.clips:
        samples["bonafide" if row.label == "bonafide" else row.year or "unknown"] += made.samples
    return {
        "asked": len(found.asked),
        "clips": len(found.clips),
        "bonafide": len(human),
        "spoof": len(spoofed),
        "minutes": round(sum(made.samples for _, made in found.clips) / RATE / 60, 1),
        "sources": len({row.source for row, _ in found.clips}),
        "sources of both labels": len({row.source for row in human} & {row.source for row in spoofed}),
        "systems": len({row.system for row in spoofed}),
        "spoof by year of the system": dict(sorted(Counter(row.year or "unknown" for row in spoofed).items())),
        "systems by year": dict(sorted(systems.items())),
        "minutes of spoof by year": {
            year: round(count / RATE / 60, 1) for year, count in sorted(samples.items()) if year != "bonafide"
        },
        "minutes of bonafide": round(samples["bonafide"] / RATE / 60, 1),
        "spoof by kind": _counts([row.kind for row in spoofed]),
        "bonafide by language": _counts([row.language for row in human]),
        "spoof by language": _counts([row.language for row in spoofed]),
        "without a stated licence": sum(not row.states_licence for row, _ in found.clips),
        "partial spoofs": sum(row.is_partial for row in spoofed),
        "same sound as another": len(found.twice),
        "of these on two pages": sum(one.source != other.source for one, other in found.twice),
        "same sound as one kept apart": len(found.apart),
        "left out": _counts([fault for _, fault in found.faults]),
    }


def _counts(words: Sequence[str]) -> dict[str, int]:
    return dict(Counter(word or "unknown" for word in words).most_common())


def text(counts: dict[str, Any]) -> str:
    """The counts, a line each."""
    if "repositories" in counts:
        return "\n".join(counts["repositories"])
    lines = []
    for name, value in counts.items():
        said = ", ".join(f"{key}: {number}" for key, number in value.items()) if isinstance(value, dict) else value
        lines.append(f"{name}: {'none' if said == '' else said}")
    return "\n".join(map(printable, lines))
