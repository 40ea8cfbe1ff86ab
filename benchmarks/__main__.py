"""`python -m benchmarks TASK`: how well model files do through the runtime, how fast, and in how much memory."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmarks.accuracy import Judged, accuracy, judge, markdown
from benchmarks.comparison import Row, compare, comparison_table, describe
from benchmarks.gru import gru_speed
from benchmarks.gru import table as gru_table
from benchmarks.machine import record
from benchmarks.protocols import read_clips
from benchmarks.soak import soak
from benchmarks.soak import table as soak_table
from benchmarks.speed import relative_speed
from benchmarks.streaming import markdown as streaming_page
from benchmarks.streaming import streaming
from edge_runtime.detector import Detector
from edge_runtime.errors import EdgeDetectError, InputError, ModelError, OutputError
from edge_runtime.model.network import Network


def parser() -> argparse.ArgumentParser:
    command = argparse.ArgumentParser(
        prog="python -m benchmarks", epilog="Exit codes: 0 done, 2 usage, 3 data, 4 model, 5 output."
    )
    tasks = command.add_subparsers(dest="task", required=True)
    task = tasks.add_parser("accuracy", help="EER pooled, within sources, per source and per system")
    task.add_argument("model", help="an ONNX file of `python -m export`")
    _add_data(task)
    task.add_argument("--scores", type=Path, help="file for a line `CLIP LLR` a clip")
    task.add_argument("--figures", type=Path, help="file for the figures that `python -m export --figures` reads")
    task.add_argument("--title", default="Accuracy", help="heading of the report (default: %(default)s)")
    task.add_argument("--name", help="what to call the data in the figures (default: the name of --data)")
    task.set_defaults(run=report_accuracy)
    task = tasks.add_parser("compare", help="size, speed, and how far the scores are from the float model's")
    task.add_argument("float_model", metavar="FLOAT", type=Path, help="the ONNX file that the others are held against")
    task.add_argument("models", metavar="MODEL", type=Path, nargs="+", help="files quantized from it, by any tool")
    _add_data(task)
    _add_timing(task)
    task.add_argument("--no-speed", action="store_true", help="do not time the models")
    task.set_defaults(run=report_comparison)
    task = tasks.add_parser("gru", help="speed of the GRU alone (needs onnx)")
    task.add_argument("float_model", metavar="FLOAT", type=Path, help="the ONNX file that the others are held against")
    task.add_argument("models", metavar="MODEL", type=Path, nargs="+", help="files that were quantized from it")
    _add_timing(task)
    _add_report(task)
    task.set_defaults(run=report_gru)
    task = tasks.add_parser("streaming", help="what a hop costs, against the stock pipeline (needs onnx)")
    task.add_argument("stock", metavar="STOCK", type=Path, help="a float file of the waveform form")
    task.add_argument("models", metavar="MODEL", type=Path, nargs="+", help="files to hold against it, of any form")
    _add_timing(task)
    _add_hop(task)
    task.add_argument("--starts", type=int, default=5, help="fresh processes for a start (default: %(default)s)")
    task.add_argument("--file-seconds", type=float, default=120, help="of the long WAV (default: %(default)s)")
    _add_report(task)
    task.set_defaults(run=report_streaming)
    task = tasks.add_parser("soak", help="whether a hop's cost stays flat over a day of sound, in fast motion")
    task.add_argument("model", type=Path, help="an ONNX file of `python -m export`")
    task.add_argument("--hours", type=float, default=24, help="of sound (default: %(default)s)")
    task.add_argument("--threads", type=int, default=1, help="(default: %(default)s)")
    _add_hop(task)
    _add_report(task)
    task.set_defaults(run=report_soak)
    return command


def _add_data(task: argparse.ArgumentParser) -> None:
    task.add_argument("--data", type=Path, required=True, help="folders, CSV or ASVspoof protocol")
    task.add_argument("--audio", type=Path, help="folder of the clips that a protocol names")
    _add_hop(task)
    _add_report(task)


def _add_hop(task: argparse.ArgumentParser) -> None:
    task.add_argument("--hop", type=float, default=0.5, help="seconds (default: %(default)s)")


def _add_timing(task: argparse.ArgumentParser) -> None:
    task.add_argument("--rounds", type=int, default=50, help="rounds of timing (default: %(default)s)")
    task.add_argument("--threads", type=int, default=1, help="threads while timing (default: %(default)s)")


def _add_report(task: argparse.ArgumentParser) -> None:
    task.add_argument("--json", action="store_true", help="JSON in place of Markdown")
    task.add_argument("-o", "--output", type=Path, help="file for the report (default: standard output)")


def write(target: Path, text: str) -> None:
    """Raises OutputError when the file cannot be written."""
    try:
        target.write_text(text, encoding="utf-8")
    except OSError as reason:
        raise OutputError(f"cannot write {target}: {reason.strerror}") from None


def report_accuracy(arguments: argparse.Namespace) -> str:
    """The report of `accuracy`, and the files asked for beside it."""
    detector = Detector(arguments.model, hop_seconds=arguments.hop)
    judged, unscored = judge(detector, read_clips(arguments.data, arguments.audio), tqdm)
    result = accuracy(judged, unscored)
    for line in unscored:
        print(f"no score: {line}", file=sys.stderr)
    if arguments.scores:
        write(arguments.scores, "".join(f"{item.clip.path.stem} {item.score:.6f}\n" for item in judged))
    if arguments.figures:
        figures = result.as_figures(arguments.name or arguments.data.stem)
        write(arguments.figures, json.dumps(figures, indent=1) + "\n")
    return json.dumps(asdict(result)) + "\n" if arguments.json else markdown(result, arguments.title)


def report_comparison(arguments: argparse.Namespace) -> str:
    """The report of `compare`. All files are opened before the first clip is scored: a wrong name costs no hour."""
    paths = [arguments.float_model, *arguments.models]
    opened = [_open(path) for path in paths]
    if opened[0][1]:
        raise ModelError(opened[0][1])
    detectors = [Detector(network, hop_seconds=arguments.hop) for network, _ in opened]
    clips = read_clips(arguments.data, arguments.audio)
    running = [path for path, (_, refusal) in zip(paths, opened, strict=True) if not refusal]
    timed = [] if arguments.no_speed else relative_speed(running, arguments.rounds, arguments.threads, tqdm)
    speeds = dict(zip(running, timed, strict=False))
    reference: list[Judged] = []
    rows = []
    for path, detector, (network, refusal) in zip(paths, detectors, opened, strict=True):
        comparison = failure = None
        for note in [f"{path}: {note}" for note in network.notes]:
            print(f"note: {note}", file=sys.stderr)
        if refusal:
            print(f"note: {refusal}; its accuracy is measured with exact sums, its speed is not", file=sys.stderr)
        print(f"scoring with {path}", file=sys.stderr)
        judged, unscored = judge(detector, clips, tqdm)
        if reference and judged:
            comparison = compare(reference, judged)
        elif reference:  # the other models' rows must not be lost with this one's
            failure = "it gave no clip a score"
        else:
            reference = judged
            for line in unscored:
                print(f"no score: {line}", file=sys.stderr)
            if not judged:
                raise InputError(f"{path} gave no clip of {arguments.data} a score")
        rows.append(describe(path, paths[0], network.contract, comparison, speeds.get(path), failure))
    if not arguments.json:
        return comparison_table(rows)
    return json.dumps([_as_json(row) for row in rows], indent=1, allow_nan=False) + "\n"


def report_gru(arguments: argparse.Namespace) -> str:
    """The report of `gru`."""
    speeds = gru_speed([arguments.float_model, *arguments.models], arguments.rounds, arguments.threads, tqdm)
    return json.dumps([asdict(item) for item in speeds], indent=1) + "\n" if arguments.json else gru_table(speeds)


def report_streaming(arguments: argparse.Namespace) -> str:
    """The report of `streaming`."""
    page = streaming(
        [arguments.stock, *arguments.models],
        hop_seconds=arguments.hop,
        rounds=arguments.rounds,
        threads=arguments.threads,
        starts=arguments.starts,
        file_seconds=arguments.file_seconds,
        progress=tqdm,
    )
    if page.record.warning:
        print(f"warning: {page.record.warning}", file=sys.stderr)
    return json.dumps(page.as_json(), indent=1, allow_nan=False) + "\n" if arguments.json else streaming_page(page)


def report_soak(arguments: argparse.Namespace) -> str:
    """The report of `soak`."""
    about = record(arguments.threads, arguments.hop)
    hours = soak(arguments.model, arguments.hours, arguments.hop, arguments.threads, tqdm)
    if not arguments.json:
        return soak_table(arguments.model, hours, about.lines())
    told = {"record": asdict(about), "hours": [asdict(hour) for hour in hours]}
    return json.dumps(told, indent=1, allow_nan=False) + "\n"


def _open(path: Path) -> tuple[Network, str | None]:
    """The model, and why the runtime would not run it on this processor: it is then opened with exact sums.

    Raises ModelError when it can be run nowhere.
    """
    try:
        return Network.load(path), None
    except ModelError as refusal:
        return Network.load(path, exact=True), str(refusal)


def _as_json(row: Row) -> dict[str, Any]:
    values = asdict(row)
    values["comparison"] = row.comparison.as_figures() if row.comparison else None
    return values


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code."""
    arguments = parser().parse_args(argv)
    try:
        text = arguments.run(arguments)
        if arguments.output:
            write(arguments.output, text)
        else:
            try:
                print(text, end="", flush=True)
            except OSError as reason:
                raise OutputError(f"cannot print the report: {reason.strerror}") from None
    except EdgeDetectError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
