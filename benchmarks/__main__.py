"""`python -m benchmarks accuracy MODEL --data DIR`: how well a model file does, through the runtime itself."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from tqdm import tqdm

from benchmarks.accuracy import accuracy, judge, markdown
from benchmarks.protocols import read_clips
from edge_runtime.detector import Detector
from edge_runtime.errors import EdgeDetectError, OutputError


def parser() -> argparse.ArgumentParser:
    command = argparse.ArgumentParser(
        prog="python -m benchmarks", epilog="Exit codes: 0 done, 2 usage, 3 data, 4 model, 5 output."
    )
    tasks = command.add_subparsers(dest="task", required=True)
    task = tasks.add_parser("accuracy", help="EER pooled, within sources, per source and per system")
    task.add_argument("model", help="an ONNX file of `python -m export`")
    task.add_argument("--data", type=Path, required=True, help="folders, CSV or ASVspoof protocol")
    task.add_argument("--audio", type=Path, help="folder of the clips that a protocol names")
    task.add_argument("--hop", type=float, default=0.5, help="seconds (default: %(default)s)")
    task.add_argument("--json", action="store_true", help="JSON in place of Markdown")
    task.add_argument("-o", "--output", type=Path, help="file for the report (default: standard output)")
    task.add_argument("--scores", type=Path, help="file for a line `CLIP LLR` a clip")
    task.add_argument("--figures", type=Path, help="file for the figures that `python -m export --figures` reads")
    task.add_argument("--title", default="Accuracy", help="heading of the report (default: %(default)s)")
    task.add_argument("--name", help="what to call the data in the figures (default: the name of --data)")
    return command


def write(target: Path, text: str) -> None:
    """Raises OutputError when the file cannot be written."""
    try:
        target.write_text(text, encoding="utf-8")
    except OSError as reason:
        raise OutputError(f"cannot write {target}: {reason.strerror}") from None


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code."""
    arguments = parser().parse_args(argv)
    try:
        detector = Detector(arguments.model, hop_seconds=arguments.hop)
        judged, unscored = judge(detector, read_clips(arguments.data, arguments.audio), tqdm)
        result = accuracy(judged, unscored)
        for line in unscored:
            print(f"no score: {line}", file=sys.stderr)
        text = json.dumps(asdict(result)) + "\n" if arguments.json else markdown(result, arguments.title)
        if arguments.scores:
            write(arguments.scores, "".join(f"{item.clip.path.stem} {item.score:.6f}\n" for item in judged))
        if arguments.figures:
            figures = result.as_figures(arguments.name or arguments.data.stem)
            write(arguments.figures, json.dumps(figures, indent=1) + "\n")
        if arguments.output:
            write(arguments.output, text)
        else:
            print(text, end="")
    except EdgeDetectError as reason:
        print(f"error: {reason}", file=sys.stderr)
        return reason.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
