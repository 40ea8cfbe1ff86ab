"""What the host's stages need beside the runtime, said in one line where it is missing."""

from __future__ import annotations

import importlib.util
import sys


def demand(extra: str, *modules: str) -> None:
    """Ends the program with exit code 2 and one line when one of `modules`, which `extra` installs, is missing."""
    for module in modules:
        if importlib.util.find_spec(module) is None:
            line = f"error: {module} is missing: run .venv/bin/pip install -e '.[{extra}]' in the clone"
            print(line, file=sys.stderr)
            raise SystemExit(2)
