"""`python -m training.ending START --data DIR … -o OUT`: the ending of a hybrid network, fitted to its encoder.

A run that begins with a random ending spends its first thousand steps on it and drags the encoder along, away from
what it had learnt: Kumar et al., "Fine-tuning can distort pretrained features and underperform out-of-distribution",
2022, fit the ending first. Here the encoder is not touched at all: its outputs' means and deviations over time are
taken once for many augmented crops, and the two dense layers behind are trained on these many times over, in minutes.
Most of the inputs say the same, so a part is dropped at random each time (Srivastava et al. 2014).

What was seen of the crops can be kept in a file and learnt again, with more crops or with fewer kinds of them; and
what other endings say of them can be learnt beside their labels (`training.teaching`).

The crops are of a window's length and of shorter ones: the encoder's channels tell how far into the sound a frame
lies, and an ending that had seen one length alone would take any other for a spoof. Some go over from clip to clip.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from edge_runtime.errors import EdgeDetectError, OutputError, UsageError
from export.checkpoint import load, save
from export.rawnet2 import RawNet2
from training.augment import NAMES
from training.batches import SHORTEST_SECONDS, Crops, Strengths, read_library
from training.summaries import DIGEST, Summaries, check_distinct, check_systems, look, read, together, without
from training.teaching import read_teacher, taught

BATCH = 32
LENGTHS = (1.0, 1.0, 0.5, 0.675)
"""Of the crops, in windows, one batch after the other."""
PARTIAL, JOINED = 0.15, 0.25
RATE, DECAY, SMOOTHING = 3e-4, 0.1, 0.05


def without_ending(start: RawNet2, nodes: int) -> RawNet2:
    """`start` with a new ending of `nodes` nodes, that sums up all outputs of the encoder.

    Raises UsageError when it has no encoder.
    """
    if not start.config.has_encoder:
        raise UsageError("only a network with an encoder has an ending that is fitted by itself: train it instead")
    model = RawNet2(replace(start.config, encoder_read=False, fc_nodes=nodes))
    kept = {name: tensor for name, tensor in start.state_dict().items() if name.startswith(("first_bn", "encoder."))}
    model.load_state_dict({name: tensor for name, tensor in kept.items() if ".read." not in name}, strict=False)
    return model.eval()


def fit_ending(model: RawNet2, inputs: Tensor, wanted: Tensor, epochs: int, dropout: float, members: int = 1) -> float:
    """Sets the norm to the inputs' [n, channels] and trains the two dense layers behind it; returns its last loss.

    `wanted` are labels, int64 [n], 1 = bona fide, which are smoothed, or probabilities, float32 [n, 2], as they are.
    With `members` above 1 the hidden nodes are divided among as many endings, each trained by itself from its own start
    and in its own order, and what comes out is the mean of their logits: exactly so, as no node of one reaches another.
    """
    norm = model.summary_bn
    norm.running_mean.copy_(inputs.mean(0))  # type: ignore[union-attr]
    norm.running_var.copy_(inputs.var(0))  # type: ignore[union-attr]
    with torch.no_grad():
        inputs = norm(inputs)
    nodes = model.fc1.out_features // members
    losses = []
    model.fc2.bias.data.zero_()
    for member in range(members):
        hidden, last = nn.Linear(inputs.shape[1], nodes), nn.Linear(nodes, 2)
        losses.append(_fit_member(hidden, last, inputs, wanted, epochs, dropout))
        own = slice(member * nodes, (member + 1) * nodes)
        model.fc1.weight.data[own], model.fc1.bias.data[own] = hidden.weight.data, hidden.bias.data
        model.fc2.weight.data[:, own] = last.weight.data / members
        model.fc2.bias.data += last.bias.data / members
    return sum(losses) / members


def _fit_member(
    hidden: nn.Linear, last: nn.Linear, inputs: Tensor, wanted: Tensor, epochs: int, dropout: float
) -> float:
    optimizer = torch.optim.AdamW([*hidden.parameters(), *last.parameters()], lr=RATE, weight_decay=DECAY)
    batches = -(-len(wanted) // (2 * BATCH))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=epochs * batches + 1)
    mean = nn.CrossEntropyLoss(label_smoothing=0.0 if wanted.is_floating_point() else SMOOTHING)
    total = 0.0
    for _ in tqdm(range(epochs), desc="fitting", unit="epoch"):
        total = 0.0
        for chosen in torch.randperm(len(wanted)).split(2 * BATCH):
            excited = functional.gelu(hidden(functional.dropout(inputs[chosen], dropout)))
            loss = mean(last(excited), wanted[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += float(loss.detach()) * len(chosen)
    return total / len(wanted)


def parser() -> argparse.ArgumentParser:
    command = argparse.ArgumentParser(
        prog="python -m training.ending", description="Fit the ending of a hybrid network to its encoder as it is."
    )
    command.add_argument(
        "start", type=Path, help="checkpoint with an encoder, as `python -m training.pretrained` makes"
    )
    command.add_argument("--data", type=Path, action="append", default=[], help="folder or CSV; repeatable")
    command.add_argument("-o", "--output", type=Path, required=True, help="the checkpoint to calibrate or train on")
    command.add_argument("--crops", type=int, default=48_000, help="crops to look at, by 32 (default: 48000)")
    command.add_argument(
        "--keep", type=Path, metavar="FILE", help="write down what was seen of these crops, for --also"
    )
    command.add_argument(
        "--also", type=Path, action="append", default=[], metavar="FILE", help="crops that --keep wrote; repeatable"
    )
    command.add_argument(
        "--without", action="append", default=[], metavar="SYSTEM", help="leave out systems named so; repeatable"
    )
    command.add_argument(
        "--teacher",
        type=Path,
        action="append",
        default=[],
        metavar="CHECKPOINT",
        help="an ending of this encoder to learn from as well; of several, those teach a crop that did not learn "
        "from its run, or all where each did; --without does not reach what they learnt; repeatable",
    )
    command.add_argument(
        "--taught", type=float, default=0.5, metavar="SHARE", help="weight of teachers, against labels (default: 0.5)"
    )
    command.add_argument("--augmentation", type=float, default=0.6, help="as in training (default: 0.6)")
    command.add_argument(
        "--share",
        type=_share,
        action="append",
        default=[],
        metavar="NAME=P",
        help="share of crops, 0 to 1, that pass one augmentation, in place of the scaled one; "
        f"repeatable: {', '.join(NAMES)}",
    )
    command.add_argument("--nodes", type=int, default=256, help="of a member's hidden layer (default: 256)")
    command.add_argument(
        "--members", type=int, default=1, help="endings trained by themselves, whose mean is kept (default: 1)"
    )
    command.add_argument("--epochs", type=int, default=8, help="times that each crop is learnt (default: 8)")
    command.add_argument("--dropout", type=float, default=0.3, help="share of inputs left out (default: 0.3)")
    command.add_argument("--seed", type=int, default=1)
    command.add_argument("--bfloat16", action="store_true", help="as in training")
    return command


def _share(text: str) -> tuple[str, float]:
    name, _, share = text.partition("=")
    if name not in NAMES:
        raise argparse.ArgumentTypeError(f"there is no augmentation {name!r}: {', '.join(NAMES)}")
    try:
        probability = float(share)
    except ValueError:
        probability = -1.0
    if not 0 <= probability <= 1:
        raise argparse.ArgumentTypeError(f"{name} needs a share between 0 and 1, as in {name}=0.4")
    return name, probability


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 done, 2 usage, 3 data, 4 checkpoint, 5 output, 130 stopped."""
    options = parser().parse_args(argv)
    try:
        _check(options)
        start = load(options.start)
        model = without_ending(start.model, options.nodes * options.members)
        parts = [read(path) for path in options.also]
        teachers = [read_teacher(path, model) for path in options.teacher]
        if len({teacher.sha256 for teacher in teachers}) < len(teachers):
            raise UsageError("--teacher names one network twice, which would count twice")
        channels = model.fc1.in_features
        if any(part.inputs.shape[1] != channels or part.encoder != start.sha256 for part in parts):
            raise UsageError("crops of --also were looked at by another encoder than START: look at them anew")
        check_distinct(parts)
        if options.data:
            parts.append(_look(model, start.sha256, parts, options))
            if options.keep:
                parts[-1].save(options.keep)
        else:
            check_systems(set().union(*(part.systems for part in parts)), options.without)
        parts = without(parts, options.without)
        crops = together(parts)
        wanted = taught(parts, teachers, options.taught, SMOOTHING) if teachers else crops.labels
        inputs, labels = crops.inputs.float(), crops.labels
        torch.manual_seed(options.seed)  # here, as looking at crops draws numbers too
        loss = fit_ending(model, inputs, wanted, options.epochs, options.dropout, options.members)
        made = {name: getattr(options, name) for name in ("nodes", "members", "epochs", "dropout", "seed", "without")}
        made |= {"crops": len(labels), "looked": list(crops.made)}
        if teachers:
            made |= {"taught": options.taught, "teachers": [teacher.sha256 for teacher in teachers]}
        save(options.output, model, figures={"ending": made}, name=options.output.stem)
    except EdgeDetectError as reason:
        print(f"error: {reason}", file=sys.stderr)
        return reason.exit_code
    except KeyboardInterrupt:
        print("stopped: no ending was written", file=sys.stderr)
        return 130
    with torch.no_grad():
        logits = model.judge(inputs)
    right = float(((logits[:, 1] > logits[:, 0]) == labels.bool()).float().mean())
    print(f"{len(labels)} crops: loss {loss:.3f}, {right:.1%} of them right; wrote {options.output}")
    return 0


def _check(options: argparse.Namespace) -> None:
    """Raises UsageError or OutputError for what could not end well, before minutes of work, not behind them."""
    if options.crops < 2 or not options.augmentation >= 0 or min(options.nodes, options.members, options.epochs) < 1:
        raise UsageError(
            "--crops must be 2 or more, --nodes, --members and --epochs 1 or more, "
            "and --augmentation cannot be negative"
        )
    if not 0 <= options.taught <= 1:
        raise UsageError("--taught lies between 0 and 1")
    if len(dict(options.share)) < len(options.share):
        raise UsageError("--share names one augmentation twice")
    if options.share and not options.data:
        raise UsageError("--share changes crops that are looked at: name clips with --data")
    if options.seed < 0:
        raise UsageError("--seed cannot be negative")
    if not 0 <= options.dropout < 1:
        raise UsageError("--dropout lies between 0 and 1")
    if not options.data and (options.keep or not options.also):
        raise UsageError("name clips with --data, to look at, or crops that --keep wrote with --also")
    files = [options.start, options.output, *options.also, *options.teacher, *filter(None, [options.keep])]
    if len({path.resolve() for path in files}) < len(files):
        raise UsageError(
            "START, --output, --keep, --also and --teacher name one file twice: it would be lost or count twice"
        )
    for written in (options.output, options.keep):
        if written and written.exists() and not written.is_file():
            raise OutputError(f"cannot write {written}: it is a folder or a device, not a file")
        if written and not written.parent.is_dir():
            raise OutputError(f"cannot write {written}: there is no folder {written.parent}")


def _look(model: RawNet2, encoder: str, parts: Sequence[Summaries], options: argparse.Namespace) -> Summaries:
    if any(run.get("seed") == options.seed for part in parts for run in part.made):
        raise UsageError(f"crops of --also were looked at with --seed {options.seed}: give this run another")
    library = read_library(options.data, None, model.config.sample_rate, "training")
    spoken = {clip.system for clip in library.clips if not clip.is_bonafide}
    check_systems(spoken.union(*(part.systems for part in parts)), options.without)
    strengths = Strengths(options.augmentation, 0, 0.8, PARTIAL, joined=JOINED, shares=dict(options.share))
    window = model.config.window_samples
    if window * min(LENGTHS) < SHORTEST_SECONDS * model.config.sample_rate:
        raise UsageError(f"{options.start}: its window is too short to be cut into")
    by_length = {
        share: Crops(library, BATCH, round(window * share), options.seed, number * options.crops, strengths)
        for number, share in enumerate(dict.fromkeys(LENGTHS))
    }
    seen = look(model, [by_length[share] for share in LENGTHS], options.crops, options.bfloat16)
    made = {name: getattr(options, name) for name in ("crops", "augmentation", "seed", "bfloat16")}
    made |= {"shares": dict(options.share), DIGEST: hashlib.sha256(seen[0].numpy().tobytes()).hexdigest()}
    return Summaries(*seen, encoder, (made,))


if __name__ == "__main__":
    sys.exit(main())
