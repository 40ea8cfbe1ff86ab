"""What is shown on a terminal: it fits, and says nothing that is not so."""

from __future__ import annotations

import io
import os
import pty
import subprocess
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from edge_runtime.capture.block import STATE, Event
from edge_runtime.decision.alarm import OFF, ON, Alarm
from edge_runtime.decision.verdict import Thresholds, Verdict, Window
from edge_runtime.report.output import Output
from edge_runtime.report.terminal import Terminal
from tests.program import PROGRAM


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


def test_noise_is_told_to_be_what_makes_a_verdict_unsure(tmp_path: Path) -> None:
    path = tmp_path / "hum.wav"
    soundfile.write(path, 0.1 * np.sin(np.arange(6 * 16000) / 8), 16000)
    said = subprocess.run(
        [*PROGRAM, "--no-json", "--no-gate", "--file", path], capture_output=True, text=True, timeout=60
    ).stdout
    assert "unsure: noisy (score " in said


def live_view(text: io.StringIO, columns: int) -> Terminal:
    return Terminal(
        Output(text),
        "hw:1",
        live=True,
        colour=False,
        unicode=False,
        columns=lambda: columns,
        thresholds=Thresholds(-2.0, 1.0),
        wall=lambda: 0.0,
    )


def test_the_scale_shows_both_thresholds_and_the_score() -> None:
    text = io.StringIO()
    view = live_view(text, 100)
    view.level(2.0, -20.0, -3.0)
    view.window(window(2.0, 3.0))
    line = text.getvalue().rsplit("\r", 1)[1]
    assert "-------|----|--o-----" in line and "level #" in line and len(line) < 110
    view.window(window(2.5, -99.0))
    assert "o------|----|--------" in text.getvalue().rsplit("\r", 1)[1]


def test_an_alarm_stays_on_the_live_line_until_it_ends() -> None:
    text = io.StringIO()
    view = live_view(text, 80)
    view.window(window(2.0, 3.0))
    view.alarm(Alarm(ON, 1, 0.0, 2.0, -3.0))
    view.window(window(2.5, 3.0))
    assert text.getvalue().rsplit("\r", 1)[1].startswith("ALARM")
    view.alarm(Alarm(OFF, 1, 0.0, 4.0, -3.0, "scores"))
    assert text.getvalue().rsplit("\r", 1)[1].startswith("human")


def test_a_clock_runs_while_there_is_no_microphone() -> None:
    text = io.StringIO()
    view = live_view(text, 80)
    view.event(2.0, Event(STATE, state="recovering", reason="it was pulled"))
    for _ in range(3):
        view._drawn = 0.0
        view.moment(5.0)
    assert text.getvalue().rsplit("\r", 1)[1].split()[:4] == ["recovering", "0:00.0", "for", "0:15.0\x1b[K"]
    view.event(2.0, Event(STATE, state="listening"))
    assert "for" not in text.getvalue().rsplit("\r", 1)[1]


@pytest.mark.parametrize("columns", [20, 40, 60])
def test_lines_are_broken_between_words_and_carry_the_time_of_day(columns: int) -> None:
    text = io.StringIO()
    view = live_view(text, columns)
    view.event(2.0, Event(STATE, state="recovering", reason="the microphone is gone and is waited for"))
    lines = text.getvalue().replace("\x1b[K", "").split("\r")[1].splitlines()
    assert all(len(line) <= columns for line in lines) and len(lines) > 1
    assert " ".join(" ".join(lines).split()).endswith("(the microphone is gone and is waited for)")
    assert lines[0][2] == lines[0][5] == ":"
