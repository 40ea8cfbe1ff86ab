"""The page as Markdown: the tables of the HTML page, without its plots."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.report import words
from benchmarks.report.page import Page
from benchmarks.report.tables import tables
from edge_runtime.system.markdown import table


def markdown(page: Page, title: str) -> str:
    """The whole page."""
    lines = [f"# {title}", "", *page.machine_lines, f"Data: {page.data}. Made {page.made} by", "", "```sh"]
    lines += [page.command, "```", ""]
    lines += [f"**Warning: {warning}.**\n" for warning in page.warnings]
    lines += [f"**{words.conclusion(page)}**", ""]
    for shown in tables(page):
        rows = [[cell.text for cell in row] for row in shown.rows]
        lines += [f"## {shown.title}", "", *([shown.text, ""] if shown.text else []), *table(shown.heads, rows), ""]
    for name, found in (("Missing clips", page.missing), *_unscored(page)):
        if found:
            lines += [f"## {name}", "", *(f"- {line}" for line in found), ""]
    return "\n".join(lines).rstrip("\n") + "\n"


def _unscored(page: Page) -> list[tuple[str, Sequence[str]]]:
    return [(f"No score by {model.name}", model.rates.unscored) for model in page.models if model.rates]
