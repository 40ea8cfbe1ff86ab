"""The real program, started as a user starts it and run to its end, and readers of what it says."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

PROGRAM = [sys.executable, "-m", "edge_runtime"]


def run(*arguments: str | Path, **more: Any) -> subprocess.CompletedProcess[str]:
    """Runs the program to its end. Its output is no terminal."""
    return subprocess.run([*PROGRAM, *map(str, arguments)], capture_output=True, encoding="utf-8", timeout=60, **more)


def lines(text: str) -> list[dict[str, Any]]:
    """JSON lines, read strictly."""

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON number")

    return [json.loads(line, parse_constant=refuse) for line in text.splitlines()]


def one_line(text: str) -> str:
    assert text.count("\n") == 1 and text.startswith("edge-detect: "), text
    return text
