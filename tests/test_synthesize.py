"""The synthesizer of spoofed speech: what a user sees of copies, of resumed runs, of missing engines."""

from __future__ import annotations

import csv
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from tests.small_disk import small_disk
from training.synthesize import make
from training.synthesize.__main__ import main
from training.synthesize.catalogue import COPY, SPEECH
from training.synthesize.clips import HEADER, ClipRow, append_row, find_humans, read_rows
from training.synthesize.dsp import mel_filters, rms, stft
from training.synthesize.engines import fargan, neural
from training.synthesize.plan import plan_copies, plan_speech
from training.synthesize.texts import read_texts

RATE = 16_000
COPIERS = ("world", "world-vc", "griffin-lim", "griffin-lim-mel", "phase-guess", "mel-source", "lpc")
"""Vocoders that stand on numpy, scipy and pyworld alone, which CI installs."""


def vowel(seconds: float, pitch: float) -> np.ndarray:
    """A voice-like wave: the harmonics of a gliding pitch under two formants, with a little breath."""
    time = np.arange(int(seconds * RATE)) / RATE
    glide = pitch * (1 + 0.08 * np.sin(2 * np.pi * 1.5 * time))
    phase = 2 * np.pi * np.cumsum(glide) / RATE
    wave = np.zeros(len(time))
    for harmonic in range(1, int(7000 / pitch)):
        frequency = harmonic * pitch
        gain = np.exp(-(((frequency - 600) / 300) ** 2)) + 0.4 * np.exp(-(((frequency - 1800) / 500) ** 2)) + 0.01
        wave += gain * np.sin(harmonic * phase)
    wave += 0.02 * np.random.default_rng(0).standard_normal(len(time))
    return 0.08 * wave / rms(wave)


def humans(folder: Path, count: int = 2) -> Path:
    """A folder with `count` clips of human speech, as far as the programs can tell."""
    folder.mkdir()
    for number in range(count):
        soundfile.write(folder / f"h{number}.flac", vowel(1.6 + 0.1 * number, 110 + 40 * number), RATE)
    return folder


def copying(source: Path, out: Path, *engines: str) -> list[str]:
    """The command line that sends every clip of `source` through `engines`."""
    shares = [part for name in engines for part in ("--share", f"{name}=1")]
    return ["--bonafide", str(source), "-o", str(out), "--engines", ",".join(engines), *shares]


def listed(folder: Path) -> list[dict[str, str]]:
    with (folder / "clips.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def mel_distance(one: np.ndarray, other: np.ndarray) -> float:
    """Mean difference of log-mel spectra in nepers; about 0.7 is a factor of two in each band."""
    filters = mel_filters(RATE, 1024, 40, 0.0, 8000.0)
    first, second = (np.log(np.abs(stft(wave, 1024, 256)) @ filters.T + 1e-3) for wave in (one, other))
    return float(np.mean(np.abs(first - second)))


@pytest.mark.parametrize("name", COPIERS)
def test_a_copy_keeps_length_level_and_sound_but_is_another_wave(name: str, tmp_path: Path) -> None:
    source = humans(tmp_path / "human")
    assert main(copying(source, tmp_path / "out", name)) == 0
    missing = COPY[name].missing()
    if missing:
        print(f"{name} cannot run here: {missing}")
        assert not (tmp_path / "out" / "clips.csv").exists()
        return
    rows = listed(tmp_path / "out")
    assert len(rows) == 2 and list(rows[0]) == HEADER
    originals = [soundfile.read(path)[0] for path in sorted(source.iterdir())]
    for row in rows:
        assert row["label"] == "spoof" and row["system"] == f"copy-{name}" and row["source"] == "unknown"
        info = soundfile.info(tmp_path / "out" / row["file"])
        assert (info.samplerate, info.subtype, info.channels) == (RATE, "PCM_16", 1)
        copy = soundfile.read(tmp_path / "out" / row["file"])[0]
        original = next(wave for wave in originals if len(wave) == len(copy))
        level = 20 * np.log10(rms(copy) / rms(original))
        far = mel_distance(copy, original)
        print(f"{name}: level {level:+.2f} dB, mel distance {far:.3f}, peak {np.abs(copy).max():.2f}")
        assert np.abs(copy).max() < 0.99
        assert -9.0 < level < 0.1, "level may only fall, and only where a peak would clip"
        assert far < 1.5
        assert np.abs(copy - original).max() > 0.01


def test_a_seed_gives_the_same_clips_again(tmp_path: Path) -> None:
    source = humans(tmp_path / "human")
    for name in ("one", "two"):
        assert main(copying(source, tmp_path / name, "griffin-lim", "phase-guess")) == 0
    ones, twos = (sorted((tmp_path / name / "spoof").iterdir()) for name in ("one", "two"))
    assert [path.name for path in ones] == [path.name for path in twos] != []
    assert all(one.read_bytes() == two.read_bytes() for one, two in zip(ones, twos, strict=True))


def test_a_run_goes_on_where_it_was_killed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = humans(tmp_path / "human", 3), tmp_path / "out"
    command = copying(source, out, "phase-guess")
    assert main(command) == 0
    rows = listed(out)
    (out / rows[0]["file"]).unlink()
    kept = out / rows[1]["file"]
    before = kept.stat().st_mtime_ns
    lines = (out / "clips.csv").read_text()
    (out / "clips.csv").write_text(lines[: lines.rindex(",")])  # a kill in the middle of the last row
    assert main(command) == 0
    assert "3 clips planned, 1 already made" in capsys.readouterr().err
    assert kept.stat().st_mtime_ns == before
    files = {row["file"] for row in listed(out)}
    assert files == {row["file"] for row in rows} and all((out / file).is_file() for file in files)
    assert not list(out.rglob("*.part"))


@pytest.mark.nightly
def test_two_jobs_make_what_one_makes(tmp_path: Path) -> None:
    source = humans(tmp_path / "human")
    assert main(copying(source, tmp_path / "one", "griffin-lim")) == 0
    assert main([*copying(source, tmp_path / "two", "griffin-lim"), "--jobs", "2"]) == 0
    assert sorted(map(str, listed(tmp_path / "one"))) == sorted(map(str, listed(tmp_path / "two")))


def test_engines_that_are_not_there_are_skipped_with_a_word(tmp_path: Path) -> None:
    """In a process that finds no programs, and no packages but those that the tests install."""
    source = humans(tmp_path / "human")
    command = ["--bonafide", str(source), "-o", str(tmp_path / "out"), "--share", "griffin-lim=1"]
    done = subprocess.run(
        [sys.executable, "-m", "training.synthesize", *command],
        env={"PATH": "", "PYTHONPATH": str(Path(__file__).parent.parent)},
        capture_output=True,
        text=True,
    )
    said = done.stderr
    assert done.returncode == 0, said
    lines = dict(line.split(": skipped, ") for line in said.splitlines() if ": skipped, " in line)
    assert "apt-get install flite" in lines["flite"], said
    assert "pip install piper-tts" in lines["piper"], said
    assert set(SPEECH) <= set(lines) and all("install with" in reason for reason in lines.values())
    assert "copy-griffin-lim" in {row["system"] for row in listed(tmp_path / "out")}


def test_every_engine_says_whether_it_can_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines] == [*COPY, *SPEECH]
    assert all(": available (" in line or ": skipped, " in line for line in lines)


@pytest.mark.parametrize("name", ["espeak-ng", "flite"])
def test_a_voice_that_is_there_speaks(name: str, tmp_path: Path) -> None:
    there = SPEECH[name].missing() is None
    texts, out = tmp_path / "texts.txt", tmp_path / "out"
    texts.write_text("A whole sentence stands here.\n\nThe next one is | was\nno longer than that.\n")
    command = ["-o", str(out), "--texts", str(texts), "--engines", name, "--minutes", f"{name}=0.2"]
    assert main(command) == 0
    rows = listed(tmp_path / "out") if there else []
    print(f"{name}: {len(rows)} clips" if there else f"{name} is not installed here")
    assert len(rows) == (3 if there else 0)
    for row in rows:
        wave, rate = soundfile.read(tmp_path / "out" / row["file"])
        assert rate == RATE and 0.5 <= len(wave) / RATE <= 5.0 and 0.01 < rms(wave) < 0.2
        assert row["source"] == f"synth-{name}"
        assert float(row["seconds"]) == pytest.approx(len(wave) / RATE, abs=1e-3)


def test_what_cannot_be_read_or_written_is_one_line_and_a_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = humans(tmp_path / "good"), humans(tmp_path / "bad", 1)
    (bad / "broken.flac").write_bytes(b"this is no audio")
    (tmp_path / "file").write_text("in the way")
    out = tmp_path / "out"
    cases = [
        (copying(tmp_path / "nowhere", out, "griffin-lim"), 3, "no such file or folder"),
        (copying(bad, out, "griffin-lim"), 3, "broken.flac: cannot be read as audio"),
        (
            [*copying(good, out, "griffin-lim"), "--texts", str(tmp_path / "none")],
            3,
            "cannot be read as text",
        ),
        (copying(good, tmp_path / "file", "griffin-lim"), 5, "cannot be made"),
    ]
    for command, code, words in cases:
        assert main(command) == code
        said = capsys.readouterr().err
        assert words in said, said
        assert "Traceback" not in said, said


def test_a_full_disk_ends_the_run_with_code_5(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = humans(tmp_path / "human")
    with small_disk(tmp_path / "disk", 512) as disk:
        command = copying(source, disk.folder / "out", "griffin-lim")
        assert main(command) == 0
        made = {path: path.read_bytes() for path in (disk.folder / "out").rglob("*.*")}
        shutil.rmtree(disk.folder / "out" / "spoof")
        (disk.folder / "out" / "clips.csv").unlink()
        capsys.readouterr()
        disk.fill()
        assert main(command) == 5
        said = capsys.readouterr().err
        assert ("No space left" if disk.mounted else "cannot be written") in said and "Traceback (" not in said, said
        disk.free()
        assert main(command) == 0, "it goes on where it was"
        assert {path: path.read_bytes() for path in (disk.folder / "out").rglob("*.*")} == made


def test_shares_and_minutes_are_kept(tmp_path: Path) -> None:
    row = ClipRow("x.flac", "bonafide", "-", "s", "own", "CC0", "16000", "lossless", "3.0")
    table = tmp_path / "clips.csv"
    for number in range(400):
        append_row(table, ClipRow(f"{number}.flac", *list(vars(row).values())[1:]))
    assert len(read_rows(table)) == 400
    engine = COPY["world"]
    tasks = plan_copies(find_humans(tmp_path), [engine], {"world": 1.25}, seed=3)
    print(f"{len(tasks)} copies of 400 clips at a share of 1.25")
    assert 460 < len(tasks) < 540 and len({task.file for task in tasks}) == len(tasks)


def test_every_language_a_voice_asks_for_has_varied_sentences() -> None:
    texts = read_texts()
    generator = np.random.default_rng(0)
    for language in ("en", "de", "fr", "es", "it", "zh", "ja", "ru", "hi"):
        drawn = {texts.draw(language, generator) for _ in range(60)}
        assert len(drawn) > 12, f"{language}: only {len(drawn)} of 60 sentences differ"
    tasks = plan_speech([SPEECH["hibari"]], {"hibari": 10}, texts, seed=1)
    assert len({task.text for task in tasks}) > 0.8 * len(tasks)


def test_hifi_gan_gets_the_mel_it_was_trained_on() -> None:
    """A full-scale 1 kHz tone: 80 bands, a frame each 256 samples, its peak where Slaney's scale puts it."""
    tone = np.sin(2 * np.pi * 1000 * np.arange(22_050) / 22_050)
    mel = neural.log_mel(tone)
    assert mel.shape == (87, 80)
    peak = int(mel[40].argmax())
    print(f"peak in band {peak} at {mel[40].max():.2f}")
    assert 26 <= peak <= 28 and 0.0 < mel[40].max() < 3.0
    assert make.LONGEST == 5 * RATE


@pytest.mark.parametrize("name", [engine.name for engine in fargan.ENGINES])
def test_opus_vocoder_copies_what_it_hears_where_it_hears_it(name: str) -> None:
    engine = COPY[name]
    if reason := engine.missing():
        pytest.skip(reason)
    wave = np.concatenate([vowel(0.5, pitch) for pitch in (110, 190, 130)])
    copy = engine.render(wave, RATE, np.random.default_rng(2))
    assert abs(len(copy) - len(wave)) < RATE // 50
    long = min(len(copy), len(wave))
    filters = mel_filters(RATE, 1024, 40, 0.0, 8000.0)
    first, second = (np.log(np.abs(stft(w[:long], 1024, 160)) @ filters.T + 1e-2)[8:-8] for w in (wave, copy))
    far = {lag: float(np.abs(first - np.roll(second, lag, axis=0))[4:-4].mean()) for lag in range(-3, 4)}
    print(name, far)
    assert min(far, key=lambda lag: far[lag]) in (-1, 0, 1), "it is where the original is, to 10 ms"
    assert np.abs(copy[:long] - wave[:long]).max() > 0.01


@given(
    frames=st.integers(1, 200), pitch=st.floats(-1.49, 1.49), spread=st.floats(0, 0.8), seed=st.integers(0, 2**32 - 1)
)
def test_changed_features_stay_what_the_vocoder_knows(frames: int, pitch: float, spread: float, seed: int) -> None:
    generator = np.random.default_rng(seed)
    features = generator.standard_normal((frames, fargan.FEATURES)).astype(np.float32)
    features[:, fargan.PITCH] = np.clip(pitch + spread * features[:, fargan.PITCH], *fargan.PITCHES)
    moved = fargan.repitched(features.copy(), generator)
    assert moved.dtype == np.float32 and np.isfinite(moved).all()
    low, high = fargan.PITCHES
    assert (moved[:, fargan.PITCH] >= low - 1e-6).all() and (moved[:, fargan.PITCH] <= high + 1e-6).all()
    others = np.arange(fargan.FEATURES) != fargan.PITCH
    assert np.array_equal(moved[:, others], features[:, others]), "the sound of the voice is as it was"
    blurred = fargan.smoothed(features.copy(), generator)
    assert np.array_equal(blurred[:, fargan.PITCH + 1 :], features[:, fargan.PITCH + 1 :])
    assert (
        np.ptp(blurred[:, : fargan.BANDS], axis=0) <= 1.06 * np.ptp(features[:, : fargan.BANDS], axis=0) + 1e-5
    ).all()
