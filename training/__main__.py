"""`python -m training --data DIR`: trains a RawNet2 from labelled clips."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from importlib import import_module
from pathlib import Path

from edge_runtime.app.arguments import Parser
from edge_runtime.app.shell import entry
from edge_runtime.errors import OutputError
from export.checkpoint import check_window, load
from export.rawnet2 import VARIANTS, Config
from training.batches import read_library
from training.fit import Trainer
from training.plot import plot_run
from training.recipe import Recipe

COMMANDS = {
    "adapt": "training.adapt",
    "blend": "training.blend",
    "blocks": "training.blocks",
    "calibrate": "training.calibrate",
    "ensemble": "training.ensemble",
    "folds": "training.folds",
    "gather": "training.gather",
    "head": "training.head",
    "pages": "training.pages.__main__",
    "pretrained": "training.pretrained",
    "synthesize": "training.synthesize.__main__",
    "window-crops": "training.window_crops",
}
"""Commands beside a run from random weights, `edge-detect train NAME`: also `python -m training.NAME`."""


def parser() -> argparse.ArgumentParser:
    """The command line; every field of `Recipe` is an option."""
    command = Parser(
        prog="edge-detect train",
        description="Train a RawNet2 on folders bonafide/ and spoof/, a CSV, or an ASVspoof protocol.",
        epilog=f"Commands beside this, each with its own --help: {', '.join(COMMANDS)}. "
        "Exit codes: 0 done, 2 usage, 3 data, 4 checkpoint, 5 output. "
        "Stopped runs go on where they were when called again with the same -o.",
    )
    command.add_argument(
        "--data", type=Path, action="append", required=True, help="folder, CSV or protocol; repeatable"
    )
    command.add_argument("--dev", type=Path, help="folder, CSV or protocol to choose the best weights on")
    command.add_argument("--audio", type=Path, help="folder of the clips that a protocol names")
    command.add_argument("-o", "--output", type=Path, required=True, help="folder for checkpoints and the plot")
    command.add_argument("--start", type=Path, help="checkpoint whose weights begin the run; its network is taken too")
    command.add_argument("--teacher", type=Path, help="checkpoint whose scores are learnt too (see --distillation)")
    command.add_argument("--variant", choices=sorted(VARIANTS), default="edge")
    command.add_argument("--filters", type=int, help="bands of the filter bank")
    command.add_argument("--kernel", type=int, help="taps of the filter bank")
    command.add_argument("--pool", type=int, help="samples that one frame of features spans")
    command.add_argument("--mel", action=argparse.BooleanOptionalAction, help="mel-spaced bands, else linear")
    command.add_argument("--channels", type=channels, help="64,64,128,…")
    command.add_argument("--gru-nodes", type=int)
    command.add_argument("--gru-layers", type=int)
    command.add_argument("--threads", type=int, default=0, help="threads of the network (default: all cores)")
    for setting in fields(Recipe):
        name = "--" + setting.name.replace("_", "-")
        if isinstance(setting.default, bool):
            command.add_argument(name, action=argparse.BooleanOptionalAction, default=setting.default)
        else:
            command.add_argument(
                name, type=type(setting.default), default=setting.default, help="(default: %(default)s)"
            )
    return command


def channels(text: str) -> tuple[int, ...]:
    """Channels of the residual blocks, one number a block. Raises ValueError, which argparse names the type in."""
    return tuple(int(number) for number in text.split(","))


channels.__name__ = "list of numbers such as 64,64,128:"


def configure(arguments: argparse.Namespace) -> Config:
    """The network that the options describe."""
    chosen = {
        "filters": arguments.filters,
        "kernel": arguments.kernel,
        "pool": arguments.pool,
        "mel_scale": arguments.mel,
        "channels": arguments.channels,
        "gru_nodes": arguments.gru_nodes,
        "gru_layers": arguments.gru_layers,
    }
    return replace(VARIANTS[arguments.variant], **{key: value for key, value in chosen.items() if value is not None})


@entry("call again with the same -o to go on from the last evaluation")
def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code."""
    given = list(sys.argv[1:] if argv is None else argv)
    if given[:1] and given[0] in COMMANDS:
        command: Callable[[Sequence[str]], int] = import_module(COMMANDS[given[0]]).main
        return command(given[1:])
    arguments = parser().parse_args(given)
    import torch

    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    start = load(arguments.start).model if arguments.start else None
    teacher = load(arguments.teacher).model if arguments.teacher else None
    config = start.config if start is not None else configure(arguments)
    check_window(config)
    recipe = Recipe(**{setting.name: getattr(arguments, setting.name) for setting in fields(Recipe)})
    try:
        arguments.output.mkdir(parents=True, exist_ok=True)
    except OSError as reason:
        raise OutputError(f"cannot make the folder {arguments.output}: {reason}") from None
    train = read_library(arguments.data, arguments.audio, config.sample_rate, "training")
    dev = read_library([arguments.dev], arguments.audio, config.sample_rate, "dev") if arguments.dev else None
    trainer = Trainer(config, recipe, train, dev, arguments.output, start, teacher)
    if trainer.resume():
        print(f"going on from step {trainer.run.step}")
        for line in trainer.changed:
            print(f"setting changed since the run began: {line}", file=sys.stderr)
    run = trainer.fit()
    plot_run(run.history, arguments.output / "training.png")
    print(f"best checkpoint: {arguments.output / 'best.safetensors'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
