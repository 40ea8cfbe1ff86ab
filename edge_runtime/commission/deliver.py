"""Brings the report of the commissioning test to a file and to standard output."""

from __future__ import annotations

from pathlib import Path

from edge_runtime.atomic import whole_file
from edge_runtime.commission.run import Findings
from edge_runtime.commission.show import as_text
from edge_runtime.errors import OutputError
from edge_runtime.report.jsonl import to_json
from edge_runtime.report.output import Output


def deliver(found: Findings, path: str | None, json: bool, output: Output) -> None:
    """Writes JSON to `path`, where one is given, and JSON or text to `output`.

    The file comes first, as whoever reads `output` may go, and `output` is written in any case. Raises OutputError, or
    ReaderGone.
    """
    line = to_json(found.as_json()) + "\n"
    trouble = _write(Path(path), line) if path else None
    output.write(line if json else as_text(found))
    if trouble:
        raise trouble


def _write(path: Path, text: str) -> OutputError | None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as half:
            half.write_text(text, encoding="utf-8")
    except OSError as reason:
        return OutputError(f"cannot write {path}: {reason.strerror or reason}")
    except OutputError as reason:
        return reason
    return None
