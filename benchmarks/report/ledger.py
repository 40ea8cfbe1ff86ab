"""The ledger of dev2: each scoring of the kept-back clips is one row, and a model file is scored once."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from edge_runtime.errors import InputError, ModelError, OutputError, UsageError
from edge_runtime.system.markdown import table
from evaluation.folds.figures import NAMES, Figure, Key

LEDGER = Path(__file__).parents[1] / "results" / "dev2.md"
_HEADS = ["date", "model", "SHA-256", "command", "clips", "figures"]
_ABOUT = (
    "`dev2` is scored once for each model that ships, and nothing is chosen on it (docs/protocol.md). Each scoring is",
    "a row, written by `python -m benchmarks folds score --dev2`; a row is never taken out.",
)
BEGINNING = "\n".join(["# Scorings of dev2", "", *_ABOUT, "", *table(_HEADS, [])]) + "\n"
"""What a ledger without a row holds."""


def sha256(model: Path) -> str:
    """The digest of a model file. Raises ModelError when it cannot be read."""
    try:
        with model.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as reason:
        raise ModelError(f"cannot read {model}: {reason.strerror}") from None


def check_unscored(ledger: Path, digest: str, *, again: bool) -> None:
    """Raises UsageError where the ledger has a row of the model and the scoring was not asked for `again`."""
    rows = [line for line in _text(ledger).splitlines() if line.startswith("|") and digest in line]
    if rows and not again:
        date = re.search(r"\d{4}-\d{2}-\d{2}", rows[0])
        raise UsageError(
            f"this model file was scored on dev2 on {date.group() if date else 'an earlier day'} ({ledger}): nothing "
            "may be chosen on dev2; --again scores it once more and adds a row"
        )


def append(
    ledger: Path, model: Path, digest: str, command: str, clips: int, figures: Mapping[Key, Figure], *, again: bool
) -> None:
    """Adds the row of a scoring; the ledger is begun where there is none. Raises OutputError.

    Rows are added in one write to the file's end, so that two commands at a time lose neither.
    """
    said = [
        f"{label} {figure.value:.4f}" + ("" if figure.low is None else f" [{figure.low:.4f}, {figure.high:.4f}]")
        for key, label in [*((("", "", name), label) for name, label in NAMES.items()), _MODERN, _MODERN_FOUND]
        if (figure := figures.get(key)) is not None and figure.value is not None
    ]
    today = datetime.now(UTC).date().isoformat() + (" (again)" if again else "")
    row = table([today, model.name, digest, f"`{command}`", str(clips), "; ".join(said)], [])[0]
    old = _text(ledger)
    before = "" if old.endswith("\n") else "\n" if old else BEGINNING
    try:
        with ledger.open("a", encoding="utf-8") as file:
            file.write(before + row + "\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as reason:
        raise OutputError(f"cannot write {ledger}: {reason.strerror}") from None


_MODERN: tuple[Key, str] = (("year", "2024 on", "eer"), "EER of 2024 on")
_MODERN_FOUND: tuple[Key, str] = (("year", "2024 on", "found_at_2_percent"), "found of 2024 on at 2%")


def _text(ledger: Path) -> str:
    try:
        return ledger.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as reason:
        raise InputError(f"cannot read {ledger}: {reason}") from None
