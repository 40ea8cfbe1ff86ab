"""The processor that a model file meets, and whether the file's integer products come out right on it.

ONNX Runtime multiplies uint8 activations by int8 weights on x86 with VPMADDUBSW, which adds two products in 16 bits
and cuts off what does not fit: 2 * 255 * 64 does, 2 * 255 * 127 does not. Weights within +-64 (7 bits) are therefore
right everywhere, weights of 8 bits where VPDPBUSD (VNNI) adds in 32 bits, and on ARM if none is -128: there ONNX
Runtime's kernels for processors without dot product were seen to fail under emulation, and within +-127 never. Which
kernel runs where is decided in ONNX Runtime's `mlas/lib/platform.cpp`.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from edge_runtime.model.contract import Contract

_CPUINFO = Path("/proc/cpuinfo")
_ARCHITECTURES = {
    **dict.fromkeys(("x86_64", "amd64", "x64"), "x86_64"),
    **dict.fromkeys(("aarch64", "arm64"), "aarch64"),
}
_AVX512_CORE = frozenset(("avx512f", "avx512bw", "avx512dq", "avx512vl"))


@dataclass(frozen=True)
class Processor:
    """What decides which integer kernels run. A feature that cannot be found out, or is of another family, is None."""

    architecture: str  # "x86_64", "aarch64", "arm" (32 bits), another name in small letters, or "unknown"
    avx2: bool | None = None
    vnni: bool | None = None  # in the kernels that ONNX Runtime would choose
    dotprod: bool | None = None  # SDOT and UDOT
    i8mm: bool | None = None

    @property
    def is_x86(self) -> bool:
        """Whether it is an x86 of 64 bits; for 32 ONNX Runtime has neither wheels nor these kernels."""
        return self.architecture == "x86_64"

    @property
    def is_arm(self) -> bool:
        """Whether it is an ARM, of 32 or 64 bits."""
        return self.architecture in ("aarch64", "arm")

    def __str__(self) -> str:
        """For a message: the architecture and the features that targets are named after."""
        features: tuple[tuple[str, bool | None], ...] = ()
        if self.is_x86:
            features = (("AVX2", self.avx2), ("VNNI", self.vnni))
        elif self.is_arm:
            features = (("dot product", self.dotprod),)
        words = [name if has else f"no {name}" for name, has in features if has is not None]
        return ", ".join([self.architecture, *(words or (["features unknown"] if features else []))])


ANY = Processor("aarch64")
"""Stands in where a file is read and not run: every file is right on it, so none is refused."""


def parse(cpuinfo: str, machine: str) -> Processor:
    """The processor that the text of /proc/cpuinfo and `platform.machine()` tell of; any text gives an answer.

    A feature counts when all cores have it, as the scheduler may choose any of them.
    """
    name = machine.strip().lower()
    architecture = _ARCHITECTURES.get(name) or ("arm" if name.startswith("arm") else name or "unknown")
    found = Processor(architecture)
    # Under emulation the text may be the host's: its lines have the other family's name and are not taken for ours.
    key = "flags" if found.is_x86 else "features"
    lines = (line.partition(":") for line in cpuinfo.splitlines())
    cores = [frozenset(value.split()) for word, _, value in lines if word.strip().lower() == key and value.strip()]
    if not cores:
        return found
    flags = frozenset.intersection(*cores)
    if found.is_x86:
        # ONNX Runtime prefers AVX-512: a processor with it, but without its VNNI, saturates in spite of AVX-VNNI.
        vnni = "avx512_vnni" if flags >= _AVX512_CORE else "avx_vnni"
        avx2 = flags >= {"avx2", "fma"}
        return Processor(architecture, avx2=avx2, vnni=avx2 and vnni in flags)
    if found.is_arm:
        return Processor(architecture, dotprod="asimddp" in flags, i8mm="i8mm" in flags)
    return found


@cache
def this_processor(cpuinfo: Path = _CPUINFO) -> Processor:
    """The processor of this machine, read once; its features are unknown where there is no /proc/cpuinfo."""
    try:
        text = cpuinfo.read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    return parse(text, platform.machine())


def judge_target(contract: Contract, processor: Processor) -> tuple[str | None, list[str]]:
    """Whether a file is right on a processor: the reason to refuse it, or None, and notes for the user.

    Each is one line without an end. Refused is only what would be wrong; what is merely slower gets a note.
    """
    right = processor.vnni if processor.is_x86 else processor.is_arm or None
    if contract.int8_bits == 8 and not right:
        cut, wrong = ("are", "would") if right is False else ("may be", "could")
        return (
            f"it was made for {contract.target}, with 8-bit integer products: on this processor ({processor}) their "
            f"sums {cut} cut off and scores {wrong} be wrong without a sign of it; take the portable file, or make it "
            f"with `python -m quantization FLOAT.onnx --level {contract.level} --target portable -o OUT.onnx`"
        ), []
    if _at_home(contract.target, processor):
        return None, []
    return None, [
        f"this model was made for {contract.target}: on this processor ({processor}) its scores are right, "
        "but the file made for it may be faster"
    ]


def _at_home(target: str, processor: Processor) -> bool:
    """Whether the processor is of the kind that `target` names; what is not known counts for it."""
    match target:
        case "portable":
            return True
        case "arm64":
            return processor.architecture == "aarch64"
        case "arm64-dotprod":
            return processor.architecture == "aarch64" and processor.dotprod is not False
        case "x86-avx2":
            return processor.is_x86 and processor.avx2 is not False
        case _:
            return processor.is_x86 and processor.vnni is not False
