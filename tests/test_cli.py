"""The real program, started as a user starts it: sound in, lines and exit codes out."""

from __future__ import annotations

import io
import itertools
import json
import math
import os
import pty
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from edge_runtime.capture.block import STATE, Event
from edge_runtime.capture.file import read_blocks
from edge_runtime.decision.alarm import OFF, ON, Alarm
from edge_runtime.decision.verdict import Verdict, Window
from edge_runtime.detector import Detector
from edge_runtime.options import flag
from edge_runtime.report.output import Output
from edge_runtime.report.terminal import Terminal
from edge_runtime.settings import FIELDS

PROGRAM = [sys.executable, "-m", "edge_runtime"]
RUN_TEXT = "The quick brown fox jumps over the lazy dog, and nobody in the village knows the reason why."


@pytest.fixture(scope="module")
def model(exported: Callable[[str], Path]) -> str:
    return str(exported("streaming"))


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few seconds of speech at 22050 Hz."""
    path = tmp_path_factory.mktemp("clips") / "speech.wav"
    subprocess.run(["espeak-ng", "-w", str(path), RUN_TEXT], check=True)
    return path


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


def test_a_file_gives_a_line_a_window_and_a_summary(model: str, clip: Path) -> None:
    done = run("--model", model, "--file", clip)
    assert (done.returncode, done.stderr) == (0, "")
    *windows, summary = lines(done.stdout)
    assert {line["type"] for line in windows} == {"window"} and summary["type"] == "summary"
    assert all(line["verdict"] in ("bonafide", "spoof", "unsure", "silent") for line in windows)
    starts = [line["start"] for line in windows]
    steps = [round(later - earlier, 2) for earlier, later in itertools.pairwise(starts)]
    assert set(steps[:-1]) == {0.5}, steps
    assert summary["seconds"] == pytest.approx(soundfile.info(clip).duration, abs=0.01)
    assert sum(summary["windows"].values()) == len(windows)
    scores = [line["score"] for line in windows if line["score"] is not None]
    assert all(math.isfinite(score) for score in scores) and scores


def test_the_program_scores_what_the_library_scores(model: str, clip: Path) -> None:
    detector = Detector(model)
    expected = [w for block in read_blocks(str(clip), None, 16000) for w in detector.push(block)]
    expected += detector.flush()
    heard = lines(run("--model", model, "--file", clip).stdout)[:-1]
    assert [line["score"] for line in heard] == pytest.approx([w.score for w in expected], abs=1e-3)
    assert [line["verdict"] for line in heard] == [str(w.verdict) for w in expected]


@pytest.mark.parametrize("kind", ["flac", "ogg", "mp3"])
def test_other_formats_rates_and_channels_are_scored(model: str, tmp_path: Path, kind: str, clip: Path) -> None:
    sound, rate = soundfile.read(clip, dtype="float32")
    path = tmp_path / f"clip.{kind}"
    subprocess.run(["sox", str(clip), "-r", "44100", "-c", "2", str(tmp_path / "stereo.wav")], check=True)
    stereo, stereo_rate = soundfile.read(tmp_path / "stereo.wav", dtype="float32")
    soundfile.write(path, stereo, stereo_rate)
    done = run("--model", model, "--file", path)
    assert done.returncode == 0, done.stderr
    assert lines(done.stdout)[-1]["seconds"] == pytest.approx(len(sound) / rate, abs=0.1)


def test_a_pipe_and_a_file_give_the_same_lines(model: str, clip: Path) -> None:
    expected = run("--model", model, "--file", clip).stdout
    with subprocess.Popen(["sox", str(clip), "-t", "wav", "-"], stdout=subprocess.PIPE) as sox:
        piped = run("--model", model, "--file", "-", stdin=sox.stdout)
    raw = soundfile.read(clip, dtype="int16")[0].astype("<i2").tobytes()
    headerless = subprocess.run(
        [*PROGRAM, "--model", model, "--file", "-", "--raw", "s16le", "--rate", "22050", "--channels", "1"],
        input=raw,
        capture_output=True,
        timeout=60,
    )
    assert (piped.returncode, piped.stdout) == (0, expected)
    assert (headerless.returncode, headerless.stdout.decode()) == (0, expected)


def test_verdicts_come_while_the_pipe_is_still_open(model: str, clip: Path) -> None:
    with subprocess.Popen(
        [*PROGRAM, "--model", model, "--file", "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as program:
        assert program.stdin and program.stdout
        program.stdin.write(clip.read_bytes())
        program.stdin.flush()  # and not closed: sox and arecord hold it open while they record
        assert json.loads(program.stdout.readline())["type"] == "window"
        program.stdin.close()
        rest = lines(program.stdout.read().decode())
    assert rest[-1]["type"] == "summary" and program.returncode == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_with_the_last_window_and_the_summary(model: str, clip: Path, number: int) -> None:
    sound = clip.read_bytes()
    endless = sound[:40] + b"\xff\xff\xff\xff" + sound[44:]
    with subprocess.Popen(
        [*PROGRAM, "--model", model, "--file", "-"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as program:
        assert program.stdin and program.stdout and program.stderr
        program.stdin.write(endless)
        program.stdin.flush()
        last_full = int((len(sound) - 44) / 2 / 22050 * 2 - 2) // 1  # one-second windows, a hop of half a second
        heard = [program.stdout.readline() for _ in range(last_full)]
        program.send_signal(number)
        rest = program.stdout.read()
        assert program.wait(10) == 0
        assert program.stderr.read() == b""
    everything = lines((b"".join(heard) + rest).decode())
    assert everything[-1]["type"] == "summary"
    assert everything[-1]["seconds"] == pytest.approx((len(sound) - 44) / 2 / 22050, abs=0.1)


def test_several_files_are_told_apart_and_a_bad_one_does_not_stop_the_others(
    model: str, clip: Path, tmp_path: Path
) -> None:
    done = run("--model", model, "--file", clip, tmp_path / "none.wav", clip)
    assert done.returncode == 3
    assert "none.wav" in one_line(done.stderr)
    summaries = [line for line in lines(done.stdout) if line["type"] == "summary"]
    assert [line["file"] for line in summaries] == [str(clip), str(tmp_path / "none.wav"), str(clip)]
    assert "error" in summaries[1] and "error" not in summaries[2]


def test_sound_without_numbers_silence_clipping_and_shortness_have_answers(model: str, tmp_path: Path) -> None:
    rate = 16000
    sounds = {
        "nan": np.full(2 * rate, np.nan, np.float32),
        "some-nan": np.where(np.arange(2 * rate) % 50, 0.1, np.nan).astype(np.float32),
        "silent": np.zeros(2 * rate, np.float32),
        "clipped": np.sign(np.sin(np.arange(2 * rate) / 9)).astype(np.float32),
        "huge": np.full(2 * rate, 1e30, np.float32),
        "one": np.full(1, 0.5, np.float32),
    }
    for name, file_rate in [*((name, rate) for name in sounds), ("some-nan", 44100)]:
        path = tmp_path / f"{name}.wav"
        soundfile.write(path, sounds[name], file_rate, subtype="FLOAT")
        done = run("--model", model, "--file", path)
        assert done.returncode == 0, (name, done.stderr)
        *windows, summary = lines(done.stdout)
        print(name, file_rate, summary["verdict"], [line["score"] for line in windows])
        assert windows and summary["verdict"] in ("unsure", "silent"), name
        if "nan" in name:
            assert windows[0]["invalid"] > 0


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


def test_auto_takes_any_window_and_says_what_it_found(model: str, clip: Path) -> None:
    done = run("--model", model, "--file", clip, "--window", "0.3", "--hop", "auto")
    assert done.returncode == 0 and "a verdict every" in done.stderr
    summary = json.loads(done.stdout.splitlines()[-1])
    assert 0.09 < summary["hop_seconds"] <= 0.3


def test_duration_and_hop_are_kept(model: str, clip: Path) -> None:
    done = run("--model", model, "--file", clip, "--duration", "2", "--hop", "0.25")
    assert lines(done.stdout)[-1]["seconds"] == 2
    assert [line["start"] for line in lines(done.stdout)[:2]] == pytest.approx([0, 0.25], abs=0.01)


def test_help_tells_the_exit_codes_and_every_option() -> None:
    done = run("--help")
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


def test_a_file_is_scored_as_the_configuration_says_whatever_it_says_of_microphones(
    model: str, clip: Path, tmp_path: Path
) -> None:
    (tmp_path / "edge-detect.toml").write_text(f'device = "hw:1"\nmodel = "{model}"\nhop = 0.25\nledger = "x"\n')
    expected = run("--model", model, "--file", clip, "--hop", "0.25")
    done = run("--config", tmp_path / "edge-detect.toml", "--file", clip)
    assert (done.returncode, done.stdout, done.stderr) == (0, expected.stdout, "")


def test_the_level_of_the_log_is_kept(clip: Path) -> None:
    assert run("--file", clip, "--hop", "auto", "--window", "4", "--log-level", "warning").stderr == ""


def test_a_closed_terminal_ends_with_the_summary(model: str, clip: Path) -> None:
    with subprocess.Popen(
        [*PROGRAM, "--model", model, "--file", "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as program:
        assert program.stdin and program.stdout
        program.stdin.write(clip.read_bytes())
        program.stdin.flush()
        first = program.stdout.readline()
        program.send_signal(signal.SIGHUP)
        rest = program.stdout.read()
        assert program.wait(10) == 0
    assert lines((first + rest).decode())[-1]["type"] == "summary"


def test_a_file_needs_no_pyaudio_and_a_microphone_says_so(model: str, clip: Path, tmp_path: Path) -> None:
    (tmp_path / "pyaudio.py").write_text("raise ImportError('libportaudio.so.2: cannot open shared object file')\n")
    where = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), os.getcwd()])}
    assert run("--model", model, "--file", clip, env=where).returncode == 0
    for arguments in (["--device", "hw:1"], ["--list-devices"]):
        done = run("--model", model, *arguments, env=where)
        assert done.returncode == 3
        assert "pip install PyAudio" in one_line(done.stderr) and "portaudio19-dev" in done.stderr


def on_terminal(arguments: list[str], columns: int, environment: dict[str, str]) -> tuple[str, int]:
    """What the program draws on a terminal of that width, and its exit code."""
    ours, its = pty.openpty()
    shown: list[bytes] = []

    def watch() -> None:
        try:
            while data := os.read(ours, 4096):
                shown.append(data)
        except OSError:
            pass  # the terminal is gone: the program has ended

    watcher = threading.Thread(target=watch)
    watcher.start()
    where = {**os.environ, "TERM": "xterm", "COLUMNS": str(columns), **environment}
    code = subprocess.run([*PROGRAM, *arguments], stdin=its, stdout=its, stderr=its, env=where, timeout=60).returncode
    time.sleep(0.1)
    os.close(its)
    watcher.join(10)
    os.close(ours)
    return b"".join(shown).decode(), code


def window(end: float, score: float) -> Window:
    return Window(end - 1, end, score, Verdict.BONAFIDE, level_dbfs=-20, peak_dbfs=-3, clipped=0, invalid=0)


@pytest.mark.parametrize("state", ["stalled", "recovering", "silent", "connecting"])
@pytest.mark.parametrize("columns", [5, 12, 80])
def test_the_view_shows_no_verdict_while_nothing_is_heard(state: str, columns: int) -> None:
    text = io.StringIO()
    view = Terminal(Output(text), "hw:1", live=True, colour=False, unicode=False, columns=lambda: columns)

    def last() -> str:
        return text.getvalue().rsplit("\r", 1)[1].removesuffix("\x1b[K")

    view.event(0.0, Event(STATE, state="listening"))
    view.level(2.0, -20.0, -3.0)
    view.window(window(2.0, 3.25))
    assert last().startswith("human"[: columns - 1])
    view.event(2.0, Event(STATE, state=state, reason="no such device"))
    view.window(window(2.5, 3.25))  # of the sound before it
    assert last().split() == [state, "0:02.0"] if columns > 20 else last().strip() == state[: columns - 1]
    assert len(last()) < columns
    view.event(2.5, Event(STATE, state="listening"))
    assert last().startswith("listening"[: columns - 1]) and "3.25" not in last()
    view.window(window(3.5, 1.5))
    assert last().startswith("human"[: columns - 1])


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("scores", "alarm 1 is over: the voice is human again (score -1.50)"),
        ("no-speech", "alarm 1 is over: nobody speaks any more (score -1.50)"),
        ("break", "alarm 1 is over: the sound broke off or the run ended (score -1.50)"),
        ("", "alarm 1 is over (score -1.50)"),
    ],
)
def test_the_view_says_when_an_alarm_begins_and_why_it_ends(reason: str, words: str) -> None:
    text = io.StringIO()
    view = Terminal(Output(text), "hw:1", live=False, colour=False, unicode=False, columns=lambda: 80)
    view.alarm(Alarm(ON, 1, 2.0, 5.0, -2.5))
    view.alarm(Alarm(OFF, 1, 2.0, 9.0, -1.5, reason))
    assert text.getvalue().splitlines()[1:] == [
        "0:05.0  ALARM 1: a synthetic voice (score -2.50)",
        f"0:09.0  {words}",
    ]


@pytest.mark.parametrize("columns", [12, 30, 80])
def test_the_view_fits_the_terminal_and_keeps_its_colours_for_who_wants_them(
    model: str, clip: Path, columns: int
) -> None:
    arguments = ["--model", model, "--file", str(clip), "--threshold", "1000"]
    plain, code = on_terminal(arguments, columns, {"NO_COLOR": "1"})
    assert code == 0
    assert "\x1b[" not in plain.replace("\x1b[K", "")
    redrawn = [part.split("\x1b[K")[0] for part in plain.split("\r")[1:] if "\x1b[K" in part]
    assert redrawn and max(map(len, redrawn)) < columns
    assert "SYNTHETIC" in plain and "Verdict: SYNTHETIC" in plain and "Called synthetic:" in plain
    coloured, _ = on_terminal(arguments, columns, {"NO_COLOR": ""})
    assert "\x1b[1;31mSYNTHETIC" in coloured
