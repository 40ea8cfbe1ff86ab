"""`python -m benchmarks report` and `compare` as a user runs them, on real model files and WAVs."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import soundfile
from onnxruntime.quantization import QuantType, quantize_dynamic

from benchmarks.__main__ import main
from benchmarks.report.page import read
from edge_runtime.model.contract import Contract
from edge_runtime.model.processor import judge_target, this_processor
from tests.conftest import voice

ROOT = Path(__file__).parent.parent
CONTRACT = Contract(
    "streaming", "edge", 16000, 16000, 9, np.ones((6, 65), np.float32), level="int8", target="x86-vnni", int8_bits=8
)
QUICK = ("--rounds", "5", "--processes", "2")


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four short clips of each label, of four groups."""
    folder = tmp_path_factory.mktemp("clips")
    for n in range(8):
        group = folder / ("bonafide" if n % 2 else "spoof") / f"group{n // 2}"
        group.mkdir(parents=True)
        soundfile.write(group / f"{n}.wav", voice(1.4, n), 16000)
    return folder


@pytest.fixture(scope="module")
def baseline(exported: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model, quantized by ONNX Runtime's own tool, which leaves our metadata as they were."""
    file = tmp_path_factory.mktemp("baseline") / "baseline-dynamic.onnx"
    quantize_dynamic(str(exported("streaming")), str(file), weight_type=QuantType.QUInt8)
    return file


@pytest.fixture(scope="module")
def foreign(exported: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The float graph under a name and metadata by which it has 8-bit products, for VNNI."""
    file = tmp_path_factory.mktemp("foreign") / "tiny-int8-x86-vnni.onnx"
    model = onnx.load(str(exported("streaming")))
    contract = Contract.from_metadata({entry.key: entry.value for entry in model.metadata_props})
    contract = replace(contract, level="int8", target="x86-vnni", int8_bits=8)
    onnx.helper.set_model_props(model, contract.to_metadata())
    onnx.save(model, str(file))
    return file


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def made(
    exported: Callable[[str], Path],
    baseline: Path,
    foreign: Path,
    clips: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """The folder of a whole report."""
    folder = tmp_path_factory.mktemp("report")
    done = run("report", exported("streaming"), baseline, foreign, "--data", clips, *QUICK, "-o", folder)
    assert done.returncode == 0, done.stderr
    assert "## Summary" in done.stdout and str(folder / "report.html") in done.stdout
    return folder


def test_the_page_has_every_model_and_figure(made: Path, baseline: Path) -> None:
    page = read(made / "report.json")
    reference, quantized, foreign = page.models
    assert reference.against is None and reference.size_ratio == 1 and reference.rates and reference.timing
    assert reference.timing.speedup.value == 1 and reference.timing.count == 10 and reference.timing.p90_ms is None
    assert (quantized.level, quantized.size_bytes) == ("baseline-dynamic", baseline.stat().st_size)
    assert quantized.against and quantized.against.clips == 8 and quantized.against.largest_difference > 0
    assert foreign.against and foreign.against.largest_difference == 0, "it is the float graph under another name"
    refusal, _ = judge_target(CONTRACT, this_processor())
    assert (foreign.timing is None) == (refusal is not None) == any("exact sums" in note for note in foreign.notes)
    text = (made / "report.md").read_text()
    assert "nan" not in text and "None" not in text and str(made) not in text
    assert (made / "report.html").read_text().count("<svg") == 3


def test_a_second_run_scores_nothing_again(
    made: Path, exported: Callable[[str], Path], baseline: Path, foreign: Path, clips: Path
) -> None:
    before = {path.name: path.read_bytes() for path in (made / "scores").iterdir()}
    figures = read(made / "report.json").models[1].against
    done = run("report", exported("streaming"), baseline, foreign, "--data", clips, "--no-latency", "-o", made)
    assert done.returncode == 0, done.stderr
    again = read(made / "report.json").models
    assert again[1].against == figures and again[0].timing is None
    assert {path.name: path.read_bytes() for path in (made / "scores").iterdir()} == before


def test_a_gate_shuts_with_its_code_and_the_page_is_there(
    exported: Callable[[str], Path], baseline: Path, clips: Path, tmp_path: Path
) -> None:
    arguments = ("report", exported("streaming"), baseline, "--data", clips, "--no-latency", "-o", tmp_path)
    assert run(*arguments, "--require", "size_ratio>=0.1,flipped<=100").returncode == 0
    done = run(*arguments, "--require", "size_ratio>=0.1,largest_difference<=0")
    assert done.returncode == 11 and done.stderr.splitlines()[-1].startswith(
        "edge-detect: baseline-dynamic: largest_difference"
    )
    assert read(tmp_path / "report.json").models


@pytest.mark.nightly
def test_another_hop_or_model_has_a_store_of_its_own(
    exported: Callable[[str], Path], baseline: Path, clips: Path, tmp_path: Path
) -> None:
    arguments = ("report", exported("streaming"), "--data", clips, "--no-latency", "-o", tmp_path)
    assert run(*arguments).returncode == 0
    first = {path.name: path.read_bytes() for path in (tmp_path / "scores").iterdir()}
    rebuilt = tmp_path / exported("streaming").name
    model = onnx.load(str(exported("streaming")))
    model.producer_version = "another"
    onnx.save(model, str(rebuilt))
    for words in ((*arguments, "--hop", "0.25"), ("report", rebuilt, *arguments[2:])):
        done = run(*words)
        assert done.returncode == 0, done.stderr
    after = {path.name: path.read_bytes() for path in (tmp_path / "scores").iterdir()}
    assert len(first) == 1 and len(after) == 3 and after.items() >= first.items()
    assert "rounds:" not in (tmp_path / "report.md").read_text(), "nothing was timed"


def test_a_model_that_scores_one_label_only_costs_no_other_its_figures(
    exported: Callable[[str], Path], baseline: Path, clips: Path, tmp_path: Path
) -> None:
    arguments = ("report", exported("streaming"), baseline, "--data", clips, "--no-latency", "-o", tmp_path)
    assert run(*arguments).returncode == 0
    whole = read(tmp_path / "report.json").models[0]
    (store,) = (tmp_path / "scores").glob("baseline-dynamic-*.sqlite")
    with sqlite3.connect(store) as connection:  # as if it had found no spoofed clip fit to be scored
        spoofs = ",".join(f"'{path.stem}'" for path in (clips / "spoof").rglob("*.wav"))
        lost = "UPDATE outcome SET score = NULL, verdict = 'unsure', kind = 'unsure', reason = 'unsure' WHERE clip IN"
        assert connection.execute(f"{lost} ({spoofs})").rowcount == 4
    connection.close()
    done = run(*arguments, "--require", "flipped<=100")
    assert done.returncode == 11 and "baseline-dynamic: flipped could not be measured" in done.stderr
    again, other = read(tmp_path / "report.json").models
    assert again.rates == whole.rates and other.rates is None and other.against is None
    assert sum("4 bona fide and 0 spoofed" in note for note in other.notes) == 2, other.notes


def test_what_was_measured_is_written_first(exported: Callable[[str], Path], tmp_path: Path) -> None:
    (tmp_path / "report.md").mkdir()
    done = run("report", exported("waveform"), *QUICK, "-o", tmp_path)
    assert done.returncode == 5 and "Traceback" not in done.stderr
    (model,) = read(tmp_path / "report.json").models
    assert model.timing and any("baseline pipeline" in note for note in model.notes)


def test_compare_of_two_pages(made: Path, tmp_path: Path) -> None:
    page = read(made / "report.json")
    other = tmp_path / "other.json"
    small = replace(page.models[1], size_bytes=page.models[1].size_bytes // 2)
    other.write_text(replace(page, models=[page.models[0], small]).as_json())
    done = run("compare", made / "report.json", other, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    rows = {(row["model"], row["measure"]): row for row in found["rows"]}
    assert rows["baseline-dynamic", "size_mb"]["ratio"] == pytest.approx(0.5, rel=0.01)
    assert found["only_before"] == ["tiny-int8-x86-vnni"]
    assert "| baseline-dynamic | size_mb |" in run("compare", made / "report.json", other).stdout


def test_what_cannot_be_is_refused_in_one_line(
    exported: Callable[[str], Path], foreign: Path, clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, folder = exported("streaming"), tmp_path / "page"
    taken = tmp_path / "taken"
    taken.write_text("a file")
    human = tmp_path / "human"
    shutil.copytree(clips / "bonafide", human / "bonafide")
    (human / "spoof").mkdir()
    asv = tmp_path / "asv.txt"
    asv.write_text("- target 1.0\n- nontarget 0.0\n")
    cases: list[tuple[int, list[str | Path]]] = [
        (4, ["report", tmp_path / "absent.onnx", "--data", clips, "-o", folder]),
        (4, ["report", foreign, model, "--data", clips, "-o", folder]),
        (3, ["report", model, "--data", tmp_path / "absent", "-o", folder]),
        (2, ["report", model, "--no-latency", "-o", folder]),
        (2, ["report", model, "--robustness", "-o", folder]),
        (2, ["report", model, "--data", clips, "--rounds", "0", "-o", folder]),
        (2, ["report", model, "--data", clips, "--margin", "nan", "-o", folder]),
        (2, ["report", model, "--data", clips, "--margin", "-3", "-o", folder]),
        (2, ["report", model, "--data", clips, "--jobs", "-2", "-o", folder]),
        (2, ["report", model, "--data", clips, "--limit", "0", "-o", folder]),
        (2, ["report", model, "--data", clips, "--sweep", "1,many", "-o", folder]),
        (2, ["report", model, "--data", clips, "--no-latency", "--hop", "9", "-o", folder]),
        (3, ["report", model, "--data", human, "-o", folder]),
        (3, ["report", model, "--data", clips, "--asv-scores", asv, "-o", folder]),
        (2, ["report", model, "--data", clips, "--require", "speed>2", "-o", folder]),
        (5, ["report", model, "--data", clips, "-o", taken]),
        (2, ["compare", model, foreign]),
        (3, ["compare", tmp_path / "a.json", tmp_path / "b.json"]),
    ]
    for code, arguments in cases:
        given, told = main([str(word) for word in arguments]), capsys.readouterr().err
        errors = [line for line in told.splitlines() if line.startswith("edge-detect: ")]
        assert (given, len(errors)) == (code, 1), (arguments, told)


def test_the_page_begins_with_a_conclusion(made: Path) -> None:
    """What to take, or that nothing is proved; and what a person asks first stands in the summary."""
    for name in ("report.md", "report.html"):
        text = (made / name).read_text()
        said = [text.find(words) for words in ("Take ", "No file is proved", "Nothing can be concluded")]
        assert 0 < max(said) < text.find("Summary"), name
    assert "human called spoof" in (made / "report.md").read_text().split("## ")[1]
