"""`python -m quantization.int4.compare MODEL --data DATA`: what each way to 4 bits costs in a model's GRU stack.

The stack's inputs are computed once for windows of the data. Every method is fitted to the first clips and measured
on others, the held-out ones: these two lists are what to choose by. `--evaluate` adds columns to report, not to
choose by, on a test set that must share no clip with the data.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import helper

from edge_runtime.app.arguments import Parser
from edge_runtime.app.shell import entry
from edge_runtime.errors import ModelError, UsageError
from edge_runtime.model.contract import Contract
from edge_runtime.model.network import INPUTS
from edge_runtime.system import markdown
from evaluation.comparison import compare_scores, correlation_text
from evaluation.protocols import Clip, read_clips
from quantization.calibration import CalibrationSet, gather, read, refuse_overlap
from quantization.int4 import Floats, GruLayer, Head, logits, previous, scores, states
from quantization.int4.blocks import BLOCKS
from quantization.int4.gptq import errors, moments
from quantization.int4.reading import read_stack
from quantization.int4.stack import METHODS, Stack, quantize_stack
from quantization.passes.gru import is_gru
from quantization.quantizer import float_model

_BATCH = 16
_LARGEST_DOUBT = 1e-3
"""Logits of the stack as read from the file may differ from the file's by this much, and by no more."""


@dataclass(frozen=True)
class StackInputs:
    """Clips' windows where they enter the GRU stack."""

    inputs: Floats  # [N, T, I]
    clips: tuple[Clip, ...]  # [N]


def cut(
    model: onnx.ModelProto, contract: Contract, stack: tuple[list[GruLayer], Head], given: CalibrationSet
) -> StackInputs:
    """What enters the first GRU for the windows of all clips, up to one a clip on average.

    Raises ModelError when `stack` does not give the file's own logits for them, InputError as `gather` does.
    """
    windows = gather(given, contract, count=len(given.clips))
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    entry = next(node.input[0] for node in model.graph.node if is_gru(node))
    changed.graph.output.append(helper.make_tensor_value_info(entry, onnx.TensorProto.FLOAT, None))
    session = onnxruntime.InferenceSession(changed.SerializeToString(), providers=["CPUExecutionProvider"])
    entering, wanted = [], []
    for first in range(0, len(windows.inputs), _BATCH):
        batch = {INPUTS[contract.form]: windows.inputs[first : first + _BATCH]}
        found, sequence = session.run(["logits", entry], batch)
        entering.append(np.ascontiguousarray(sequence.transpose(1, 0, 2)))
        wanted.append(found)
    inputs = np.concatenate(entering)
    doubt = float(np.abs(logits(*stack, inputs) - np.concatenate(wanted)).max())
    if not doubt <= _LARGEST_DOUBT:
        raise ModelError(f"the model is more than GRU layers and a head after its convolutions (off by {doubt:.2g})")
    return StackInputs(inputs, windows.clips)


@dataclass(frozen=True)
class MethodResult:
    """What a method costs. Errors are shares: of the products' power, of the scores' spread."""

    method: str
    block: int
    symmetric: bool
    bits: float  # a weight, with scales and zero points
    product_error: float
    score_error: float  # standard deviation
    correlation: float
    seconds: float
    evaluated: tuple[str, ...] = ()


def measure(
    layers: Sequence[GruLayer],
    head: Head,
    stack: Stack,
    held_out: Floats,
    seconds: float,
    evaluated: StackInputs | None,
) -> MethodResult:
    """The row of a stack, from inputs float32 [M, T, I] that it was not fitted to."""
    missed = power = 0.0
    size = weights = 0
    inputs = held_out
    for layer, (of_inputs, of_state) in zip(layers, stack.quantized, strict=True):
        after = states(layer, inputs)
        for matrix, quantized, given in ((layer.W, of_inputs, inputs), (layer.R, of_state, previous(after))):
            seen = moments(given)
            missed += float(errors(matrix, quantized, seen).sum())
            power += float(((matrix @ seen) * matrix).sum())
            size += quantized.nbytes
            weights += matrix.size
        inputs = after
    wanted, found = scores(layers, head, held_out), scores(stack.layers, stack.head, held_out)
    first = stack.quantized[0][0]
    return MethodResult(
        method=stack.method,
        block=first.block,
        symmetric=first.zero_points is None,
        bits=8 * size / weights,
        product_error=float(np.sqrt(missed / power)),
        score_error=float((found - wanted).std() / wanted.std()),
        correlation=float(np.corrcoef(wanted, found)[0, 1]),
        seconds=seconds,
        evaluated=() if evaluated is None else _evaluated(layers, head, stack, evaluated),
    )


def _evaluated(layers: Sequence[GruLayer], head: Head, stack: Stack, data: StackInputs) -> tuple[str, ...]:
    """Correlation of clips' mean scores, and the EER's difference with its upper bound."""
    clips = list(dict.fromkeys(data.clips))
    number = {clip: index for index, clip in enumerate(clips)}
    place = np.array([number[clip] for clip in data.clips])

    def means(values: Floats) -> NDArray[np.float64]:
        return np.bincount(place, values) / np.bincount(place)

    wanted, found = means(scores(layers, head, data.inputs)), means(scores(stack.layers, stack.head, data.inputs))
    result = compare_scores(wanted, found, [clip.is_bonafide for clip in clips], [clip.source for clip in clips])
    correlation = correlation_text(result.correlation)
    if result.eer_delta_points is None or result.eer_delta_upper_points is None:
        return correlation, "-"
    return correlation, f"{result.eer_delta_points:+.2f} [{result.eer_delta_upper_points:+.2f}]"


def table(rows: Sequence[MethodResult]) -> str:
    """The rows as Markdown; of each block and kind, the one with the least error of the score is bold."""
    columns = ["block", "zero points", "method", "bits", "product error", "score error", "correlation", "seconds"]
    if rows and rows[0].evaluated:
        columns += ["correlation, evaluated", "EER difference [upper 95 %], evaluated"]
    lines = []
    for row in rows:
        rivals = [other for other in rows if (other.block, other.symmetric) == (row.block, row.symmetric)]
        bold = "**" if row is min(rivals, key=lambda other: other.score_error) else ""
        fields = [
            str(row.block),
            "no" if row.symmetric else "yes",
            f"{bold}{row.method}{bold}",
            f"{row.bits:.2f}",
            f"{row.product_error:.2%}",
            f"{row.score_error:.3%}",
            correlation_text(row.correlation),
            f"{row.seconds:.0f}",
            *row.evaluated,
        ]
        lines.append(fields)
    return "\n".join(markdown.table(columns, lines)) + "\n"


def parser() -> argparse.ArgumentParser:
    command = Parser(
        prog="edge-detect quantize compare-int4",
        description="What each way to 4 bits costs in a model's GRU stack, as a Markdown table.",
        epilog="Exit codes: 0 done, 2 usage, 3 data, 4 model.",
    )
    command.add_argument("model", type=Path, help="a float ONNX file of `python -m export`")
    command.add_argument("--data", type=Path, help="folder, CSV or protocol to fit to (default: the built-in clips)")
    command.add_argument("--audio", type=Path, help="folder of the clips that a protocol names")
    command.add_argument(
        "--windows", type=int, default=512, help="windows, and clips, to fit to (default: %(default)s)"
    )
    command.add_argument("--held-out", type=int, default=256, help="windows of other clips (default: %(default)s)")
    command.add_argument("--evaluate", type=Path, help="folder or CSV of a test set, to report on and not to choose by")
    command.add_argument("--block", type=int, nargs="+", default=[64, 128, 32], choices=BLOCKS, help="block sizes")
    command.add_argument("--method", nargs="+", default=list(METHODS[:-1]), choices=METHODS, help="methods")
    command.add_argument("--zero-points", action="store_true", help="blocks with zero points too")
    return command


def split(given: CalibrationSet, windows: int, held_out: int) -> tuple[CalibrationSet, CalibrationSet]:
    """Clips to fit to and other clips to measure on; in the same proportion when there are too few for both.

    Raises UsageError when either number is below 1.
    """
    if min(windows, held_out) < 1:
        raise UsageError(f"windows to fit to and to hold out must be 1 or more, not {windows} and {held_out}")
    share = min(1.0, len(given.clips) / (windows + held_out))
    first, second = round(windows * share), round(held_out * share)
    return (
        CalibrationSet(given.name, given.clips[:first]),
        CalibrationSet(f"{given.name}, held out", given.clips[first : first + second]),
    )


def report(arguments: argparse.Namespace) -> str:
    """The table that the arguments ask for. Raises an EdgeDetectError for what cannot be done."""
    _, model, contract = float_model(arguments.model)
    layers, head = read_stack(model)
    given = read(arguments.data, arguments.audio, limit=max(1, arguments.windows + arguments.held_out))
    fitting, checking = split(given, arguments.windows, arguments.held_out)
    test = None
    if arguments.evaluate:
        clips = read_clips(arguments.evaluate)
        refuse_overlap(given, clips)
        test = cut(model, contract, (layers, head), CalibrationSet(str(arguments.evaluate), tuple(clips)))
    inputs, held_out = (cut(model, contract, (layers, head), part).inputs for part in (fitting, checking))
    rows = []
    for block in arguments.block:
        for symmetric in (True, False) if arguments.zero_points else (True,):
            for method in arguments.method:
                kind = "" if symmetric else ", zero points"
                print(f"block {block}{kind}: {method}", file=sys.stderr)  # some take a minute and more
                began = time.perf_counter()
                # Nothing of the held-out windows goes into the fit: a part of the others says when to stop.
                stack = quantize_stack(layers, head, inputs, method, block, symmetric)
                rows.append(measure(layers, head, stack, held_out, time.perf_counter() - began, test))
    return f"{len(inputs)} windows to fit to, {len(held_out)} of other clips held out.\n\n" + table(rows)


@entry()
def main(arguments: Sequence[str] | None = None) -> int:
    print(report(parser().parse_args(arguments)), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
