"""Instructions that a hop takes on an emulated 64-bit ARM: a figure that repeats, for boards that nobody has here.

QEMU translates the board's own wheels, whose kernels are chosen by the emulated core's features, and a plugin counts
what is executed. The program marks the beginning and the end of each hop, so that nothing else is in the count.
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import onnxruntime

from benchmarks.emulated.system import CORES, System, prepare
from benchmarks.timing.sound import speech_like
from edge_runtime.detector import Detector
from edge_runtime.errors import ModelError, UsageError
from edge_runtime.model.network import Network
from edge_runtime.system.markdown import table
from evaluation.comparison import describe
from evaluation.hop import at_hop
from evaluation.progress import silently

SETTLING_HOPS = 1
"""After the first window and before the first mark."""

_ABOVE = """\
Millions of instructions for a hop of {hop:g} s and its window, through the runtime's detector with one thread: the
median of {windows} hops in each of {repeats} runs. Ratio: the first model's count over this one's, above 1 is fewer.
{version}, ONNX Runtime {onnxruntime}.

Instructions are no time: one that multiplies 16 numbers counts as much as one that adds two, and waiting for memory
counts nothing. The counts say what a change of the program or the file does to the work, on any machine the same."""


@dataclass(frozen=True)
class Count:
    """One model on one core."""

    cpu: str
    processor: str  # as the runtime saw it
    instructions: list[list[int]]  # of each hop, a list a run

    @property
    def per_hop(self) -> float:
        """Median over the runs' medians."""
        return median(self._medians())

    @property
    def disagreement(self) -> float:
        """From the lowest to the highest median of a run, divided by the median of all."""
        medians = self._medians()
        return (max(medians) - min(medians)) / self.per_hop

    def _medians(self) -> list[float]:
        return [median(hops) for hops in self.instructions]


@dataclass(frozen=True)
class ModelInstructions:
    """One model file. `counts` lacks the cores where the runtime refuses the file; `refusals` says why."""

    name: str
    path: str
    size_bytes: int
    sha256: str
    level: str
    target: str
    counts: dict[str, Count]
    ratios: dict[str, float]  # by core: the first model's count divided by this one's
    refusals: dict[str, str]


@dataclass(frozen=True)
class InstructionRun:
    """All that the command prints."""

    qemu: str
    onnxruntime: str
    hop_seconds: float
    windows: int
    repeats: int
    cpus: list[str]
    rows: list[ModelInstructions]

    def as_json(self) -> dict[str, Any]:
        """As JSON takes it."""
        told = asdict(self)
        for values, row in zip(told["rows"], self.rows, strict=True):
            for cpu, count in row.counts.items():
                values["counts"][cpu] |= {"per_hop": count.per_hop, "disagreement": count.disagreement}
        return told


def instructions(
    paths: Sequence[Path],
    hop_seconds: float = 0.5,
    windows: int = 3,
    cpus: Sequence[str] = ("cortex-a72", "cortex-a76"),
    repeats: int = 2,
    progress: Callable[..., Any] = silently,
) -> InstructionRun:
    """Counts for the model files of `paths`, the first of which the others are compared with.

    Each of `repeats` runs is an emulated process of its own for each core, with all models in it. Raises UsageError for
    numbers or cores that cannot be and when something that emulation takes is missing, ModelError for a file that
    cannot be opened, or whose run fails.
    """
    unknown = [cpu for cpu in cpus if cpu not in CORES]
    if unknown:
        raise UsageError(f"unknown core {unknown[0]}: known are {', '.join(CORES)}")
    if not paths or not cpus or min(windows, repeats) < 1:
        raise UsageError("counting needs at least one model, core, window and run")
    # For other processors files may be given: the emulated one decides, and not this one.
    detectors = [
        at_hop(Detector(Network.load(path, exact=True), hop_seconds=hop_seconds), hop_seconds) for path in paths
    ]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        system = prepare(folder, paths[0])
        pairs: list[str] = []
        for index, (path, detector) in enumerate(zip(paths, detectors, strict=True)):
            hops = SETTLING_HOPS + windows
            sound = speech_like(detector.window_samples + hops * detector.hop_samples, detector.sample_rate)
            np.save(folder / f"{index}.npy", sound)
            pairs += [str(path.resolve()), str(folder / f"{index}.npy")]
        arguments = ["1", str(hop_seconds), str(SETTLING_HOPS), *pairs]
        found: dict[str, list[list[EmulatedRun]]] = {cpu: [] for cpu in cpus}

        def work() -> Iterator[None]:
            for cpu in cpus:
                for _ in range(repeats):
                    told: list[EmulatedRun] = []
                    found[cpu].append(told)
                    yield from _emulate(system, cpu, arguments, len(paths), told)

        for _ in progress(work(), desc="emulating", unit="model", total=len(paths) * len(cpus) * repeats):
            pass
        rows = _rows(paths, detectors, found)
    return InstructionRun(
        system.version, onnxruntime.__version__, detectors[0].hop_seconds, windows, repeats, list(cpus), rows
    )


@dataclass(frozen=True)
class EmulatedRun:
    """What one emulated run says of one model."""

    processor: str
    instructions: list[int]
    trouble: str


def differences(marks: str, hops: Sequence[int]) -> list[list[int]]:
    """Instructions of each hop, for models of which each scored so many, from the plugin's text: a count a mark.

    Raises ModelError when these are not two marks a hop, or when a count is not above the one before.
    """
    lines = marks.split()
    counts = [int(line) for line in lines if re.fullmatch(r"[0-9]+", line)]
    if len(counts) != len(lines) or len(counts) != 2 * sum(hops):
        raise ModelError(f"the plugin wrote {len(lines)} marks where {2 * sum(hops)} were to be expected")
    taken = [end - begin for begin, end in zip(counts[::2], counts[1::2], strict=True)]
    if any(value <= 0 for value in taken):
        raise ModelError("the plugin's counts do not grow: the marks came from several threads")
    places = np.cumsum([0, *hops])
    return [taken[begin:end] for begin, end in pairwise(places)]


def _emulate(
    system: System, cpu: str, arguments: Sequence[str], models: int, found: list[EmulatedRun]
) -> Iterator[None]:
    """One emulated process; yields as each model is done, and leaves what it said in `found`."""
    marks = system.folder / "marks"
    said = []
    with tempfile.TemporaryFile() as errors:
        command = system.command(cpu, marks, arguments)
        running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
        assert running.stdout
        try:
            for line in running.stdout:
                said.append(json.loads(line))
                yield None
            running.wait()
        finally:
            running.kill()
            running.wait()
        if running.returncode != 0 or len(said) != models:
            errors.seek(0)
            lines = errors.read().decode(errors="replace").strip().splitlines()
            last = lines[-1] if lines else f"exit code {running.returncode}"
            raise ModelError(f"the emulated run on {cpu} ended early: {last[:200]}")
    counts = differences(marks.read_text(encoding="ascii"), [item["hops"] for item in said])
    for item, taken in zip(said, counts, strict=True):
        if ("no dot product" in item["processor"]) == CORES[cpu].dotprod:
            raise ModelError(f"on {cpu} the runtime saw another processor: {item['processor']}")
        if None in item["scores"]:
            raise ModelError(f"{item['model']} gave no score to something like speech: its count would mean nothing")
        found.append(EmulatedRun(item["processor"], taken, item["trouble"]))


def _rows(
    paths: Sequence[Path], detectors: Sequence[Detector], found: dict[str, list[list[EmulatedRun]]]
) -> list[ModelInstructions]:
    rows: list[ModelInstructions] = []
    for index, (path, detector) in enumerate(zip(paths, detectors, strict=True)):
        of_model = {cpu: [told[index] for told in runs] for cpu, runs in found.items()}
        refusals = {cpu: runs[0].trouble for cpu, runs in of_model.items() if runs[0].trouble}
        counts = {
            cpu: Count(cpu, runs[0].processor, [told.instructions for told in runs])
            for cpu, runs in of_model.items()
            if cpu not in refusals
        }
        first = rows[0].counts if rows else counts
        facts = describe(path, paths[0], detector.network.contract, None)
        rows.append(
            ModelInstructions(
                name=facts.model,
                path=str(path),
                size_bytes=facts.size_bytes,
                sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
                level=facts.level,
                target=facts.target,
                counts=counts,
                ratios={cpu: first[cpu].per_hop / count.per_hop for cpu, count in counts.items() if cpu in first},
                refusals=refusals,
            )
        )
    return rows


def instruction_table(run: InstructionRun) -> str:
    """Markdown: a line a model, two columns a core, and below how well the runs agree."""
    heads = ["model", "level", "size", *[f"{cpu}{what}" for cpu in run.cpus for what in ("", ", ratio")]]
    rows = []
    for row in run.rows:
        cells = [row.name, row.level, f"{row.size_bytes / 1e6:.2f} MB"]
        for cpu in run.cpus:
            count, ratio = row.counts.get(cpu), row.ratios.get(cpu)
            cells += ["refused" if count is None else f"{count.per_hop / 1e6:.2f} M", f"{ratio:.3f}" if ratio else "-"]
        rows.append(cells)
    above = _ABOVE.format(
        hop=run.hop_seconds,
        windows=run.windows,
        repeats=run.repeats,
        version=run.qemu,
        onnxruntime=run.onnxruntime,
    )
    parts = ["# Instructions of a hop", above, "\n".join(table(heads, rows))]
    counts = [count for row in run.rows for count in row.counts.values()]
    if run.repeats > 1 and counts:
        worst = max(count.disagreement for count in counts)
        parts.append(f"The runs of a model agree within {worst:.3%}.")
    parts += [f"{row.name} on {cpu}: {why}" for row in run.rows for cpu, why in row.refusals.items()]
    return "\n\n".join(parts) + "\n"
