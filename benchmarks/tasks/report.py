"""`report`: what each model file costs and gains against the float one, on one page, in Markdown, HTML and JSON."""

from __future__ import annotations

import argparse
import shlex
import sys
import textwrap
from dataclasses import replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmarks.machine.record import record, warn
from benchmarks.report.build import Data, File, build, check_data, open_files
from benchmarks.report.figures import conditions_of, timing_of
from benchmarks.report.markdown import markdown
from benchmarks.report.measures import MEASURES, failures
from benchmarks.report.page import ConditionErrors, Page, Timing
from benchmarks.robustness.error_rates import robustness, subset
from benchmarks.tasks.common import add_hop, add_workers, write_text
from benchmarks.tasks.latency import BASELINE, add_times, rounds_of, sweep_of
from benchmarks.timing.latency import LatencyRun, latency
from edge_runtime.detector import Detector
from edge_runtime.errors import OutputError, UsageError
from evaluation.gate import RequirementFailed, parse_all
from evaluation.hop import at_hop
from evaluation.paired import MARGIN_POINTS
from evaluation.protocols import read_list
from evaluation.tdcf import read_asv

QUICK_CLIPS = 60
FILES = ("report.md", "report.html", "report.json")


def declare(tasks: Any) -> None:
    """Adds the command."""
    task = tasks.add_parser(
        "report",
        help="one page on size, latency, memory and accuracy of every model, each against the float one",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="requirements (--require), with <=, >=, < or >:\n"
        + "\n".join(f"  {name:20}{measure.meaning}" for name, measure in MEASURES.items())
        + "\na requirement on accuracy is not met either while clips are missing or unscored, unless they are allowed"
        + "\n\nexit code 11: a model was measured and does not meet a requirement; the page is written all the same"
        + f"\n\n{textwrap.fill(BASELINE)}",
    )
    task.add_argument("float_model", metavar="FLOAT", type=Path, help="the ONNX file that the others are compared with")
    task.add_argument("models", metavar="MODEL", type=Path, nargs="*", help="files quantized from it, by any tool")
    task.add_argument(
        "-o", "--output", dest="folder", metavar="DIR", type=Path, required=True, help="folder for " + ", ".join(FILES)
    )
    data = task.add_argument_group("accuracy")
    data.add_argument("--data", type=Path, help="folders, CSV or protocol of labelled clips (default: no accuracy)")
    data.add_argument("--audio", type=Path, help="folder of the clips that a protocol names")
    data.add_argument("--subset", help="the part of a list with such a column that counts, as in eval")
    data.add_argument("--asv-scores", type=Path, metavar="FILE", help="of speaker verification, for the min t-DCF")
    data.add_argument("--asv-key", type=Path, metavar="FILE", help="labels of the ASV scores, where they have none")
    data.add_argument(
        "--margin",
        type=float,
        default=MARGIN_POINTS,
        metavar="POINTS",
        help="that the EER may rise by (default: %(default)s)",
    )
    data.add_argument("--robustness", action="store_true", help="with noise, codecs, rooms, lengths and levels too")
    data.add_argument("--limit", type=int, default=None, metavar="N", help="clips for --robustness (default: all)")
    add_workers(task)
    times = task.add_argument_group("times")
    times.add_argument("--no-latency", action="store_true", help="do not time the models")
    add_times(times)
    add_hop(task)
    task.add_argument("--title", default="Levels against the float model", help="heading (default: %(default)s)")
    task.add_argument(
        "--require", action="append", default=[], metavar="LIMITS", help='as in "latency_p90_ms<=120,eer_delta<=0.2"'
    )
    task.set_defaults(run=run, output=None, json=False)


def run(arguments: argparse.Namespace) -> str:
    """Writes the three files and gives the summary. All is opened and checked before the first long step."""
    requirements = parse_all(arguments.require, MEASURES)
    if arguments.data is None and arguments.no_latency:
        raise UsageError("nothing to measure: name clips (--data), or leave --no-latency out")
    if arguments.data is None and (arguments.robustness or arguments.asv_scores):
        raise UsageError("--robustness and --asv-scores need labelled clips: name them with --data")
    _check_numbers(arguments)
    sweep = sweep_of(arguments.sweep)
    paths = [arguments.float_model, *arguments.models]
    files = open_files(paths)
    for file in files:
        at_hop(Detector(file.network, hop_seconds=arguments.hop), arguments.hop)
    data = _data(arguments)
    _make(arguments.folder)
    about = record(arguments.threads, arguments.hop)
    timings: list[Timing | None] = [None] * len(paths)
    if not arguments.no_latency:
        found = _timed([file.path for file in files if not file.refusal], sweep, arguments)
        about, rows = found.record, iter(found.rows)
        timings = [None if file.refusal else timing_of(next(rows), found) for file in files]
    conditions = _conditions(files, data, arguments) if data and arguments.robustness else []
    command = shlex.join(["python", "-m", "benchmarks", *_without_folders(sys.argv[1:])])
    page = build(files, data, timings, conditions, about, command, arguments.hop, tqdm)
    _write(page, arguments.folder, arguments.title)
    if not arguments.no_latency:
        warn(about)
    for line in page.missing:
        print(f"missing: {line}", file=sys.stderr)
    missed = failures(page, requirements)
    if missed:
        raise RequirementFailed("; ".join(missed) + f" (the page is in {arguments.folder})")
    summary = markdown(page, arguments.title).split("\n## ")[1]
    return f"## {summary.rstrip()}\n\nWritten: {', '.join(str(arguments.folder / name) for name in FILES)}\n"


def _data(arguments: argparse.Namespace) -> Data | None:
    if arguments.data is None:
        return None
    clips = read_list(arguments.data, arguments.audio, arguments.subset)
    if arguments.quick and len(clips.clips) > QUICK_CLIPS:
        clips = replace(clips, clips=subset(clips.clips, QUICK_CLIPS, seed=0))
        print(f"note: --quick scores {QUICK_CLIPS} clips, drawn, half of either label", file=sys.stderr)
    asv = read_asv(arguments.asv_scores, arguments.asv_key, arguments.subset) if arguments.asv_scores else None
    data = Data(
        name=arguments.data.name if arguments.data.name != "clips.csv" else arguments.data.parent.name,
        clips=clips,
        asv=asv,
        stores=arguments.folder / "scores",
        jobs=arguments.jobs,
        cluster=arguments.cluster,
        margin_points=arguments.margin,
    )
    check_data(data)
    return data


def _check_numbers(arguments: argparse.Namespace) -> None:
    """Raises UsageError for what no run can mean."""
    if not 0 <= arguments.margin <= 100:  # which NaN is not
        raise UsageError(f"--margin is in percentage points, from 0 to 100, not {arguments.margin:g}")
    if arguments.jobs is not None and arguments.jobs < 1:
        raise UsageError(f"at least one job is needed (--jobs), not {arguments.jobs}")
    if arguments.limit is not None and arguments.limit < 2:
        raise UsageError(f"at least 2 clips are needed (--limit), one of each label, not {arguments.limit}")


def _conditions(files: list[File], data: Data, arguments: argparse.Namespace) -> list[ConditionErrors]:
    clips = subset(data.clips.clips, arguments.limit, seed=0)
    found = robustness(
        [file.path for file in files],
        clips,
        hop_seconds=arguments.hop,
        jobs=arguments.jobs,
        cluster=arguments.cluster,
        progress=tqdm,
    )
    for line in (*found.unread, *found.left_out):
        print(f"robustness: {line}", file=sys.stderr)
    return conditions_of(found, [file.name for file in files])


def _timed(paths: list[Path], sweep: list[int], arguments: argparse.Namespace) -> LatencyRun:
    return latency(paths, arguments.hop, arguments.threads, *rounds_of(arguments), sweep, tqdm)


def _make(folder: Path) -> None:
    try:
        (folder / "scores").mkdir(parents=True, exist_ok=True)
    except OSError as reason:
        raise OutputError(f"cannot make the folder {folder}: {reason.strerror}") from None


def _write(page: Page, folder: Path, title: str) -> None:
    # First what was measured: no fault of the words or the plots may lose it.
    write_text(folder / "report.json", page.as_json())
    write_text(folder / "report.md", markdown(page, title))
    from benchmarks.report.html import html  # the plots' library takes a second to import

    write_text(folder / "report.html", html(page, title))


def _without_folders(words: list[str]) -> list[str]:
    """The command as another machine may give it: paths lose the folders that are of this one."""
    return [Path(word).name or word if word.startswith("/") else word for word in words]
