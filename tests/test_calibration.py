"""Calibration data: the windows are the runtime's own, come from everywhere, and never from the test set."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge_runtime.detector import Detector
from edge_runtime.errors import InputError, UsageError
from edge_runtime.model.contract import Contract
from edge_runtime.model.highpass import filtered
from edge_runtime.model.network import Network
from evaluation.protocols import Clip
from quantization.calibration import BUILT_IN, FEWEST_WINDOWS, CalibrationSet, gather, overlap, read, refuse_overlap
from quantization.calibration import windows as windows_of
from tests.conftest import voice, without_high_pass

RATE = 16000
WINDOW = 8000
PLAIN = Contract(
    form="waveform",
    variant="edge",
    sample_rate=RATE,
    window_samples=WINDOW,
    pool=8,
    filters=np.ones((2, 9), np.float32),
    high_pass_hz=0.0,
)
"""Windows of half a second, which come as they are: what a window holds can be seen."""


def write(path: Path, sound: NDArray[np.float32], subtype: str = "PCM_16") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, sound, RATE, subtype=subtype)
    return path


def spoken(count: int, seed: int = 0) -> NDArray[np.float32]:
    """Speech of `count` windows; each of them is audible."""
    return voice(count * WINDOW / RATE, seed)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> list[Clip]:
    """Clips of 1 to 5 windows: two labels, three sources, some speakers."""
    folder = tmp_path_factory.mktemp("library")
    return [
        Clip(
            write(folder / f"{index}.flac", spoken(1 + index % 5, seed=index)),
            "bonafide" if index % 3 else "spoof",
            source=f"source {index % 4 // 2}",
            speaker=f"speaker {index % 7}",
        )
        for index in range(15)
    ]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A plain folder of three clips in two folders."""
    for number, name in enumerate(("one/a.wav", "one/b.flac", "two/c.wav")):
        write(tmp_path / "plain" / name, spoken(3, seed=number))
    return tmp_path / "plain"


# What the network gets


@pytest.mark.parametrize("seconds", [0.7, 1.0, 2.6])
def test_a_window_scores_as_it_does_in_the_runtime(network: Network, tmp_path: Path, seconds: float) -> None:
    sound = voice(seconds, seed=3)
    path = write(tmp_path / "clip.wav", sound, "FLOAT")
    inputs = windows_of(read(path), network.contract, least=1)
    llr = network.contract.llr(np.concatenate([network.logits(window[None]) for window in inputs]))
    size = network.contract.window_samples
    starts = range(0, max(1, len(sound) - size + 1), size)
    scores = []
    judged = filtered(sound, network.contract.high_pass_hz, RATE)
    for start in starts:
        detector = Detector(without_high_pass(network))
        (first, *_) = detector.push(judged[start : start + size]) + detector.flush()
        scores.append(first.score)
    print(llr, scores)
    assert inputs.dtype == np.float32 and len(llr) == len(scores)
    np.testing.assert_allclose(llr, np.array(scores, float), atol=1e-4)


def test_what_the_runtime_does_not_judge_is_left_out(tmp_path: Path) -> None:
    good = spoken(2)
    damaged = good[WINDOW:].copy()
    damaged[100] = np.nan
    silent = np.full(WINDOW, 1e-5, np.float32)
    clipped = np.clip(100 * good[:WINDOW], -1, 1)
    sound = np.concatenate([silent, good[:WINDOW], damaged, clipped, good[WINDOW:]])
    path = write(tmp_path / "clip.wav", sound, "FLOAT")
    np.testing.assert_array_equal(windows_of(read(path), PLAIN, least=1), good.reshape(2, WINDOW))


def test_other_rates_and_channels_come_as_mono_at_the_models_rate(tmp_path: Path) -> None:
    stereo = np.stack([voice(2, seed=1, rate=44100)] * 2, axis=1)
    soundfile.write(tmp_path / "stereo.wav", stereo, 44100)
    assert windows_of(read(tmp_path), PLAIN, least=1).shape == (4, WINDOW)


@given(chosen=st.sets(st.integers(0, 14), min_size=1), count=st.integers(1, 40), seed=st.integers(0, 3), data=st.data())
def test_every_clip_gives_its_first_window_before_any_gives_its_second(
    library: list[Clip], chosen: set[int], count: int, seed: int, data: st.DataObject
) -> None:
    clips = data.draw(st.permutations([library[index] for index in sorted(chosen)]))
    available = {clip: soundfile.info(clip.path).frames // WINDOW for clip in clips}
    taken = gather(CalibrationSet("some", tuple(clips)), PLAIN, count, seed, least=1)
    given_by = Counter(taken.clips)
    assert len(taken.inputs) == len(taken.clips) == min(count, sum(available.values()))
    unfinished = [given_by[clip] for clip in clips if given_by[clip] < available[clip]]
    assert not unfinished or max(given_by.values()) <= min(unfinished) + 1
    distinct = {window.tobytes() for window in taken.inputs}
    assert len(distinct) == len(taken.inputs)


@given(count=st.integers(2, 10), seed=st.integers(0, 50))
def test_labels_take_turns_and_so_do_the_sources_within_them(library: list[Clip], count: int, seed: int) -> None:
    clips = gather(CalibrationSet("all", tuple(library)), PLAIN, count, seed, least=1).clips
    labels = Counter(clip.label for clip in clips)
    assert abs(labels["bonafide"] - labels["spoof"]) <= 1
    for label in labels:
        # the library has fewer spoofed clips of one source than of the other, but two of each at least
        sources = Counter(clip.source for clip in clips if clip.label == label)
        assert labels[label] > 4 or max(sources.values()) - min(sources["source 0"], sources["source 1"]) <= 1


def test_the_same_seed_gives_the_same_windows_and_another_one_others(library: list[Clip]) -> None:
    calibration = CalibrationSet("all", tuple(library))
    first, again, other = (windows_of(calibration, PLAIN, 8, seed, least=1) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert first.tobytes() != other.tobytes()


def test_too_few_windows_say_how_many_there_are_and_how_many_it_takes(folder: Path) -> None:
    write(folder / "silence.wav", np.zeros(5 * WINDOW, np.float32))
    (folder / "broken.wav").write_bytes(b"no sound")
    with pytest.raises(InputError, match=r"9 usable windows of 0\.5 s in 5 clips, 10 are needed.*broken\.wav"):
        gather(read(folder), PLAIN, least=10)


def test_who_asks_for_few_windows_gets_them(folder: Path) -> None:
    assert len(windows_of(read(folder), PLAIN, count=2)) == 2


def test_a_clip_that_cannot_be_read_is_named_and_the_others_serve(folder: Path) -> None:
    (folder / "broken.wav").write_bytes(b"no sound")
    taken = gather(read(folder), PLAIN, least=9)
    assert len(taken.inputs) == 9
    assert len(taken.left_out) == 1 and "broken.wav" in taken.left_out[0]


# Which clips


def test_a_plain_folder_and_a_single_file_need_no_labels(folder: Path) -> None:
    assert {(clip.path.name, clip.source) for clip in read(folder).clips} == {
        ("a.wav", "one"),
        ("b.flac", "one"),
        ("c.wav", "two"),
    }
    assert [clip.path for clip in read(folder / "two" / "c.wav").clips] == [folder / "two" / "c.wav"]
    assert read(folder).name == "plain"


def test_labels_are_kept_where_folders_a_csv_or_a_protocol_tell_them(folder: Path, tmp_path: Path) -> None:
    for name, label in (("one/a.wav", "bonafide"), ("two/c.wav", "spoof")):
        write(tmp_path / "labelled" / label / "x" / Path(name).name, soundfile.read(folder / name)[0])
    (tmp_path / "table.csv").write_text("file,label\nplain/one/a.wav,bonafide\nplain/two/c.wav,spoof\n")
    (tmp_path / "protocol.txt").write_text("anna a - - bonafide\nbert c - A01 spoof\n")
    expected = {("a.wav", "bonafide"), ("c.wav", "spoof")}
    for calibration in (
        read(tmp_path / "labelled"),
        read(tmp_path / "table.csv"),
        read(tmp_path / "protocol.txt", audio=folder),
    ):
        assert {(clip.path.name, clip.label) for clip in calibration.clips} == expected


def test_a_clip_listed_twice_counts_once_and_a_limit_keeps_both_labels(folder: Path) -> None:
    rows = ["one/a.wav,bonafide", "one/../one/a.wav,bonafide", "one/b.flac,bonafide", "two/c.wav,spoof"]
    (folder / "clips.csv").write_text("\n".join(["file,label", *rows]))
    assert len(read(folder).clips) == 3
    assert {clip.label for clip in read(folder, limit=2).clips} == {"bonafide", "spoof"}


def test_what_is_not_there_is_said_in_one_line(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "table.csv").write_text("file,label\nplain/one/a.wav,bonafide\ngone.wav,spoof\n")
    cases = {
        tmp_path / "empty": "holds no audio file",
        tmp_path / "absent": "no such file or folder",
        tmp_path / "table.csv": r"1 of 2 clips of .* are missing: .*gone\.wav",
    }
    for data, words in cases.items():
        with pytest.raises(InputError, match=words) as caught:
            read(data)
        assert "\n" not in str(caught.value)
    with pytest.raises(UsageError, match="limit"):
        read(folder, limit=0)
    with pytest.raises(UsageError, match="1 window or more"):
        gather(read(folder), PLAIN, count=0)


# Never the test set


@given(data=st.data())
def test_sharing_any_clip_with_the_test_set_is_refused_and_counted(library: list[Clip], data: st.DataObject) -> None:
    ours = data.draw(st.lists(st.sampled_from(library), unique=True, min_size=1))
    theirs = data.draw(st.lists(st.sampled_from(library), unique=True, min_size=1))
    shared = [clip for clip in theirs if clip in ours]
    calibration = CalibrationSet("ours", tuple(ours))
    assert overlap(ours, theirs) == [(clip, clip) for clip in shared]
    if not shared:
        refuse_overlap(calibration, theirs)
        return
    with pytest.raises(UsageError, match=f"{len(shared)} of {len(theirs)} clips .*{shared[0].path.name}"):
        refuse_overlap(calibration, theirs)


def test_a_copy_is_recognized_by_its_bytes_and_by_its_sound(folder: Path, tmp_path: Path) -> None:
    original = folder / "one" / "a.wav"
    sound, _ = soundfile.read(original, dtype="float32")
    copies = tmp_path / "copies"
    copies.mkdir()
    (copies / "linked.wav").symlink_to(original)
    (copies / "bytes.wav").write_bytes(original.read_bytes())
    write(copies / "other-container.flac", sound)
    write(copies / "wider.wav", sound, "PCM_24")
    write(copies / "stereo.wav", np.stack([sound, sound], axis=1))
    (copies / "broken.wav").write_bytes(b"no sound")
    write(copies / "louder.wav", 1.5 * sound)
    write(copies / "shorter.wav", sound[:-1])
    evaluation = read(copies).clips
    found = overlap(read(folder).clips, evaluation)
    assert {theirs.path.name for _, theirs in found} == {
        "linked.wav",
        "bytes.wav",
        "other-container.flac",
        "wider.wav",
        "stereo.wav",
    }
    assert {ours.path for ours, _ in found} == {original}
    with pytest.raises(UsageError, match=r"5 of 8 clips .* which is .*a\.wav"):
        refuse_overlap(read(folder), evaluation)


# The set that comes with a clone


def test_the_built_in_set_serves_the_shipped_model() -> None:
    contract = Network.load().contract
    taken = gather(read(None), contract)
    labels = Counter(clip.label for clip in taken.clips)
    print(labels, taken.inputs.shape)
    assert not taken.left_out
    assert len(taken.inputs) >= FEWEST_WINDOWS and min(labels.values()) >= 10
    assert taken.inputs.shape[1:] == (len(contract.filters), contract.frames)


def test_each_clip_of_the_built_in_set_is_small_listed_and_credited() -> None:
    files = {path.name: path for path in BUILT_IN.iterdir() if path.suffix in (".flac", ".ogg")}
    with (BUILT_IN / "clips.csv").open(newline="") as stream:
        rows = {row["file"]: row for row in csv.DictReader(stream)}
    credits = (BUILT_IN / "README.md").read_text(encoding="utf-8")
    assert files.keys() == rows.keys()
    for name, path in files.items():
        info = soundfile.info(path)
        assert (info.samplerate, info.channels) == (RATE, 1) and info.duration <= 5, name
        assert f"`{path.stem}`" in credits and rows[name]["licence"] in credits, name
    assert sum(path.stat().st_size for path in files.values()) <= 700_000
    assert {row["label"] for row in rows.values()} == {"bonafide", "spoof"}
