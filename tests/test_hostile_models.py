"""Models that somebody else made: what they may ask for, what they may give, and how long that may take."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime import Detector
from edge_runtime.decision.verdict import Reason, Verdict
from edge_runtime.errors import Ended, ModelError, UsageError
from edge_runtime.model import limits, onnxfile
from edge_runtime.model.contract import PREFIX, Contract
from edge_runtime.model.frontend import FilterBank
from edge_runtime.model.inputs import Inputs
from edge_runtime.model.network import SHIPPED, Network
from tests import hostile_models as hostile
from tests.conftest import voice
from tests.program import PROGRAM, lines, one_line, run

CLIP = Path(__file__).resolve().parent.parent / "examples" / "human.flac"

REFUSED: dict[str, tuple[bytes, str]] = {
    "a constant of 32 GB": (hostile.expanded(), "MB of memory"),
    "NaN for every sound": (hostile.no_numbers(), "NaN or infinite"),
    "three columns of logits": (hostile.three_columns(), "its output is tensor(float) ['batch', 3]"),
    "weights in another file": (hostile.external("weights.bin"), "external data"),
    "weights in another file, in a branch": (hostile.external("weights.bin", inner=True), "external data"),
    "a first block of one column": (hostile.shared("one column"), "its first block gives tensor(float)"),
    "a first block that does not pool": (hostile.shared("every frame"), "first block that gave"),
    "a first block of three axes": (hostile.shared("three axes"), "its first block gives"),
    "19 GB of window": (hostile.good(window_samples="4800000000"), "window in samples"),
    "a pool of 1": (
        hostile.good(form="streaming", pool="1", sample_rate="384000", window_samples="23040000"),
        "MB of memory",
    ),
    "many filters": (hostile.good(filter_shape="4000000000x9"), "filter bank is 4000000000 x 9"),
    "5,000 digits": (hostile.good(window_samples="9" * 5000), "5000 characters"),
    "a number with an underscore": (hostile.good(window_samples="1_6000"), "no plain number"),
    "Arabic digits": (hostile.good(pool="١٦"), "no plain number"),
    "a blank before a number": (hostile.good(threshold=" 1"), "no plain number"),
    "calibrated, maybe": (hostile.good(calibrated="maybe"), "neither true nor false"),
    "a scale of 1e300": (hostile.good(scale="1e300"), "beyond"),
    "figures without end": (hostile.good(figures='{"a": ' + "[" * 300 + "]" * 300 + "}"), "figures are damaged"),
    "a name of a megabyte": (hostile.good(name="x" * 1_000_000), "names have more than"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_hostile_model_is_one_line_before_it_is_opened(kind: str, tmp_path: Path) -> None:
    content, reason = REFUSED[kind]
    (tmp_path / "weights.bin").write_bytes(bytes(8))
    with pytest.raises(ModelError) as caught:
        Network.load(tmp_path / hostile.write(tmp_path, content))
    assert reason in str(caught.value) and str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [hostile.good(), hostile.streaming(), hostile.shared()], ids=["w", "st", "sh"])
def test_good_ones_are_opened_in_each_form(content: bytes, tmp_path: Path) -> None:
    detector = Detector(tmp_path / hostile.write(tmp_path, content), window_seconds=2.0)
    assert all(window.score is not None for window in detector.push(voice(4)))


def test_a_loop_without_end_is_left_at_once_when_asked_to_end(tmp_path: Path) -> None:
    """By SIGTERM the program ends in good order, and the process that tries the model with it."""
    model = hostile.write(tmp_path, hostile.loop())
    words = [*PROGRAM, "--model", model, "--file", str(CLIP)]
    process = subprocess.Popen(words, cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    try:
        until = time.monotonic() + 60
        while not (children := _children(process.pid)) and time.monotonic() < until:
            time.sleep(0.05)
        assert children, "the model is tried in a process of its own"
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (process.returncode, said) == (0, "")
    until = time.monotonic() + 30
    while any(Path(f"/proc/{child}").exists() for child in children) and time.monotonic() < until:
        time.sleep(0.05)
    assert not any(Path(f"/proc/{child}").exists() for child in children)


def _children(parent: int) -> list[int]:
    try:
        return [int(word) for word in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]
    except OSError:
        return []


def test_a_trial_ends_when_it_is_not_wanted_any_more(tmp_path: Path) -> None:
    with pytest.raises(Ended):
        Network.load(tmp_path / hostile.write(tmp_path, hostile.loop()), stopped=lambda: True)


def test_a_trial_is_remembered_by_the_files_hash(tmp_path: Path) -> None:
    """Another process does not try it again, which Python's own audit of started processes shows."""
    model = tmp_path / hostile.write(tmp_path, hostile.good(name="remembered"))
    tell = (
        "import sys\nfrom edge_runtime.model.network import Network\nstarted = []\n"
        "sys.addaudithook(lambda name, _: started.append(name) if name == 'subprocess.Popen' else None)\n"
        "Network.load(sys.argv[1])\nprint(len(started))\n"
    )
    cache = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache"), "CACHE_DIRECTORY": ""}

    def started(path: Path, environment: dict[str, str]) -> str:
        words = [sys.executable, "-c", tell, str(path)]
        return subprocess.run(words, env=environment, capture_output=True, text=True, check=True).stdout.strip()

    assert [started(model, cache), started(model, cache)] == ["1", "0"]
    model.write_bytes(hostile.good(name="another"))
    assert started(model, cache) == "1", "another file is another trial"
    assert started(SHIPPED, cache) == "0"
    (tmp_path / "file").touch()
    assert started(model, {**cache, "XDG_CACHE_HOME": str(tmp_path / "file")}) == "1", "nowhere to remember anything"


def test_a_window_without_a_number_is_said_and_has_an_exit_code(tmp_path: Path) -> None:
    """Of sound that is in order the model says NaN where it is loud: neither unsure for ever nor exit code 0."""
    model = hostile.write(tmp_path, hostile.no_numbers(above=0.45))
    sound = np.concatenate((voice(3), np.clip(voice(1) * 4, -0.9, 0.9), voice(3, seed=3)))
    raw = tmp_path / "sound.raw"
    raw.write_bytes((sound * 32767).astype("<i2").tobytes())
    done = run("--model", model, "--file", raw, "--raw", "s16le", "--hop", "0.5", "--json", cwd=tmp_path)
    assert done.returncode == 4, done.stderr
    assert "NaN or infinity for" in one_line(done.stderr)
    windows = [line for line in lines(done.stdout) if line["type"] == "window"]
    broken = [line for line in windows if line.get("reason") == Reason.MODEL]
    assert 0 < len(broken) < len(windows)
    assert all(line["verdict"] == Verdict.UNSURE and line["score"] is None for line in broken)


def test_ten_windows_without_a_number_are_the_models_fault(tmp_path: Path) -> None:
    detector = Detector(tmp_path / hostile.write(tmp_path, hostile.no_numbers(above=0.45)), hop_seconds=0.5)
    loud = np.clip(voice(9) * 4, -0.9, 0.9)
    with pytest.raises(ModelError, match="10 windows in a row"):
        detector.push(loud)


def test_a_window_that_wants_too_much_memory_is_refused(tmp_path: Path) -> None:
    model = hostile.with_metadata(hostile.graph(hostile.BOTH), hostile.contract(sample_rate=384000).to_metadata())
    big = hostile.contract(form="streaming", sample_rate=384000, window_samples=384000, pool=1)
    assert big.needed_bytes(big.window_samples, 0, 4) < limits.LARGEST_MEMORY
    assert big.needed_bytes(60 * 384000, 0, 4) > limits.LARGEST_MEMORY
    network = Network.load(tmp_path / hostile.write(tmp_path, model))
    network.contract = big
    with pytest.raises(UsageError, match="MB of memory"):
        Detector(network, window_seconds=60.0)


@given(
    window=st.integers(200, 40_000),
    pool=st.integers(1, 400),
    filters=st.integers(1, 40),
    taps=st.integers(1, 200),
    batch=st.integers(1, 4),
)
def test_the_estimate_is_above_what_is_made(window: int, pool: int, filters: int, taps: int, batch: int) -> None:
    pool = min(pool, window - taps + 1)
    bank = FilterBank(np.ones((filters, taps), np.float32), pool)
    whole = bank.whole(np.ones(window, np.float32))
    quiet = np.zeros(window, np.float32)
    quiet[:10] = 1.0  # in float64
    bank.whole(quiet)
    made = sum(part.nbytes for part in (*bank._responses.values(), *bank._spaces.values(), bank._filters))
    made += whole.nbytes * (1 + batch) + 2 * 4 * filters * (2 * window // pool + 1) + 2 * 5 * 2 * window
    allowed = limits.needed_bytes(
        window_samples=window,
        pool=pool,
        filters=filters,
        taps=taps,
        form="streaming",
        channels=0,
        batch=batch,
        held_samples=2 * window,
    )
    assert made <= allowed


def test_the_shipped_model_and_the_public_ones_are_far_inside() -> None:
    metadata = onnxfile.read(SHIPPED).metadata
    shipped = Contract.from_metadata(metadata)
    assert shipped.needed_bytes(shipped.window_samples, 0, 4) < limits.LARGEST_MEMORY / 10
    for filters, taps, channels in ((20, 1025, 20), (128, 129, 128)):
        bank = np.ones((filters, taps), np.float32)
        public = hostile.contract(form="shared", window_samples=64600, pool=3, filters=bank, first_block=b"x")
        assert public.needed_bytes(64600, channels, 4) < limits.LARGEST_MEMORY / 3


def test_the_reader_sees_what_onnx_sees_and_stops_at_what_is_deep() -> None:
    content = hostile.good(name="größe \x1b[31m")
    assert onnxfile.examine(content)[PREFIX + "name"] == "größe \x1b[31m"
    twice = onnx.ModelProto.FromString(content)
    twice.metadata_props.add(key=f"{PREFIX}name", value="another")
    # A graph in an attribute of a node of a graph: fields 7, 1, 5 and 6, over and over.
    deep = b""
    for number in [6, 5, 1] * (onnxfile.DEEPEST + 2) + [7]:
        deep = bytes([number << 3 | 2]) + _varint(len(deep)) + deep
    with pytest.raises(ModelError, match="deep"):
        onnxfile.examine(deep)
    with pytest.raises(ModelError, match="twice"):
        onnxfile.examine(twice.SerializeToString())


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def test_inputs_of_a_shared_file_are_the_same_in_pieces(tmp_path: Path) -> None:
    network = Network.load(tmp_path / hostile.write(tmp_path, hostile.shared()))
    sound = voice(1)
    stream = Inputs(network, sound.size, 2 * sound.size)
    stream.push(sound, sound.size)
    batch = np.empty((1, *network.input_shape(sound.size)), np.float32)
    stream.write(sound, 0, batch[0])
    assert np.allclose(batch[0], stream.whole(sound))
