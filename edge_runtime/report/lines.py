"""The JSON lines, field by field: what programs may rely on. `docs/output.md` and the JSON schema are made of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edge_runtime.decision.verdict import Reason, Verdict
from edge_runtime.system.markdown import table

VERDICTS = tuple(str(verdict) for verdict in Verdict)
EVENTS = ("overflow", "dropped", "lost", "hop", "state", "outage", "identity", "channels", "clock", "unread")


@dataclass(frozen=True)
class Field:
    """A field of a line. `kind` is JSON's type; `always` says whether every such line has it."""

    name: str
    kind: str  # string, number, integer, boolean, object, array
    meaning: str
    unit: str = ""
    always: bool = True
    null: bool = False
    values: tuple[str, ...] = ()


_OF_ALL = (
    Field("time", "string", "when the line was written, UTC, ISO 8601; in live runs", always=False),
    Field("file", "string", "which file it is about, where several are scored", always=False),
    Field("file_hex", "string", "its name in bytes, where that is no UTF-8", always=False),
)
LINES: dict[str, tuple[Field, ...]] = {
    "window": (
        Field("start", "number", "where the window begins", "s"),
        Field("end", "number", "where it ends", "s"),
        Field("score", "number", "log-likelihood ratio; above 0 for a human voice; null: not scored", null=True),
        Field("verdict", "string", "what the score and the sound come to", values=VERDICTS),
        Field("level_dbfs", "number", "RMS level", "dBFS"),
        Field("peak_dbfs", "number", "largest sample", "dBFS"),
        Field("clipped", "number", "share of samples at full scale"),
        Field("invalid", "integer", "samples that are no number"),
        Field("speech", "number", "share of speech, where the gate is on", always=False),
        Field(
            "reason", "string", "what stands against a plain verdict", always=False, values=tuple(filter(None, Reason))
        ),
    ),
    "event": (
        Field("event", "string", "what happened to the sound or to how it is scored", values=EVENTS),
        Field("at", "number", "where in the sound", "s"),
        Field("count", "integer", "how often; lines, of unread", always=False),
        Field("seconds", "number", "how much sound or time; of hop: the new hop", "s", always=False),
        Field("state", "string", "the state that begins, of state", always=False),
        Field("reason", "string", "why, for people", always=False),
    ),
    "alarm": (
        Field("alarm", "string", "it begins or ends", values=("on", "off")),
        Field("number", "integer", "1 is the run's first; both ends have the same"),
        Field("start", "number", "where the first window that counts for it begins", "s"),
        Field("at", "number", "where it was decided", "s"),
        Field("score", "number", "smoothed score then; at its end the mean while it lasted"),
        Field(
            "reason",
            "string",
            "why it ended: scores is an all-clear, the others are not",
            always=False,
            values=("scores", "no-speech", "break"),
        ),
    ),
    "summary": (
        Field("verdict", "string", "on the whole input; null: nothing was heard", null=True, values=VERDICTS),
        Field("score", "number", "mean score of the judged windows; null: none was", null=True),
        Field("seconds", "number", "sound that was heard", "s"),
        Field("windows", "object", "how many windows had each verdict"),
        Field("alarms", "integer", "how many alarms began"),
        Field("stretches", "array", "spoofed stretches: start, end, score and, of an alarm, its number"),
        Field("stretch_count", "integer", "how many there were; at most 100 are listed"),
        Field("overflows", "integer", "times that the sound card lost input"),
        Field("dropped_seconds", "number", "sound that the box was too slow for", "s"),
        Field("lost_seconds", "number", "sound that never arrived", "s"),
        Field("hop_seconds", "number", "from one window to the next, at the end", "s"),
        Field("hop_changes", "integer", "how often that changed"),
        Field("widest_hop_seconds", "number", "the widest that it was", "s"),
        Field("coarse_seconds", "number", "sound that was scored at a wider hop than asked for", "s"),
        Field("unread_lines", "integer", "lines that nobody read in time, in live runs", always=False),
        Field("error", "string", "what broke the sound off", always=False),
    ),
    "device": (
        Field("index", "integer", "the microphone's number"),
        Field("name", "string", "its name"),
        Field("channels", "integer", "its channels"),
        Field("rate", "integer", "its own rate", "Hz"),
        Field("default", "boolean", "whether it is the default one"),
    ),
}


def schema() -> dict[str, Any]:
    """A JSON schema (draft 2020-12) of any line."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A line of edge-detect",
        "oneOf": [_schema_of(name, fields) for name, fields in LINES.items()],
    }


def _schema_of(name: str, fields: tuple[Field, ...]) -> dict[str, Any]:
    properties: dict[str, Any] = {"type": {"const": name}}
    for field in (*fields, *_OF_ALL):
        kinds: Any = [field.kind, "null"] if field.null else field.kind
        about = field.meaning + (f" ({field.unit})" if field.unit else "")
        properties[field.name] = {"type": kinds, "description": about}
        if field.values:
            properties[field.name]["enum"] = [*field.values, *([None] if field.null else [])]
    required = ["type", *(field.name for field in fields if field.always)]
    return {"title": name, "type": "object", "properties": properties, "required": required}


def as_markdown() -> str:
    """The page `docs/output.md`."""
    parts = [_PAGE]
    for name, fields in LINES.items():
        rows = [
            (
                f"`{field.name}`",
                f"{field.kind}{' or null' if field.null else ''}{'' if field.always else ', not always'}",
                field.unit,
                field.meaning + (f": {', '.join(f'`{value}`' for value in field.values)}" if field.values else ""),
            )
            for field in fields
        ]
        parts += [f"## `{name}`", "", *table(("field", "type", "unit", "meaning"), rows), ""]
    rows = [(f"`{field.name}`", field.kind, "", field.meaning) for field in _OF_ALL]
    parts += ["## In lines of any type", "", *table(("field", "type", "unit", "meaning"), rows)]
    return "\n".join(parts) + "\n"


_PAGE = """\
# The lines that programs read

<!-- Printed by `edge-detect config document --lines`; change edge_runtime/report/lines.py instead. -->

Into a pipe, or with `--json`, edge-detect writes one JSON object a line. The field `type` says what it is. Numbers are
rounded to four decimals; what is no number is `null`. `edge-detect config schema --lines` prints this page as a JSON
schema, `edge-detect config schema` one of the configuration. New fields may come with a new version; those here stay.

A **score** is a log-likelihood ratio (natural logarithm): +3.4 means e^3.4 = 30 times likelier from a human than from a
synthesizer, as far as the model has learnt; -3.4 the other way round. On the screen the verdicts are called human
(`bonafide`), synthetic (`spoof`), unsure and no speech.

How windows make a file's verdict: it is `spoof` when an alarm began in it, or when at least half of its judged windows
are spoof; otherwise the mean score decides, by the model's two thresholds. `unsure` lies between these thresholds: some
three in ten human clips and four in ten synthetic ones do, and there no verdict is better than a wrong one.
"""
