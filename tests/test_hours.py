"""Hours of mixed sound: the stream is what it says, alarms are counted for the turns they belong to."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from benchmarks.__main__ import main
from benchmarks.alarms.mixed_stream import (
    FLOOR_DBFS,
    HUMAN,
    LEVELS_DBFS,
    MUSIC,
    NOISE,
    ROOM,
    SHARES,
    SPOOF,
    StreamPiece,
    grouped,
    mixed,
)
from benchmarks.alarms.stream import ScoredStream, hear, judge, usual_rules, verdicts
from edge_runtime.decision.alarm import LIVE_SMOOTHING_SECONDS, Rules
from edge_runtime.decision.verdict import Reason, Thresholds, Verdict, Window
from edge_runtime.detector import Detector
from edge_runtime.errors import InputError, UsageError
from edge_runtime.settings.schema import FIELDS
from evaluation.acoustics.effects import RATE
from evaluation.protocols import Clip, read_clips
from tests.conftest import voice

HOP = 0.5
PLAIN = Rules(on=-1.0, off=0.0, duration_seconds=1.0, hold_seconds=2.0, refractory_seconds=0.0)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of six human and six spoofed clips of two sources each."""
    folder = tmp_path_factory.mktemp("clips")
    rows = ["file,label,system,source"]
    for index in range(12):
        label = "bonafide" if index % 2 else "spoof"
        soundfile.write(folder / f"{index}.wav", 0.3 * voice(2.0, index), RATE)
        rows.append(f"{index}.wav,{label},{'-' if index % 2 else 'made'},source{index % 3}")
    (folder / "clips.csv").write_text("\n".join(rows) + "\n")
    return folder / "clips.csv"


def level_dbfs(sound: np.ndarray) -> float:
    return float(10 * np.log10(np.mean(sound.astype(np.float64) ** 2)))


def test_a_stream_has_its_kinds_in_their_shares_and_levels(data: Path) -> None:
    clips = read_clips(data)
    made = list(mixed(clips, 20, seed=3))
    seconds = dict.fromkeys(SHARES, 0.0)
    at = 0.0
    for piece, sound in made:
        assert sound.dtype == np.float32 and piece.start == pytest.approx(at)
        own = sound[: round((piece.end - piece.start) * RATE)]
        assert 0 < piece.end - piece.start <= sound.size / RATE
        at += sound.size / RATE
        seconds[piece.kind] += piece.end - piece.start
        if piece.kind in (ROOM, NOISE, MUSIC):
            low, high = LEVELS_DBFS[piece.kind]
            assert low - 1 < level_dbfs(own) < high + 3.5, "the floor adds up to 3 dB to what is as faint"
        gap = sound[own.size :]
        assert level_dbfs(gap) == pytest.approx(FLOOR_DBFS, abs=6)
    assert 20 * 60 <= at < 23 * 60
    for kind, share in SHARES.items():
        assert seconds[kind] / sum(seconds.values()) == pytest.approx(share, abs=0.1), kind


def test_the_same_seed_gives_the_same_stream_and_another_another(data: Path) -> None:
    clips = read_clips(data)
    first, again, other = (list(mixed(clips, 3, seed)) for seed in (1, 1, 2))
    assert [piece for piece, _ in first] == [piece for piece, _ in again] != [piece for piece, _ in other]
    assert all(np.array_equal(a, b) for (_, a), (_, b) in zip(first, again, strict=True))


def test_music_is_of_the_files_that_are_given(data: Path, tmp_path: Path) -> None:
    song = tmp_path / "song.wav"
    time = np.arange(30 * RATE) / RATE
    soundfile.write(song, 0.2 * np.sin(2 * np.pi * 440 * time), RATE)
    made = [(piece, sound) for piece, sound in mixed(read_clips(data), 10, 0, [song]) if piece.kind == MUSIC]
    assert made and {piece.group for piece, _ in made} == {"song.wav"}
    spectrum = np.abs(np.fft.rfft(made[0][1][: 10 * RATE]))
    assert np.argmax(spectrum) / 10 == pytest.approx(440, abs=1)


def test_systems_of_few_clips_share_the_turns_of_their_source() -> None:
    def spoof(system: str) -> Clip:
        return Clip(Path("x.wav"), "spoof", system, source="page")

    human, spoofed = grouped([Clip(Path("h.wav"), "bonafide", source="page"), *map(spoof, "aaabc")])
    assert list(human) == ["page"]
    assert {name: len(own) for name, own in spoofed.items()} == {"page: a": 3, "page: several": 2}


def test_what_cannot_be_mixed_is_refused(data: Path) -> None:
    clips = read_clips(data)
    with pytest.raises(UsageError, match="minutes"):
        next(mixed(clips, 0))
    with pytest.raises(InputError, match="human and spoofed"):
        next(mixed([clip for clip in clips if clip.is_bonafide], 1))


def heard(score: Callable[[float], float | None], pieces: list[StreamPiece], seconds: float = 100.0) -> ScoredStream:
    """Windows of 2 s whose score depends on their middle."""
    windows = []
    for index in range(round((seconds - 2) / HOP)):
        value = score(index * HOP + 1)
        verdict, reason = (Verdict.UNSURE, Reason.NONE) if value is not None else (Verdict.SILENT, Reason.SILENT)
        windows.append(Window(index * HOP, index * HOP + 2, value, verdict, -20.0, -10.0, 0.0, 0, reason))
    return ScoredStream(pieces, windows, seconds, 1.0)


PIECES = [
    StreamPiece(HUMAN, "a", 0, 20),
    StreamPiece(SPOOF, "b: x", 25, 45),
    StreamPiece(MUSIC, "synthesized", 50, 60),
    StreamPiece(HUMAN, "a", 65, 75),
    StreamPiece(SPOOF, "b: y", 80, 95),
]


def within(*spans: tuple[float, float]) -> Callable[[float], float]:
    return lambda at: -5.0 if any(low <= at < high for low, high in spans) else 5.0


def test_alarms_in_spoofed_turns_are_finds_with_their_delay() -> None:
    outcome = judge(heard(within((25, 45), (80, 95)), PIECES), PLAIN)
    assert (outcome.spoofed_turns, outcome.found, sum(outcome.false_alarms.values())) == (2, 2, 0)
    assert outcome.delay_seconds == pytest.approx(2.0), "a window's half and the duration"
    assert outcome.false_per_human_hour.value == 0 and outcome.false_per_human_hour.high > 0


def test_alarms_elsewhere_are_false_and_told_by_kind() -> None:
    outcome = judge(heard(within((5, 10), (52, 56), (66, 70)), PIECES), PLAIN)
    assert outcome.found == 0 and outcome.false_alarms == {HUMAN: 2, MUSIC: 1}
    assert outcome.delay_seconds is None and outcome.found_share.value == 0
    assert outcome.human_hours == pytest.approx(30 / 3600)
    assert outcome.false_per_human_hour.value == pytest.approx(2 / (30 / 3600))
    assert outcome.false_per_hour == pytest.approx(3 / (100 / 3600))


def test_an_alarm_soon_after_a_turn_is_the_turns_and_a_late_one_is_not() -> None:
    assert not sum(judge(heard(within((44, 48)), PIECES), PLAIN).false_alarms.values())
    assert sum(judge(heard(within((51, 55)), PIECES), PLAIN).false_alarms.values()) == 1


def test_an_alarm_that_still_rings_finds_the_next_turn_too() -> None:
    ringing = judge(heard(within((25, 95)), PIECES), PLAIN)
    assert (ringing.found, sum(ringing.false_alarms.values())) == (2, 0)
    assert ringing.delay_seconds == pytest.approx(2.0), "that of the first: it rang when the second began"
    false = judge(heard(within((5, 95)), PIECES), PLAIN)
    assert (false.found, sum(false.false_alarms.values())) == (0, 1), "a false alarm that goes on finds nothing"


def test_verdicts_are_counted_by_kind_in_windows_wholly_within() -> None:
    told = verdicts(heard(lambda at: None if at > 50 else 1.0, PIECES))
    assert told[MUSIC]["windows"] == 17 and told[MUSIC]["silent"] == 1 and told[MUSIC]["scored"] == 0
    assert told[HUMAN]["windows"] == 37 + 17 and told[HUMAN]["unsure"] == pytest.approx(37 / 54)


def test_the_usual_rules_are_the_settings_defaults() -> None:
    rules = usual_rules(Thresholds(-2.0, 1.0))
    assert rules.smoothing_seconds == LIVE_SMOOTHING_SECONDS
    assert rules.duration_seconds == FIELDS["alarm_duration"].default
    assert usual_rules(Thresholds(-2.0, 1.0), on=3.0).off == 3.0


def test_a_detector_of_another_rate_is_refused(exported: Callable[[str], Path]) -> None:
    detector = Detector(str(exported("streaming")))
    detector.sample_rate = 8000
    with pytest.raises(UsageError, match="8000 Hz"):
        hear(detector, iter(()))


def test_the_command_tells_of_both_gates(exported: Callable[[str], Path], data: Path, tmp_path: Path) -> None:
    target = tmp_path / "page.json"
    command = ["hours", str(exported("streaming")), "--data", str(data), "--minutes", "3", "--on", "0", "--grid"]
    assert main([*command, "--json", "-o", str(target)]) == 0
    told = json.loads(target.read_text())
    on, off = told["runs"]
    assert (on["gate"], off["gate"], on["windows"]) == ("on", "off", off["windows"])
    assert on["scored_share"] <= off["scored_share"] <= 1 and len(on["grid"]) == len(off["grid"]) > 1
    assert off["usual"]["rules"]["on"] == 0 and off["cpu_seconds_per_hour"] > 0
    assert main([*command, "-o", str(target)]) == 0
    page = target.read_text()
    assert page.startswith("# Hours of mixed sound: tiny\n") and "gate on" in page and "spoofed turns missed" in page


def test_minutes_that_cannot_be_are_one_line(
    exported: Callable[[str], Path], data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["hours", str(exported("streaming")), "--data", str(data), "--minutes", "-1"]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("edge-detect: the stream must last above 0")
