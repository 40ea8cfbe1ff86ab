"""Examples in docstrings are run: what stands there is what a reader gets."""

from __future__ import annotations

import doctest
from importlib import import_module
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    "name", ["evaluation.metrics", "evaluation.tdcf", "edge_runtime.detector", "edge_runtime.library"]
)
def test_what_a_docstring_shows_is_what_comes_out(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).resolve().parents[1])
    done = doctest.testmod(import_module(name))
    assert done.attempted and not done.failed
