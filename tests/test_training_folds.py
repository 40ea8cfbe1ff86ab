"""Clips scored by heads that never met their sources; thresholds from such scores; clips drawn by source."""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file

from benchmarks.__main__ import main as benchmarks
from export.checkpoint import load, save
from export.rawnet2 import RawNet2
from tests.buzzing import RATE, SMALL
from tests.conftest import voice
from tests.test_thresholds import crowd
from training import calibrate, folds, head, window_crops
from training.batches import Crops, Library, Strengths
from training.blocks import with_blocks
from training.calibrate import ErrorLimits, judged_by_others
from training.heads import fold_scores
from training.heads.crop_features import Origin, Summaries, chosen, read, together, without_sources
from training.heads.window_features import see
from training.verdicts import hear

SOURCES = 6
CONFIG = with_blocks(replace(SMALL, window_samples=25600), 20, 10, 3)
Rows = list[dict[str, str]]


def pages(folder: Path) -> Path:
    """A list of six sources, each with two human clips, a system of its own, and a copy whose list names no source."""
    rows = ["file,label,system,source,original,kind,year,language"]
    for source in range(SOURCES):
        rng = np.random.default_rng(source)
        for number in range(2):
            human = 0.3 * voice(2.2, 2 * source + number)
            pulses = np.cumsum(rng.uniform(0.02, 0.06) * np.ones(len(human)))
            buzz = human + 0.3 * np.abs(human).max() * (np.sin(pulses) > 0.95)
            names = [f"{kind}{source}{number}.flac" for kind in ("h", "s")]
            for name, sound in zip(names, (human, buzz), strict=True):
                soundfile.write(folder / name, sound, RATE)
            rows.append(f"{names[0]},bonafide,-,page {source},,human,,{'en' if source % 2 else 'zh'}")
            about = f"page {source},,tts,202{source},en" if number else f"lost,{names[0]},vocoder,2020,en"
            rows.append(f"{names[1]},spoof,{'copy-buzz' if not number else f'tts {source}'},{about}")
    (folder / "clips.csv").write_text("\n".join(rows) + "\n")
    lines = [f"page {source},{source % 3}" for source in range(SOURCES)]
    (folder / "FOLDS.csv").write_text("\n".join(["source,fold", *lines]) + "\n")
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips, folds, a start, crops that were kept, and the scores of a first run."""
    folder = pages(tmp_path_factory.mktemp("pages"))
    torch.manual_seed(0)
    save(folder / "start.safetensors", RawNet2(CONFIG))
    kept: list[str | Path] = ["--keep", folder / "crops", "--windows", folder / "windows", "--crops", "192"]
    assert run(folder, *kept, "-o", folder / "S.csv") == 0
    return folder


def run(folder: Path, *options: str | Path) -> int:
    start = [folder / "start.safetensors", "--data", folder, "--folds", folder / "FOLDS.csv"]
    fitted = ["--nodes", "8", "--epochs", "4", "--augmentation", "0"]
    return folds.main([*map(str, start), *fitted, *map(str, options)])


def rows_of(path: Path) -> Rows:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_table_is_what_the_protocol_of_folds_scores(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = rows_of(data / "S.csv")
    assert len(rows) == 4 * SOURCES
    assert all(row["fold"] == str(int(row["source"][-1]) % 3) for row in rows)
    copies = [row for row in rows if row["system"] == "copy-buzz"]
    assert {row["source"] for row in copies} == {f"page {n}" for n in range(SOURCES)}, "that of the original"
    assert {(row["kind"], row["year"]) for row in copies} == {("vocoder", "2020")}
    assert all(float(row["duration"]) == pytest.approx(2.2) and row["verdict"] for row in rows)
    assert benchmarks(["folds", "score", str(data / "S.csv"), "--rounds", "5", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["figures"]["eer"]["spoof"] == 2 * SOURCES


def test_a_head_learns_nothing_of_the_fold_that_it_judges(data: Path, tmp_path: Path) -> None:
    crops = read(data / "crops")
    met = [any(source in ("page 0", "page 3") for source in origin.sources) for origin in crops.origins]
    pairs = np.array(met).reshape(-1, 2).any(1).repeat(2)
    assert 0 < pairs.sum() < len(pairs)
    assert any(len(origin.sources) > 1 for origin in crops.origins), "joined crops are of both"
    inputs = crops.inputs.clone()
    inputs[torch.from_numpy(pairs)] = -3 * inputs[torch.from_numpy(pairs)] + 1
    replace(crops, inputs=inputs).save(tmp_path / "crops")
    again = []
    for file in (data / "crops", tmp_path / "crops"):
        assert run(data, "--also", file, "--windows", data / "windows", "-o", tmp_path / "S.csv") == 0
        again.append(rows_of(tmp_path / "S.csv"))
    assert again[0] == rows_of(data / "S.csv"), "what was kept gives what it gave"
    for one, other in zip(*again, strict=True):
        assert (one["windows"] == other["windows"]) == (one["fold"] == "0"), one["file"]


def test_runs_teach_each_other_within_a_fold(data: Path, tmp_path: Path) -> None:
    kept: list[str | Path] = ["--also", data / "crops", "--windows", data / "windows"]
    more: list[str | Path] = ["--keep", tmp_path / "more", "--crops", "64", "--seed", "2", "--balance", "source"]
    assert run(data, *kept, *more, "--distillation", "1", "-o", tmp_path / "taught.csv") == 0
    assert run(data, *kept, "--also", tmp_path / "more", "--seed", "2", "-o", tmp_path / "alone.csv") == 0
    said, alone = (rows_of(tmp_path / f"{name}.csv") for name in ("taught", "alone"))
    assert [row["file"] for row in said] == [row["file"] for row in alone]
    assert [row["windows"] for row in said] != [row["windows"] for row in alone]
    assert read(tmp_path / "more").made[0]["balance"] == "source"


def test_clips_as_they_are_become_crops_of_which_folds_keep_apart_what_they_judge(data: Path, tmp_path: Path) -> None:
    """Their summaries are the very ones that judging sees, so a fold's own must never be learnt."""
    given = ["--data", data, "--windows", data / "windows", "--crops", "200", "--seed", "9", "-o", tmp_path / "raw"]
    assert window_crops.main([*map(str, [data / "start.safetensors", *given])]) == 0
    crops = read(tmp_path / "raw")
    seen = {tuple(row) for row in load_file(data / "windows")["windows"].tolist()}
    assert len(crops) == 200 and {tuple(row) for row in crops.inputs.tolist()} <= seen
    sources = [origin.sources for origin in crops.origins]
    assert {name for (name,) in sources} == {f"page {n}" for n in range(SOURCES)}, "a copy's is its original's"
    assert np.mean([sources[n] == sources[n + 1] for n in range(0, 200, 2)]) > 0.7
    kept = folds.apart(crops, {f"page {n}": str(n % 3) for n in range(SOURCES)}, "1")
    assert 0 < len(kept) < 200 and not {sources[place] for place in kept} & {("page 1",), ("page 4",)}
    more: list[str | Path] = ["--also", data / "crops", "--also", tmp_path / "raw", "--windows", data / "windows"]
    assert run(data, *more, "-o", tmp_path / "S.csv") == 0
    assert rows_of(tmp_path / "S.csv") != rows_of(data / "S.csv")


def test_sources_are_left_out_of_what_is_learnt(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    listed = tmp_path / "names"
    listed.write_text("page 1\npage 4\n")
    kept: list[str | Path] = ["--also", data / "crops", "--windows", data / "windows", "--without-sources", listed]
    (left,) = without_sources([read(data / "crops")], listed)
    sources = {source for origin in left.origins for source in origin.sources}
    assert len(left) % 2 == 0 and sources == {f"page {n}" for n in (0, 2, 3, 5)}
    assert run(data, *kept, "-o", tmp_path / "S.csv") == 0
    assert len(rows_of(tmp_path / "S.csv")) == 4 * SOURCES, "they are judged all the same"
    for text, says in (("page 9", "no crop is of the source 'page 9'"), (None, "cannot read")):
        listed.unlink()
        if text:
            listed.write_text(text)
        assert run(data, *kept, "-o", tmp_path / "no.csv") == (2 if text else 3)
        assert says in capsys.readouterr().err


def test_a_pair_is_left_out_if_either_crop_has_sound_of_the_fold() -> None:
    origins = [("a",), ("b",), ("c",), ("c", "a"), ("b",), ("d",), ("c",), ("c",)]
    crops = Summaries(
        torch.zeros(8, 2).half(), torch.arange(8) % 2, ("x",) * 8, "", (), tuple(Origin(names) for names in origins)
    )
    assert folds.apart(crops, {"a": "0", "b": "1", "c": "2"}, "0") == [4, 5, 6, 7], "no fold has d"
    assert folds.apart(crops, {"a": "0", "b": "1", "c": "2"}, "1") == [2, 3, 6, 7]


def test_what_the_encoder_saw_of_clips_gives_the_scores_that_they_have(data: Path) -> None:
    library = Library(folds.read_clips(data), RATE)
    torch.manual_seed(1)
    model = head.without_head(load(data / "start.safetensors").model, 8)
    seen = see(model, library.clips, library.samples, "", 0.2, False)
    heard = hear(model, library.clips, library.samples, 0.2, "clips")
    for place, clip in enumerate(heard):
        windows = seen.scored(place, head.judged(model, seen.of(place))).windows
        assert [replace(w, score=None) for w in windows] == [replace(w, score=None) for w in clip.windows]
        for one, other in zip(windows, clip.windows, strict=True):
            assert one.score == pytest.approx(other.score, abs=0.01)


def test_crops_of_before_they_said_their_source_are_read_and_not_taken_for_folds(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    crops = read(data / "crops")
    assert crops.origins[0].kind in ("vocoder", "tts") and crops.origins[1].kind == "human"
    replace(crops, origins=()).save(tmp_path / "old")
    old = read(tmp_path / "old")
    assert old.systems == crops.systems and set(old.origins) == {Origin()}
    both = together([old, crops])
    assert both.origins[len(old) :] == crops.origins and len(both.origins) == len(both)
    assert chosen(crops, [2, 3]).origins == crops.origins[2:4]
    both.save(tmp_path / "both")
    assert read(tmp_path / "both").origins == both.origins
    out = tmp_path / "S.csv"
    assert run(data, "--also", tmp_path / "both", "--windows", data / "windows", "-o", out) == 3
    said = capsys.readouterr().err
    assert "which sources" in said and said.count("\n") == 1 and not out.exists()


@pytest.mark.parametrize(
    ("case", "code", "word"),
    [
        ("no fold", 3, "page 5"),
        ("two folds", 3, "two folds"),
        ("one fold", 3, "left to learn"),
        ("other hop", 2, "--hop"),
        ("damaged windows", 3, "--windows"),
        ("twice", 3, "twice"),
        ("learn", 2, "--keep"),
        ("distillation", 2, "--distillation"),
        ("onto start", 2, "twice"),
        ("no folder", 5, "folder"),
        ("another encoder", 2, "another encoder"),
    ],
)
def test_what_cannot_be_judged_is_refused_in_a_line(
    case: str, code: int, word: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, windows, start, out = data / "FOLDS.csv", data / "windows", data / "start.safetensors", tmp_path / "S.csv"
    crops, more, lines = data / "crops", [], table.read_text().splitlines()
    if case in ("no fold", "two folds", "one fold"):
        changed = {
            "no fold": lines[:-1],
            "two folds": [*lines, "page 5,0"],
            "one fold": [f"{row[:7]}0" for row in lines],
        }
        table = tmp_path / "FOLDS.csv"
        table.write_text("\n".join([lines[0], *changed[case][1:]]) + "\n")
    elif case == "damaged windows":
        windows = tmp_path / "windows"
        windows.write_bytes((data / "windows").read_bytes()[:-9])
    elif case == "another encoder":
        save(tmp_path / "start.safetensors", RawNet2(CONFIG))
        start = tmp_path / "start.safetensors"
    elif case == "onto start":
        out = start
    elif case == "no folder":
        out = tmp_path / "none" / "S.csv"
    else:
        options = {"other hop": ["--hop", "0.8"], "twice": ["--data", str(data)], "learn": ["--learn", str(data)]}
        more = (options | {"distillation": ["--distillation", "0.5"]})[case]
    before = start.read_bytes()
    command = [start, "--data", data, "--folds", table, "--windows", windows, "--also", crops, "-o", out]
    fitted = ["--nodes", "8", "--epochs", "1"]
    assert folds.main([*map(str, command), *fitted, *more]) == code
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("edge-detect: ")]
    assert len(said) == 1 and word in said[0] and start.read_bytes() == before and (out == start or not out.exists())


def test_scores_of_folds_come_back_as_they_were(tmp_path: Path) -> None:
    heard = [
        replace(item, clip=replace(item.clip, path=Path(f"{n}.flac"), kind="tts", year="2024", language="en"))
        for n, item in enumerate(crowd(clips=3))
    ]
    parts = [item.clip.source[-1] for item in heard]
    said = judged_by_others(heard, ErrorLimits(), parts, strictly=True)
    assert fold_scores.write(tmp_path / "S.csv", heard, said, parts, [4.0] * len(heard)) == len(heard)
    found, found_parts = fold_scores.read(tmp_path / "S.csv")
    assert found_parts == parts
    for one, other in zip(heard, found, strict=True):
        assert [w.score for w in other.windows] == pytest.approx([w.score for w in one.windows], rel=1e-5)
        assert (other.clip.source, other.clip.language, other.clip.year) == (one.clip.source, "en", "2024")


def scores(folder: Path, change: tuple[str, str] = ("", "")) -> Path:
    heard = [
        replace(item, clip=replace(item.clip, path=Path(f"{n}.flac"), language="zh" if n % 3 else "en"))
        for n, item in enumerate(crowd(sources=12))
    ]
    parts = [str(int(item.clip.source.split()[1]) % 4) for item in heard]
    said = judged_by_others(heard, ErrorLimits(), parts, strictly=True)
    fold_scores.write(folder / "S.csv", heard, said, parts, [5.0] * len(heard))
    path = folder / "S.csv"
    path.write_text(path.read_text().replace(*change, 1) if change[0] else path.read_text())
    return path


def test_thresholds_are_fitted_on_scores_of_folds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    start, out = tmp_path / "start.safetensors", tmp_path / "out.safetensors"
    save(start, RawNet2(CONFIG), figures={"head": {"nodes": 8}})
    assert calibrate.main([str(start), "--folds", str(scores(tmp_path)), "-o", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "over 4 folds" in printed and "least" in printed and "by language: " in printed and " of " in printed
    found = load(out)
    calibration = found.calibration
    assert calibration is not None and calibration.threshold <= calibration.threshold_bonafide
    figures = found.figures["calibration"]
    assert figures["human_clips_called_spoof"] < 0.06 and found.figures["head"] == {"nodes": 8}
    assert figures["min_cllr_bits_clips"] <= figures["cllr_bits_clips"] < 1
    by_language = figures["human_clips_called_spoof_by_language"]
    assert sum(clips for _, clips in by_language.values()) == 12 * 12


@pytest.mark.parametrize(
    ("change", "options", "code", "word"),
    [
        ((",windows", ",window"), [], 3, "lacks the column windows"),
        (("0:4:", "0;4:"), [], 3, "START:END:RAW"),
        (("0:4:", "nan:4:"), [], 3, "START:END:RAW"),
        (("bonafide,source 0", "bonafide,source 1"), [], 3, "several folds"),
        (("", ""), ["--data", "."], 2, "--folds"),
    ],
)
def test_scores_that_thresholds_cannot_be_fitted_on_are_refused_in_a_line(
    change: tuple[str, str],
    options: list[str],
    code: int,
    word: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    save(tmp_path / "start.safetensors", RawNet2(CONFIG))
    out = tmp_path / "out.safetensors"
    command = [str(tmp_path / "start.safetensors"), "--folds", str(scores(tmp_path, change)), "-o", str(out)]
    assert calibrate.main([*command, *options]) == code
    said = capsys.readouterr().err
    assert word in said and said.startswith("edge-detect: ") and said.count("\n") == 1 and not out.exists()


def test_clips_are_drawn_by_source_then_system_then_length(data: Path) -> None:
    library = Library(folds.read_clips(data), RATE)
    for index, clip in enumerate(library.clips):  # the first source has four times the sound of the others
        library.samples[index] = np.full((4 if library.home(index) == "page 0" else 1) * RATE, 9, np.int16)
        if clip.system == "tts 1":
            library.clips[index] = replace(clip, system="copy-buzz")
    shares: dict[str, dict[str, float]] = {}
    for balance in ("source", "source-evenly"):
        weights = library.weights("spoof", balance)
        assert weights.sum() == pytest.approx(1) and not weights[[c.is_bonafide for c in library.clips]].any()
        found: dict[str, float] = defaultdict(float)
        for index, weight in enumerate(weights):
            found[library.home(index)] += weight
        shares[balance] = found
    assert shares["source"]["page 0"] == pytest.approx(2 * shares["source"]["page 3"])
    assert shares["source-evenly"]["page 0"] == pytest.approx(1 / SOURCES)
    weights = library.weights("spoof", "source")
    one = {
        clip.system: weight for clip, weight in zip(library.clips, weights, strict=True) if "2" in clip.path.stem[:2]
    }
    assert one["copy-buzz"] == pytest.approx(one["tts 2"]), "the copy counts for its original's source"


def test_crops_are_drawn_as_asked(data: Path) -> None:
    library = Library(folds.read_clips(data), RATE)
    rare = next(index for index, clip in enumerate(library.clips) if clip.system == "tts 4")
    for index, clip in enumerate(library.clips):
        if library.home(index) != "page 4" and not clip.is_bonafide:
            library.samples[index] = np.tile(library.samples[index], 5)
    counts = []
    for balance in ("group", "source-evenly"):
        strengths = Strengths(augmentation=0, joined=1.0, balance=balance)
        crops = Crops(library, 2, RATE, 0, 0, strengths)
        owners = torch.stack([crops.make_indexed(number)[2] for number in range(150)])
        labels = [library.clips[index].label for index in owners.flatten().tolist()]
        assert labels == ["spoof", "spoof", "bonafide", "bonafide"] * 150
        counts.append(int((owners[:, 0, 0] == rare).sum()))
    assert counts[1] > counts[0]
