"""All cases, by what they are injected into."""

from __future__ import annotations

import importlib

from tests.faults.case import Case

MODULES: tuple[str, ...] = (
    "config",
    "files",
    "ledger",
    "live_sources",
    "metrics",
    "models",
    "readers",
    "sound",
    "verdict",
)
"""Modules beside this one; each has CASES, and its docstring's first line is the title of its table."""


def cases_of(module: str) -> list[Case]:
    """The cases of one module."""
    cases: list[Case] = importlib.import_module(f"tests.faults.{module}").CASES
    return cases


def title_of(module: str) -> str:
    """The title of its table."""
    text = importlib.import_module(f"tests.faults.{module}").__doc__ or module
    return text.splitlines()[0].rstrip(".")
