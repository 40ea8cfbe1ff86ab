"""`alarms`: false alarms and missed turns an hour, on a long mixed stream, with the gate and without it."""

from __future__ import annotations

import argparse
import itertools
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

RULES = {"on": "alarm_on", "off": "alarm_off", "smoothing": "smoothing", "duration": "alarm_duration"} | {
    "hold": "alarm_hold",
    "refractory": "refractory",
}
"""Options of this command, and the settings whose defaults they replace."""
GRID = {"smoothing_seconds": (0.0, 5.0, 10.0, 20.0), "duration_seconds": (0.0, 2.0, 5.0), "on": (-0.5, 0.0, 1.0)}
"""What `--grid` tries; `on` is relative to the one in use."""


def declare(tasks: Any) -> None:
    """Adds the command."""
    task = tasks.add_parser(
        "alarms", aliases=["hours"], help="false alarms and missed turns an hour, on a long stream of mixed sound"
    )
    task.add_argument("model", type=Path, help="an ONNX file of `python -m export`")
    add_data(task)
    task.add_argument("--minutes", type=float, default=120, help="of the stream (default: %(default)s)")
    task.add_argument("--music", type=Path, nargs="+", default=[], metavar="FILE", help="music (default: it is made)")
    task.add_argument("--seed", type=int, default=0, help="of the stream (default: %(default)s)")
    for name, setting in RULES.items():
        unit = "score" if name in ("on", "off") else "seconds"
        task.add_argument(f"--{name}", type=float, metavar="N", help=f"{unit} (default: that of {setting})")
    task.add_argument("--grid", action="store_true", help="judge the same windows under other rules too")
    task.add_argument("--threads", type=int, default=1, help="(default: %(default)s)")
    add_hop(task)
    add_report(task)
    task.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> str:
    """The report."""
    demand("bench", "scipy")
    # What these import needs the extra: the command says so above, in place of an ImportError.
    from benchmarks.alarms.mixed_stream import mixed
    from benchmarks.alarms.stream import hear, judge, usual_rules
    from benchmarks.alarms.stream_page import StreamRun, as_json, page

    if arguments.threads < 1:
        raise UsageError(f"--threads must be at least 1, not {arguments.threads}")
    given = {
        name if name in ("on", "off") else f"{name}_seconds": getattr(arguments, name)
        for name in RULES
        if getattr(arguments, name) is not None
    }
    clips = read_clips(arguments.data, arguments.audio)
    network = Network.load(arguments.model, arguments.threads)
    least: Any = FIELDS["least_speech"].default
    runs = []
    for gate in ("on", "off"):
        detector = Detector(network, hop_seconds=arguments.hop, gate=gate == "on", least_speech_seconds=least)
        at_hop(detector, arguments.hop)
        rules = usual_rules(detector.thresholds, **given)
        stream = mixed(clips, arguments.minutes, arguments.seed, arguments.music)
        heard = hear(detector, stream, lambda items, gate=gate, **said: tqdm(items, **said | {"desc": f"gate {gate}"}))
        others = [
            usual_rules(detector.thresholds, **given | dict(zip(GRID, [*values, rules.on + shift], strict=True)))
            for *values, shift in (itertools.product(*GRID.values()) if arguments.grid else ())
        ]
        runs.append(StreamRun(gate, heard, judge(heard, rules), [judge(heard, other) for other in others]))
    if arguments.json:
        about = {
            "model": arguments.model.name,
            "sha256": network.sha256,
            "minutes": arguments.minutes,
            "seed": arguments.seed,
            "hop_seconds": arguments.hop,
            "least_speech_seconds": least,
            "music": [path.name for path in arguments.music] or "synthesized",
        }
        return json.dumps(as_json(about, runs), indent=1, allow_nan=False) + "\n"
    human = sum(clip.is_bonafide for clip in clips)
    music = ", ".join(path.name for path in arguments.music) or "synthesized"
    about_lines = [
        f"Turns are made of {human} human and {len(clips) - human} spoofed clips, which come again and again: more "
        "minutes give more combinations of them, not more voices.",
        f"Music: {music}. Seed {arguments.seed}, hop {arguments.hop:g} s; with the gate a window needs {least:g} s of "
        "speech.",
    ]
    return page(network.contract.name, about_lines, runs)
