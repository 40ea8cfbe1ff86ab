"""`python -m training.calibrate CHECKPOINT --data DIR`: scores to log-likelihood ratios, and the thresholds.

The raw score becomes a natural-log likelihood ratio by logistic regression with both labels weighted alike
(Brümmer's linear calibration): `scale * raw + offset`. Below `threshold` lies at most the chosen share of human
windows; between it and `threshold_bonafide`, the point of equal error, the runtime says unsure. The data must
not have been trained on. What is printed of them is cross-fitted: each source is judged by a calibration that
was fitted on the other sources.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from benchmarks.metrics import cllr, eer
from edge_runtime.errors import EdgeDetectError, UsageError
from export.checkpoint import Calibration, load, save
from training.batches import read_library
from training.scoring import score_windows

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Scored:
    """Raw scores of windows, float64 [n], with label and source of the clip that each was cut from."""

    raw: Floats
    bonafide: NDArray[np.bool_]
    source: NDArray[np.str_]

    def part(self, chosen: NDArray[np.bool_]) -> Scored:
        return Scored(self.raw[chosen], self.bonafide[chosen], self.source[chosen])


def fit(scored: Scored, false_alarms: float) -> Calibration:
    """Calibration and thresholds with at most `false_alarms` (0 to 1) of these human windows called spoof."""
    spread = float(np.std(scored.raw)) or 1.0
    weights = np.where(scored.bonafide, 0.5 / scored.bonafide.sum(), 0.5 / (~scored.bonafide).sum())
    sign = np.where(scored.bonafide, 1.0, -1.0)

    def cost(parameters: Floats) -> float:
        llr = np.exp(parameters[0]) * scored.raw / spread + parameters[1]
        return float(np.sum(weights * np.logaddexp(0, -sign * llr)))

    best = minimize(cost, np.zeros(2), method="Nelder-Mead", options={"maxiter": 2000}).x
    scale, offset = float(np.exp(best[0]) / spread), float(best[1])
    llr = scale * scored.raw + offset
    # "Lower" keeps the share at or below what was asked for: the threshold is one of the scores.
    threshold = float(np.quantile(llr[scored.bonafide], false_alarms, method="lower"))
    _, equal = eer(llr[scored.bonafide], llr[~scored.bonafide])
    return Calibration(scale, offset, threshold, max(threshold, equal))


def cross_fitted(scored: Scored, false_alarms: float, folds: int = 8, seed: int = 0) -> dict[str, float]:
    """Figures on sources that the calibration did not see: Cllr, and shares by verdict."""
    names = np.unique(scored.source)
    order = np.random.default_rng(seed).permutation(len(names))
    llr = np.empty(len(scored.raw))
    spoof, unsure = np.zeros(len(llr), bool), np.zeros(len(llr), bool)
    for fold in range(min(folds, len(names))):
        held = np.isin(scored.source, names[order[fold::folds]])
        rest = scored.part(~held)
        if held.all() or not rest.bonafide.any() or rest.bonafide.all():
            rest = scored
        fitted = fit(rest, false_alarms)
        llr[held] = fitted.scale * scored.raw[held] + fitted.offset
        spoof[held] = llr[held] < fitted.threshold
        unsure[held] = ~spoof[held] & (llr[held] < fitted.threshold_bonafide)
    human = scored.bonafide
    return {
        "cllr_bits": cllr(llr[human], llr[~human]),
        "human_windows_called_spoof": float(spoof[human].mean()),
        "human_windows_unsure": float(unsure[human].mean()),
        "spoofed_windows_called_spoof": float(spoof[~human].mean()),
        "spoofed_windows_unsure": float(unsure[~human].mean()),
        "windows": float(len(llr)),
    }


def parser() -> argparse.ArgumentParser:
    command = argparse.ArgumentParser(
        prog="python -m training.calibrate",
        description="Fit calibration and thresholds; write them into a checkpoint.",
    )
    command.add_argument("checkpoint", type=Path, help="safetensors of `python -m training`")
    command.add_argument("--data", type=Path, required=True, help="folder, CSV or protocol that was not trained on")
    command.add_argument("--audio", type=Path, help="folder of the clips that a protocol names")
    command.add_argument("-o", "--output", type=Path, required=True, help="the calibrated checkpoint")
    command.add_argument(
        "--false-alarms", type=float, default=0.05, help="share of human windows (default: %(default)s)"
    )
    command.add_argument("--hop", type=float, default=0.5, help="seconds between windows (default: %(default)s)")
    command.add_argument("--name", default="", help="name of the model")
    command.add_argument("--half", action="store_true", help="store matrices as float16")
    return command


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code."""
    arguments = parser().parse_args(argv)
    try:
        checkpoint = load(arguments.checkpoint)
        config = checkpoint.model.config
        if not (0 < arguments.false_alarms < 1 and 0.01 <= arguments.hop <= 60):
            raise UsageError("--false-alarms must lie between 0 and 1, --hop between 0.01 and 60 seconds")
        library = read_library([arguments.data], arguments.audio, config.sample_rate, "calibration")
        raw, owner = score_windows(checkpoint.model, library.samples, arguments.hop)
        scored = Scored(
            raw,
            np.array([library.clips[index].is_bonafide for index in owner]),
            np.array([library.clips[index].source for index in owner]),
        )
        calibration = fit(scored, arguments.false_alarms)
        figures = cross_fitted(scored, arguments.false_alarms)
        kept = {**checkpoint.figures, "calibration": figures}
        save(
            arguments.output,
            checkpoint.model,
            calibration,
            kept,
            arguments.name or checkpoint.name,
            arguments.half,
        )
    except EdgeDetectError as reason:
        print(f"error: {reason}", file=sys.stderr)
        return reason.exit_code
    for key, value in (asdict(calibration) | figures).items():
        print(f"{key:30} {value:.4f}")
    print(f"wrote {arguments.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
