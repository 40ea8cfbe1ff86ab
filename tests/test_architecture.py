"""The house as ARCHITECTURE.md draws it: who may import whom, no circle, no room too full, light where it must be."""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FLOORS = {"edge_runtime": 1, "evaluation": 2, "export": 2, "quantization": 3, "benchmarks": 4, "training": 4}
"""A package imports its own floor's packages never, and higher ones never; `edge_runtime` imports no other."""
ROOMS = (
    ("errors", "version", "atomic"),
    ("system",),
    ("decision", "capture", "model"),
    ("settings",),
    ("detector",),
    ("governor",),
    ("report",),
    ("shadow",),
    ("run",),
    ("library", "commission"),
    ("app",),
)
"""Rooms of `edge_runtime` from the ground up; one on a later line may import those before it, and its own line's."""
MOST_FILES = 20


def modules() -> dict[str, Path]:
    found = {}
    for package in FLOORS:
        for path in (ROOT / package).rglob("*.py"):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            found[name.removesuffix(".__init__")] = path
    return found


def imported(path: Path, known: dict[str, Path], *, everything: bool) -> set[str]:
    """Modules of ours that a file imports; with `everything` also where a function does, and where types alone are."""
    tree = ast.parse(path.read_text())
    nodes = list(ast.walk(tree)) if everything else tree.body
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name in known}
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found |= {inner} if inner in known else {node.module} & known.keys()
    return found


KNOWN = modules()


def test_no_module_imports_one_that_imports_it() -> None:
    graph = {name: imported(path, KNOWN, everything=False) - {name} for name, path in KNOWN.items()}
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError


def test_no_package_imports_one_on_its_own_floor_or_above() -> None:
    wrong = [
        f"{name} imports {other}"
        for name, path in KNOWN.items()
        for other in imported(path, KNOWN, everything=True)
        if (here := name.split(".")[0]) != (there := other.split(".")[0])
        and (FLOORS[there] >= FLOORS[here] or here == "edge_runtime")
    ]
    assert not wrong


def test_the_rooms_of_the_runtime_lie_above_each_other() -> None:
    floor = {room: number for number, rooms in enumerate(ROOMS) for room in rooms}
    wrong = []
    for name, path in KNOWN.items():
        parts = name.split(".")
        if parts[0] != "edge_runtime" or len(parts) == 1 or parts[1] == "__main__":
            continue
        for other in imported(path, KNOWN, everything=True):
            room = other.split(".")[1] if other.count(".") else ""
            if not room or floor[room] > floor[parts[1]]:
                wrong.append(f"{name} imports {other}")
    assert not wrong


@pytest.mark.parametrize("package", sorted(FLOORS))
def test_no_room_has_too_many_loose_files(package: str) -> None:
    full = {
        str(folder.relative_to(ROOT)): count
        for folder in [ROOT / package, *(path for path in (ROOT / package).rglob("*") if path.is_dir())]
        if (count := len([path for path in folder.glob("*.py") if path.name != "__init__.py"])) > MOST_FILES
    }
    assert not full


def test_torch_is_imported_where_it_must_be_alone() -> None:
    """Not by the runtime, nor by the library of evaluation."""
    for name, path in KNOWN.items():
        if name.split(".")[0] in ("edge_runtime", "evaluation"):
            assert "import torch" not in path.read_text() and "import onnx\n" not in path.read_text(), name


def test_importing_the_runtime_loads_nothing_heavy() -> None:
    code = (
        "import sys\nbefore = set(sys.modules)\nimport edge_runtime\n"
        "print(len({name for name in set(sys.modules) - before if not name.startswith('edge_runtime')}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert int(done.stdout) <= 3, done.stdout
