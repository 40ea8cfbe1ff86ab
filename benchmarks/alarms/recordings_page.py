"""The page on long recordings as files, and what stands in its JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.alarms.recordings import END, MIDDLE, ScoredRecording, gated, summary
from edge_runtime.decision.alarm import Rules
from edge_runtime.decision.summary import Summary
from edge_runtime.decision.verdict import Thresholds, Verdict, Window
from edge_runtime.system.markdown import table
from evaluation.protocols import Clip

_HEADS = (
    *("data", "gate", "verdict by", "files", "hours", "spoof", "unsure", "bona fide", "no speech"),
    *("false files an hour", "alarms an hour"),
)


@dataclass(frozen=True)
class Measured:
    """All that the page is made of. Windows are as `ScoredRecording` has them: scored also where nobody speaks."""

    thresholds: Thresholds
    rules: Mapping[str, Rules | None]  # by what the page calls them; None: the windows alone
    least_speech_seconds: float
    people: Mapping[str, Sequence[ScoredRecording]]  # by the name of their list
    inserted: Sequence[ScoredRecording]
    clips: Sequence[tuple[Clip, Sequence[Window]]]
    gate_seconds_per_hour: float


@dataclass(frozen=True)
class PeopleLine:
    """What one rule says of recordings of people."""

    data: str
    rule: str
    gate: bool
    recordings: int
    hours: float
    verdicts: dict[str, int]
    false_files_per_hour: float  # called spoof
    alarms_per_hour: float
    sources: dict[str, int]  # of those called spoof


@dataclass(frozen=True)
class InsertionLine:
    """What one rule finds of insertions of one length."""

    rule: str
    place: str
    inserted_seconds: float
    recordings: int
    spoof: int
    unsure: int


@dataclass(frozen=True)
class Gate:
    """What the gate does to the verdicts of one label's clips."""

    label: str
    clips: int
    no_speech: int
    flipped: int  # of those with speech: another verdict than without the gate
    spoof_without: int  # called spoof without the gate
    spoof_lost: int  # of these, no-speech with it


def alone(measured: Measured) -> list[PeopleLine]:
    """Every rule on every list of people, with the gate and without it."""
    return [
        _alone(measured, data, name, rules, gate)
        for data in measured.people
        for gate in (True, False)
        for name, rules in measured.rules.items()
    ]


def found(measured: Measured) -> list[InsertionLine]:
    """Every rule on every length and place of the inserted voices, with the gate."""
    said: dict[tuple[str, str, float], Counter[Verdict | None]] = {}
    for name, rules in measured.rules.items():
        for heard in measured.inserted:
            verdict = _judged(measured, heard.windows, rules).verdict
            said.setdefault((name, heard.place, heard.inserted_seconds), Counter())[verdict] += 1
    return [
        InsertionLine(*key, counts.total(), counts[Verdict.SPOOF], counts[Verdict.UNSURE])
        for key, counts in said.items()
    ]


def gate(measured: Measured) -> list[Gate]:
    """The clips with and without the gate, by label."""
    rows = []
    for label in ("bonafide", "spoof"):
        pairs = [
            (_judged(measured, windows, None).verdict, _judged(measured, windows, None, gate=False).verdict)
            for clip, windows in measured.clips
            if clip.label == label
        ]
        rows.append(
            Gate(
                label,
                len(pairs),
                sum(on is Verdict.NO_SPEECH for on, _ in pairs),
                sum(on not in (off, Verdict.NO_SPEECH) for on, off in pairs),
                sum(off is Verdict.SPOOF for _, off in pairs),
                sum(off is Verdict.SPOOF and on is Verdict.NO_SPEECH for on, off in pairs),
            )
        )
    return rows


def as_json(about: Mapping[str, Any], measured: Measured) -> dict[str, Any]:
    """All figures, in plain types."""
    return dict(about) | {
        "rules": {name: rules and asdict(rules) for name, rules in measured.rules.items()},
        "alone": [asdict(row) for row in alone(measured)],
        "inserted": [asdict(row) for row in found(measured)],
        "gate": [asdict(row) for row in gate(measured)],
        "gate_seconds_per_hour": measured.gate_seconds_per_hour,
    }


def page(title: str, about: Sequence[str], measured: Measured) -> str:
    """Markdown."""
    rows = alone(measured)
    lines = [f"# Files: {title}", "", " ".join(about), "", *_rules(measured), "", "## People alone", ""]
    lines += [
        "A false file is a recording of people alone that is called spoof. How many alarms there are in an hour does "
        "not depend on how long the recordings are; how many files are called spoof does.",
        "",
        *table(
            _HEADS,
            [_alone_cells(row) for row in rows],
        ),
        "",
        "Sources of the false files: "
        + ("; ".join(f"{row.data}, {row.rule}: {_sources(row)}" for row in rows if row.gate and row.sources) or "none")
        + ".",
    ]
    if measured.inserted:
        lines += ["", "## A synthetic voice in human speech", ""]
        lines += [
            "Recordings called spoof, and those that are unsure instead, by how much of the voice was inserted.",
            "",
        ]
        lines += _found_table(found(measured))
    lines += ["", "## The gate on clips of speech", ""]
    heads = ["clips", "number", "no-speech with the gate", "another verdict with it", "spoof without it, lost with it"]
    cells = [
        [row.label, str(row.clips), str(row.no_speech), str(row.flipped), f"{row.spoof_lost} of {row.spoof_without}"]
        for row in gate(measured)
    ]
    lines += table(heads, cells)
    lines += ["", f"The gate takes {measured.gate_seconds_per_hour:.0f} s of a core for an hour of speech."]
    return "\n".join(lines) + "\n"


def _alone(measured: Measured, data: str, name: str, rules: Rules | None, gate: bool) -> PeopleLine:
    people = measured.people[data]
    said = [_judged(measured, heard.windows, rules, gate) for heard in people]
    hours = sum(heard.seconds for heard in people) / 3600
    false = Counter(heard.name for heard, one in zip(people, said, strict=True) if one.verdict is Verdict.SPOOF)
    return PeopleLine(
        data,
        name,
        gate,
        len(people),
        hours,
        dict(Counter(str(one.verdict) for one in said)),
        false.total() / hours,
        sum(one.alarms for one in said) / hours,
        dict(false.most_common()),
    )


def _judged(measured: Measured, windows: Sequence[Window], rules: Rules | None, gate: bool = True) -> Summary:
    heard = gated(windows, measured.least_speech_seconds) if gate else windows
    # Windows carry verdicts of the thresholds that they were scored with, which are those of `measured`.
    return summary(heard, measured.thresholds, rules)


def _rules(measured: Measured) -> list[str]:
    lines = []
    for name, rules in measured.rules.items():
        if rules is None:
            text = "the mean score, or half of the windows; unsure where spoofed windows reach over two window lengths"
        else:
            smoothed = (
                f"scores averaged over {rules.smoothing_seconds:g} s" if rules.smoothing_seconds else "single scores"
            )
            text = f"the same, and spoof when {smoothed} were below {rules.on:.3g} for {rules.duration_seconds:g} s"
        lines.append(f"- {name}: {text}.")
    return lines


def _alone_cells(row: PeopleLine) -> list[str]:
    verdicts = [str(row.verdicts.get(name, 0)) for name in ("spoof", "unsure", "bonafide", "no-speech")]
    alarms = f"{row.alarms_per_hour:.2f}"
    return [
        *(row.data, "on" if row.gate else "off", row.rule, str(row.recordings), f"{row.hours:.2f}"),
        *verdicts,
        f"{row.false_files_per_hour:.2f}",
        alarms,
    ]


def _sources(row: PeopleLine) -> str:
    return ", ".join(f"{name} {count}" for name, count in row.sources.items())


def _found_table(rows: Sequence[InsertionLine]) -> list[str]:
    lengths = list(dict.fromkeys(row.inserted_seconds for row in rows))
    cells = []
    for place in (MIDDLE, END):
        for rule in dict.fromkeys(row.rule for row in rows):
            own = {row.inserted_seconds: row for row in rows if (row.place, row.rule) == (place, rule)}
            said = [f"{own[n].spoof} of {own[n].recordings}, unsure {own[n].unsure}" for n in lengths]
            cells.append([place, rule, *said])
    return table(["inserted", "verdict by", *(f"{length:g} s" for length in lengths)], cells)
