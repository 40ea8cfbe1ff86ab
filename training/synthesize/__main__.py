"""Command line of `python -m training.synthesize`: make spoofed speech to train the detector on."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from edge_runtime.app.arguments import Parser
from edge_runtime.app.shell import entry
from training.synthesize.catalogue import COPY, SPEECH
from training.synthesize.clips import find_humans
from training.synthesize.plan import Task, plan_copies, plan_speech
from training.synthesize.run import run
from training.synthesize.texts import OWN, read_texts


def amount(text: str) -> tuple[str, float]:
    """`NAME=NUMBER` of --share and --minutes."""
    name, _, number = text.partition("=")
    try:
        value = float(number)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=NUMBER") from None
    if name not in {*COPY, *SPEECH}:
        raise argparse.ArgumentTypeError(f"there is no engine {name!r}")
    if not 0 <= value < 1e6:
        raise argparse.ArgumentTypeError(f"{text!r}: the number has to be 0 or more")
    return name, value


def names(text: str) -> list[str]:
    """The engines of --engines."""
    chosen = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in chosen if name not in {*COPY, *SPEECH}]
    if unknown or not chosen:
        raise argparse.ArgumentTypeError(f"no engine {', '.join(unknown)}; there are {', '.join([*COPY, *SPEECH])}")
    return chosen


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(prog="edge-detect train synthesize", description=__doc__.split(": ")[-1])
    show = "(default: %(default)s)"
    parser.add_argument(
        "--bonafide",
        type=Path,
        metavar="DIR|CSV",
        help="human clips for the vocoders; a clips.csv or a folder",
    )
    parser.add_argument(
        "--texts",
        type=Path,
        metavar="FILE",
        default=OWN,
        help="sentences for the voices (default: those that come with this program)",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="DIR",
        help="where spoof/ and clips.csv are written; what is there already is kept",
    )
    parser.add_argument(
        "--engines",
        type=names,
        metavar="A,B,...",
        help="only these engines (default: all that are installed)",
    )
    parser.add_argument(
        "--share",
        type=amount,
        action="append",
        default=[],
        metavar="NAME=X",
        help="part of the human clips to send through a vocoder; above 1: several times",
    )
    parser.add_argument(
        "--minutes",
        type=amount,
        action="append",
        default=[],
        metavar="NAME=X",
        help="minutes of speech a voice engine makes",
    )
    parser.add_argument("--seed", type=int, default=1, help=f"the same seed gives the same clips {show}")
    parser.add_argument("--jobs", type=int, default=1, help=f"processes {show}")
    parser.add_argument(
        "--limit-minutes",
        type=float,
        default=float("inf"),
        metavar="X",
        help=f"stop after so much time; a later run goes on {show}",
    )
    parser.add_argument("--list", action="store_true", help="say which engines can run here, and stop")
    options = parser.parse_args(arguments)
    if not options.list and options.output is None:
        parser.error("the following argument is required: -o/--output")
    if options.jobs < 1:
        parser.error("--jobs has to be 1 or more")
    return options


def usable(chosen: Sequence[str], loud: bool) -> list[str]:
    """The engines of `chosen` that can run here; one line for each that cannot."""
    found = []
    for name in chosen:
        engine = COPY.get(name) or SPEECH[name]
        reason = engine.missing()
        if reason is None:
            found.append(name)
            if loud:
                print(f"{name}: available ({engine.licence})")
        else:
            print(f"{name}: skipped, {reason}", file=sys.stdout if loud else sys.stderr)
    return found


@entry("the same command goes on from here")
def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    started = time.time()
    found = usable(options.engines or [*COPY, *SPEECH], options.list)
    if options.list:
        return 0
    tasks: list[Task] = []
    copy = [COPY[name] for name in found if name in COPY]
    speech = [SPEECH[name] for name in found if name in SPEECH]
    texts = read_texts(options.texts)
    if copy and options.bonafide is None:
        print("no --bonafide given: the vocoders have nothing to copy and are left out", file=sys.stderr)
    elif copy:
        tasks += plan_copies(find_humans(options.bonafide), copy, dict(options.share), options.seed)
    if speech:
        tasks += plan_speech(speech, dict(options.minutes), texts, options.seed)
    return run(tasks, options.output, options.jobs, started + 60 * options.limit_minutes)


if __name__ == "__main__":
    raise SystemExit(main())
