"""`python -m training.ensemble A B … -o OUT`: the heads of several networks with one encoder, as one network.

Members that learnt from one set of crops err alike; those of runs whose crops were augmented differently err less so,
and the mean of what they say is better than either run's. The encoder runs once for all of them, so that a member
more costs two dense layers. Nothing is trained here: what comes out is the mean of the networks' logits, exactly.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from edge_runtime.app.arguments import Parser
from edge_runtime.app.shell import entry
from edge_runtime.errors import OutputError, UsageError
from export.checkpoint import load, save
from export.rawnet2 import RawNet2
from training.heads.distillation import heads_of

OWN = ("summary_bn.", "fc1.", "fc2.")
"""What of a network is its head."""


@torch.no_grad()
def ensemble(models: Sequence[RawNet2]) -> RawNet2:
    """A network in evaluation mode whose logits are the mean of those of `models`, whatever it hears.

    Their hidden nodes lie side by side behind the norm of the first; the norms of the others are folded into the
    weights behind them. Raises UsageError for networks that differ in more than their heads, or that have none.
    """
    first, nodes = models[0], [model.config.fc_nodes for model in models]
    if not first.config.has_encoder or first.config.encoder_read:
        raise UsageError("only networks that `python -m training.head` made have heads that fit beside each other")
    made = RawNet2(replace(first.config, fc_nodes=sum(nodes)))
    state = first.state_dict()
    shared = {name: tensor for name, tensor in state.items() if not name.startswith(OWN)}
    for model in models[1:]:
        if replace(model.config, fc_nodes=nodes[0]) != first.config:
            raise UsageError("these networks differ in more than their heads: in window, filters or layers")
        other = model.state_dict()
        if any(not torch.equal(other[name], tensor) for name, tensor in shared.items()):
            raise UsageError("these networks' encoders are not the same")
    made.load_state_dict(
        shared | {name: tensor for name, tensor in state.items() if name.startswith("summary_bn.")}, strict=False
    )
    scale, shift = _line(first)
    made.fc2.bias.zero_()
    at = 0
    for model in models:
        own_scale, own_shift = _line(model)
        weight = model.fc1.weight.double()
        own = slice(at, at := at + model.config.fc_nodes)
        # What a member's norm makes of x is own_scale * x + own_shift; what it is given is scale * x + shift.
        made.fc1.weight[own] = (weight * (own_scale / scale)).float()
        made.fc1.bias[own] = (model.fc1.bias + weight @ (own_shift - shift * own_scale / scale)).float()
        made.fc2.weight[:, own] = model.fc2.weight / len(models)
        made.fc2.bias.add_(model.fc2.bias / len(models))
    return made.eval()


def _line(model: RawNet2) -> tuple[torch.Tensor, torch.Tensor]:
    """Slope and height of the line, [channels] each, that the norm before a head draws; in float64."""
    norm = model.summary_bn
    assert norm.running_mean is not None and norm.running_var is not None
    scale = norm.weight.double() * torch.rsqrt(norm.running_var.double() + norm.eps)
    return scale, norm.bias.double() - norm.running_mean.double() * scale


def parser() -> argparse.ArgumentParser:
    command = Parser(prog="edge-detect train ensemble", description="Several heads of one encoder, as one network.")
    command.add_argument(
        "members", type=Path, nargs="+", metavar="CHECKPOINT", help="two or more, as `python -m training.head` makes"
    )
    command.add_argument("-o", "--output", type=Path, required=True, help="the checkpoint to calibrate")
    return command


@entry()
def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 done, 2 usage, 4 checkpoint, 5 output."""
    options = parser().parse_args(argv)
    if options.output.resolve() in {path.resolve() for path in options.members}:
        raise UsageError(f"{options.output} is one of the members: it would be lost")
    if not options.output.parent.is_dir():
        raise OutputError(f"cannot write {options.output}: there is no folder {options.output.parent}")
    members = [load(path) for path in options.members]
    if len({member.sha256 for member in members}) < max(2, len(members)):
        raise UsageError("name two or more checkpoints, each once")
    if any(not {"head", "ending"} & set(member.figures) for member in members):
        raise UsageError("name the checkpoints that `python -m training.head` wrote, no ensemble of them")
    made = [{"sha256": member.sha256, "head": heads_of(member.figures)[0]} for member in members]
    model = ensemble([member.model for member in members])
    save(options.output, model, figures={"ensemble": made}, name=options.output.stem)
    print(f"{len(members)} heads, {model.config.fc_nodes} nodes in all; wrote {options.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
