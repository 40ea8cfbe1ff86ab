"""`python -m training.calibrate CHECKPOINT --data DIR`: scores to log-likelihood ratios, and the thresholds.

The raw score of a window becomes a natural-log likelihood ratio by logistic regression (Brümmer's linear
calibration): `scale * raw + offset`. Both labels weigh alike, a clip as much as its windows together, and a source
as the square root of its clips, so that large ones do not dominate.

Thresholds are for clips, as their verdict is what a user gets (`edge_runtime.decision.verdict`): at most the share
`--false-alarms` of human clips is called spoof, below `threshold`; at most the share `--misses` of spoofed clips is
called bona fide, from `threshold_bonafide` on; between the two the verdict is unsure. The data must not have been
trained on. What is printed of them is cross-fitted: each source is judged by a calibration that was fitted on others.

With `--folds SCORES.csv` in the place of `--data` all is fitted on out-of-fold scores, which `python -m training.folds`
gives: of heads that learnt as the checkpoint's did, from other sources than those that they score. So a checkpoint
that learnt from all clips at hand gets thresholds from scores of clips that were not learnt. Figures are cross-fitted
over folds.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.optimize import minimize

from edge_runtime.app.arguments import Parser
from edge_runtime.app.shell import entry
from edge_runtime.errors import InputError, UsageError
from export.checkpoint import Calibration, load, save
from training.batches import read_library
from training.heads.fold_scores import read
from training.report import report, thresholds_line
from training.verdicts import Floats, JudgedClip, ScoredClip, groups, hear, judge

FOLDS = 8
TREMOR_LLR = 0.04
"""By so much quantization moves the median clip of the shipped model. The human clip that a threshold was taken from
lies just above it, and must not be called spoof by the quantized file alone."""
HAIR = 1e-6
"""Between a threshold and the score that it was taken from: means differ by their rounding."""


@dataclass(frozen=True)
class ErrorLimits:
    """Which share of human clips may be called spoof, and of spoofed clips bona fide; both between 0 and 1."""

    false_alarms: float = 0.02
    misses: float = 0.1

    def check(self) -> None:
        if not (0 < self.false_alarms < 1 and 0 < self.misses < 1):
            raise UsageError("--false-alarms and --misses must lie between 0 and 1")


def weights(heard: Sequence[ScoredClip]) -> Floats:
    """Weight of each clip, float64 [n], which sum to 1 for either label: of a source as the root of its clips."""
    groups_of = [(item.clip.is_bonafide, item.clip.source) for item in heard]
    size = Counter(groups_of)
    raw = np.array([size[group] ** -0.5 for group in groups_of])
    human = np.array([item.clip.is_bonafide for item in heard], bool)
    return np.where(human, raw / max(raw[human].sum(), 1e-12), raw / max(raw[~human].sum(), 1e-12))


def fit(heard: Sequence[ScoredClip], limits: ErrorLimits) -> Calibration:
    """Calibration and thresholds. Raises InputError unless both labels have a clip with a window fit to be judged."""
    heard = [item for item in heard if len(item.fit)]
    if len({item.clip.is_bonafide for item in heard}) < 2:
        raise InputError("calibration needs clips of both labels with sound that can be judged")
    human = np.array([item.clip.is_bonafide for item in heard], bool)
    weight = weights(heard)
    scale, offset = _line(heard, weight)
    evidence = scale * np.array([item.spoof_evidence for item in heard]) + offset
    means = scale * np.array([item.mean for item in heard]) + offset
    threshold = lower_bound(evidence[human], weight[human], limits.false_alarms) - TREMOR_LLR
    let_by = ~human & (evidence >= threshold)
    upper = upper_bound(means[let_by], weight[let_by], limits.misses)
    return Calibration(scale, offset, threshold, max(threshold, upper))


def _line(heard: Sequence[ScoredClip], weight: Floats) -> tuple[float, float]:
    """Scale and offset from raw score to LLR, by the least cost over windows."""
    raw = np.concatenate([item.fit for item in heard])
    each = np.concatenate([np.full(len(item.fit), w / len(item.fit)) for item, w in zip(heard, weight, strict=True)])
    sign = np.concatenate([np.full(len(item.fit), 1.0 if item.clip.is_bonafide else -1.0) for item in heard])
    spread = float(np.std(raw)) or 1.0

    def cost(parameters: Floats) -> float:
        llr = np.exp(parameters[0]) * raw / spread + parameters[1]
        return float(np.sum(each * np.logaddexp(0, -sign * llr)))

    best = minimize(cost, np.zeros(2), method="Nelder-Mead", options={"maxiter": 2000}).x
    return float(np.exp(best[0]) / spread), float(best[1])


def lower_bound(scores: Floats, weight: Floats, share: float) -> float:
    """The highest of `scores` [n] at or below which at most `share` of the weight lies; the lowest where none does.

    The score at the threshold counts although it is not below it: the next clip to come falls below the lowest of n
    scores once in n + 1 times, and this is the margin for that.
    """
    order = np.argsort(scores, kind="stable")
    below = int(np.searchsorted(np.cumsum(weight[order]), share + 1e-9, side="right"))
    return float(scores[order][max(0, below - 1)]) - HAIR


def upper_bound(scores: Floats, weight: Floats, share: float) -> float:
    """The lowest threshold from which on at most `share` of the weight of `scores` [n] lies; minus infinity if all."""
    order = np.argsort(-scores, kind="stable")
    kept = int(np.searchsorted(np.cumsum(weight[order]), share + 1e-9, side="right"))
    return -np.inf if kept == len(scores) else float(scores[order][kept]) + HAIR


def cross_fitted(
    heard: Sequence[ScoredClip], limits: ErrorLimits, folds: int = FOLDS, seed: int = 0
) -> list[JudgedClip]:
    """Each clip [n] judged by a calibration that did not see its source (or, where sources are few, the clip)."""
    group = np.array(groups([item.clip for item in heard]))
    order = np.random.default_rng(seed).permutation(np.unique(group))
    place = {str(name): number % folds for number, name in enumerate(order)}
    return judged_by_others(heard, limits, [place[str(name)] for name in group])


def judged_by_others(
    heard: Sequence[ScoredClip], limits: ErrorLimits, parts: Sequence[object], *, strictly: bool = False
) -> list[JudgedClip]:
    """Each clip [n] judged by a calibration that was fitted on the clips of other `parts` [n].

    Where the others lack a label, which a handful of clips do, it is fitted on all; `strictly` raises InputError then.
    """
    judged: dict[int, JudgedClip] = {}
    for part in dict.fromkeys(parts):
        rest = [item for item, own in zip(heard, parts, strict=True) if own != part]
        both = strictly or len({item.clip.is_bonafide for item in rest if len(item.fit)}) == 2
        fitted = fit(rest if both else heard, limits)
        judged |= {place: judge(heard[place], fitted) for place, own in enumerate(parts) if own == part}
    return [judged[place] for place in range(len(heard))]


def parser() -> argparse.ArgumentParser:
    command = Parser(
        prog="edge-detect train calibrate",
        description="Fit calibration and thresholds; write them into a checkpoint.",
        epilog="Exit codes: 0 done, 2 usage, 3 data, 4 checkpoint, 5 output.",
    )
    command.add_argument("checkpoint", type=Path, help="safetensors of `python -m training`")
    command.add_argument("--data", type=Path, help="folder, CSV or protocol that was not trained on")
    command.add_argument("--folds", type=Path, metavar="SCORES.csv", help="out-of-fold scores, instead of --data")
    command.add_argument("--audio", type=Path, help="folder of the clips that a protocol names")
    command.add_argument("-o", "--output", type=Path, required=True, help="the calibrated checkpoint")
    add_limits(command)
    command.add_argument("--hop", type=float, default=0.5, help="seconds between windows (default: %(default)s)")
    command.add_argument("--name", default="", help="name of the model")
    command.add_argument("--half", action="store_true", help="store matrices as float16")
    return command


def add_limits(command: argparse.ArgumentParser) -> None:
    """The options of `ErrorLimits`."""
    told = "(default: %(default)s)"
    asked = ErrorLimits()
    alarms, misses = f"share of human clips called spoof {told}", f"share of spoofed clips called bona fide {told}"
    command.add_argument("--false-alarms", type=float, default=asked.false_alarms, help=alarms)
    command.add_argument("--misses", type=float, default=asked.misses, help=misses)


@entry()
def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code."""
    arguments = parser().parse_args(argv)
    checkpoint = load(arguments.checkpoint)
    limits = ErrorLimits(arguments.false_alarms, arguments.misses)
    limits.check()
    if not 0.01 <= arguments.hop <= 60:
        raise UsageError("--hop must lie between 0.01 and 60 seconds")
    if (arguments.data is None) == (arguments.folds is None):
        raise UsageError("name clips with --data, or out-of-fold scores with --folds")
    if arguments.folds is not None:
        heard, parts = read(arguments.folds)
        found = report(judged_by_others(heard, limits, parts, strictly=True), f"{len(set(parts))} folds")
    else:
        rate = checkpoint.model.config.sample_rate
        library = read_library([arguments.data], arguments.audio, rate, "calibration")
        heard = hear(checkpoint.model, library.clips, library.samples, arguments.hop, "calibration data")
        found = report(cross_fitted(heard, limits))
    calibration = fit(heard, limits)
    asked = {"false_alarms_asked_for": limits.false_alarms, "misses_asked_for": limits.misses}
    kept = {**checkpoint.figures, "calibration": asked | found.figures()}
    name = arguments.name or checkpoint.name
    save(arguments.output, checkpoint.model, calibration, kept, name, arguments.half)
    print("\n".join([*found.lines(), "", thresholds_line(calibration), f"wrote {arguments.output}"]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
