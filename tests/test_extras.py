"""What the stages say where the packages that they need are not installed: each names its own extra."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest

from edge_runtime.model.network import Network

PROJECT = Path(__file__).parent.parent


def with_all_that_they_need(names: list[str]) -> set[str]:
    """The names of distributions that are installed here, and of those that they require without an extra."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = re.split(r"[^A-Za-z0-9._-]", waiting.pop())[0].lower().replace("_", "-")
        if name in found:
            continue
        try:
            needs = distribution(name).requires or []
        except PackageNotFoundError:  # for another Python or system
            continue
        found.add(name)
        waiting += [need for need in needs if "extra ==" not in need]
    return found


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of packages with the runtime's own dependencies and no other."""
    return packages(tmp_path_factory.mktemp("packages"))


def packages(folder: Path, *extras: str) -> Path:
    """Fills it with the packages of this environment that the runtime, and these extras, need."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    more = [need for extra in extras for need in project["optional-dependencies"][extra]]
    for name in with_all_that_they_need([*project["dependencies"], *more]):
        for file in distribution(name).files or []:
            top = file.parts[0]
            if top not in ("..", "__pycache__") and not (folder / top).exists():
                (folder / top).symlink_to(str(distribution(name).locate_file(top)))
    return folder


def run(bare: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """`python -m WORDS` with these packages alone."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(PROJECT), str(bare)))}
    command = [sys.executable, "-S", "-m", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)


@pytest.mark.parametrize(
    ("words", "extra"),
    [
        ("quantization model.onnx -o small.onnx", "quantize"),
        ("training --help", "train"),
        ("training.calibrate best.safetensors", "train"),
        ("training.synthesize --list", "train"),
        ("export model.pth -o model.onnx", "export"),
        ("benchmarks --help", "bench"),
    ],
)
def test_every_stage_names_its_own_extra(bare: Path, words: str, extra: str) -> None:
    done = run(bare, *words.split())
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.splitlines()) == 1 and f"pip install -e '.[{extra}]'" in done.stderr
    # PyTorch of the default index brings CUDA: who installs it hears before how not to.
    assert ("CUDA" in done.stderr and "--index-url" in done.stderr) == (extra in ("export", "train"))


def test_the_shipped_checkpoint_becomes_a_float_file_without_pytorch(tmp_path: Path) -> None:
    """With what quantization needs, as PyTorch of the default index brings CUDA."""
    (tmp_path / "packages").mkdir()
    quantize = packages(tmp_path / "packages", "quantize")
    made = tmp_path / "float.onnx"
    done = run(quantize, "export", str(PROJECT / "training/edge-7.safetensors"), "-o", str(made))
    assert done.returncode == 0 and "without PyTorch" in done.stderr, done.stderr
    contract = Network.load(made).contract
    assert (contract.level, contract.name, contract.calibrated) == ("fp32", "edge-7", True)
    other = tmp_path / "other.onnx"
    for words in (["training/edge.safetensors"], ["training/edge-7.safetensors", "--form", "waveform"]):
        done = run(quantize, "export", str(PROJECT / words[0]), *words[1:], "-o", str(other))
        assert done.returncode == 2 and "pip install -e '.[export]'" in done.stderr and not other.exists()


def test_what_needs_nothing_more_runs(bare: Path) -> None:
    for words in ("edge_runtime --help", "quantization --help", "export --help"):
        done = run(bare, *words.split())
        assert (done.returncode, done.stderr) == (0, ""), words


def test_how_to_get_pyaudio_fits_the_python_that_runs(bare: Path, tmp_path: Path) -> None:
    """Debian's own pip installs nothing beside Debian's packages (PEP 668), and pipx's environments have a way in."""
    places = {**os.environ, "PYTHONPATH": os.pathsep.join((str(PROJECT), str(bare)))}
    pythons = {"sudo apt install python3-pyaudio": [sys.executable, "-S"]}  # -S: no environment, as the system's own
    for folder, hint in (
        ("project/.venv", "then `.venv/bin/pip install PyAudio`"),
        ("share/pipx/venvs/edge-detect", "then `pipx inject edge-detect PyAudio`"),
    ):
        made = tmp_path / folder
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", made], check=True, timeout=60)
        pythons[hint] = [str(made / "bin/python")]
    for hint, python in pythons.items():
        done = subprocess.run(
            [*python, "-m", "edge_runtime", "--list-devices"],
            capture_output=True,
            text=True,
            timeout=60,
            env=places,
            cwd=tmp_path / "project",
        )
        assert done.returncode == 3 and hint in done.stderr and done.stderr.count("\n") == 1, done.stderr
        assert "`pip install" not in done.stderr
