"""What is said of a whole recording, by the real program and the shipped model: alarms decide."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from tests.program import lines, one_line, run

EXAMPLES = Path(__file__).parent.parent / "examples"
RATE = 16000


def joined(path: Path, *parts: tuple[str, float]) -> Path:
    """A WAV file of so many seconds of `human` and `synthetic`, which are repeated where they are shorter."""
    sounds = []
    for name, seconds in parts:
        sound, rate = soundfile.read(EXAMPLES / f"{name}.flac", dtype="int16")
        assert rate == RATE
        sounds.append(np.resize(sound, round(seconds * RATE)))
    soundfile.write(path, np.concatenate(sounds), RATE)
    return path


def scored(*arguments: str | Path) -> tuple[int, list[dict[str, Any]]]:
    done = run(*arguments, "--fail-on-spoof")
    assert not done.stderr, done.stderr
    return done.returncode, lines(done.stdout)


def test_a_synthetic_voice_within_human_speech_makes_the_recording_spoof(tmp_path: Path) -> None:
    path = joined(tmp_path / "middle.wav", ("human", 12), ("synthetic", 10), ("human", 14))
    code, told = scored("--file", path)
    *_, summary = told
    assert (code, summary["verdict"], summary["alarms"]) == (10, "spoof", 1)
    assert summary["score"] > 0, "the mean stays a figure, and most of it is human"
    (marked,) = [stretch for stretch in summary["stretches"] if stretch.get("alarm")]
    assert 12 - 4 <= marked["start"] <= 14 and 20 <= marked["end"] <= 22 + 4
    assert {line["type"] for line in told} == {"window", "summary"}, "the summary of a file says where its alarms were"
    shown = run("--file", path, "--no-json").stdout
    assert "Verdict: SYNTHETIC (mean score +" in shown and "Alarms: 1" in shown and "  alarm 1\n" in shown


def test_the_rules_of_the_alarm_are_those_of_the_settings(tmp_path: Path) -> None:
    path = joined(tmp_path / "end.wav", ("human", 8), ("synthetic", 8))
    never = ("--alarm-duration", "60")
    code, told = scored("--file", path, *never)
    assert (code, told[-1]["verdict"], told[-1]["alarms"]) == (0, "unsure", 0)
    with open(path, "rb") as pipe:
        piped = run("--file", "-", "--fail-on-spoof", stdin=pipe)
    assert (piped.returncode, lines(piped.stdout)[-1]["verdict"]) == (10, "spoof")


def test_people_alone_are_human(tmp_path: Path) -> None:
    code, told = scored("--file", joined(tmp_path / "human.wav", ("human", 24)))
    assert (code, told[-1]["verdict"], told[-1]["alarms"], told[-1]["stretches"]) == (0, "bonafide", 0, [])


@pytest.mark.parametrize("gate", ["--gate", "--no-gate"])
def test_what_could_not_be_read_at_all_has_no_verdict(tmp_path: Path, gate: str) -> None:
    (tmp_path / "empty.wav").write_bytes(b"")
    (tmp_path / "text.wav").write_text("no sound")
    for name in ("none.wav", "empty.wav", "text.wav", "."):
        done = run("--file", tmp_path / name, gate)
        (summary,) = lines(done.stdout)
        assert (done.returncode, summary["verdict"], summary["score"]) == (3, None, None), name
        assert summary["error"] and summary["seconds"] == 0
        shown = run("--file", tmp_path / name, "--no-json")
        assert shown.returncode == 3 and one_line(shown.stderr)
        assert "Verdict" not in shown.stdout and "unsure" not in shown.stdout


def test_what_was_read_before_the_damage_keeps_its_verdict(tmp_path: Path) -> None:
    path = joined(tmp_path / "cut.wav", ("synthetic", 12), ("human", 12))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    done = run("--file", path, "--fail-on-spoof")
    summary = lines(done.stdout)[-1]
    assert (done.returncode, summary["verdict"]) == (3, "spoof")
    assert summary["error"] and "cut short" in one_line(done.stderr)


def test_a_file_without_speech_is_told_with_a_way_to_have_it_scored(tmp_path: Path) -> None:
    time = np.arange(6 * RATE) / RATE
    path = tmp_path / "chord.wav"
    soundfile.write(path, sum(0.1 * np.sin(2 * np.pi * hertz * time) for hertz in (220, 277, 330)), RATE)
    done = run("--file", path)
    assert (done.returncode, lines(done.stdout)[-1]["verdict"]) == (0, "no-speech")
    assert "chord.wav" in done.stderr and "--no-gate" in one_line(done.stderr)
    assert lines(run("--file", path, "--no-gate").stdout)[-1]["score"] is not None
