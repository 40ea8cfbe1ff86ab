"""Clips of demo pages: sound of every kind that pages hold, in real repositories, and what goes wrong with it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from scipy import signal as dsp

from evaluation.protocols import read_clips
from tests.paged import OTHER, PAGE, one_page, pages, repository, row, sound, spoken, table, write_list
from tests.waiting import until
from training.pages.__main__ import main
from training.pages.cut import RATE


def test_every_kind_of_sound_becomes_a_clip_of_one_form(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ("a b/ümläut, “quoted” 'x'.wav", "-dash.mp3", "日本/$(x);&.flac", "a:b@{1}#?.m4a", "two\nlines.ogg")
    contents = {
        name: (("bonafide", "spoof")[number % 2], sound(tmp_path, name, spoken(number, 1.5 + 2 * number)))
        for number, name in enumerate(names)
    }
    one_page(tmp_path, contents)
    assert main(pages(tmp_path)) == 0
    counts = json.loads(capsys.readouterr().out)
    assert (counts["clips"], counts["bonafide"], counts["spoof"], counts["left out"]) == (5, 3, 2, {})
    assert counts["spoof by year of the system"] == {"2024": 2} and counts["without a stated licence"] == 5
    assert counts["systems by year"] == {"2024": 1}
    minutes = counts["minutes of bonafide"] + counts["minutes of spoof by year"]["2024"]
    assert minutes == pytest.approx(counts["minutes"], abs=0.11) and counts["minutes of spoof by year"]["2024"] > 0
    clips = read_clips(tmp_path / "out")
    assert {(clip.label, clip.kind, clip.year, clip.language, clip.source) for clip in clips} == {
        ("bonafide", "human", "2024", "en", "some/page.github.io"),
        ("spoof", "tts", "2024", "en", "some/page.github.io"),
    }
    origin = {line["file"]: line for line in table(tmp_path / "out" / "origin.csv")}
    assert {line["path"] for line in origin.values()} == {f"{PAGE}/{name}" for name in names}
    for clip in clips:
        samples, rate = soundfile.read(clip.path)
        assert (rate, soundfile.info(clip.path).subtype, samples.ndim) == (RATE, "PCM_16", 1)
        assert RATE <= len(samples) <= 5 * RATE
        level = float(np.sqrt(np.mean(samples**2)))
        assert level == pytest.approx(0.05, rel=0.02) or np.abs(samples).max() == pytest.approx(0.99, abs=0.01)
        power = np.abs(np.fft.rfft(samples)) ** 2
        high = power[round(len(power) * 7_700 / 8_000) :].sum() / power.sum()
        assert high < 1e-4, f"{clip.path}: {high}"
        about = origin[str(clip.path.relative_to(tmp_path / "out"))]
        spare = int(about["whole_samples"]) - 5 * RATE
        place = int(about["sha256"][:8], 16) % (spare + 1) if spare > 0 else 0
        assert int(about["offset_samples"]) == place


@pytest.mark.parametrize("folder", [PAGE, f"{PAGE}/repo", "some/page.github.io", "page.github.io", f"{PAGE}.git"])
@pytest.mark.parametrize("bare", [False, True])
def test_a_clone_is_found_under_each_of_its_names(tmp_path: Path, folder: str, bare: bool) -> None:
    content = sound(tmp_path, "x.wav", spoken(1))
    (tmp_path / "clones" / folder).parent.mkdir(parents=True)
    repository(tmp_path / "clones" / folder, {"x.wav": content}, bare=bare)
    write_list(tmp_path / "list.csv", [row(PAGE, "x.wav", "spoof", content)])
    assert main(pages(tmp_path)) == (3 if folder.endswith(".io.git") and not bare else 0)


def test_without_a_ref_the_clip_is_found_wherever_it_lies_and_packed_as_flac(tmp_path: Path) -> None:
    clone = tmp_path / "clones" / PAGE
    repository(clone, {"packed.flac": sound(tmp_path, "x.flac", spoken(1))})
    subprocess.run(["git", "checkout", "-q", "--orphan", "pages"], cwd=clone, check=True)
    subprocess.run(["git", "rm", "-rfq", "."], cwd=clone, check=True)
    repository(clone, {"elsewhere.wav": sound(tmp_path, "x.wav", spoken(2))})
    write_list(tmp_path / "list.csv", [row(PAGE, n, "spoof", ref="", year="") for n in ("packed.wav", "elsewhere.wav")])
    assert main(pages(tmp_path)) == 0
    assert len(read_clips(tmp_path / "out")) == 2


def test_each_fault_has_a_line_and_the_rest_is_cut(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    silence = np.zeros(48_000, np.float32)
    late = np.concatenate((np.zeros(24_000 * 60, np.float32), spoken(3), np.zeros(24_000 * 60, np.float32)))
    contents = {
        "good.wav": ("bonafide", sound(tmp_path, "x.wav", spoken(1))),
        "late.wav": ("spoof", sound(tmp_path, "x.wav", late)),
        "silent.wav": ("spoof", sound(tmp_path, "x.wav", silence)),
        "short.wav": ("spoof", sound(tmp_path, "x.wav", spoken(2, 0.4))),
        "broken.mp3": ("spoof", b"ID3\x04 and no more of it"),
        "page.wav": ("spoof", b"<!DOCTYPE html><p>404</p>"),
        "pointer.wav": ("spoof", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"),
        "changed.wav": ("spoof", sound(tmp_path, "x.wav", spoken(4))),
        "both-1.wav": ("spoof", sound(tmp_path, "x.wav", spoken(5))),
        "both-2.wav": ("bonafide", sound(tmp_path, "x.wav", spoken(5))),
        "slow.wav": ("spoof", sound(tmp_path, "x.wav", spoken(6), rate=100)),
    }
    one_page(tmp_path, contents)
    rows = table(tmp_path / "list.csv")
    next(line for line in rows if line["path"].endswith("changed.wav"))["sha256"] = "0" * 64
    rows += [row(PAGE, "gone\x1b[2J.wav", "spoof", b"x"), row(PAGE, "../../../etc.wav/..wav", "spoof", b"y")][:1]
    rows += [row(OTHER, f"{n}.wav", "spoof", bytes([n])) for n in range(3)]
    write_list(tmp_path / "list.csv", rows)
    assert main(pages(tmp_path)) == 0
    said = capsys.readouterr()
    counts = json.loads(said.out)
    assert {clip.path.parent.name for clip in read_clips(tmp_path / "out")} == {"bonafide", "spoof"}
    assert counts["clips"] == 2 and counts["left out"] == {
        "there is no clone of its repository": 3,
        "it cannot be decoded": 3,
        "it is silent": 1,
        "it has 0.40 s: too short": 1,
        "other bytes than the list says": 1,
        "not in the clone": 1,
        "its rate is 100 Hz": 1,
        "the same bytes are listed as bonafide and as spoof": 2,
    }
    assert "there is no clone of other/demo; clips left out: 3" in said.err.splitlines()
    assert len(said.err.splitlines()) == 11 and said.err.isascii() and "\x1b" not in said.err
    origin = next(line for line in table(tmp_path / "out" / "origin.csv") if line["path"].endswith("late.wav"))
    assert 55 * RATE <= int(origin["offset_samples"]) <= 62 * RATE, "a silent stretch gives way to the loudest"


def test_nothing_cut_is_an_error_of_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "clones").mkdir()
    write_list(tmp_path / "list.csv", [row(PAGE, "x.wav", "spoof", b"x")])
    assert main(pages(tmp_path)) == 3
    said = capsys.readouterr()
    assert said.out == "" and said.err.splitlines() == [
        "there is no clone of some/page.github.io; clips left out: 1",
        f"edge-detect: none of 1 clips could be cut; {PAGE}/x.wav: there is no clone of its repository",
    ]
    assert not (tmp_path / "out" / "clips.csv").exists()


def test_one_sound_counts_once_whatever_its_codec_rate_and_level(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wave = spoken(1, 4)
    slower = dsp.resample_poly(wave, 2, 3).astype(np.float32)
    first = {"a.wav": sound(tmp_path, "a.wav", wave), "said.wav": sound(tmp_path, "a.wav", spoken(7))}
    second = {
        "b.mp3": sound(tmp_path, "b.mp3", 0.5 * wave),
        "c.flac": sound(tmp_path, "c.flac", slower, 16_000),
        "d.m4a": sound(tmp_path, "d.m4a", wave),
        "e.wav": sound(tmp_path, "e.wav", spoken(2, 4)),
        "said.mp3": sound(tmp_path, "said.mp3", spoken(7)),
    }
    repository(tmp_path / "clones" / PAGE, first)
    repository(tmp_path / "clones" / OTHER, second)
    rows = [row(PAGE, "a.wav", "bonafide", first["a.wav"]), row(PAGE, "said.wav", "spoof", first["said.wav"])]
    rows += [row(OTHER, name, "bonafide", second[name]) for name in ("b.mp3", "c.flac", "d.m4a", "e.wav")]
    rows += [row(OTHER, "said.mp3", "spoof", second["said.mp3"], system="Other")]
    write_list(tmp_path / "list.csv", rows)
    assert main(pages(tmp_path)) == 0
    counts = json.loads(capsys.readouterr().out)
    assert (counts["bonafide"], counts["spoof"]) == (2, 2), "two systems that say the same are two clips"
    assert (counts["same sound as another"], counts["of these on two pages"]) == (3, 3)
    assert sorted(clip.source for clip in read_clips(tmp_path / "out") if clip.is_bonafide) == [
        "other/demo",
        "some/page.github.io",
    ]


def test_what_is_judged_on_is_not_learnt_from(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wave = spoken(1, 3)
    kept, learnt = sound(tmp_path, "x.wav", wave), sound(tmp_path, "x.mp3", wave)
    other = sound(tmp_path, "x.wav", spoken(2))
    repository(tmp_path / "clones" / PAGE, {"x.wav": kept})
    repository(tmp_path / "clones" / OTHER, {"x.mp3": learnt, "y.wav": other})
    rows = [row(PAGE, "x.wav", "bonafide", kept, use="dev2"), row(OTHER, "x.mp3", "bonafide", learnt)]
    write_list(tmp_path / "list.csv", [*rows, row(OTHER, "y.wav", "spoof", other)])
    judged = str(tmp_path / "judged")
    assert main(pages(tmp_path, "--apart-from", judged)) == 3
    assert "cut it first" in capsys.readouterr().err
    assert main(pages(tmp_path, "--use", "dev2", out="judged")) == 0
    assert main(pages(tmp_path, "--apart-from", judged)) == 0
    counts = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert counts["same sound as one kept apart"] == 1
    assert [clip.label for clip in read_clips(tmp_path / "out")] == ["spoof"]
    assert main(pages(tmp_path, "--use", "dev2")) == 2
    assert "a folder of its own" in capsys.readouterr().err


def test_what_is_left_out_by_request(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    contents = {f"{n}.wav": sound(tmp_path, "x.wav", spoken(n)) for n in range(4)}
    repository(tmp_path / "clones" / PAGE, {name: contents[name] for name in ("0.wav", "1.wav", "2.wav")})
    repository(tmp_path / "clones" / OTHER, {"3.wav": contents["3.wav"]})
    rows = [
        row(PAGE, "0.wav", "bonafide", contents["0.wav"], licence="repo MIT (clips: not said)"),
        row(PAGE, "1.wav", "spoof", contents["1.wav"], licence=""),
        row(PAGE, "2.wav", "spoof", contents["2.wav"], system="Editor (partial spoof)", licence="CC0"),
        row(OTHER, "3.wav", "spoof", contents["3.wav"], licence="none stated (demo page)"),
    ]
    write_list(tmp_path / "list.csv", rows)
    for more, count in (
        ((), 4),
        (("--stated-licence-only",), 2),
        (("--without-partial",), 3),
        (("--source", "other/demo"), 1),
        (("--source", "other/demo", "--source", "some/page.github.io", "--without-partial"), 3),
    ):
        assert main(pages(tmp_path, *more)) == 0
        assert len(read_clips(tmp_path / "out")) == count, more
    assert len(table(tmp_path / "out" / "origin.csv")) == 4, "a run of a part forgets nothing of the others"
    capsys.readouterr()
    assert main(pages(tmp_path, "--source", "no/where")) == 2
    assert main(pages(tmp_path, "--source", "other/demo", "--stated-licence-only")) == 2
    assert capsys.readouterr().err.count("edge-detect: ") == 2
    listing = str(tmp_path / "list.csv")
    assert main([str(tmp_path / "none"), "-o", str(tmp_path / "o"), "--list", listing, "--repositories"]) == 0
    assert capsys.readouterr().out.splitlines() == ["other/demo", "some/page.github.io"]
    assert not (tmp_path / "o").exists()


def test_a_run_that_was_killed_goes_on_where_it_was(tmp_path: Path) -> None:
    contents = {f"{n}.wav": ("spoof", sound(tmp_path, "x.wav", spoken(n, 1.2))) for n in range(60)}
    one_page(tmp_path, contents)
    command = [sys.executable, "-m", "training.pages", *pages(tmp_path)]
    journal, out = tmp_path / "out" / "origin.part.csv", tmp_path / "out"
    first = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until(lambda: journal.is_file() and journal.read_text().count("\n") > 5)
    first.send_signal(signal.SIGKILL)
    first.wait()
    with journal.open("a") as file:
        file.write("spoof/torn")
    before = {path: path.stat().st_mtime_ns for path in (out / "spoof").glob("*.flac")}
    noted = {line.split(",")[0] for line in journal.read_text().splitlines() if line.endswith("0") or len(line) > 600}
    assert main(pages(tmp_path)) == 0
    assert len(read_clips(out)) == 60 and not journal.exists()
    kept = {path for path, time in before.items() if path.stat().st_mtime_ns == time}
    assert {out / name for name in noted if name.endswith(".flac")} <= kept and len(kept) >= 5
    times = {path: path.stat().st_mtime_ns for path in (out / "spoof").glob("*.flac")}
    whole = (out / "clips.csv").read_bytes()
    os.rename(tmp_path / "clones" / PAGE, tmp_path / "clones" / "gone")
    assert main(pages(tmp_path)) == 0, "what is cut needs no clone"
    assert times == {path: path.stat().st_mtime_ns for path in (out / "spoof").glob("*.flac")}
    assert whole == (out / "clips.csv").read_bytes()


def test_several_processes_make_what_one_makes(tmp_path: Path) -> None:
    one_page(tmp_path, {f"{n}.wav": ("spoof", sound(tmp_path, "x.wav", spoken(n, 1.2))) for n in range(12)})
    assert main(pages(tmp_path)) == 0
    done = subprocess.run(
        [sys.executable, "-m", "training.pages", *pages(tmp_path, "--jobs", "2", out="two")],
        capture_output=True,
        check=True,
    )
    assert json.loads(done.stdout)["clips"] == 12
    for name in ("clips.csv", "origin.csv"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_counts_that_nobody_reads_or_no_disk_takes_leave_the_clips(tmp_path: Path) -> None:
    one_page(tmp_path, {"x.wav": ("spoof", sound(tmp_path, "x.wav", spoken(1)))})
    command = [sys.executable, "-m", "training.pages", *pages(tmp_path)]
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as pipe:
        done = subprocess.run(command, stdout=pipe, stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (0, b"")
    with open("/dev/full", "wb") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 5 and done.stderr.count(b"\n") == 1 and b"No space left" in done.stderr
    assert len(read_clips(tmp_path / "out")) == 1


def test_where_nothing_can_be_written_it_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one_page(tmp_path, {"x.wav": ("spoof", sound(tmp_path, "x.wav", spoken(1)))})
    (tmp_path / "file").write_text("")
    assert main(pages(tmp_path, out="file/below")) == 5
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "origin.csv").write_bytes(b"\xff\xfe no table")
    assert main(pages(tmp_path)) == 3
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2 and "cannot write" in said[0] and "remove it" in said[1]
