"""The tandem detection cost function: what a detector costs that stands before a speaker verification (ASV) system.

There are two forms of it, and their figures must not be mixed: the same scores give 0.03 in one and 0.09 in the other.
`legacy` is that of ASVspoof 2019, `revised` that of ASVspoof 2021, where the ASV system's own errors (C0) count too.
Both are in Kinnunen et al., "Tandem Assessment of Spoofing Countermeasures and Automatic Speaker Verification:
Fundamentals", 2020, and in the challenges' evaluation packages, whose constants stand here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge_runtime.errors import InputError
from evaluation.metrics import Floats, det_curve, eer
from evaluation.scorefiles import number as to_number

Form = Literal["legacy", "revised"]
FORMS: tuple[Form, ...] = get_args(Form)
FORM_NAMES: dict[Form, str] = {"legacy": "legacy form, ASVspoof 2019", "revised": "revised form, ASVspoof 2021"}

P_SPOOF = 0.05
P_TARGET, P_NONTARGET = (1 - P_SPOOF) * 0.99, (1 - P_SPOOF) * 0.01
COST_MISS, COST_ALARM = 1.0, 10.0
"""The costs of a target refused, and of a nontarget or a spoof let through: of the detector, of ASV and of both."""

KEYS = ("target", "nontarget", "spoof")
FEWEST_SCORES = 3
"""Distinct scores that the challenges' packages ask for: fewer are decisions, and a minimum over thresholds is none."""


@dataclass(frozen=True)
class AsvRates:
    """Errors of an ASV system at one threshold, as fractions."""

    threshold: float
    miss: float  # targets below the threshold
    alarm: float  # nontargets from the threshold on
    spoof_alarm: float  # spoofs from the threshold on


@dataclass(frozen=True)
class AsvScores:
    """Scores of an ASV system, higher for the claimed speaker: all arrays are [n], text except for the scores."""

    scores: Floats
    keys: NDArray[np.str_]  # of KEYS
    systems: NDArray[np.str_]  # what made a spoof; "unknown" where the file does not say
    conditions: NDArray[np.str_]  # codec; "-" where the file does not say

    def rates(self, system: str | None = None, condition: str | None = None) -> AsvRates:
        """Errors at the threshold of the EER of targets and nontargets, as the challenges set it.

        With `system` only its spoofs count, with `condition` only the trials of that condition, the threshold being
        found again among them, as the package of 2021 does. Raises InputError when a class has no trial.
        """
        chosen = np.ones(len(self.scores), bool) if condition is None else self.conditions == condition
        of_system = np.ones(len(self.scores), bool) if system is None else self.systems == system
        target, nontarget = (self.scores[chosen & (self.keys == key)] for key in KEYS[:2])
        spoof = self.scores[chosen & of_system & (self.keys == "spoof")]
        for key, side in zip(KEYS, (target, nontarget, spoof), strict=True):
            if not len(side):
                where = "".join(f" of {what}" for what in (system, condition) if what)
                raise InputError(f"t-DCF needs ASV scores of all of {', '.join(KEYS)}: there is no {key}{where}")
        _, threshold = eer(target, nontarget)
        return AsvRates(
            threshold,
            float(np.mean(target < threshold)),
            float(np.mean(nontarget >= threshold)),
            float(np.mean(spoof >= threshold)),
        )


@dataclass(frozen=True)
class CostWeights:
    """t-DCF = c0 + c1 * (detector's miss rate) + c2 * (its false alarms), divided by `default`."""

    c0: float
    c1: float
    c2: float
    default: float


def weights(asv: AsvRates, form: Form) -> CostWeights:
    """The weights of a form. Raises InputError where ASV errs so much or so little that the form says nothing.

    legacy (evaluation plan of 2019): C1 = Ptar (Cmiss - Cmiss Pmiss) - Pnon Cfa Pfa, C2 = Cfa Pspoof (1 - Pmiss_spoof),
    default min(C1, C2). revised (plan of 2021): C0 = Ptar Cmiss Pmiss + Pnon Cfa Pfa, C1 = Ptar Cmiss - C0,
    C2 = Pspoof Cfa Pfa_spoof, default C0 + min(C1, C2). All P on the right but the priors are errors of ASV.
    """
    if form == "legacy":
        c0 = 0.0
        c1 = P_TARGET * (COST_MISS - COST_MISS * asv.miss) - P_NONTARGET * COST_ALARM * asv.alarm
        c2 = COST_ALARM * P_SPOOF * asv.spoof_alarm
    else:
        c0 = P_TARGET * COST_MISS * asv.miss + P_NONTARGET * COST_ALARM * asv.alarm
        c1 = P_TARGET * COST_MISS - c0
        c2 = P_SPOOF * COST_ALARM * asv.spoof_alarm
    if c1 < 0 or c2 < 0:
        raise InputError(
            f"t-DCF ({FORM_NAMES[form]}) is not defined: the ASV system misses {asv.miss:.1%} of targets and accepts "
            f"{asv.alarm:.1%} of nontargets, which makes a weight negative; are its scores higher for the target?"
        )
    default = c0 + min(c1, c2)
    if default == 0:
        raise InputError(
            f"t-DCF ({FORM_NAMES[form]}) is not defined: the ASV system alone costs nothing "
            f"(it accepts {asv.spoof_alarm:.1%} of spoofs), so there is nothing to divide by"
        )
    return CostWeights(c0, c1, c2, default)


def min_tdcf(bonafide: ArrayLike, spoof: ArrayLike, asv: AsvRates, form: Form) -> tuple[float, float]:
    """Least normalized t-DCF of a detector's scores over its thresholds, and the threshold where it is found.

    Never above 1, which is a detector of no use. Raises InputError where the form is not defined (`weights`) and for
    fewer than FEWEST_SCORES distinct scores, ValueError unless both sides have scores.

    >>> asv = AsvRates(threshold=0.0, miss=0.05, alarm=0.04, spoof_alarm=0.3)
    >>> round(min_tdcf([0.9, 2.1, 1.4, 3.0], [-1.2, 0.3, 1.5, -0.4], asv, "revised")[0], 3)
    0.44
    """
    miss_rate, alarm_rate, thresholds = det_curve(bonafide, spoof)
    if len(np.unique(thresholds[1:])) < FEWEST_SCORES:
        raise InputError(f"t-DCF needs scores, not decisions: there are fewer than {FEWEST_SCORES} distinct ones")
    weight = weights(asv, form)
    curve = (weight.c0 + weight.c1 * miss_rate + weight.c2 * alarm_rate) / weight.default
    least = int(np.argmin(curve))
    return float(curve[least]), float(thresholds[least])


def read_asv(scores: Path, key: Path | None = None, subset: str | None = None) -> AsvScores:
    """Scores of an ASV system as the challenges publish them.

    Without `key` every line of `scores` holds target, nontarget or spoof and ends with the score; what stands right
    before that word is the system, as in 2019 and 5 (`A07 spoof 3.25`). The organizers' files of 2021 have
    `SPEAKER TRIAL SCORE`; `key` is then the trial_metadata.txt beside them (`speaker trial codec transmission attack
    key trim subset`), and `subset`, such as eval, takes its part of it.

    Raises InputError for what cannot be read, a score that is no finite number, and trials without score or key.
    """
    rows = list(_rows(scores))
    if not rows:
        raise InputError(f"{scores} holds no ASV score")
    if key is None:
        if subset is not None:
            raise InputError(f"{scores} says nothing of subsets: give its trial_metadata.txt too, or no subset")
        return _gathered([(_number(scores, *row), *_labelled(scores, *row)) for row in rows])
    by_trial: dict[tuple[str, str], float] = {}
    for number, fields in rows:
        if len(fields) != 3:
            raise InputError(f"{scores}, line {number}: needs `SPEAKER TRIAL SCORE`, as the key has speaker and trial")
        by_trial[fields[0], fields[1]] = _number(scores, number, fields)
    trials, lost = [], []
    for number, fields in _rows(key):
        if len(fields) != 8 or fields[5] not in KEYS:
            raise InputError(f"{key}, line {number}: needs `speaker trial codec transmission attack key trim subset`")
        if subset is None or fields[7] == subset:
            score = by_trial.get((fields[0], fields[1]))
            if score is None:
                lost.append(f"{fields[0]} {fields[1]}")
            else:
                trials.append((score, fields[5], fields[4], fields[2]))
    if lost:
        raise InputError(f"{scores} has no score for {len(lost)} trials of {key}: {', '.join(lost[:3])}, ...")
    if not trials:
        raise InputError(f"{key} holds no trial" + (f" of the subset {subset}" if subset else ""))
    return _gathered(trials)


def _rows(file: Path) -> Iterator[tuple[int, list[str]]]:
    """Line numbers and fields of the lines that are not empty."""
    try:
        with file.open(encoding="utf-8") as stream:
            for number, line in enumerate(stream, start=1):
                if fields := line.split():
                    yield number, fields
    except (OSError, UnicodeDecodeError) as reason:
        raise InputError(f"cannot read {file}: {reason}") from None


def _labelled(file: Path, number: int, fields: list[str]) -> tuple[str, str, str]:
    position = next((index for index, field in enumerate(fields[:-1]) if field in KEYS), None)
    if position is None:
        raise InputError(
            f"{file}, line {number}: holds none of {', '.join(KEYS)} before the score; files of 2021 need their key"
        )
    return fields[position], fields[position - 1] if position else "unknown", "-"


def _number(file: Path, number: int, fields: list[str]) -> float:
    try:
        value = to_number(fields[-1])
    except ValueError:
        value = np.nan
    if not np.isfinite(value):
        raise InputError(f"{file}, line {number}: {fields[-1][:40]!r} is not a finite number")
    return value


def _gathered(trials: list[tuple[float, str, str, str]]) -> AsvScores:
    scores, keys, systems, conditions = zip(*trials, strict=True)
    return AsvScores(np.array(scores), np.array(keys), np.array(systems), np.array(conditions))
