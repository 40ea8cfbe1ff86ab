"""A model file made for one processor and run on another: right, or refused, and never silently wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edge_runtime.errors import ModelError
from edge_runtime.model.contract import LEVELS, PREFIX, TARGETS, Contract
from edge_runtime.model.network import SHIPPED, Network
from edge_runtime.model.processor import ANY, Processor, judge_target, parse, this_processor
from export.__main__ import main as export_main
from tests.conftest import voice

PI_4 = """\
processor\t: 0
BogoMIPS\t: 108.00
Features\t: fp asimd evtstrm crc32 cpuid
CPU implementer\t: 0x41
CPU architecture: 8
CPU part\t: 0xd08

Model\t\t: Raspberry Pi 4 Model B Rev 1.4
"""
PI_5 = """\
processor\t: 0
BogoMIPS\t: 108.00
Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp
CPU implementer\t: 0x41
CPU part\t: 0xd0b
"""
ORIN = PI_5.replace("asimddp", "asimddp uscat ilrcpc flagm paca pacg").replace("0xd0b", "0xd42")
GRAVITON_3 = PI_5.replace("asimddp", "sha3 asimddp sha512 sve i8mm bf16 dgh rng").replace("0xd0b", "0xd40")
PI_2 = """\
processor\t: 0
model name\t: ARMv7 Processor rev 5 (v7l)
Features\t: half thumb fastmult vfp edsp neon vfpv3 tls vfpv4 idiva idivt vfpd32 lpae evtstrm
CPU architecture: 7
"""
_X86 = "fpu vme sse sse2 ssse3 fma cx16 sse4_1 sse4_2 movbe popcnt aes xsave avx f16c rdrand bmi1 avx2 smep bmi2 erms"
ZEN_3 = f"processor\t: 0\nvendor_id\t: AuthenticAMD\nflags\t\t: {_X86} rdseed adx clflushopt sha_ni vaes\nbugs\t\t:\n"
SKYLAKE_X = ZEN_3.replace("rdseed", "avx512f avx512dq rdseed avx512cd avx512bw avx512vl")
ICE_LAKE = SKYLAKE_X.replace("vaes", "avx512vbmi vaes vpclmulqdq avx512_vnni avx512_bitalg")
ALDER_LAKE = ZEN_3.replace("vaes", "avx_vnni vaes vpclmulqdq")
SANDY_BRIDGE = "processor\t: 0\nflags\t\t: fpu vme sse sse2 ssse3 cx16 sse4_1 sse4_2 popcnt aes xsave avx\n"

MACHINES = {
    "Pi 4": (PI_4, "aarch64", Processor("aarch64", dotprod=False, i8mm=False)),
    "Pi 5": (PI_5, "aarch64", Processor("aarch64", dotprod=True, i8mm=False)),
    "Jetson Orin": (ORIN, "aarch64", Processor("aarch64", dotprod=True, i8mm=False)),
    "Graviton 3": (GRAVITON_3, "aarch64", Processor("aarch64", dotprod=True, i8mm=True)),
    "Pi 2": (PI_2, "armv7l", Processor("arm", dotprod=False, i8mm=False)),
    "Zen 3": (ZEN_3, "x86_64", Processor("x86_64", avx2=True, vnni=False)),
    "Skylake-X": (SKYLAKE_X, "x86_64", Processor("x86_64", avx2=True, vnni=False)),
    "Ice Lake": (ICE_LAKE, "x86_64", Processor("x86_64", avx2=True, vnni=True)),
    "Alder Lake": (ALDER_LAKE, "x86_64", Processor("x86_64", avx2=True, vnni=True)),
    "Sandy Bridge": (SANDY_BRIDGE, "x86_64", Processor("x86_64", avx2=False, vnni=False)),
    "AVX-512 and only AVX-VNNI": (
        SKYLAKE_X.replace("vaes", "avx_vnni"),
        "x86_64",
        Processor("x86_64", avx2=True, vnni=False),
    ),
    "little cores first": (PI_4 + "\n" + PI_5, "aarch64", Processor("aarch64", dotprod=False, i8mm=False)),
    "a Mac": ("", "arm64", Processor("aarch64")),
    "a PC under Windows": ("", "AMD64", Processor("x86_64")),
    "qemu-aarch64 on a PC": (ZEN_3, "aarch64", Processor("aarch64")),
    "a PC emulated on a Pi": (PI_5, "x86_64", Processor("x86_64")),
    "no features listed": ("processor\t: 0\nflags\t\t:\n", "x86_64", Processor("x86_64")),
    "RISC-V": ("processor\t: 0\nisa\t\t: rv64imafdc\n", "riscv64", Processor("riscv64")),
    "nothing": ("", "", Processor("unknown")),
}
ARM = ("Pi 4", "Pi 5", "Jetson Orin", "Graviton 3", "Pi 2", "a Mac", "qemu-aarch64 on a PC", "little cores first")
EXACT = (*ARM, "Ice Lake", "Alder Lake")
AT_HOME = {
    "portable": tuple(MACHINES),
    "arm64": tuple(name for name in ARM if name != "Pi 2"),
    "arm64-dotprod": ("Pi 5", "Jetson Orin", "Graviton 3", "a Mac", "qemu-aarch64 on a PC"),
    "x86-avx2": (
        *("Zen 3", "Skylake-X", "Ice Lake", "Alder Lake", "AVX-512 and only AVX-VNNI"),
        *("a PC under Windows", "a PC emulated on a Pi", "no features listed"),
    ),
    "x86-vnni": ("Ice Lake", "Alder Lake", "a PC under Windows", "a PC emulated on a Pi", "no features listed"),
}
EIGHT_BIT_TARGETS = ("arm64", "arm64-dotprod", "x86-vnni")


def contract(**more: Any) -> Contract:
    return Contract("streaming", "edge", 16000, 16000, 9, np.ones((2, 65), np.float32), **more)


def stamped(source: Path, copy: Path, **fields: Any) -> Path:
    """A copy of a model file whose contract says something else."""
    model = onnx.load(str(source))
    known = Contract.from_metadata({entry.key: entry.value for entry in model.metadata_props})
    del model.metadata_props[:]
    helper.set_model_props(model, replace(known, **fields).to_metadata())
    onnx.save(model, str(copy))
    return copy


@pytest.mark.parametrize("name", MACHINES)
def test_the_processor_is_told_from_its_cpuinfo(name: str) -> None:
    text, machine, expected = MACHINES[name]
    assert parse(text, machine) == expected


@given(text=st.text() | st.text(alphabet="flags Features:\t\navx2_").map(lambda text: f"flags: {text}"), name=st.text())
def test_any_text_gives_a_processor_of_one_line(text: str, name: str) -> None:
    for machine in ("x86_64", "aarch64", "armv7l", "", "riscv64"):
        found = parse(text, machine)
        assert found.vnni is None or found.architecture == "x86_64"
        assert found.dotprod is None or found.architecture in ("aarch64", "arm")
        assert "\n" not in str(found) and str(found)
    parse(text, name)


def test_the_processor_of_a_machine_without_cpuinfo_has_unknown_features(tmp_path: Path) -> None:
    found = this_processor(tmp_path / "absent")
    assert (found.avx2, found.vnni, found.dotprod, found.i8mm) == (None,) * 4
    (tmp_path / "latin").write_bytes(b"model name : \xe9\xff\nflags : avx2 fma\nFeatures : asimddp\n")
    known = this_processor(tmp_path / "latin")
    assert known.architecture == found.architecture == this_processor().architecture


@pytest.mark.parametrize("name", MACHINES)
@pytest.mark.parametrize("target", EIGHT_BIT_TARGETS)
def test_eight_bit_weights_run_only_where_they_are_known_to_be_right(name: str, target: str) -> None:
    refusal, notes = judge_target(contract(level="int8", target=target, int8_bits=8), MACHINES[name][2])
    assert (refusal is None) == (name in EXACT)
    if refusal is None:
        assert bool(notes) == (name not in AT_HOME[target])
    else:
        assert notes == [] and "\n" not in refusal
        assert target in refusal and "portable" in refusal and "python -m quantization" in refusal


@pytest.mark.parametrize("name", MACHINES)
@pytest.mark.parametrize("bits", [0, 7])
def test_a_file_that_cannot_saturate_is_refused_nowhere(name: str, bits: int) -> None:
    for level in LEVELS:
        for target in TARGETS:
            refusal, notes = judge_target(contract(level=level, target=target, int8_bits=bits), MACHINES[name][2])
            assert refusal is None
            assert bool(notes) == (name not in AT_HOME[target]), (target, notes)
            assert all(target in note and "\n" not in note for note in notes)


@pytest.mark.parametrize("target", EIGHT_BIT_TARGETS)
@pytest.mark.parametrize("form", ["streaming", "waveform"])
def test_the_runtime_refuses_what_would_be_wrong_before_it_scores(
    exported: Callable[[str], Path], tmp_path: Path, form: str, target: str
) -> None:
    path = stamped(exported(form), tmp_path / "model.onnx", level="int8", target=target, int8_bits=8)
    for name in ("Pi 4", "Pi 5", "Zen 3", "Ice Lake", "a PC under Windows", "nothing"):
        processor = MACHINES[name][2]
        if name in EXACT:
            network = Network.load(path, processor=processor)
            assert len(network.notes) == (name not in AT_HOME[target])
            continue
        with pytest.raises(ModelError) as caught:
            Network.load(path, processor=processor)
        assert caught.value.exit_code == 4
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("target", "bits"), [("x86-vnni", 8), ("arm64-dotprod", 8), ("arm64-dotprod", 7), ("x86-vnni", 0), ("portable", 7)]
)
def test_the_program_says_once_what_the_judgement_says(
    exported: Callable[[str], Path], tmp_path: Path, target: str, bits: int
) -> None:
    path = stamped(exported("streaming"), tmp_path / "model.onnx", level="int8", target=target, int8_bits=bits)
    soundfile.write(tmp_path / "clip.wav", voice(2), 16000)
    refusal, notes = judge_target(contract(level="int8", target=target, int8_bits=bits), this_processor())
    clips = [str(tmp_path / "clip.wav")] * 2
    command = [sys.executable, "-m", "edge_runtime", "--model", str(path), "--json", "--file", *clips]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if refusal:
        assert (done.returncode, done.stdout) == (4, "")
        assert done.stderr == f"edge-detect: {path}: {refusal}\n"
    else:
        assert done.returncode == 0 and done.stdout
        assert done.stderr == "".join(f"edge-detect: note: {note}\n" for note in notes)


def test_the_shipped_model_runs_everywhere_without_a_word() -> None:
    for name in ("Pi 4", "Pi 5", "Zen 3", "nothing"):
        assert Network.load(SHIPPED, processor=MACHINES[name][2]).notes == (), name


def test_a_file_for_other_machines_can_be_inspected(
    exported: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for target in EIGHT_BIT_TARGETS:
        path = stamped(exported("streaming"), tmp_path / "model.onnx", level="int8", target=target, int8_bits=8)
        assert export_main(["inspect", str(path), "--json"]) == 0
        facts = json.loads(capsys.readouterr().out)
        assert (facts["target"], facts["int8_bits"], facts["independent"]) == (target, 8, True)
        refusal, notes = judge_target(contract(level="int8", target=target, int8_bits=8), this_processor())
        assert facts["this_machine"] == (f"refused: {refusal}" if refusal else "; ".join(notes) or "right")


@given(
    level=st.sampled_from(LEVELS),
    target=st.sampled_from(EIGHT_BIT_TARGETS),
    bits=st.sampled_from([0, 7, 8]),
    independent=st.booleans(),
)
def test_the_metadata_keep_what_the_contract_says(level: str, target: str, bits: int, independent: bool) -> None:
    written = contract(level=level, target=target, int8_bits=bits, independent=independent).to_metadata()
    read = Contract.from_metadata(written)
    assert (read.level, read.target, read.int8_bits, read.independent) == (level, target, bits, independent)
    assert read.to_metadata() == written


@pytest.mark.parametrize("level", LEVELS)
def test_files_of_before_are_read_as_they_were(level: str) -> None:
    written = contract(level=level).to_metadata()
    older = {key: value for key, value in written.items() if "int8_bits" not in key and "independent" not in key}
    read = Contract.from_metadata(older)
    assert read.int8_bits == 0 and read.independent == (level in ("fp32", "fp16"))


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("int8_bits", "6", "int8_bits is 6"),
        ("int8_bits", "-8", "int8_bits is -8"),
        ("int8_bits", "many", "damaged"),
        ("int8_bits", "", "damaged"),
        ("int8_bits", "8", "is for portable and has 8-bit integer products"),
        ("independent_windows", "yes", "independent_windows is 'yes'"),
        ("independent_windows", "True", "independent_windows is 'True'"),
        ("independent_windows", "", "independent_windows is ''"),
    ],
)
def test_damaged_fields_are_a_model_error(key: str, value: str, reason: str) -> None:
    with pytest.raises(ModelError, match=reason) as caught:
        Contract.from_metadata(contract(level="int8").to_metadata() | {PREFIX + key: value})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("target", ["portable", "x86-avx2"])
def test_nobody_can_write_a_file_that_would_be_wrong_where_it_is_for(target: str) -> None:
    with pytest.raises(ModelError, match=target):
        contract(level="int8", target=target, int8_bits=8).to_metadata()


@pytest.mark.parametrize("form", ["streaming", "waveform"])
def test_windows_that_influence_one_another_are_scored_one_by_one(
    exported: Callable[[str], Path], tmp_path: Path, form: str
) -> None:
    for level, independent in (("fp32", False), ("int8", False), ("int8", True), ("int4", True)):
        path = stamped(exported(form), tmp_path / "model.onnx", level=level, independent=independent)
        assert (Network.load(path, processor=ANY).largest_batch > 1) == independent


def integer_product(activations: NDArray[Any], weights: NDArray[Any]) -> NDArray[np.int32]:
    """activations @ weights as this machine's ONNX Runtime computes it."""
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["a", "b"], ["y"])],
        "product",
        [helper.make_tensor_value_info("a", TensorProto.UINT8, list(activations.shape))],
        [helper.make_tensor_value_info("y", TensorProto.INT32, None)],
        [numpy_helper.from_array(weights, "b")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"a": activations})[0])


@pytest.mark.parametrize("rows", [1, 8])
def test_this_machine_computes_as_it_is_judged(rows: int) -> None:
    """The largest sums there can be: right with 7 bits, and with 8 wherever an 8-bit file is not refused."""
    activations = np.full((rows, 64), 255, np.uint8)
    refusal, _ = judge_target(contract(level="int8", target="x86-vnni", int8_bits=8), this_processor())
    for extreme in (-64, 64, -128, 127):
        weights = np.full((64, 32), extreme, np.int8)
        exact = activations.astype(np.int32) @ weights.astype(np.int32)
        right = np.array_equal(integer_product(activations, weights), exact)
        print(f"{this_processor()}: weight {extreme} is {'right' if right else 'wrong'}; refused: {bool(refusal)}")
        assert right or (abs(extreme) > 64 and refusal)
