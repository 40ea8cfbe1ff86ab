"""`python -m training.head START --data DIR … -o OUT`: the head of a hybrid network, fitted to its encoder.

A run that begins with a random head spends its first thousand steps on it and drags the encoder along, away from
what it had learnt: Kumar et al., "Fine-tuning can distort pretrained features and underperform out-of-distribution",
2022, fit the head first. Here the encoder is not touched at all: its outputs' means and deviations over time are
taken once for many augmented crops, and the two dense layers behind are trained on these many times over, in minutes.
Most of the inputs say the same, so a part is dropped at random each time (Srivastava et al. 2014).

What was seen of the crops can be kept in a file and learnt again, with more crops or with fewer kinds of them; and
what other heads say of them can be learnt beside their labels (`training.heads.distillation`).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from edge_runtime.app.arguments import Parser
from edge_runtime.app.shell import entry
from edge_runtime.errors import UsageError
from export.checkpoint import load, save
from export.rawnet2 import RawNet2
from training.batches import read_library
from training.heads.crop_features import check_distinct, check_systems, read, together, without, without_sources
from training.heads.crops import add_crops, check_crops, look_at
from training.heads.distillation import AT_ONCE, read_teacher, soft_targets

FITTED_BATCH = 64
"""Crops of a step."""
RATE, DECAY, SMOOTHING = 3e-4, 0.1, 0.05


def without_head(start: RawNet2, nodes: int) -> RawNet2:
    """`start` with a new head of `nodes` nodes, that sums up all outputs of the encoder.

    Raises UsageError when it has no encoder.
    """
    if not start.config.has_encoder:
        raise UsageError("only a network with an encoder has a head that is fitted by itself: train it instead")
    model = RawNet2(replace(start.config, encoder_read=False, fc_nodes=nodes))
    kept = {name: tensor for name, tensor in start.state_dict().items() if name.startswith(("first_bn", "encoder."))}
    model.load_state_dict({name: tensor for name, tensor in kept.items() if ".read." not in name}, strict=False)
    return model.eval()


def fit_head(
    model: RawNet2,
    inputs: Tensor,
    wanted: Tensor,
    epochs: int,
    dropout: float,
    members: int = 1,
    bfloat16: bool = False,
) -> float:
    """Sets the norm to the inputs' [n, channels] and trains the two dense layers after it; returns its last loss.

    Inputs may be float16: a step makes float32 of its own part alone, as all of it can be gigabytes.

    `wanted` are labels, int64 [n], 1 = bona fide, which are smoothed, or probabilities, float32 [n, 2], as they are.
    With `members` above 1 the hidden nodes are divided among as many heads, each trained by itself from its own start
    and in its own order, and what comes out is the mean of their logits: exactly so, as no node of one reaches another.
    With `bfloat16` the products are computed in it; weights and steps stay float32.
    """
    norm = model.summary_bn
    _set_norm(norm, inputs)
    nodes = model.fc1.out_features // members
    losses = []
    model.fc2.bias.data.zero_()
    for member in range(members):
        hidden, last = nn.Linear(inputs.shape[1], nodes), nn.Linear(nodes, 2)
        losses.append(_fit_member(norm, hidden, last, inputs, wanted, epochs, dropout, bfloat16))
        own = slice(member * nodes, (member + 1) * nodes)
        model.fc1.weight.data[own], model.fc1.bias.data[own] = hidden.weight.data, hidden.bias.data
        model.fc2.weight.data[:, own] = last.weight.data / members
        model.fc2.bias.data += last.bias.data / members
    return sum(losses) / members


@torch.no_grad()
def judged(model: RawNet2, inputs: Tensor) -> Tensor:
    """Logits, float32 [n, 2], of summaries [n, channels] that may be float16."""
    return torch.cat([model.judge(some.float()) for some in inputs.split(AT_ONCE)])


@torch.no_grad()
def _set_norm(norm: nn.BatchNorm1d, inputs: Tensor) -> None:
    """Gives the norm the mean and variance of inputs [n, channels]."""
    parts = inputs.split(AT_ONCE)
    mean = torch.stack([part.double().sum(0) for part in parts]).sum(0) / len(inputs)
    squares = torch.stack([(part.double() - mean).square().sum(0) for part in parts]).sum(0)
    norm.running_mean.copy_(mean)  # type: ignore[union-attr]
    norm.running_var.copy_(squares / (len(inputs) - 1))  # type: ignore[union-attr]


def _dropped(x: Tensor, share: float) -> Tensor:
    """Dropout of `share`, to a 256th: one random byte a value takes a tenth of the time of PyTorch's own on a CPU."""
    lost = round(256 * share)
    if not lost:
        return x
    drawn = torch.empty(-(-x.numel() // 8), dtype=torch.int64).random_(-(2**63), None)
    kept = drawn.view(torch.uint8)[: x.numel()].view(x.shape) >= lost
    return x * (kept * (256 / (256 - lost)))


def _fit_member(
    norm: nn.Module,
    hidden: nn.Linear,
    last: nn.Linear,
    inputs: Tensor,
    wanted: Tensor,
    epochs: int,
    dropout: float,
    bfloat16: bool,
) -> float:
    optimizer = torch.optim.AdamW([*hidden.parameters(), *last.parameters()], lr=RATE, weight_decay=DECAY, fused=True)
    batches = -(-len(wanted) // (FITTED_BATCH))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=epochs * batches + 1)
    mean = nn.CrossEntropyLoss(label_smoothing=0.0 if wanted.is_floating_point() else SMOOTHING)
    total = 0.0
    for _ in tqdm(range(epochs), desc="fitting", unit="epoch"):
        total = 0.0
        for chosen in torch.randperm(len(wanted)).split(FITTED_BATCH):
            with torch.no_grad():
                normed = norm(inputs[chosen].float())
            with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
                logits = last(functional.gelu(hidden(_dropped(normed, dropout))))
            loss = mean(logits.float(), wanted[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += float(loss.detach()) * len(chosen)
    return total / len(wanted)


def parser() -> argparse.ArgumentParser:
    command = Parser(
        prog="edge-detect train head", description="Fit the head of a hybrid network to its encoder as it is."
    )
    command.add_argument(
        "start", type=Path, help="checkpoint with an encoder, as `python -m training.pretrained` makes"
    )
    command.add_argument("--data", type=Path, action="append", default=[], help="folder or CSV; repeatable")
    command.add_argument("-o", "--output", type=Path, required=True, help="the checkpoint to calibrate or train on")
    add_crops(command)
    command.add_argument(
        "--teacher",
        type=Path,
        action="append",
        default=[],
        metavar="CHECKPOINT",
        help="a head of this encoder to learn from as well; of several, those teach a crop that did not learn "
        "from its run, or all where each did; --without does not reach what they learnt; repeatable",
    )
    command.add_argument(
        "--distillation",
        type=float,
        default=0.5,
        metavar="SHARE",
        help="weight of teachers, against labels (default: 0.5)",
    )
    return command


@entry("no head was written")
def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 done, 2 usage, 3 data, 4 checkpoint, 5 output, 130 stopped."""
    options = parser().parse_args(argv)
    _check(options)
    start = load(options.start)
    model = without_head(start.model, options.nodes * options.members)
    parts = [read(path) for path in options.also]
    teachers = [read_teacher(path, model) for path in options.teacher]
    if len({teacher.sha256 for teacher in teachers}) < len(teachers):
        raise UsageError("--teacher names one network twice, which would count twice")
    channels = model.fc1.in_features
    if any(part.inputs.shape[1] != channels or part.encoder != start.sha256 for part in parts):
        raise UsageError("crops of --also were looked at by another encoder than START: look at them again")
    check_distinct(parts)
    if options.data:
        library = read_library(options.data, None, model.config.sample_rate, "training")
        parts.append(look_at(model, start.sha256, parts, library, options))
        if options.keep:
            parts[-1].save(options.keep)
    else:
        check_systems(set().union(*(part.systems for part in parts)), options.without)
    parts = without_sources(without(parts, options.without), options.without_sources)
    crops = together(parts)
    wanted = soft_targets(parts, teachers, options.distillation, SMOOTHING) if teachers else crops.labels
    inputs, labels = crops.inputs, crops.labels
    torch.manual_seed(options.seed)  # here, as looking at crops draws numbers too
    sizes = (options.epochs, options.dropout, options.members, options.bfloat16)
    loss = fit_head(model, inputs, wanted, *sizes)
    made = {name: getattr(options, name) for name in ("nodes", "members", "epochs", "dropout", "seed", "without")}
    if options.without_sources:
        made["without_sources"] = options.without_sources.read_text("utf-8").split("\n")
    made |= {"crops": len(labels), "looked": list(crops.made)}
    if teachers:
        made |= {"distillation": options.distillation, "teachers": [teacher.sha256 for teacher in teachers]}
    save(options.output, model, figures={"head": made}, name=options.output.stem)
    logits = judged(model, inputs)
    right = float(((logits[:, 1] > logits[:, 0]) == labels.bool()).float().mean())
    print(f"{len(labels)} crops: loss {loss:.3f}, {right:.1%} of them right; wrote {options.output}")
    return 0


def _check(options: argparse.Namespace) -> None:
    """Raises UsageError or OutputError for what could not end well, before minutes of work."""
    check_crops(options, [options.start, *options.teacher], [options.output, options.keep])
    if not 0 <= options.distillation <= 1:
        raise UsageError("--distillation lies between 0 and 1")
    if options.share and not options.data:
        raise UsageError("--share changes crops that are looked at: name clips with --data")
    if not options.data and (options.keep or not options.also):
        raise UsageError("name clips with --data, to look at, or crops that --keep wrote with --also")


if __name__ == "__main__":
    sys.exit(main())
