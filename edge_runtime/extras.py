"""What the optional parts need beside the runtime, said in one line where it is missing."""

from __future__ import annotations

import importlib.util
import sys

_TORCH = ("export", "train", "synthesize")
"""Extras that bring PyTorch."""
_CUDA = (
    "; on x86 that brings gigabytes of CUDA with PyTorch: for the processor alone, first "
    ".venv/bin/pip install torch --index-url URL, with the URL that PyTorch's installation page names for CPU"
)


def how_to_get(module: str, extra: str) -> str:
    """The line for a missing module of an extra of pyproject.toml."""
    cuda = _CUDA if extra in _TORCH and importlib.util.find_spec("torch") is None else ""
    return f"{module} is missing: run .venv/bin/pip install -e '.[{extra}]' in the clone{cuda}"


def demand(extra: str, *modules: str) -> None:
    """Ends the program with exit code 2 and one line when one of `modules`, which `extra` installs, is missing."""
    for module in modules:
        if importlib.util.find_spec(module) is None:
            print(f"error: {how_to_get(module, extra)}", file=sys.stderr)
            raise SystemExit(2)
