"""The real program, started as a user starts it: sound in, lines out."""

from __future__ import annotations

import itertools
import json
import math
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile

from edge_runtime.capture.file import read_blocks
from edge_runtime.detector import Detector
from tests.program import PROGRAM, lines, run


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
    detector = Detector(model, gate=True)
    expected = [w for block in read_blocks(str(clip), None, 16000) for w in detector.push(block)]
    expected += detector.flush()
    heard = [line for line in lines(run("--model", model, "--file", clip).stdout) if line["type"] == "window"]
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
        done = run("--model", model, "--no-gate", "--file", path)
        assert done.returncode == 0, (name, done.stderr)
        *windows, summary = lines(done.stdout)
        print(name, file_rate, summary["verdict"], [line["score"] for line in windows])
        assert windows and summary["verdict"] in ("unsure", "silent"), name
        if "nan" in name:
            assert windows[0]["invalid"] > 0


def test_auto_takes_any_window_and_says_what_it_found(model: str, clip: Path) -> None:
    done = run("--model", model, "--file", clip, "--window", "0.3", "--hop", "auto")
    assert done.returncode == 0 and "a verdict every" in done.stderr
    summary = json.loads(done.stdout.splitlines()[-1])
    assert 0.09 < summary["hop_seconds"] <= 0.3


def test_duration_and_hop_are_kept(model: str, clip: Path) -> None:
    done = run("--model", model, "--file", clip, "--duration", "2", "--hop", "0.25")
    assert lines(done.stdout)[-1]["seconds"] == 2
    assert [line["start"] for line in lines(done.stdout)[:2]] == pytest.approx([0, 0.25], abs=0.01)


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
    sound = clip.read_bytes()
    endless = sound[:40] + b"\xff\xff\xff\xff" + sound[44:]  # or it might have ended by itself
    with subprocess.Popen(
        [*PROGRAM, "--model", model, "--file", "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as program:
        assert program.stdin and program.stdout
        program.stdin.write(endless)
        program.stdin.flush()
        first = program.stdout.readline()
        program.send_signal(signal.SIGHUP)
        rest = program.stdout.read()
        assert program.wait(10) == 0
    assert lines((first + rest).decode())[-1]["type"] == "summary"
