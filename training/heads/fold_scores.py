"""Tables of out-of-fold scores: what `python -m benchmarks folds score` reads, with the raw scores of each window.

The windows are there so that thresholds can be fitted on them (`python -m training.calibrate --folds`).
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from edge_runtime.atomic import whole_file
from edge_runtime.decision.verdict import Reason, Verdict, Window
from edge_runtime.errors import InputError
from evaluation.folds.table import read_rows, read_scored
from evaluation.scorefiles import number
from training.verdicts import JudgedClip, ScoredClip

NEEDED = ("file", "label", "source", "fold", "score")
COLUMNS = (*NEEDED, "system", "kind", "year", "language", "duration", "verdict", "windows")


def write(
    path: Path,
    heard: Sequence[ScoredClip],
    judged: Sequence[JudgedClip],
    folds: Sequence[str],
    seconds: Sequence[float],
) -> int:
    """Writes a line for each clip with a score, and gives how many there were. Raises OutputError.

    `score` is the clip's log-likelihood ratio; `windows` are raw scores, START:END:RAW in seconds, with :REASON where
    something stands against a verdict; silent windows have none.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    count = 0
    for raw, said, fold, length in zip(heard, judged, folds, seconds, strict=True):
        clip, score = raw.clip, said.summary.score
        if score is None:
            continue
        count += 1
        windows = " ".join(_shown(window) for window in raw.windows if window.score is not None)
        about = (clip.system, clip.kind, clip.year, clip.language, f"{length:.3f}", said.summary.verdict)
        writer.writerow((clip.path, clip.label, clip.source, fold, f"{score:.6f}", *about, windows))
    with whole_file(path) as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8")
    return count


def read(path: Path) -> tuple[list[ScoredClip], list[str]]:
    """The clips of a table with the raw scores of their windows, and each one's fold.

    Raises InputError for what `benchmarks folds score` does not take, and for windows that cannot be read.
    """
    scored = read_scored(path, folded=True)
    heard = []
    for (line, row), clip, year, language in zip(
        read_rows(path, (*NEEDED, "windows")), scored.clips, scored.years, scored.languages, strict=True
    ):
        try:
            windows = tuple(_window(text) for text in row["windows"].split())
        except ValueError:
            raise InputError(f"{path}, line {line}: the column windows must have START:END:RAW of each one") from None
        known = "" if language == "unknown" else language
        clip = replace(clip, kind=row.get("kind", ""), year=str(year or ""), language=known)
        heard.append(ScoredClip(clip, windows))
    return heard, scored.folds


def _shown(window: Window) -> str:
    assert window.score is not None
    reason = f":{window.reason.value}" if window.reason else ""
    return f"{window.start:.6g}:{window.end:.6g}:{window.score:.7g}{reason}"


def _window(text: str) -> Window:
    """Raises ValueError for another text than `_shown` gives."""
    start, end, raw, *reason = text.split(":")
    begin, until, score = (number(part) for part in (start, end, raw))
    if len(reason) > 1 or not np.isfinite([begin, until, score]).all() or begin > until:
        raise ValueError(text)
    return Window(begin, until, score, Verdict.UNSURE, 0.0, 0.0, 0.0, 0, Reason(reason[0]) if reason else Reason.NONE)
