"""Scoring at scale: whatever dies on the way, each clip ends with the one score that an undisturbed run gives it."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.__main__ import main
from edge_runtime.detector import Detector
from edge_runtime.errors import EdgeDetectError, OutputError, UsageError
from evaluation.accuracy import judge
from evaluation.protocols import Clip, read_clips
from evaluation.scoring.clips import score, score_clips
from evaluation.scoring.payload import pack
from evaluation.scoring.store import Identity, StoredOutcome, open_store

ROOT = Path(__file__).parent.parent
HOP_SECONDS = 0.02
"""So short that a clip takes long enough for a kill to find the run in its middle."""
CLIPS = 48


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips of 3 s, of both labels and four groups."""
    folder = tmp_path_factory.mktemp("clips")
    random = np.random.default_rng(0)
    for n in range(CLIPS):
        group = folder / ("bonafide" if n % 2 else "spoof") / f"group{n % 4}"
        group.mkdir(parents=True, exist_ok=True)
        soundfile.write(group / f"clip{n}.wav", 0.1 * random.standard_normal(48000), 16000)
    return folder


@pytest.fixture(scope="module")
def expected(exported: Callable[[str], Path], data: Path) -> dict[str, float]:
    """The scores of an undisturbed run in one process."""
    judged, unscored = judge(Detector(exported("streaming"), hop_seconds=HOP_SECONDS), read_clips(data))
    assert len(judged) == CLIPS and not unscored
    return {item.clip.trial: item.score for item in judged}


def command(model: Path, data: Path, scores: Path, *more: str) -> list[str]:
    hop = str(HOP_SECONDS)
    return [sys.executable, "-m", "benchmarks", "score", str(model), "--data", str(data), "--scores", str(scores),
            "--hop", hop, *more]  # fmt: skip


def run(*arguments: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments), cwd=ROOT, capture_output=True, text=True, check=False)


def here(capsys: pytest.CaptureFixture[str], *arguments: Any) -> tuple[int, str, str]:
    """The command in this process: exit code, output, errors."""
    code = main(command(*arguments)[3:])
    return code, *capsys.readouterr()


def read(scores: Path) -> dict[str, float]:
    pairs = [line.split() for line in scores.read_text().splitlines()]
    assert len({trial for trial, _ in pairs}) == len(pairs), "a trial is there twice"
    return {trial: float(value) for trial, value in pairs}


def rows(store: Path) -> dict[str, tuple[Any, ...]]:
    connection = sqlite3.connect(store)
    try:
        return {row[0]: row for row in connection.execute("SELECT * FROM outcome")}
    finally:
        connection.close()


def until_some_are_done(running: subprocess.Popen[bytes]) -> None:
    """Reads the progress bar until it says that a few clips are recorded."""
    assert running.stderr is not None
    shown = b""
    while not re.search(rb" ([4-9]|\d\d)/%d " % CLIPS, shown):
        new = os.read(running.stderr.fileno(), 4096)
        assert new, f"it ended before: {shown!r}"
        shown += new


def test_killed_at_any_moment_it_goes_on_where_it_stopped(
    exported: Callable[[str], Path],
    data: Path,
    expected: dict[str, float],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model, scores = exported("streaming"), tmp_path / "scores.txt"
    store = tmp_path / "scores.txt.sqlite"
    with subprocess.Popen(command(model, data, scores, "--jobs", "2"), cwd=ROOT, stderr=subprocess.PIPE) as running:
        until_some_are_done(running)
        running.kill()
    before = rows(store)
    assert 4 <= len(before) < CLIPS and not scores.exists()

    done = run(model, data, scores, "--jobs", "2", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["resumed"], report["scored"], report["unscored"]) == (len(before), CLIPS, [])
    assert read(scores) == expected
    after = rows(store)
    assert {name: after[name] for name in before} == before, "what was recorded was recorded again"

    again = json.loads(here(capsys, model, data, scores, "--json", "--format", "asvspoof5")[1])
    assert again["resumed"] == CLIPS
    assert scores.read_text().startswith("filename\tcm-score\n")


def test_a_dead_worker_of_this_machine_costs_nothing(
    exported: Callable[[str], Path], data: Path, expected: dict[str, float]
) -> None:
    def killing(outcomes: Iterable[StoredOutcome], **_: Any) -> Iterator[StoredOutcome]:
        for number, outcome in enumerate(outcomes):
            if number == 4:
                multiprocessing.active_children()[0].kill()
            yield outcome

    judged, unscored = score(exported("streaming"), read_clips(data), None, HOP_SECONDS, 2, progress=killing)
    assert {item.clip.trial: item.score for item in judged} == expected and not unscored
    assert [item.clip for item in judged] == read_clips(data), "not in the order of the list"


def test_a_dead_worker_of_a_cluster_costs_nothing(
    exported: Callable[[str], Path], data: Path, expected: dict[str, float], tmp_path: Path
) -> None:
    about = tmp_path / "scheduler.json"
    dask = [sys.executable, "-m", "dask"]
    here = {"cwd": ROOT, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    processes = [
        subprocess.Popen(
            [*dask, "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", about],
            **here,  # type: ignore[call-overload]
        )
    ]
    one = [
        "worker",
        "--no-nanny",
        "--nthreads",
        "1",
        "--no-dashboard",
        "--local-directory",
        tmp_path,
        "--death-timeout",
        "60",
    ]
    processes += [
        subprocess.Popen([*dask, *one, "--scheduler-file", about], **here)  # type: ignore[call-overload]
        for _ in range(2)
    ]
    try:
        while not about.exists() or not about.read_text().strip().endswith("}"):
            assert processes[0].poll() is None, "the scheduler did not start"
        address = json.loads(about.read_text())["address"]
        scores = tmp_path / "scores.txt"
        line = command(exported("streaming"), data, scores, "--cluster", address)
        with subprocess.Popen(line, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL) as running:
            until_some_are_done(running)
            processes[1].kill()
            assert running.stderr is not None
            said = running.stderr.read()
        assert running.returncode == 0, said
        assert read(scores) == expected
    finally:
        for process in processes:
            process.kill()
            process.wait()


IDENTITY = Identity("a" * 64, "8000 samples", "edge-detect 1, ONNX Runtime 2")


@pytest.fixture(scope="module")
def torn(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[list[str]]]:
    """A store as a power cut leaves it, never closed, and what was recorded in it, batch by batch."""
    folder = tmp_path_factory.mktemp("torn")
    batches = [[f"clip{b}-{n}" for n in range(1 + b)] for b in range(5)]
    with open_store(folder / "open", IDENTITY) as store:
        for batch in batches:
            store.add([StoredOutcome(name, 0.5, "bonafide") for name in batch])
        for end in ("", "-wal"):
            shutil.copy(folder / f"open{end}", folder / f"cut{end}")
    return folder / "cut", batches


@given(share=st.floats(0, 1))
def test_a_store_cut_off_anywhere_holds_whole_batches(torn: tuple[Path, list[list[str]]], share: float) -> None:
    source, batches = torn
    cut = source.with_name("again")
    shutil.copy(source, cut)
    log = source.with_name("cut-wal").read_bytes()
    cut.with_name("again-wal").write_bytes(log[: round(share * len(log))])
    with open_store(cut, IDENTITY) as store:
        found = set(store.outcomes())
        whole: list[set[str]] = [set()]
        for batch in batches:
            whole.append(whole[-1] | set(batch))
        assert found in whole, f"cut at {share:.0%}"
        store.add([StoredOutcome("new", -1.0, "spoof")])
    with open_store(cut, IDENTITY) as store:
        assert set(store.outcomes()) == found | {"new"}
    assert share < 1 or found == whole[-1]


def test_clips_without_a_score_are_named_and_tried_again_when_asked(
    exported: Callable[[str], Path], data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, scores, store = exported("streaming"), tmp_path / "scores.txt", tmp_path / "store"
    folder = tmp_path / "clips"
    folder.mkdir()
    for name in ("good", "repaired"):
        shutil.copy(data / "spoof" / "group0" / "clip0.wav", folder / f"{name}.wav")
    repaired = (folder / "repaired.wav").read_bytes()
    (folder / "repaired.wav").write_bytes(repaired[:9000])
    soundfile.write(folder / "silent.wav", np.zeros(32000), 16000)
    table = folder / "list.csv"
    lines = [f"{name}.wav,{label}" for name, label in
             (("good", "spoof"), ("repaired", "bonafide"), ("silent", "spoof"), ("absent", "spoof"))]  # fmt: skip
    table.write_text("\n".join(["file,label", *lines]) + "\n")

    one = (model, table, scores, "--jobs", "1", "--store", str(store))
    code, output, errors = here(capsys, *one, "--json")
    assert code == 0 and "no score for 3 of 4 clips: 1 missing, 1 unreadable, 1 silent" in errors
    told = json.loads(output)["unscored"]
    assert [(Path(item["clip"]).stem, item["kind"]) for item in told] == [
        ("absent", "missing"), ("repaired", "unreadable"), ("silent", "silent")]  # fmt: skip
    assert all(Path(item["clip"]).stem in item["reason"] for item in told)
    assert list(read(scores)) == ["good"]

    (folder / "repaired.wav").write_bytes(repaired)
    shutil.copy(folder / "good.wav", folder / "absent.wav")
    _, output, _ = here(capsys, *one)
    assert "repaired" not in read(scores), "tried again unasked"
    assert read(scores)["absent"] == read(scores)["good"], "a clip that came later"
    assert "2 of 4 clips have a score" in output and "| silent: nothing but silence | 1 |" in output
    here(capsys, *one, "--retry")
    assert list(read(scores)) == ["good", "repaired", "absent"]


def test_a_store_of_something_else_is_refused(exported: Callable[[str], Path], data: Path, tmp_path: Path) -> None:
    model, clips, store = exported("streaming"), read_clips(data)[:3], tmp_path / "store"
    score_clips(model, clips, store, jobs=1)

    def refusal(model: Path = model, clips: Sequence[Clip] = clips, store: Path = store, hop: float = 0.5) -> str:
        with pytest.raises(EdgeDetectError) as caught:
            score_clips(model, clips, store, hop, jobs=1)
        kind = OutputError if "cannot use" in str(caught.value) or "database" in str(caught.value) else UsageError
        assert type(caught.value) is kind and "\n" not in str(caught.value)
        return str(caught.value)

    other_model = tmp_path / "other.onnx"
    other_model.write_bytes(model.read_bytes() + b"\x32\x01x")  # the field doc_string, "x"
    assert "another model" in refusal(model=other_model)
    assert "another hop" in refusal(hop=0.25)
    assert "another list of clips" in refusal(clips=clips[1:])
    assert f"{clips[0].trial})" in refusal(clips=clips[1:])
    other = tmp_path / clips[0].path.name
    soundfile.write(other, np.zeros(5), 16000)
    assert "same names" in refusal(clips=[replace(clips[0], path=other), *clips[1:]])
    foreign = tmp_path / "foreign"
    sqlite3.connect(foreign).execute("CREATE TABLE mine (x)").connection.close()
    assert "another program's" in refusal(store=foreign)
    foreign.write_bytes(b"no database" * 500)
    assert "no store of scores" in refusal(store=foreign)
    assert "unable to open" in refusal(store=tmp_path / "absent" / "store")
    payload, detector = pack(model, 0.5)
    with open_store(store, Identity(payload.sha256, f"{detector.hop_samples} samples", payload.versions)) as kept:
        assert len(kept.outcomes()) == 3
        assert "another run" in refusal()
        with pytest.raises(OutputError):
            kept.add([StoredOutcome(clips[0].trial, 1.0, "bonafide")])
    judged, _ = score(model, [*clips, *read_clips(data)[3:5]], store, jobs=1)
    assert len(judged) == 5, "a list may grow"


def test_command_refuses_in_one_line(
    exported: Callable[[str], Path], data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, scores = exported("streaming"), tmp_path / "scores.txt"
    for code, arguments in (
        (2, (model, data, scores, "--jobs", "0")),
        (2, (model, data, scores, "--cluster", "somewhere")),
        (5, (model, data, tmp_path / "absent" / "scores.txt")),
        (5, (model, data, tmp_path)),
    ):
        ended, _, errors = here(capsys, *arguments)
        assert ended == code and re.fullmatch(r"edge-detect: [^\n]+\n", errors), errors
