"""The page as Markdown: the tables of the HTML page, without its plots."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.report.page import Page
from benchmarks.report.tables import Table, tables


def markdown(page: Page, title: str) -> str:
    """The whole page."""
    lines = [f"# {title}", "", *page.machine_lines, f"Data: {page.data}. Made {page.made} by", "", "```sh"]
    lines += [page.command, "```", ""]
    lines += [f"**Warning: {warning}.**\n" for warning in page.warnings]
    for table in tables(page):
        lines += [f"## {table.title}", "", *([table.text, ""] if table.text else []), *_rows(table), ""]
    for name, found in (("Missing clips", page.missing), *_unscored(page)):
        if found:
            lines += [f"## {name}", "", *(f"- {line}" for line in found), ""]
    return "\n".join(lines).rstrip("\n") + "\n"


def _unscored(page: Page) -> list[tuple[str, Sequence[str]]]:
    return [(f"No score by {model.name}", model.rates.unscored) for model in page.models if model.rates]


def _rows(table: Table) -> list[str]:
    rows = [table.heads, ["---"] * len(table.heads), *([cell.text for cell in row] for row in table.rows)]
    return ["| " + " | ".join(text.replace("|", "\\|") for text in cells) + " |" for cells in rows]
