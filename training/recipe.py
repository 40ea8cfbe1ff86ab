"""The settings of a training run, which its checkpoints have written into them."""

from __future__ import annotations

from dataclasses import dataclass

from edge_runtime.errors import UsageError
from export.rawnet2 import LONGEST_FRAMES, Config
from training.batches import BALANCES
from training.qat import WIDTHS


@dataclass(frozen=True)
class Recipe:
    """Every setting of a run; it is written into the checkpoints."""

    steps: int = 6000
    batch: int = 64
    crop_seconds: float = 2.0
    long_crop_seconds: float = 4.0  # length of the crops in the last part of the run
    long_share: float = 0.1  # which part of the steps that is
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    warmup: int = 200
    label_smoothing: float = 0.05
    average: float = 0.998  # decay of the exponential moving average of the weights
    matched: float = 0.8  # probability that a copy brings its original along, else a clip a human one of its source
    partial: float = 0.0  # probability that a copy is but a stretch in its original
    mining: float = 0.0  # probability that a human clip is the hardest of several
    margin: float = 0.0  # how far beyond the boundary a logit difference must lie before its loss falls
    masking: float = 0.0  # probability that bands and frames of a crop's features are blanked out
    encoder_rate: float = 0.2  # the encoder's learning rate, relative to that of what begins at random
    dropout: float = 0.0  # probability that an output inside the encoder is left out
    distillation: float = 0.0  # weight of a teacher's scores in the loss, against the labels
    weight_bits: int = 0  # width of the weights that the loss is computed with (`training.qat`); 0 = as they are
    balance: str = "group"  # what clips are drawn by (`training.batches.BALANCES`)
    augmentation: float = 1.0  # scales the probability of every augmentation
    ramp: int = 1000  # steps over which augmentation rises from 30 % to that
    evaluate_every: int = 400
    patience: int = 0  # evaluations without a better dev EER before the run ends; 0 = never
    seed: int = 1
    workers: int = 2
    compile: bool = True
    bfloat16: bool = False  # compute the network in half precision: twice as fast where the processor has it

    def check(self, config: Config) -> None:
        """Raises UsageError when a setting is out of its range."""
        zeros = config.leading_zeros
        shortest = (config.pool * config.shortest_frames + config.kernel - 1 - zeros) / config.sample_rate
        longest = float("inf")
        if config.has_encoder and not config.has_blocks:
            longest = ((LONGEST_FRAMES + 1) * config.pool + config.kernel - 2) / config.sample_rate
        crops = (self.crop_seconds, self.long_crop_seconds)
        ranges = (
            (self.steps >= 1, "--steps must be 1 or more"),
            (self.batch >= 2 and self.batch % 2 == 0, "--batch must be even: it is made of pairs"),
            (min(crops) >= shortest, f"crops must have {shortest:.2f} s or more"),
            (max(crops) <= longest, f"crops must have {longest:.0f} s or less"),
            (self.evaluate_every >= 1, "--evaluate-every must be 1 or more"),
            (self.learning_rate > 0 and self.warmup >= 0, "--learning-rate must be above 0, --warmup not below"),
            (0 <= self.long_share <= 1 and 0 <= self.matched <= 1, "--long-share and --matched lie between 0 and 1"),
            (0 <= self.average < 1 and 0 <= self.label_smoothing < 1, "--average and --label-smoothing: 0 to below 1"),
            (self.augmentation >= 0 and self.workers >= 0, "--augmentation and --workers cannot be negative"),
            (self.balance in BALANCES, f"--balance must be one of {', '.join(BALANCES)}"),
            (self.weight_bits in WIDTHS, f"--weight-bits must be one of {', '.join(map(str, WIDTHS))}"),
            (self.margin >= 0 and self.encoder_rate >= 0, "--margin and --encoder-rate cannot be negative"),
            (
                all(
                    0 <= share <= 1
                    for share in (self.partial, self.mining, self.masking, self.dropout, self.distillation)
                ),
                "--partial, --mining, --masking, --dropout and --distillation lie between 0 and 1",
            ),
        )
        for good, complaint in ranges:
            if not good:
                raise UsageError(complaint)
