"""Documents hang together: links lead somewhere, README stays one page, no word of the old dialect is back."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    ROOT / name
    for name in subprocess.run(
        ["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
]
OLD = r"\b(anew|goes before|held against|but for|committee|is told of|are told of|told of)\b"
NOTEBOOKS = ("docs/research", "benchmarks/results")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text())
    missing = [target for target in targets if "://" not in target and not (page.parent / target).exists()]
    assert not missing


def test_readme_is_one_page_and_says_early_how_accurate_it_is() -> None:
    lines = (ROOT / "README.md").read_text().splitlines()
    assert len(lines) <= 120
    assert any("no forensic instrument" in line for line in lines[:46])
    assert any("17.0 %" in line for line in lines[:46])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_word_of_the_old_dialect_is_back(page: Path) -> None:
    if not str(page.relative_to(ROOT)).startswith(NOTEBOOKS):
        assert not re.search(OLD, page.read_text(), re.IGNORECASE)


def test_every_document_is_in_the_index() -> None:
    index = (ROOT / "docs/README.md").read_text()
    names = {page.name for page in (ROOT / "docs").glob("*.md")} - {"README.md"}
    assert not {name for name in names if f"({name})" not in index}
