"""Tables of the protocol of folds: lists of clips to assign."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.folds.assignment import Record
from benchmarks.protocols import LABELS
from edge_runtime.errors import InputError

Row = dict[str, str]


def read_rows(path: Path, needed: Sequence[str]) -> Iterator[tuple[int, Row]]:
    """Line numbers and rows of a CSV with a header; absent cells are "".

    Raises InputError for what cannot be read, for a needed column that is not there, for a needed cell that is empty,
    for a row with more cells than the header, and for a file without rows.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        reader = csv.DictReader(text.splitlines(), strict=True)
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


def read_records(path: Path, use: str | None = None) -> list[Record]:
    """What `assign` needs of the clips of a list; `use` keeps the rows whose column `use`, where there is one, says it.

    Raises InputError as `read_rows` does, and for a year that is none.
    """
    return [
        Record(row["source"], row["label"], row.get("system", ""), year(path, line, row), row.get("group") or None)
        for line, row in read_rows(path, ("source", "label"))
        if use is None or row.get("use", use) == use
    ]
