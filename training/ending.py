"""`python -m training.ending START --data DIR … -o OUT`: the ending of a hybrid network, fitted to its encoder.

A run that begins with a random ending spends its first thousand steps on it and drags the encoder along, away from
what it had learnt: Kumar et al., "Fine-tuning can distort pretrained features and underperform out-of-distribution",
2022, fit the ending first. Here that is a logistic regression on the means and deviations over time of all the
encoder's outputs, of many augmented crops; it takes minutes and no gradient of the encoder. The regression becomes
two of the hidden nodes (gelu(z) - gelu(-z) = z); the others begin at random, without a say.

The crops have a window's length, and half of it in every second batch: the encoder's channels tell how far into the
sound a frame lies, and an ending that had seen one length alone would take any other for a spoof.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

from edge_runtime.errors import EdgeDetectError, UsageError
from export.checkpoint import load, save
from export.rawnet2 import RawNet2
from training.batches import Crops, Strengths, read_library

BATCH = 16
SPREAD = 10.0
"""Length of a typical input of the regression, so that one `--penalty` serves all widths."""


def without_ending(start: RawNet2) -> RawNet2:
    """`start` with a new ending, that sums up all outputs of the encoder. Raises UsageError when it has no encoder."""
    if not start.config.has_encoder:
        raise UsageError("only a network with an encoder has an ending that is fitted by itself: train it instead")
    model = RawNet2(replace(start.config, encoder_read=False))
    kept = {name: tensor for name, tensor in start.state_dict().items() if name.startswith(("first_bn", "encoder."))}
    model.load_state_dict({name: tensor for name, tensor in kept.items() if ".read." not in name}, strict=False)
    return model.eval()


@torch.no_grad()
def summaries(model: RawNet2, lengths: Sequence[Crops], count: int, bfloat16: bool) -> tuple[Tensor, Tensor]:
    """What the encoder sums up of some `count` crops, float32 [crops, channels], and their labels, float32 [crops]."""
    seen, labels = [], []
    for number in tqdm(range(-(-count // BATCH)), desc="looking at crops", unit="batch"):
        waveforms, answers = lengths[number % len(lengths)].make(number)
        features = model.relate(model.features_fft(waveforms))
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            seen.append(model.encoder(model.first_bn(features)).float())
        labels.append(answers.float())
    return torch.cat(seen), torch.cat(labels)


def regress(inputs: Tensor, labels: Tensor, penalty: float) -> tuple[Tensor, Tensor, float]:
    """Logistic regression of labels [n] on standardized inputs [n, channels]: weights, bias and the loss reached."""
    scale = SPREAD / inputs.shape[1] ** 0.5
    weights = torch.zeros(inputs.shape[1], requires_grad=True)
    bias = torch.zeros(1, requires_grad=True)
    solver = torch.optim.LBFGS([weights, bias], max_iter=150, history_size=20, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        solver.zero_grad()
        value = functional.binary_cross_entropy_with_logits(inputs @ weights * scale + bias, labels)
        value = value + penalty * weights.square().sum()
        value.backward()
        return value

    solver.step(loss)
    return weights.detach() * scale, bias.detach(), float(loss().detach())


@torch.no_grad()
def fit_ending(model: RawNet2, inputs: Tensor, labels: Tensor, penalty: float) -> float:
    """Sets the norm and the two dense layers behind the encoder; returns the regression's loss."""
    norm = model.summary_bn
    norm.running_mean.copy_(inputs.mean(0))  # type: ignore[union-attr]
    norm.running_var.copy_(inputs.var(0))  # type: ignore[union-attr]
    with torch.enable_grad():
        weights, bias, loss = regress(norm(inputs).detach(), labels, penalty)
    sign = torch.tensor([1.0, -1.0])
    model.fc1.weight.normal_(0, len(weights) ** -0.5)
    model.fc1.bias.zero_()
    model.fc1.weight[:2] = sign[:, None] * weights
    model.fc1.bias[:2] = sign * bias
    model.fc2.weight.normal_(0, 1e-3)
    model.fc2.bias.zero_()
    model.fc2.weight[:, :2] = torch.outer(-sign, sign) / 2
    return loss


def parser() -> argparse.ArgumentParser:
    command = argparse.ArgumentParser(
        prog="python -m training.ending", description="Fit the ending of a hybrid network to its encoder as it is."
    )
    command.add_argument(
        "start", type=Path, help="checkpoint with an encoder, as `python -m training.pretrained` makes"
    )
    command.add_argument("--data", type=Path, action="append", required=True, help="folder or CSV; repeatable")
    command.add_argument("-o", "--output", type=Path, required=True, help="the checkpoint to start training with")
    command.add_argument("--crops", type=int, default=16_000, help="crops to look at (default: 16000)")
    command.add_argument("--augmentation", type=float, default=0.6, help="as in training (default: 0.6)")
    command.add_argument("--penalty", type=float, default=5e-4, help="on the weights' squares (default: 0.0005)")
    command.add_argument("--seed", type=int, default=1)
    command.add_argument("--bfloat16", action="store_true", help="as in training")
    return command


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 done, 2 usage, 3 data, 4 checkpoint, 5 output."""
    options = parser().parse_args(argv)
    try:
        if options.crops < 2 or options.penalty < 0 or options.augmentation < 0:
            raise UsageError("--crops must be 2 or more, --penalty and --augmentation cannot be negative")
        torch.manual_seed(options.seed)
        model = without_ending(load(options.start).model)
        library = read_library(options.data, None, model.config.sample_rate, "training")
        strengths = Strengths(options.augmentation, 0, 0.8, 0.1)
        window = model.config.window_samples
        lengths = [Crops(library, BATCH, samples, options.seed, 0, strengths) for samples in (window, window // 2)]
        inputs, labels = summaries(model, lengths, options.crops, options.bfloat16)
        loss = fit_ending(model, inputs, labels, options.penalty)
        save(options.output, model, name="start")
    except EdgeDetectError as reason:
        print(f"error: {reason}", file=sys.stderr)
        return reason.exit_code
    right = float(
        ((model.fc2(functional.gelu(model.fc1(model.summary_bn(inputs))))[:, 1] > 0) == labels.bool()).float().mean()
    )
    print(f"{len(labels)} crops: loss {loss:.3f}, {right:.1%} of them right; wrote {options.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
