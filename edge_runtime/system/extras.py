"""What the optional parts need beside the runtime, said in one line where it is missing."""

from __future__ import annotations

import importlib.util
import os
import shlex
import sys
from pathlib import Path

from edge_runtime.errors import UsageError

_TORCH = ("export", "train", "synthesize")
"""Extras that bring PyTorch."""
_OWN_PIP = ".venv/bin/pip"
"""Of the environment that `sh deploy/try` makes in a clone."""
_CUDA = (
    "; on x86 that brings gigabytes of CUDA with PyTorch: for the processor alone, first "
    "`pip install torch --index-url URL` in the same way, with the URL that PyTorch's installation page names for CPU"
)


def how_to_get(module: str, extra: str) -> str:
    """The line for a missing module of an extra of pyproject.toml."""
    cuda = _CUDA if extra in _TORCH and importlib.util.find_spec("torch") is None else ""
    return f"{module} is missing: run {pip_here() or _OWN_PIP} install -e '.[{extra}]' in the clone{cuda}"


def pip_here() -> str | None:
    """The pip of the virtual environment that runs this; None outside of one, where Debian's pip refuses to install."""
    if sys.prefix == sys.base_prefix:
        return None
    pip = Path(sys.prefix, "bin", "pip")
    inside = pip.is_relative_to(Path.cwd())
    return shlex.quote(str(pip.relative_to(Path.cwd()) if inside else pip))


def how_to_get_pyaudio() -> str:
    """What to type for a microphone, by how Python runs here: pipx, another virtual environment, or the system's."""
    build = "`sudo apt install portaudio19-dev gcc python3-dev`"
    pip = pip_here()
    if pip is None:
        return "`sudo apt install python3-pyaudio`"
    if f"{os.sep}pipx{os.sep}venvs{os.sep}" in sys.prefix:
        return f"{build}, then `pipx inject edge-detect PyAudio`"
    return f"{build}, then `{pip} install PyAudio`"


def demand(extra: str, *modules: str) -> None:
    """Raises UsageError, with what to install, when one of `modules`, which `extra` brings, is missing."""
    for module in modules:
        if importlib.util.find_spec(module) is None:
            raise UsageError(how_to_get(module, extra))


def demand_of_package(extra: str, *modules: str) -> None:
    """The same for a package that is of no use without them, and whose modules may be run by `python -m`.

    Run so it says so in a line and ends; imported it raises ModuleNotFoundError, and never ends the importing program.
    """
    try:
        demand(extra, *modules)
    except UsageError as reason:
        if sys.argv[:1] != ["-m"]:
            raise ModuleNotFoundError(str(reason)) from None
        print(f"edge-detect: {reason}", file=sys.stderr)
        raise SystemExit(reason.exit_code) from None
