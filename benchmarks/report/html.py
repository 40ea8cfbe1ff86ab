"""The page as one HTML file that needs no other: tables with heat, plots within it, light and dark."""

from __future__ import annotations

from pathlib import Path

import jinja2

from benchmarks.report import words
from benchmarks.report.page import Page
from benchmarks.report.plots import plots
from benchmarks.report.tables import tables

_FOLDER = Path(__file__).parent


def html(page: Page, title: str) -> str:
    """The whole page. What a file or clip is called is escaped: names are whatever somebody wrote."""
    loader = jinja2.FileSystemLoader(_FOLDER)
    environment = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    template = environment.get_template("page.html.j2")
    unscored = [
        (f"No score by {model.name}", model.rates.unscored)
        for model in page.models
        if model.rates and model.rates.unscored
    ]
    lists = ([("Missing clips", page.missing)] if page.missing else []) + unscored
    return template.render(
        page=page,
        title=title,
        conclusion=words.conclusion(page),
        tables=tables(page),
        plots=plots(page),
        lists=lists,
    )
