"""`python -m quantization`: a float model to a smaller and faster file, with the proof of what that cost."""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_runtime.app.arguments import Parser
from edge_runtime.app.shell import entry, note, put
from edge_runtime.errors import EdgeDetectError, OutputError, UsageError
from edge_runtime.model.contract import LEVELS, TARGETS
from edge_runtime.system.extras import demand, how_to_get

if TYPE_CHECKING:
    from evaluation.comparison import ComparedModel
    from quantization.quantizer import QuantizedModel, Quantizer

_EXITS = """levels:
  fp32         the float file itself
  fp16         weights stored in 16 bits, computed in 32
  int8         GRU, encoder and dense weights and products in 8 bits, convolutions in float (stored in 16 bits)
  int8-static  convolutions in 8 bits too; they and an encoder with ranges from the calibration data
  int4         GRU, encoder and dense weights stored in 4 bits, multiplied in 8; convolutions in float
  auto         each weight in the fewest bits that keep the scores within --margin

targets:
  portable       7-bit weights, right on every processor
  arm64          Raspberry Pi 3 and 4, Jetson Nano
  arm64-dotprod  Raspberry Pi 5, Jetson Orin
  x86-avx2       x86 without VNNI, 8 bits by another and slower product
  x86-vnni       x86 with VNNI

requirements (--require), with <=, >=, < or >:
  eer_delta, eer_delta_upper  rise of the EER and its 95 % bound, percentage points (need --evaluate)
  correlation, flipped        of the scores; verdicts that differ, percent
  largest_difference          of a clip's score, log-likelihood ratio
  size_ratio                  size of the float file divided by this one's

exit codes:
  0   done
  2   wrong usage
  3   calibration or evaluation data that cannot be read or do not serve
  4   a model that is missing, damaged, not a float model, or of another kind
  5   a file that cannot be written
  11  a --require that is not met; the file in question is not written"""


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError
    return value


def _share(text: str) -> float:
    value = float(text)
    if not (math.isfinite(value) and 0 < value <= 1):
        raise ValueError
    return value


def _seconds(text: str) -> float:
    value = float(text)
    if not (math.isfinite(value) and value > 0):
        raise ValueError
    return value


# argparse shows these to the user
_positive.__name__, _share.__name__, _seconds.__name__ = "positive number", "share between 0 and 1", "number of seconds"


COMMANDS = {"baseline": "quantization.baseline", "compare-int4": "quantization.int4.compare"}
"""Commands beside this one, `edge-detect quantize NAME`: what ONNX Runtime's own tools make, and ways to 4 bits."""


def parser() -> argparse.ArgumentParser:
    command = Parser(
        prog="edge-detect quantize",
        description=__doc__,
        epilog=_EXITS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = command.add_argument
    add("model", type=Path, help="float file of `python -m export`")
    add("-o", "--output", type=Path, required=True, help="file to write; with --all a folder")
    add("--level", choices=LEVELS, help="default: int8; with --all every level")
    add("--target", choices=TARGETS, help="default: portable; with --all every target")
    add(
        "--all",
        action="store_true",
        help="write NAME-LEVEL-TARGET.onnx for all levels and targets that differ; NAME is the model's own",
    )
    add("--calibration", type=Path, metavar="DATA", help="folder, CSV or protocol of speech (default: built-in clips)")
    add("--calibration-audio", type=Path, metavar="DIR", help="folder of the clips that a protocol names")
    add(
        "--evaluate",
        type=Path,
        metavar="DATA",
        help="labelled clips to prove the file on (default: the calibration windows, without an EER)",
    )
    add("--evaluate-audio", type=Path, metavar="DIR", help="folder of the clips that a protocol names")
    add("--require", action="append", default=[], metavar="LIMIT", help='as "eer_delta<=0.5"; may be given again')
    add("--windows", type=_positive, default=256, help="calibration windows (default: %(default)s)")
    add("--margin", type=_share, help="of auto: deviation of the scores, relative to their own (default: 0.03)")
    add(
        "--method",
        default="gptq",
        help="4 bits by rtn, clipped, hqq, kquant, gptq, distilled or best (default: %(default)s)",
    )
    add("--hop", type=_seconds, default=0.5, help="seconds between windows in the proof (default: %(default)s)")
    add("--explain", action="store_true", help="a table of each weight: how it is stored and multiplied, and why")
    add("--json", action="store_true", help="one JSON array")
    return command


def _quantizer(options: argparse.Namespace) -> Quantizer:
    try:
        from tqdm import tqdm

        from quantization import sensitivity
        from quantization.calibration import name_of, read, refuse_overlap
        from quantization.int4.stack import METHODS
        from quantization.parity import Evaluation
        from quantization.quantizer import Quantizer
    except ModuleNotFoundError as missing:
        raise UsageError(how_to_get(str(missing.name), "quantize")) from None
    from evaluation.protocols import read_clips

    if options.method not in METHODS:
        raise UsageError(f"there is no method {options.method}: take one of {', '.join(METHODS)}")
    calibration = read(options.calibration, options.calibration_audio)
    evaluation = None
    if options.evaluate:
        clips = read_clips(options.evaluate, options.evaluate_audio)
        refuse_overlap(calibration, clips)
        evaluation = Evaluation(name_of(options.evaluate), clips, options.model, options.hop, tqdm, note)
    return Quantizer(
        options.model,
        calibration,
        evaluation,
        count=options.windows,
        margin=options.margin or sensitivity.MARGIN,
        method=options.method,
        progress=tqdm,
        tell=note,
    )


def _jobs(options: argparse.Namespace, name: str) -> list[tuple[str, str, Path]]:
    """Level, target and file of everything to make."""
    from quantization.targets import family

    if not options.all:
        if options.output.is_dir():
            raise OutputError(f"cannot write {options.output}: it is a folder (--all fills one)")
        if not options.output.parent.is_dir():
            raise OutputError(f"cannot write {options.output}: there is no folder {options.output.parent}")
        return [(options.level or "int8", options.target or "portable", options.output)]
    try:
        options.output.mkdir(parents=True, exist_ok=True)
    except OSError as reason:
        raise OutputError(f"cannot make the folder {options.output}: {reason.strerror}") from None
    chosen = [
        (level, target.name)
        for level, target in family((options.level,) if options.level else LEVELS)
        if options.target in (None, target.name) or (target.name == "portable" and level in ("fp32", "fp16"))
    ]
    return [(level, target, options.output / f"{name}-{level}-{target}.onnx") for level, target in chosen]


def _run(options: argparse.Namespace) -> tuple[str, list[str]]:
    """What to print, and a line for every requirement that was not met."""
    from evaluation.gate import check, measures, parse_all

    requirements = parse_all(options.require)
    if not options.evaluate and any(item.measure.startswith("eer_") for item in requirements):
        raise UsageError("a requirement on the EER needs labelled clips: name them with --evaluate")
    quantizer = _quantizer(options)
    from quantization.quantizer import write  # after the message on what is not installed

    # A model's name is whatever somebody wrote into a checkpoint; it becomes a part of a path here.
    name = re.sub(r"[^\w.+-]+", "-", quantizer.contract.name).strip(".-") or options.model.stem
    jobs = _jobs(options, name)
    if any(path.exists() and path.samefile(options.model) for _, _, path in jobs):
        raise UsageError(f"{options.model} would be overwritten by what is made from it: name another --output")
    made: list[tuple[Path, QuantizedModel]] = []
    failures: list[str] = []
    try:
        for number, (level, target, path) in enumerate(jobs, start=1):
            print(f"[{number}/{len(jobs)}] {level} for {target}", file=sys.stderr)
            item = quantizer.make(level, target)
            missed = check(requirements, measures(item.comparison, options.model.stat().st_size, item.bytes))
            if missed:
                failures += [f"{path}: {line}" for line in missed]
                continue
            write(item, path)
            made.append((path, item.without_model()))
            if not options.json:
                for text in (item.report, item.explained if options.explain else ""):
                    if text:
                        print(text, end="\n\n")
    except (EdgeDetectError, KeyboardInterrupt):
        if made:  # what was measured must not be lost with what was not
            print(_report(options, made), flush=True)
        raise
    return _report(options, made), failures


def _report(options: argparse.Namespace, made: Sequence[tuple[Path, QuantizedModel]]) -> str:
    from evaluation.comparison import comparison_table, describe

    rows: list[ComparedModel] = [describe(path, options.model, item.contract, item.comparison) for path, item in made]
    if not options.json:
        return comparison_table(rows) if rows else ""
    found: list[dict[str, Any]] = [
        {
            "output": str(path),
            "level": item.contract.level,
            "target": item.contract.target,
            "bytes": row.size_bytes,
            "size_ratio": round(row.size_ratio, 3),
            **item.contract.figures["quantization"],
            "report": item.report,
            "weights": item.explained,
        }
        for (path, item), row in zip(made, rows, strict=True)
    ]
    return json.dumps(found, indent=1)


@entry()
def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the program and gives its exit code; errors are one line on standard error."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] and given[0] in COMMANDS:
        run: Callable[[Sequence[str]], int] = import_module(COMMANDS[given[0]]).main
        return run(given[1:])
    options = parser().parse_args(given)
    demand("quantize", "onnx", "tqdm")
    text, failures = _run(options)
    put(text)
    if failures:
        from evaluation.gate import RequirementFailed

        raise RequirementFailed("; ".join(failures) + "; not written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
