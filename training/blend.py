"""`python -m training.blend OLD NEW --share 0.7 -o BLENDED`: weights between two checkpoints of one network.

Fine-tuning gains on what it was done on and loses some of what a pretrained network knew beyond that; on the line
between the two lie weights that are better elsewhere than either end (Wortsman et al., "Robust fine-tuning of
zero-shot models", 2022). `--encoder` moves the pretrained part alone, where OLD has no trained head.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from edge_runtime.app.arguments import Parser
from edge_runtime.app.shell import entry
from edge_runtime.errors import ModelError, UsageError
from export.checkpoint import load, save
from export.rawnet2 import RawNet2
from training.fit import PRETRAINED


@torch.no_grad()
def between(old: RawNet2, new: RawNet2, share: float, encoder_only: bool = False) -> RawNet2:
    """A network `share` (0 to 1) of the way from `old` to `new`, in evaluation mode; beside the encoder `new` alone,
    with `encoder_only`. Raises ModelError when the two are not of one kind.
    """
    if old.config != new.config:
        raise ModelError("only two checkpoints of one network can be blended")
    if encoder_only and not new.config.has_encoder:
        raise ModelError("this network has no encoder")
    blended = RawNet2(new.config)
    first = old.state_dict()
    blended.load_state_dict(
        {
            key: torch.lerp(first[key], value, share)
            if value.is_floating_point() and (not encoder_only or key.startswith(PRETRAINED))
            else value
            for key, value in new.state_dict().items()
        }
    )
    return blended.eval()


def parser() -> argparse.ArgumentParser:
    command = Parser(prog="edge-detect train blend", description="Weights between two checkpoints.")
    command.add_argument("old", type=Path, help="checkpoint at share 0")
    command.add_argument("new", type=Path, help="checkpoint at share 1, whose figures are kept")
    command.add_argument("--share", type=float, required=True, help="how far from OLD to NEW, 0 to 1")
    command.add_argument("--encoder", action="store_true", help="the pretrained part alone; of the rest NEW")
    command.add_argument("-o", "--output", type=Path, required=True, help="the blended checkpoint")
    return command


@entry()
def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 done, 2 usage, 4 checkpoint, 5 output."""
    arguments = parser().parse_args(argv)
    if not 0 <= arguments.share <= 1:
        raise UsageError("--share lies between 0 and 1")
    old, new = load(arguments.old), load(arguments.new)
    model = between(old.model, new.model, arguments.share, arguments.encoder)
    blend = {"old_sha256": old.sha256, "share": arguments.share, "encoder_only": arguments.encoder}
    save(arguments.output, model, figures={**new.figures, "blend": blend}, name=new.name)
    print(f"wrote {arguments.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
