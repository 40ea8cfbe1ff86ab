"""One command line: what a line means, wherever its options stand, and how each command answers."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from edge_runtime.app.arguments import parser
from edge_runtime.app.cli import split
from edge_runtime.app.screen import BOX, HOST, SCREEN

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
HUMAN, SYNTHETIC = EXAMPLES / "human.flac", EXAMPLES / "synthetic.flac"


def run(*arguments: str, folder: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "edge_runtime", *arguments],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(EXAMPLES.parent), **environment},
        timeout=300,
    )


def test_the_first_screen_fits_a_terminal_and_names_every_command() -> None:
    done = run("--help")
    lines = done.stdout.splitlines()
    assert done.returncode == 0 and done.stdout == SCREEN == run("help").stdout
    assert len(lines) <= 24 and max(map(len, lines)) <= 80
    named = [line.split()[0] for line in lines if line.startswith("  ") and not line.startswith("  edge")]
    assert sorted(named) == sorted([*BOX, *HOST])


def test_help_loads_neither_numpy_nor_argparse() -> None:
    code = (
        "import sys, edge_runtime\n"
        "before = set(sys.modules)\n"
        "from edge_runtime.app.cli import main\n"
        "assert main(['--help']) == 0\n"
        "heavy = {'numpy', 'argparse', 'typing', 'dataclasses', 'onnxruntime'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=EXAMPLES.parent)
    assert done.returncode == 0 and done.stderr.strip() == "[]", done.stderr


@pytest.mark.parametrize(
    ("line", "verb", "rest"),
    [
        ("clip.wav", "score", "clip.wav"),
        ("clip.wav --json", "score", "clip.wav --json"),
        ("score clip.wav", "score", "clip.wav"),
        ("--json score clip.wav", "score", "--json clip.wav"),
        ("--hop 1 score clip.wav", "score", "--hop 1 clip.wav"),
        ("--log-level debug listen --device x", "listen", "--log-level debug --device x"),
        ("--device score", "", "--device score"),
        ("--file listen", "", "--file listen"),
        ("--device hw:1", "", "--device hw:1"),
        ("- --raw s16le", "", "- --raw s16le"),
        ("listen", "listen", ""),
        ("--no-gate score a b", "score", "--no-gate a b"),
        ("export a.pth -o b.onnx", "export", "a.pth -o b.onnx"),
        ("", "", ""),
    ],
)
def test_a_line_means_one_command(line: str, verb: str, rest: str) -> None:
    assert split(line.split()) == (verb, rest.split())


def test_every_way_to_score_a_file_gives_the_same_lines() -> None:
    ways = [("--file", str(HUMAN)), ("score", str(HUMAN)), (str(HUMAN),), ("--json", "score", str(HUMAN))]
    said = {run(*way, "--json").stdout for way in ways}
    assert len(said) == 1 and json.loads(said.pop().splitlines()[-1])["verdict"] == "bonafide"
    several = run("score", "--json", str(HUMAN), str(SYNTHETIC), "--fail-on-spoof")
    assert several.returncode == 10
    verdicts = [line["verdict"] for line in map(json.loads, several.stdout.splitlines()) if line["type"] == "summary"]
    assert verdicts == ["bonafide", "spoof"]


def test_a_command_that_is_misspelt_is_named(tmp_path: Path) -> None:
    done = run("lisen", "--device", "x", folder=tmp_path)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    done = run("comission", folder=tmp_path)
    assert done.returncode == 2 and "did you mean edge-detect commission" in done.stderr, done.stderr


@pytest.mark.parametrize("verb", ["", "listen", "score", "devices"])
def test_each_command_has_a_short_help_and_a_whole_one(verb: str) -> None:
    short, whole = parser(verb, brief=True).format_help(), parser(verb).format_help()
    assert len(short) < len(whole) and "example" in short and "exit codes:" in whole
    for action in parser(verb, brief=True)._actions:
        assert len(action.help or "") <= 140, action.dest


def test_debug_says_what_is_opened_and_what_windows_cost() -> None:
    done = run("score", str(HUMAN), "--log-level", "debug", "--json")
    assert done.returncode == 0 and "form blocks" in done.stderr and "windows took" in done.stderr
    assert "debug: " not in run("score", str(HUMAN), "--json").stderr


def test_a_library_user_hooks_the_log() -> None:
    code = (
        "import logging, sys\n"
        "seen = []\n"
        "class Hook(logging.Handler):\n"
        "    def emit(self, record): seen.append(record.getMessage())\n"
        "logging.getLogger('edge_runtime').addHandler(Hook())\n"
        "from edge_runtime.app.cli import main\n"
        f"main(['score', {str(HUMAN)!r}, 'absent.wav', '--json'])\n"
        "assert any('absent.wav' in line for line in seen), seen"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=EXAMPLES.parent)
    assert done.returncode == 0, done.stderr


def test_inspect_shows_first_what_a_person_asks(tmp_path: Path) -> None:
    done = run("inspect")
    lines = done.stdout.splitlines()
    assert done.returncode == 0 and len(lines) == 8 and "int8-static" in done.stdout and "unsure" in done.stdout
    everything = json.loads(run("inspect", "--json").stdout)
    assert everything["level"] == "int8-static" and len(run("inspect", "--all").stdout.splitlines()) > 20
    (tmp_path / "no.onnx").write_bytes(b"no model")
    done = run("inspect", str(tmp_path / "no.onnx"))
    assert done.returncode == 4 and done.stderr.count("\n") == 1


def test_status_without_a_service_says_so_and_what_to_do() -> None:
    done = run("status", "--unit", "edge-detect-that-is-not.service")
    assert done.returncode == 3 and done.stdout.count("\n") == 1 and not done.stderr
    assert json.loads(run("status", "--json", "--unit", "edge-detect-that-is-not.service").stdout)["active"] is False


def test_support_packs_what_is_asked_for_and_no_secret(tmp_path: Path) -> None:
    configuration = tmp_path / "box.toml"
    configuration.write_text(
        'stream = "rtsp://watcher:hunter2secret@camera.example/one"\nexec = "/bin/true --token topsecretword"\n'
    )
    done = run("support", "--config", str(configuration), folder=tmp_path)
    assert done.returncode == 0, done.stderr
    with tarfile.open(tmp_path / "edge-detect-support.tar.gz") as archive:
        texts = {
            member.name.split("/", 1)[1]: file.read().decode()
            for member in archive.getmembers()
            if (file := archive.extractfile(member))
        }
    assert {"about.json", "settings.txt", "microphones.json", "model.json", "service.json", "journal.txt"} <= set(texts)
    together = "\n".join(texts.values())
    assert "hunter2secret" not in together and "topsecretword" not in together and "camera.example" in together
    assert "edge-7" in texts["model.json"] and json.loads(texts["about.json"])["edge_detect"]


def test_support_on_a_broken_box_still_writes_a_report(tmp_path: Path) -> None:
    configuration = tmp_path / "box.toml"
    configuration.write_text('model = "absent.onnx"\ndevice = 3\n')
    done = run("support", "--config", str(configuration), "-o", "report.tgz", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    with tarfile.open(tmp_path / "report.tgz") as archive:
        settings = archive.extractfile("edge-detect-support/settings.txt")
        assert settings and b"device must be text" in settings.read()
    done = run("support", "-o", str(tmp_path / "absent" / "report.tgz"))
    assert done.returncode == 5 and done.stderr.count("\n") == 1


@pytest.mark.parametrize("verb", sorted(HOST))
def test_a_command_of_the_clone_says_what_to_install_where_it_is_missing(verb: str, tmp_path: Path) -> None:
    (tmp_path / "edge_runtime").symlink_to(EXAMPLES.parent / "edge_runtime")
    done = run(verb, "--help", folder=tmp_path, PYTHONPATH=str(tmp_path), PYTHONSAFEPATH="1")
    assert done.returncode in (0, 2)
    if done.returncode:
        assert done.stderr.count("\n") == 1 and f".[{HOST[verb][1]}]" in done.stderr


@pytest.mark.parametrize("verb", sorted(HOST))
def test_a_command_of_the_clone_answers(verb: str) -> None:
    done = run(verb, "--help")
    assert done.returncode == 0 and f"edge-detect {verb}" in done.stdout, done.stderr
    wrong = run(verb, "--no-such-option")
    assert wrong.returncode == 2 and wrong.stderr.count("\n") == 1 and "Traceback" not in wrong.stderr


@pytest.mark.parametrize(
    "line", [["train", "head"], ["train", "window-crops"], ["quantize", "baseline"], ["benchmark", "alarms"]]
)
def test_commands_beneath_a_command_answer(line: list[str]) -> None:
    done = run(*line, "--help")
    assert done.returncode == 0 and "edge-detect " + " ".join(line) in done.stdout, done.stderr


@pytest.mark.parametrize("verb", sorted(HOST))
def test_a_foreign_package_of_that_name_is_not_run(verb: str, tmp_path: Path) -> None:
    """Names such as `benchmarks` are common in wheels."""
    foreign = tmp_path / "foreign" / HOST[verb][0].split(".")[0]
    foreign.mkdir(parents=True)
    (foreign / "__init__.py").write_text("")
    (foreign / "__main__.py").write_text("raise SystemExit(99)")
    code = f"import sys; from edge_runtime.app.cli import main; sys.exit(main([{verb!r}, '--help']))"
    copied = tmp_path / "site"
    shutil.copytree(EXAMPLES.parent / "edge_runtime", copied / "edge_runtime", ignore=shutil.ignore_patterns("*.onnx"))
    paths = {"PYTHONPATH": f"{foreign.parent}:{copied}", "PYTHONSAFEPATH": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env={**os.environ, **paths}
    )
    assert done.returncode == 2 and "comes with a clone" in done.stderr and done.stderr.count("\n") == 1, done.stderr


def test_a_reader_that_has_gone_is_no_error() -> None:
    for line in ("--help", "listen --help-all", "inspect --all", "export --help"):
        words = f"{sys.executable} -m edge_runtime {line} | true; exit ${{PIPESTATUS[0]}}"
        done = subprocess.run(["bash", "-c", words], capture_output=True, text=True, cwd=EXAMPLES.parent)
        assert done.returncode == 0 and not done.stderr, (line, done.stderr)


@pytest.mark.parametrize(
    "package", ["training", "quantization.quantizer", "benchmarks", "benchmarks.__main__", "evaluation"]
)
def test_what_is_missing_never_ends_the_importing_program(package: str) -> None:
    code = (
        "import sys\n"
        "for name in ('torch', 'tqdm', 'onnx'): sys.modules[name] = None\n"
        f"try:\n    import {package}\n"
        "except ImportError as reason:\n    print(reason)\n"
        "print('alive')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=EXAMPLES.parent)
    assert done.stdout.splitlines()[-1:] == ["alive"], done.stderr
