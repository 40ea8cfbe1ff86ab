"""`recordings`: long recordings scored as files: false verdicts on people, inserted voices, what the gate does."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmarks.tasks.common import add_data, add_hop, add_report
from edge_runtime.detector import Detector
from edge_runtime.errors import UsageError
from edge_runtime.model.network import Network
from edge_runtime.settings.schema import FIELDS
from edge_runtime.system.extras import demand
from evaluation.hop import at_hop
from evaluation.protocols import read_clips

_GATE_SECONDS = 60.0


def declare(tasks: Any) -> None:
    """Adds the command."""
    task = tasks.add_parser(
        "recordings", aliases=["files"], help="long recordings as files: false verdicts, inserted voices, the gate"
    )
    task.add_argument("model", type=Path, help="an ONNX file of `python -m export`")
    add_data(task)
    task.add_argument("--people", type=Path, nargs="+", default=[], metavar="DATA", help="more data with human clips")
    task.add_argument("--seconds", type=float, default=60, help="of a recording of people (default: %(default)s)")
    task.add_argument(
        "--voices", type=int, default=24, help="synthetic voices that are inserted (default: %(default)s)"
    )
    task.add_argument("--seed", type=int, default=0, help="of pauses, places and pairs (default: %(default)s)")
    task.add_argument("--threads", type=int, default=1, help="(default: %(default)s)")
    add_hop(task)
    add_report(task)
    task.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> str:
    """The report."""
    demand("bench", "scipy")
    # What these import needs the extra: the command says so above, in place of an ImportError.
    from benchmarks.alarms.recordings import compared, gate_cost, hear, human, inserted
    from benchmarks.alarms.recordings_page import Measured, as_json, page
    from evaluation.scoring.perturbation import read_samples

    if arguments.threads < 1 or arguments.voices < 0 or not 0 < arguments.seconds <= 3600:
        raise UsageError("--threads must be at least 1, --voices at least 0, --seconds above 0 and at most 3600")
    least: Any = FIELDS["least_speech"].default
    clips = read_clips(arguments.data, arguments.audio)
    lists = {arguments.data.name: clips} | {path.name: read_clips(path) for path in arguments.people}
    network = Network.load(arguments.model, arguments.threads)
    detector = at_hop(Detector(network, hop_seconds=arguments.hop, gate=True, least_speech_seconds=0.0), arguments.hop)
    measured = Measured(
        detector.thresholds,
        compared(detector.thresholds),
        least,
        {name: human(detector, own, arguments.seconds, arguments.seed, tqdm) for name, own in lists.items()},
        inserted(detector, clips, arguments.voices, arguments.seed, tqdm),
        [(clip, hear(detector, read_samples(clip.path))) for clip in tqdm(clips, desc="clips", unit="clip")],
        gate_cost(detector, clips, _GATE_SECONDS),
    )
    if arguments.json:
        about = {"model": arguments.model.name, "sha256": network.sha256, "seconds": arguments.seconds}
        about |= {"voices": arguments.voices, "seed": arguments.seed, "hop_seconds": arguments.hop}
        return json.dumps(as_json(about, measured), indent=1, allow_nan=False) + "\n"
    return page(network.contract.name, about_lines(arguments.seconds, arguments.voices, arguments.hop), measured)


def about_lines(seconds: float, voices: int, hop_seconds: float) -> list[str]:
    """What the page says of its data."""
    return [
        f"Recordings of people are made of one source's clips, each once, with pauses, {seconds:g} s or a little more.",
        f"{voices} synthetic voices, each of another system or source where there are so many, are inserted into 48 s "
        f"of people. A verdict every {hop_seconds:g} s.",
    ]
