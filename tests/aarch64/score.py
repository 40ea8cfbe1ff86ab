"""Scores of windows as JSON lines, on the host or under emulation, and the table that compares them.

`tests/aarch64/run` calls `windows` for the host, `reference`, `windows` for each emulated processor, and `table`.
"""

from __future__ import annotations

import argparse
import ctypes
import hashlib
import json
import math
import os
import platform
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from edge_runtime.capture.file import read_blocks
from edge_runtime.decision.verdict import Window
from edge_runtime.detector import Detector
from edge_runtime.errors import EdgeDetectError, InputError, ModelError, UsageError

HOST = "host"
"""The name of the processor that is not emulated."""
HOP_SECONDS = 1.0
WINDOWS_OF_A_CLIP = 3
"""Neighbouring windows sound alike: many clips say more than many windows."""
SOUNDS = {".flac", ".wav", ".ogg", ".opus", ".mp3"}
HWCAP = {"asimd": 1 << 1, "asimdhp": 1 << 10, "asimddp": 1 << 20, "sve": 1 << 22}
"""Linux's names for the instructions that the kernels choose by, with their bits in AT_HWCAP."""
AT_HWCAP = 16

COLUMNS = (
    *("model", "level", "target", "cpu", "windows"),
    *("correlation", "largest difference", "flips", "from host", "bound", "holds"),
)


@dataclass(frozen=True)
class Bound:
    """How far a level may be from the float model: the least correlation, or the largest LLR difference."""

    correlation: float | None = None
    difference: float | None = None

    def holds(self, correlation: float, difference: float) -> bool:
        """NaN, where nothing could be measured, never holds."""
        if self.difference is not None:
            return difference <= self.difference
        return self.correlation is not None and correlation >= self.correlation

    def __str__(self) -> str:
        return f"correlation {self.correlation}" if self.difference is None else f"difference {self.difference:g}"


BOUNDS = {
    "fp32": Bound(difference=1e-4),
    "fp16": Bound(correlation=0.9999),
    "int8": Bound(correlation=0.999),
    "int8-static": Bound(correlation=0.99),
    "int4": Bound(correlation=0.99),
    "auto": Bound(correlation=0.99),
}


@dataclass
class Scores:
    """What one model gave on one processor. A window is known by its clip and its start in seconds."""

    level: str
    target: str
    llr: dict[tuple[str, float], float | None] = field(default_factory=dict)  # None: silent, hence not scored
    verdict: dict[tuple[str, float], str] = field(default_factory=dict)
    trouble: str = ""


def clips(folders: Sequence[Path]) -> list[tuple[str, Path]]:
    """The sounds under `folders` with their names, in an order that mixes labels and is always the same.

    Raises InputError where there are none.
    """
    found = []
    for folder in folders:
        sounds = [path for path in folder.rglob("*") if path.suffix.lower() in SOUNDS]
        if not sounds:
            raise InputError(f"{folder}: no clips ({', '.join(sorted(SOUNDS))}) in this folder")
        named = [(f"{folder.name}/{path.relative_to(folder).as_posix()}", path) for path in sounds]
        found += sorted(named, key=lambda item: hashlib.sha256(item[0].encode()).digest())
    return found


def score(detector: Detector, sounds: Sequence[tuple[str, Path]], most: int) -> Iterator[tuple[str, Window]]:
    """The first `most` windows of the clips with the clips' names, a few windows a clip."""
    left = most
    for name, path in sounds:
        windows: list[Window] = []
        detector.reset()
        for block in read_blocks(str(path), None, detector.sample_rate):
            windows += detector.push(block)
            if len(windows) >= WINDOWS_OF_A_CLIP:
                break
        else:
            windows += detector.flush()
        for window in windows[: min(left, WINDOWS_OF_A_CLIP)]:
            yield name, window
        left -= min(left, len(windows), WINDOWS_OF_A_CLIP)
        if not left:
            return


def check_emulation(cpuinfo: str) -> None:
    """Raises UsageError unless the emulated processor has just what /proc/cpuinfo says, of what kernels choose by."""
    if platform.machine() != "aarch64":
        raise UsageError(f"this is {platform.machine()}, not an emulated aarch64")
    lines = [line for line in cpuinfo.splitlines() if line.startswith("Features")]
    said = set(lines[0].partition(":")[2].split()) & set(HWCAP) if lines else set()
    getauxval = ctypes.CDLL(None).getauxval
    getauxval.argtypes, getauxval.restype = [ctypes.c_ulong], ctypes.c_ulong
    bits = getauxval(AT_HWCAP)
    real = {name for name, bit in HWCAP.items() if bits & bit}
    if said != real:
        raise UsageError(f"/proc/cpuinfo says {sorted(said)}, the emulated processor has {sorted(real)}")


def write_windows(models: Sequence[Path], cpu: str, sounds: Sequence[tuple[str, Path]], most: int) -> None:
    """Prints a JSON line a window: model, level, target, cpu, clip, window (its start, in seconds), llr, verdict.

    A model that fails gets a line with `trouble`; the others go on.
    """
    for model in dict.fromkeys(models):
        begun = time.monotonic()
        line: dict[str, object] = {"model": str(model), "cpu": cpu, "level": "?", "target": "?"}
        count = 0
        try:
            detector = Detector(model, hop_seconds=HOP_SECONDS)
            contract = detector.network.contract
            line |= {"level": contract.level, "target": contract.target}
            for clip, window in score(detector, sounds, most):
                found = {"clip": clip, "window": window.start, "llr": window.score, "verdict": window.verdict.value}
                print(json.dumps(line | found), flush=True)
                count += 1
        except ModelError as error:
            print(json.dumps(line | {"trouble": str(error)}), flush=True)
        print(f"  {cpu}: {model.name}, {count} windows, {time.monotonic() - begun:.0f} s", file=sys.stderr)


def read_scores(folder: Path) -> dict[tuple[str, str], Scores]:
    """The scores in a folder's JSON-lines files, by model and processor."""
    found: dict[tuple[str, str], Scores] = {}
    for path in sorted(folder.glob("*.jsonl")):
        for text in path.read_text().splitlines():
            line = json.loads(text)
            scores = found.setdefault((line["model"], line["cpu"]), Scores(line["level"], line["target"]))
            if "trouble" in line:
                scores.trouble = line["trouble"].replace("|", "/")  # which would end a table's cell
                continue
            key = (line["clip"], line["window"])
            scores.llr[key], scores.verdict[key] = line["llr"], line["verdict"]
    return found


def distance(reference: Scores, other: Scores) -> tuple[float, float]:
    """Pearson correlation and largest difference of the LLRs; NaN where it cannot be said.

    A window that only one of the two scored makes the difference infinite.
    """
    pairs = [(llr, other.llr.get(key)) for key, llr in reference.llr.items()]
    both = np.array([(a, b) for a, b in pairs if a is not None and b is not None]).reshape(-1, 2)
    if any((a is None) != (b is None) for a, b in pairs):
        return math.nan, math.inf
    if not len(both):
        return math.nan, math.nan
    largest = float(np.abs(both[:, 0] - both[:, 1]).max())
    varies = len(both) > 1 and bool((both.std(axis=0) > 0).all())
    return (float(np.corrcoef(both.T)[0, 1]) if varies else math.nan), largest


def row(model: str, cpu: str, reference: Scores, host: Scores | None, other: Scores) -> tuple[list[str], bool]:
    """A line of the table, and whether its bound holds."""
    bound = BOUNDS.get(other.level)
    trouble = other.trouble
    if not trouble and other.llr.keys() != reference.llr.keys():
        trouble = f"gave {len(other.llr)} of {len(reference.llr)} windows, or other ones"
    name = [Path(model).name, other.level, other.target, cpu, str(len(other.llr))]
    if trouble or bound is None:
        return [*name, "", "", "", "", str(bound or ""), f"**no**: {trouble or 'an unknown level'}"], False
    correlation, largest = distance(reference, other)
    flips = sum(other.verdict[key] != verdict for key, verdict in reference.verdict.items())
    same = "not run there" if host is None or host.trouble else f"{distance(host, other)[1]:.1e}"
    holds = bound.holds(correlation, largest)
    measured = ["undefined" if math.isnan(correlation) else f"{correlation:.6f}", f"{largest:.2g}", str(flips), same]
    return [*name, *measured, str(bound), "yes" if holds else "**no**"], holds


def float_model(scores: Mapping[tuple[str, str], Scores], model: str | None) -> str:
    """The model to compare with: `model`, or the first with scores on the host that is fp32.

    Raises ModelError when there is none.
    """
    for (name, cpu), found in scores.items():
        if cpu == HOST and (name == model if model else found.level == "fp32" and not found.trouble):
            if found.trouble:
                raise ModelError(found.trouble)
            if found.level != "fp32":
                raise ModelError(f"{name} is {found.level}: the model to compare with must be fp32")
            return name
    raise ModelError("no fp32 model to compare with: give one with --reference FLOAT.onnx")


def table(reference_model: str, models: Sequence[str], cpus: Sequence[str], folder: Path) -> bool:
    """Prints the Markdown table, and says whether every bound holds."""
    scores = read_scores(folder)
    reference = scores[reference_model, HOST]
    print("| " + " | ".join(COLUMNS) + " |")
    print("|" + "---|" * len(COLUMNS))
    every = True
    for model in models:
        host = scores.get((model, HOST))
        for cpu in cpus:
            other = scores.get((model, cpu), Scores("?", "?", trouble="the emulated run gave nothing"))
            cells, holds = row(model, cpu, reference, host, other)
            print("| " + " | ".join(cells) + " |")
            every = every and holds
    print(
        f"\nLLR differences, against {Path(reference_model).name} on the host; "
        f"`from host`: against the same file on the host ({platform.machine()})."
    )
    return every


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    tasks = parser.add_subparsers(dest="task", required=True)
    scoring = tasks.add_parser("windows", help="print the scores of windows as JSON lines")
    scoring.add_argument("models", nargs="+", type=Path)
    scoring.add_argument("--cpu", default=HOST, help="the name of the emulated processor")
    scoring.add_argument("--clips", action="append", type=Path, required=True, help="a folder of clips")
    scoring.add_argument("--windows", type=int, default=60, help="windows to score")
    choosing = tasks.add_parser("reference", help="print which model is the float model")
    choosing.add_argument("--model", help="the one that it must be (default: the first that is fp32)")
    comparing = tasks.add_parser("table", help="compare the scores, exit code 1 when a bound does not hold")
    comparing.add_argument("models", nargs="+")
    comparing.add_argument("--reference", required=True, help="the float model")
    comparing.add_argument("--cpu", required=True, help="the emulated processors, with commas between them")
    for task in (choosing, comparing):
        task.add_argument("--scores", type=Path, required=True, help="the folder with the JSON lines")
    options = parser.parse_args(arguments)
    try:
        if options.task == "table":
            return 0 if table(options.reference, options.models, options.cpu.split(","), options.scores) else 1
        if options.task == "reference":
            print(float_model(read_scores(options.scores), options.model))
            return 0
        if options.cpu != HOST:
            check_emulation(Path("/proc/cpuinfo").read_text())
        write_windows(options.models, options.cpu, clips(options.clips), options.windows)
        return 0
    except EdgeDetectError as error:
        print(error, file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    code = main()
    sys.stdout.flush()
    os._exit(code)  # without the interpreter's tear-down: under emulation it may crash after all is done
