"""`python -m export`: a RawNet2 checkpoint to a proved ONNX file, and a look into such a file."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from edge_runtime.app.arguments import Parser
from edge_runtime.app.shell import entry, note, put
from edge_runtime.errors import UsageError
from edge_runtime.model.contract import FORMS
from edge_runtime.system.extras import how_to_get
from edge_runtime.system.text import printable

VARIANTS = ("asvspoof2021", "asvspoof5", "eurecom2019", "lanceaking", "edge", "hybrid")
_EXITS = """exit codes:
  0  done
  2  wrong usage, or a variant that must be named
  4  a checkpoint or model that is missing, damaged, hostile or of another kind
  5  a file that cannot be written

`edge-detect inspect MODEL.onnx` prints what the file says of itself.

example:
  edge-detect export best.safetensors -o float.onnx"""


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError
    return value


def _positive(text: str) -> int:
    value = int(text)
    if not 0 < value <= 1 << 22:
        raise ValueError
    return value


_number.__name__, _positive.__name__ = "finite number", "positive number"  # argparse shows these to the user


def _convert_parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="edge-detect export",
        description="A trained checkpoint to an ONNX file for the box, proved equal to what PyTorch computes.",
        epilog=_EXITS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("checkpoint", help="state dict (.pth, .pt) or safetensors; read without running any code in it")
    add("-o", "--output", required=True, metavar="MODEL.onnx", help="file to write")
    add("--variant", choices=VARIANTS, help="who trained it; needed where names and shapes cannot tell")
    add(
        "--form",
        choices=FORMS,
        help="waveform: runs anywhere; streaming: windows share the filter bank; shared: and the first block; "
        "blocks: all but the head (default: the one that shares the most, for edge-detect)",
    )
    add("--sinc-kernel", type=_positive, metavar="TAPS", help="taps of the filters (default: the variant's)")
    add("--window-samples", type=_positive, metavar="N", help="length of a window (default: the variant's)")
    add("--ignore-extra", action="store_true", help="leave out weights that the network does not have")
    add("--name", help="name of the model in the file (default: the checkpoint's own)")
    for flag, text in (
        ("--scale", "LLR = scale * raw score + offset (default: the checkpoint's calibration, else 1)"),
        ("--offset", "see --scale (default: the checkpoint's, else 0)"),
        ("--threshold", "LLR below which a window is spoof (default: the checkpoint's, else 0)"),
        (
            "--threshold-bonafide",
            "LLR from which a window is bona fide (default: the checkpoint's, or --threshold)",
        ),
    ):
        add(flag, type=_number, metavar="X", help=text)
    add(
        "--figures",
        metavar="JSON",
        help="measured accuracy to write into the file, of `edge-detect benchmark`",
    )
    _add_json(parser)
    return parser


def _inspect_parser() -> argparse.ArgumentParser:
    parser = Parser(prog="edge-detect inspect", description="Prints a model's metadata.")
    parser.add_argument("model", help="ONNX file written by this program")
    parser.add_argument("--all", action="store_true", help="all that stands in the file")
    _add_json(parser)
    return parser


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON object")


def _inspect(options: argparse.Namespace) -> str:
    from edge_runtime.app.inspection import first, inspect, table

    facts = inspect(options.model)
    return json.dumps(facts, indent=2) if options.json else table(facts if options.all else first(facts))


def _convert(options: argparse.Namespace) -> str:
    try:
        from export.checkpoint import load
        from export.convert import contract_of, convert
    except ModuleNotFoundError as missing:
        if (made := _without_torch(options)) is not None:
            return made
        raise UsageError(how_to_get(str(missing.name), "export")) from None

    checkpoint = load(
        options.checkpoint,
        options.variant,
        kernel=options.sinc_kernel,
        window_samples=options.window_samples,
        ignore_extra=options.ignore_extra,
    )
    contract = contract_of(checkpoint, options.form)
    if options.threshold is not None and options.threshold_bonafide is None:
        contract = replace(contract, threshold_bonafide=options.threshold)
    names = ("name", "scale", "offset", "threshold", "threshold_bonafide")
    given = {name: value for name in names if (value := getattr(options, name)) is not None}
    calibrated = contract.calibrated or bool({"scale", "offset"} & given.keys())
    if options.figures:
        given["figures"] = {**contract.figures, "accuracy": _figures(options.figures)}
    proof = convert(checkpoint, replace(contract, calibrated=calibrated, **given), options.output)
    if options.json:
        return json.dumps(
            {
                "output": options.output,
                "variant": contract.variant,
                "found": checkpoint.found,
                "form": contract.form,
                "largest_difference": proof.difference,
                "proof": [vars(row) for row in proof.rows],
            }
        )
    size_mb = Path(options.output).stat().st_size / 1e6
    return "\n".join(
        (
            f"checkpoint: {printable(checkpoint.found)}",
            f"parity: {len(proof.rows)} comparisons, largest difference to PyTorch {proof.difference:.1e}",
            f"wrote {printable(options.output)}: {printable(contract.name)}, form {contract.form}, {size_mb:.1f} MB",
        )
    )


def _without_torch(options: argparse.Namespace) -> str | None:
    """Makes the float file of the shipped checkpoint where PyTorch is missing; None for what needs it."""
    changed = [name for name, value in vars(options).items() if value and name not in ("checkpoint", "output", "json")]
    try:
        from export.plain import convert_shipped, is_shipped
    except ModuleNotFoundError:  # onnx or safetensors
        return None
    if changed or not is_shipped(options.checkpoint):
        return None
    note("made without PyTorch, which is not installed: this is for the shipped checkpoint only")
    difference = convert_shipped(options.checkpoint, options.output)
    if options.json:
        return json.dumps({"output": options.output, "largest_difference_to_shipped_llr": difference})
    return f"wrote {options.output}: largest difference to the shipped model {difference:.2f} (log-likelihood ratio)"


def _figures(path: str) -> dict[str, Any]:
    try:
        figures = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as reason:
        raise UsageError(f"cannot read the figures {path}: {reason}") from None
    if not isinstance(figures, dict):
        raise UsageError(f"the figures {path} are no JSON object")
    return figures


@entry()
def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the program and gives its exit code; errors are one line on standard error."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    look = given[:1] == ["inspect"]
    options = _inspect_parser().parse_args(given[1:]) if look else _convert_parser().parse_args(given)
    put(_inspect(options) if look else _convert(options))
    return 0


if __name__ == "__main__":
    sys.exit(main())
