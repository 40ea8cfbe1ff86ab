"""Tables of the protocol of folds: lists of clips to assign, and out-of-fold scores."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge_runtime.decision.verdict import Verdict
from edge_runtime.errors import InputError
from evaluation.breakdown import Members
from evaluation.folds.assignment import FoldClip
from evaluation.metrics import Floats
from evaluation.protocols import LABELS, Clip
from evaluation.scorefiles import first_of, number

Row = dict[str, str]


def read_rows(path: Path, needed: Sequence[str]) -> Iterator[tuple[int, Row]]:
    """Line numbers and rows of a CSV with a header; absent cells are "".

    Raises InputError for what cannot be read, for a needed column that is not there, for a needed cell that is empty,
    for a row with more cells than the header, and for a file without rows.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
        reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        names = reader.fieldnames or []
        if missing := [name for name in needed if name not in names]:
            raise InputError(f"{path} lacks the column {missing[0]}: its first line must name {', '.join(needed)}")
        rows = [(reader.line_num, row) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as reason:
        raise InputError(f"cannot read {path}: {reason}") from None
    if not rows:
        raise InputError(f"{path} holds no row below its header")
    for line, row in rows:
        if None in row:
            raise InputError(f"{path}, line {line}: more cells than the first line has columns")
        clean = {name: (cell or "").strip() for name, cell in row.items()}
        if empty := [name for name in needed if not clean[name]]:
            raise InputError(f"{path}, line {line}: the column {empty[0]} is empty")
        if "label" in needed and clean["label"] not in LABELS:
            raise InputError(f"{path}, line {line}: the label must be bonafide or spoof, not {clean['label'][:40]!r}")
        yield line, clean


def year(path: Path, line: int, row: Row) -> int | None:
    """The year of a row; None where it is not known. Raises InputError for what is no year."""
    text = row.get("year", "")
    if text in ("", "-", "unknown"):
        return None
    if not (text.isascii() and text.isdigit() and len(text) == 4):
        raise InputError(f"{path}, line {line}: the year must be four digits or nothing, not {text[:40]!r}")
    return int(text)


def read_records(path: Path, use: str | None = None) -> list[FoldClip]:
    """What `assign` needs of the clips of a list; `use` keeps the rows whose column `use`, where there is one, says it.

    Raises InputError as `read_rows` does, and for a year that is none.
    """
    return [
        FoldClip(row["source"], row["label"], row.get("system", ""), year(path, line, row), row.get("group") or None)
        for line, row in read_rows(path, ("source", "label"))
        if use is None or row.get("use", use) == use
    ]


UNKNOWN = "unknown"
ONE_FOLD = "all"
"""The fold of clips that were scored once by one model."""


@dataclass(frozen=True)
class FoldScores:
    """Clips with the scores [n] of heads that did not learn from their fold; higher is more bona fide."""

    clips: list[Clip]
    scores: Floats
    human: Members
    folds: list[str]  # ONE_FOLD for all, where the table has no folds
    years: list[int | None]  # of the system
    kinds: list[str]
    languages: list[str]
    seconds: list[float | None]
    verdicts: list[Verdict] | None

    @property
    def sources(self) -> list[str]:
        """The source of each clip."""
        return [clip.source for clip in self.clips]


def read_scored(path: Path, *, folded: bool) -> FoldScores:
    """A table of scores: the columns file, label, source, score and, where `folded`, fold are needed.

    system, kind, year, language, duration (seconds) and verdict are read where they are there. Without `folded` a
    column of folds is passed over. Raises InputError as `read_rows` does; for files that are there twice, scores that
    are no finite numbers and sources in several folds; and where not both labels are there.
    """
    needed = ("file", "label", "source", "score", *(("fold",) if folded else ()))
    rows = list(read_rows(path, needed))
    clips, twice, torn = [], [], []
    seen: set[str] = set()
    places: dict[str, str] = {}
    for _, row in rows:
        system = row.get("system") or UNKNOWN
        is_bonafide = row["label"] == "bonafide"
        clips.append(Clip(Path(row["file"]), row["label"], "-" if is_bonafide else system, source=row["source"]))
        if row["file"] in seen:
            twice.append(row["file"])
        seen.add(row["file"])
        if folded and places.setdefault(row["source"], row["fold"]) != row["fold"] and row["source"] not in torn:
            torn.append(row["source"])
    for names, what in ((twice, "files are there more than once"), (torn, "sources lie in several folds")):
        if names:
            raise InputError(f"{path}: {len(names)} {what}: {first_of(names)}")
    human = np.array([clip.is_bonafide for clip in clips], bool)
    if human.all() or not human.any():
        raise InputError(f"{path} needs scores of both bona fide and spoofed clips")
    verdicts = [_verdict(path, line, row) for line, row in rows] if "verdict" in rows[0][1] else None
    return FoldScores(
        clips=clips,
        scores=np.array([_number(path, line, row["score"], "score") for line, row in rows], np.float64),
        human=human,
        folds=[row["fold"] if folded else ONE_FOLD for _, row in rows],
        years=[year(path, line, row) for line, row in rows],
        kinds=[row.get("kind") or UNKNOWN for _, row in rows],
        languages=[row.get("language") or UNKNOWN for _, row in rows],
        seconds=[
            _number(path, line, text, "duration") if (text := row.get("duration")) else None for line, row in rows
        ],
        verdicts=verdicts,
    )


def matched(path: Path, of: FoldScores, *, folded: bool) -> tuple[FoldScores, int]:
    """The scores of the table `path` in the order of the clips `of`, and how many further clips it has.

    Raises InputError where a clip of `of` has no score there, or another label, source or fold. A table without a
    column of folds may be compared with one that has folds: a model that learnt from none of these clips has none.
    """
    _, first = next(read_rows(path, ("file",)))
    has_folds = folded and "fold" in first
    other = read_scored(path, folded=has_folds)
    place = {str(clip.path): i for i, clip in enumerate(other.clips)}
    missing = [str(clip.path) for clip in of.clips if str(clip.path) not in place]
    if missing:
        raise InputError(f"{path} lacks {len(missing)} of {len(of.clips)} clips to compare: {first_of(missing)}")
    order = [place[str(clip.path)] for clip in of.clips]
    for what, mine, theirs in (
        ("label", [clip.label for clip in of.clips], [clip.label for clip in other.clips]),
        ("source", of.sources, other.sources),
        *((("fold", of.folds, other.folds),) if has_folds else ()),
    ):
        differ = [str(of.clips[i].path) for i, j in enumerate(order) if mine[i] != theirs[j]]
        if differ:
            raise InputError(f"{path} gives {len(differ)} clips another {what}: {first_of(differ)}")
    verdicts = None if other.verdicts is None else [other.verdicts[j] for j in order]
    scores = other.scores[order]
    merged = FoldScores(of.clips, scores, of.human, of.folds, of.years, of.kinds, of.languages, of.seconds, verdicts)
    return merged, len(other.clips) - len(of.clips)


def _number(path: Path, line: int, text: str, what: str) -> float:
    try:
        value = number(text)
    except ValueError:
        raise InputError(f"{path}, line {line}: {text[:40]!r} is no {what}") from None
    if not np.isfinite(value):
        raise InputError(f"{path}, line {line}: the {what} is no finite number")
    return value


def _verdict(path: Path, line: int, row: Row) -> Verdict:
    try:
        return Verdict(row["verdict"])
    except ValueError:
        known = ", ".join(verdict.value for verdict in Verdict)
        raise InputError(f"{path}, line {line}: {row['verdict'][:40]!r} is no verdict ({known})") from None
