"""Tables of Markdown, for every report: one place that knows what breaks them."""

from __future__ import annotations

from collections.abc import Sequence


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table, each row with a cell for each head; what a file is called cannot end a cell or a line."""
    return ["| " + " | ".join(map(_cell, cells)) + " |" for cells in (heads, ["---"] * len(heads), *rows)]


def _cell(text: str) -> str:
    return " ".join(text.splitlines()).replace("|", "\\|")
