"""Counting instructions: what is made of the plugin's marks, and the command with a stand-in for QEMU on PATH.

The emulation itself is a command of its own: `python -m benchmarks instructions`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import accumulate
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.emulated.instructions import differences, instruction_table, instructions
from benchmarks.emulated.system import CORES, plugin_version
from benchmarks.tasks import instructions as task
from edge_runtime.detector import Detector
from edge_runtime.errors import ModelError, UsageError
from edge_runtime.model.contract import Contract
from edge_runtime.model.processor import parse, this_processor
from tests.conftest import voice

ROOT = Path(__file__).parent.parent
GUEST = ROOT / "benchmarks/emulated/guest.py"
FAKE_QEMU = """#!{python}
import json, os, pathlib, subprocess, sys
if "--version" in sys.argv:
    sys.exit(print("qemu-aarch64 version 7.2.22 (stand-in)"))
if "--help" in sys.argv:
    sys.exit(print("{help}"))
marks = next(word for word in sys.argv if "out=" in word).partition("out=")[2]
guest = next(place for place, word in enumerate(sys.argv) if word.endswith("guest.py"))
environment = os.environ | {{"PYTHONPATH": "{root}"}}
done = subprocess.run([sys.executable, *sys.argv[guest:]], env=environment, capture_output=True)
sys.stderr.buffer.write(done.stderr)
sys.stdout.buffer.write(done.stdout)
count, lines = 1000, []
for model, line in enumerate(done.stdout.splitlines()):
    for hop in range(json.loads(line)["hops"]):
        lines += [count, count + 4000000 // (model + 1)]
        count = lines[-1] + 17
pathlib.Path(marks).write_text("".join(f"{{line}}\\n" for line in lines))
"""
"""Runs the guest on this machine, and makes the counts up: 4 million a hop for the first model, 2 for the second."""


@given(st.lists(st.lists(st.integers(1, 10**9), min_size=1, max_size=5), max_size=4), st.integers(0, 10**12))
def test_counts_of_hops_come_back_from_marks(hops: list[list[int]], start: int) -> None:
    steps = [step for model in hops for count in model for step in (7, count)]
    marks = [*accumulate(steps, initial=start)][1:]
    text = "".join(f"{mark}\n" for mark in marks)
    assert differences(text, [len(model) for model in hops]) == hops
    if marks:
        with pytest.raises(ModelError, match="marks where"):
            differences(text.partition("\n")[2], [len(model) for model in hops])


@pytest.mark.parametrize(
    "text", ["", "5\n", "5\nqemu: cut off", "-5\n9", "5.0\n9\n", "9\n5\n", "5\n5\n", "1\n2\n3\n4\n"]
)
def test_marks_of_a_hop_that_cannot_be_are_refused(text: str) -> None:
    with pytest.raises(ModelError, match="the plugin") as error:
        differences(text, [1])
    assert "\n" not in str(error.value)


def test_the_plugin_interface_follows_qemu() -> None:
    versions = {"7.2.22 (Debian 1:7.2+dfsg-7)": 1, "8.2.0": 1, "9.0.1": 2, "10.1.0": 2}
    assert {said: plugin_version(f"qemu-aarch64 version {said}") for said in versions} == versions
    for said in ("", "qemu-x86_64 version 7.2", "usage: qemu"):
        with pytest.raises(UsageError):
            plugin_version(said)


@pytest.mark.parametrize("name", CORES)
def test_the_runtime_sees_the_core_as_it_is(name: str) -> None:
    processor = parse(CORES[name].cpuinfo(), "aarch64")
    assert processor.is_arm and processor.dotprod is CORES[name].dotprod
    assert ("no dot product" in str(processor)) == (name != "cortex-a76")


@pytest.fixture
def refused(exported: Callable[[str], Path], tmp_path: Path) -> Path:
    """A file that says of itself that it would be wrong on this machine, on any: 8 bits, and no ARM."""
    file = tmp_path / "refused.onnx"
    model = onnx.load(str(exported("streaming")))
    contract = Contract.from_metadata({entry.key: entry.value for entry in model.metadata_props})
    contract = replace(contract, level="int8", target="x86-vnni", int8_bits=8)
    onnx.helper.set_model_props(model, contract.to_metadata())
    onnx.save(model, str(file))
    return file


def test_the_guest_scores_as_the_detector_does(exported: Callable[[str], Path], tmp_path: Path) -> None:
    model = exported("streaming")
    detector = Detector(model, hop_seconds=0.25)
    sound = voice(3.0, 3)[: detector.window_samples + 4 * detector.hop_samples]
    np.save(tmp_path / "sound.npy", sound)
    expected = [window.score for window in detector.push(sound)][2:]
    command = [sys.executable, str(GUEST), "1", "0.25", "1", str(model), str(tmp_path / "sound.npy")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={"PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["hops"] == 3 and told["trouble"] == "" and told["processor"] == str(this_processor())
    assert told["scores"] == pytest.approx(expected)


def test_the_plugin_compiles_without_a_warning(tmp_path: Path) -> None:
    flags = ["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    command = ["cc", *flags, "-o", str(tmp_path / "libcount.so"), str(GUEST.with_name("plugin.c"))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def emulator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for QEMU, and for the compiler, alone on PATH; the arm64 system is two empty folders."""
    folder = tmp_path / "programs"
    folder.mkdir()
    qemu = FAKE_QEMU.format(python=sys.executable, root=ROOT, help="-plugin QEMU_PLUGIN")
    for name, text in (("qemu-aarch64", qemu), ("cc", "#!/bin/sh\nexit 0\n")):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    for name in ("bookworm", f"onnxruntime-{onnxruntime.__version__}"):
        (tmp_path / "arm64" / name).mkdir(parents=True)
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("EDGE_DETECT_AARCH64", str(tmp_path / "arm64"))
    return folder


def test_counts_are_held_against_the_first_model(
    emulator: Path, exported: Callable[[str], Path], refused: Path
) -> None:
    paths = [exported("streaming"), exported("shared"), refused]
    run = instructions(paths, 0.25, windows=2, cpus=["cortex-a76"], repeats=2)
    first, second, third = run.rows
    assert first.counts["cortex-a76"].instructions == [[4_000_000] * 2] * 2
    assert first.ratios == {"cortex-a76": 1.0} and second.ratios == {"cortex-a76": 2.0}
    assert first.counts["cortex-a76"].disagreement == 0
    table = instruction_table(run)
    assert "| 4.00 M | 1.000 |" in table and "| 2.00 M | 2.000 |" in table and "agree within 0.000%" in table
    assert len({line.count("|") for line in table.splitlines() if line.startswith("|")}) == 1
    told = json.loads(json.dumps(run.as_json(), allow_nan=False))
    assert told["rows"][1]["counts"]["cortex-a76"]["per_hop"] == 2_000_000
    if not this_processor().vnni and not this_processor().is_arm:  # the stand-in's processor is this machine's
        assert third.counts == {} and "x86-vnni" in third.refusals["cortex-a76"] and "refused" in table


def test_another_processor_than_was_asked_for_is_no_result(emulator: Path, exported: Callable[[str], Path]) -> None:
    wrong = "cortex-a76" if "no dot product" in str(this_processor()) else "cortex-a72"
    with pytest.raises(ModelError, match="another processor"):
        instructions([exported("streaming")], 0.25, windows=1, cpus=[wrong])


def test_an_emulator_that_dies_is_told_in_one_line(emulator: Path, exported: Callable[[str], Path]) -> None:
    text = (emulator / "qemu-aarch64").read_text().replace("count, lines =", "sys.exit('qemu: illegal');")
    (emulator / "qemu-aarch64").write_text(text)
    with pytest.raises(ModelError, match="cortex-a76 ended early: qemu: illegal") as error:
        instructions([exported("streaming")], 0.25, windows=1, cpus=["cortex-a76"])
    assert "\n" not in str(error.value)


def run_task(*words: str) -> str:
    parser = argparse.ArgumentParser()
    task.declare(parser.add_subparsers())
    arguments = parser.parse_args(["instructions", *words])
    text = arguments.run(arguments)
    assert isinstance(text, str)
    return text


def test_what_is_missing_is_named_with_its_packages(
    emulator: Path, exported: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = str(exported("streaming"))
    (emulator / "qemu-aarch64").unlink()
    with pytest.raises(UsageError, match=r"apt-get install --no-install-recommends qemu-user$"):
        run_task(model)
    monkeypatch.setenv("EDGE_DETECT_AARCH64", str(tmp_path / "nothing"))
    with pytest.raises(UsageError, match="qemu-user mmdebstrap qemu-user-static") as error:
        run_task(model)
    assert "\n" not in str(error.value)


def test_a_set_up_that_fails_is_told_in_one_line(
    emulator: Path, exported: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("mmdebstrap", "qemu-aarch64-static"):
        (emulator / name).write_text("#!/bin/sh\nexit 1\n")
        (emulator / name).chmod(0o755)
    (emulator / "sh").write_text("#!/bin/sh\necho the network is down >&2\nexit 2\n")
    (emulator / "sh").chmod(0o755)
    monkeypatch.setenv("EDGE_DETECT_AARCH64", str(tmp_path / "nothing"))
    with pytest.raises(UsageError, match=r"cannot set up the emulated system in .*: the network is down") as error:
        run_task(str(exported("streaming")))
    assert "\n" not in str(error.value)


def test_a_qemu_without_plugins_is_refused(emulator: Path, exported: Callable[[str], Path]) -> None:
    text = (emulator / "qemu-aarch64").read_text().replace("-plugin QEMU_PLUGIN", "no such option")
    (emulator / "qemu-aarch64").write_text(text)
    with pytest.raises(UsageError, match="takes no plugins"):
        run_task(str(exported("streaming")))


@pytest.mark.parametrize("words", [("--cpu", "cortex-m0"), ("--cpu", ","), ("--windows", "0"), ("--repeats", "0")])
def test_numbers_and_cores_that_cannot_be_are_refused(exported: Callable[[str], Path], words: tuple[str, ...]) -> None:
    with pytest.raises(UsageError):
        run_task(str(exported("streaming")), *words)
