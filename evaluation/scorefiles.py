"""Score files, as the ASVspoof challenges want them: read by content, written by name, matched with a key."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from edge_runtime.atomic import whole_file
from edge_runtime.errors import InputError, UsageError
from evaluation.metrics import Floats
from evaluation.protocols import LABELS, Clip, trial_name

ScoreForm = Literal["2019", "2021", "asvspoof5"]
SCORE_FORMS: tuple[ScoreForm, ...] = get_args(ScoreForm)
HEADER = ("filename", "cm-score")
LABEL = "cm-label"
NAMED = 5
"""Trials that a message names; it counts them all."""
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|[+-]?(?:nan|inf(?:inity)?)", re.IGNORECASE)
_SHOWN = 40
"""Characters of a field that a message shows."""


@dataclass(frozen=True)
class ScoreFile:
    """Scores by trial, in the file's order, and the labels that the file itself gives (2019 and ASVspoof 5)."""

    scores: dict[str, float]
    labels: dict[str, str]


@dataclass(frozen=True)
class Matched:
    """Clips of a key with their scores [n], in the key's order, and the trials of which only one side knows."""

    clips: list[Clip]
    scores: Floats
    missing: list[str]  # in the key, without a score
    unknown: list[str]  # scored, not in the key


def number(text: str) -> float:
    """A number as other programs write one. Raises ValueError for what only Python reads: `1_000`, other digits."""
    if not _NUMBER.fullmatch(text):
        raise ValueError(f"{text[:_SHOWN]!r} is no number")
    return float(text)


def read_scores(file: Path) -> ScoreFile:
    """Scores by trial; higher is more bona fide. Trials lose the suffix of a sound.

    By its content a file is one of: `TRIAL SCORE` (2021, and `python -m benchmarks accuracy --scores`);
    `TRIAL SOURCE LABEL SCORE` (2019); `SPEAKER TRIAL SCORE LABEL` (the first phase of ASVspoof 5); columns with a
    header that names `filename` and `cm-score` (ASVspoof 5).

    Raises InputError for a file that cannot be read or is none of these, and, with their number and first names, for
    trials that are there twice, and scores that are no finite numbers.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as reason:
        raise InputError(f"cannot read {file}: {reason}") from None
    rows = [(number, fields) for number, line in enumerate(text.split("\n"), start=1) if (fields := line.split())]
    if not rows:
        raise InputError(f"{file} holds no score")
    width, pick = _layout(file, *rows[0])
    if pick is None:
        _, header = rows.pop(0)
        trial, score = (header.index(name) for name in HEADER)
        label = header.index(LABEL) if LABEL in header else None
    else:
        trial, score, label = pick
    if not rows:
        raise InputError(f"{file} holds no score below its header")
    scores: dict[str, float] = {}
    labels: dict[str, str] = {}
    twice, broken = [], []
    for line, fields in rows:
        if len(fields) != width:
            raise InputError(f"{file}, line {line}: {len(fields)} columns, after lines of {width}: is it cut off?")
        name = trial_name(fields[trial])
        try:
            value = number(fields[score])
        except ValueError:
            raise InputError(f"{file}, line {line}: {fields[score][:_SHOWN]!r} is no score") from None
        if label is not None:
            labels[name] = fields[label]
        if name in scores:
            twice.append(name)
        if not np.isfinite(value):
            broken.append(name)
        scores[name] = value
    for names, what in ((broken, "have a score that is no finite number"), (twice, "are there more than once")):
        if names:
            raise InputError(f"{file}: {len(names)} trials {what}: {first_of(names)}")
    return ScoreFile(scores, labels)


def _layout(file: Path, line: int, fields: Sequence[str]) -> tuple[int, tuple[int, int, int | None] | None]:
    """Number of columns, and those of trial, score and label; None stands for a header that names them."""
    if all(name in fields for name in HEADER):
        return len(fields), None
    if len(fields) == 2:
        return 2, (0, 1, None)
    if len(fields) == 4 and fields[2] in LABELS:
        return 4, (0, 3, 2)
    if len(fields) == 4 and fields[3] in LABELS:
        return 4, (1, 2, 3)
    raise InputError(
        f"{file}, line {line}: not a score file: needs `TRIAL SCORE`, `TRIAL SOURCE LABEL SCORE`, "
        "`SPEAKER TRIAL SCORE LABEL`, or a header with filename and cm-score"
    )


def contradicted(labels: Mapping[str, str], clips: Sequence[Clip]) -> list[str]:
    """The trials that a score file calls bona fide and the key spoof, or the reverse, or by another word."""
    return [
        clip.trial
        for clip in clips
        if labels.get(clip.trial, clip.label).replace("bona-fide", "bonafide") != clip.label
    ]


def match(scores: Mapping[str, float], clips: Sequence[Clip], left_out: Sequence[str] = ()) -> Matched:
    """The clips of a key that have a score. Trials of `left_out`, other subsets, may have one and are not unknown.

    Raises InputError when the key names trials twice, or no trial has a score.
    """
    by_trial = {clip.trial: clip for clip in clips}
    if len(by_trial) < len(clips):
        twice = [trial for trial, times in Counter(clip.trial for clip in clips).items() if times > 1]
        raise InputError(f"the key names {len(twice)} trials more than once: {first_of(twice)}")
    found = [clip for trial, clip in by_trial.items() if trial in scores]
    if not found:
        raise InputError(
            f"no trial has a score: the key has {first_of(list(by_trial))}, the scores are of {first_of(list(scores))}"
        )
    known = by_trial.keys() | set(left_out)
    return Matched(
        clips=found,
        scores=np.array([scores[clip.trial] for clip in found]),
        missing=[trial for trial in by_trial if trial not in scores],
        unknown=[trial for trial in scores if trial not in known],
    )


def write_scores(target: Path, clips: Sequence[Clip], scores: ArrayLike, form: ScoreForm = "2021") -> None:
    """Writes the scores [n] of `clips` so that no digit is lost, in a form that the challenge's package reads.

    Raises UsageError for another form; InputError for names that are there twice or hold a blank, and for scores that
    are no finite number, none of which a challenge takes; and OutputError when the file cannot be written.
    """
    if form not in SCORE_FORMS:
        raise UsageError(f"no such form of score files: {form} (choose from {', '.join(SCORE_FORMS)})")
    values = np.asarray(scores, np.float64)
    if values.shape != (len(clips),):
        raise ValueError(f"{len(clips)} clips, but scores of the shape {values.shape}")
    broken = [clip.trial for clip, value in zip(clips, values, strict=True) if not np.isfinite(value)]
    if broken:
        raise InputError(f"{len(broken)} trials have a score that is no finite number: {first_of(broken)}")
    check_names(clips)
    line = _LINES[form]
    text = "".join(line(clip, value) + "\n" for clip, value in zip(clips, values.tolist(), strict=True))
    with whole_file(target) as half:
        half.write_text("\t".join(HEADER) + "\n" + text if form == "asvspoof5" else text, encoding="utf-8")


def check_names(clips: Sequence[Clip]) -> None:
    """Raises InputError for names that no score file can hold: there twice, or with a blank. Ask before scoring."""
    spaced = [clip.trial for clip in clips if len(clip.trial.split()) != 1]
    if spaced:
        raise InputError(f"{len(spaced)} trials have a blank in their name, which parts columns: {first_of(spaced)}")
    twice = [trial for trial, times in Counter(clip.trial for clip in clips).items() if times > 1]
    if twice:
        raise InputError(f"{len(twice)} names are of more than one trial: {first_of(twice)}")


_LINES: dict[ScoreForm, Callable[[Clip, float], str]] = {
    "2019": lambda clip, score: f"{clip.trial} {clip.system.replace(' ', '_')} {clip.label} {score!r}",
    "2021": lambda clip, score: f"{clip.trial} {score!r}",
    "asvspoof5": lambda clip, score: f"{clip.trial}\t{score!r}",
}


def first_of(names: Sequence[str]) -> str:
    """The first few names, for a message."""
    return ", ".join(names[:NAMED]) + (", ..." if len(names) > NAMED else "")
