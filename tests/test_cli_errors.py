"""The real program: what is wrong is told in one line, and every end has its exit code."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from edge_runtime.settings.option import flag
from edge_runtime.settings.schema import FIELDS
from tests.program import PROGRAM, lines, one_line, run


def test_several_files_are_told_apart_and_a_bad_one_does_not_stop_the_others(
    model: str, clip: Path, tmp_path: Path
) -> None:
    done = run("--model", model, "--file", clip, tmp_path / "none.wav", clip)
    assert done.returncode == 3
    assert "none.wav" in one_line(done.stderr)
    summaries = [line for line in lines(done.stdout) if line["type"] == "summary"]
    assert [line["file"] for line in summaries] == [str(clip), str(tmp_path / "none.wav"), str(clip)]
    assert "error" in summaries[1] and "error" not in summaries[2]


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        ([], 2, "--file clip.wav"),
        (["--file", "a.wav", "--device", "hw:1"], 2, "exclude"),
        (["--file", "a.wav", "--hop", "nan"], 2, "--hop"),
        (["--file", "a.wav", "--hop", "soon"], 2, "--hop"),
        (["--file", "a.wav", "--duration", "-1"], 2, "--duration"),
        (["--file", "a.wav", "--threshold", "inf"], 2, "--threshold"),
        (["--file", "a.wav", "--rate", "8000"], 2, "--raw"),
        (["--file", "-", "--raw", "mp3"], 2, "s16le"),
        (["--file", "a.wav", "--loudly"], 2, "--loudly"),
        (["--file", "-", "-"], 2, "once"),
        (["--device", ""], 2, "--device"),
        (["--device", "hw:1", "--channel", "0"], 2, "--channel"),
        (["--device", "hw:1", "--connect-timeout", "never"], 2, "forever"),
        (["--device", "hw:1", "--alarm-on", "1", "--alarm-off", "0"], 2, "--alarm-off"),
        (["--file", "a.wav", "--save-clips", "x"], 2, "--device"),
        (["--config", "no-such-file.toml"], 2, "no-such-file.toml"),
        (["--rate", "9" * 400, "--file", "-", "--raw", "u8"], 2, "--rate"),
        (["--file", "no-such-file.wav"], 3, "no-such-file.wav"),
        (["--file", "."], 3, "directory"),
        (["--file", "/dev/null"], 3, "/dev/null"),
        (["--file", "a\nb\x1b[31m.wav"], 3, "a\\nb\\x1b[31m.wav"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(model: str, arguments: list[str], code: int, word: str) -> None:
    done = run("--model", model, *arguments)
    assert done.returncode == code, done.stderr
    assert word in one_line(done.stderr)


def test_a_model_that_is_none_ends_with_its_own_code(clip: Path) -> None:
    done = run("--model", clip, "--file", clip)
    assert done.returncode == 4
    one_line(done.stderr)
    assert done.stdout == ""


@pytest.mark.parametrize("arguments", [["--file", "CLIP"], ["--help"], ["--version"]])
def test_a_full_disk_ends_with_the_code_for_output(model: str, clip: Path, arguments: list[str]) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [*PROGRAM, "--model", model, *(str(clip) if a == "CLIP" else a for a in arguments)],
            stdout=full,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            timeout=60,
        )
    assert done.returncode == 5
    assert "No space left" in one_line(done.stderr)


def test_a_reader_that_leaves_early_is_no_error(model: str, clip: Path) -> None:
    with subprocess.Popen(
        [*PROGRAM, "--model", model, "--file", *[str(clip)] * 20],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as program:
        assert program.stdout and program.stderr
        assert lines(program.stdout.readline().decode())[0]["type"] == "window"
        program.stdout.close()
        assert program.stderr.read() == b""
        assert program.wait(60) == 0


def test_fail_on_spoof_has_its_code(model: str, clip: Path) -> None:
    spoofed = ["--model", model, "--file", str(clip), "--threshold", "1000"]
    done = run(*spoofed, "--fail-on-spoof")
    summary = lines(done.stdout)[-1]
    assert (done.returncode, summary["verdict"]) == (10, "spoof")
    assert summary["stretches"][0]["start"] == 0
    assert run(*spoofed).returncode == 0
    assert run(*spoofed[:-1], "-1000", "--fail-on-spoof").returncode == 0


def test_help_tells_the_exit_codes_and_every_option() -> None:
    done = run("--help-all")
    assert done.returncode == 0
    codes = {
        line.split()[0] for line in done.stdout.splitlines() if line.startswith("  ") and line.split()[0].isdigit()
    }
    assert codes == {"0", "2", "3", "4", "5", "10", "12"}
    for option in (
        "--device",
        "--file",
        "--raw",
        "--list-devices",
        "--no-json",
        "--fail-on-spoof",
        "--version",
        *(flag(name) for name in FIELDS),
        "edge-detect coverage",
        "edge-detect commission",
        "edge-detect config check",
    ):
        assert option in done.stdout


def test_a_file_needs_no_pyaudio_and_a_microphone_says_so(model: str, clip: Path, tmp_path: Path) -> None:
    (tmp_path / "pyaudio.py").write_text("raise ImportError('libportaudio.so.2: cannot open shared object file')\n")
    where = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), os.getcwd()])}
    assert run("--model", model, "--file", clip, env=where).returncode == 0
    for arguments in (["--device", "hw:1"], ["--list-devices"]):
        done = run("--model", model, *arguments, env=where)
        assert done.returncode == 3
        assert "pip install PyAudio" in one_line(done.stderr) and "portaudio19-dev" in done.stderr
