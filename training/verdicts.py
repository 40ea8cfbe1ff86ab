"""The verdicts that labelled clips get: windows and rules are the runtime's own, so that thresholds mean what they say.

A calibration may then be tried on scores that are there already, as often as one likes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from edge_runtime.decision.quality import measure, objection
from edge_runtime.decision.summary import SPOOFED_SHARE, Summarizer, Summary
from edge_runtime.decision.verdict import Reason, Thresholds, Verdict, Window, decide
from edge_runtime.detector import TAIL_SECONDS
from evaluation.bootstrap import Estimate, units
from evaluation.protocols import Clip
from export.checkpoint import Calibration
from export.rawnet2 import Config, RawNet2
from training.scoring import as_judged, hop_multiple, hop_samples, score_at, starts

Floats = NDArray[np.float64]
SAID = (Verdict.SPOOF, Verdict.UNSURE, Verdict.BONAFIDE)
AT_ONCE = 128
"""Windows that are held as floats at a time: 32 MB."""


@dataclass(frozen=True)
class ScoredClip:
    """A clip and its windows in the order of their time. Their scores are raw ones, their verdicts not yet said."""

    clip: Clip
    windows: tuple[Window, ...]

    @property
    def fit(self) -> Floats:
        """Raw scores, float64 [n], of the windows that are fit to be judged."""
        return np.array([w.score for w in self.windows if w.score is not None and w.reason is Reason.NONE], np.float64)

    @property
    def mean(self) -> float:
        """The raw score that the clip's verdict follows; of `fit` windows there must be one."""
        return float(self.fit.mean())

    @property
    def spoof_evidence(self) -> float:
        """The raw score below which a threshold does not call the clip spoof; of `fit` windows there must be one.

        A clip is spoof when its mean lies below the threshold, or when `SPOOFED_SHARE` of its windows do.
        """
        scores = np.sort(self.fit)
        return min(self.mean, float(scores[math.ceil(SPOOFED_SHARE * len(scores)) - 1]))


@dataclass(frozen=True)
class JudgedClip:
    """What the runtime says of a clip and of its windows; scores are log-likelihood ratios."""

    clip: Clip
    windows: tuple[Window, ...]
    summary: Summary


@dataclass(frozen=True)
class WindowedClip:
    """A clip and its windows, none of which has a score yet; those at `places` are to have one."""

    sound: NDArray[np.float32]  # [samples], as the runtime judges it
    windows: tuple[Window, ...]
    places: tuple[int, ...]
    starts: tuple[int, ...]  # in samples, of the windows at `places`

    def scored(self, clip: Clip, raw: Sequence[float]) -> ScoredClip:
        """With raw scores of the windows at `places`."""
        windows = list(self.windows)
        for place, value in zip(self.places, raw, strict=True):
            windows[place] = replace(windows[place], score=value)
        return ScoredClip(clip, tuple(windows))


def hear(
    model: RawNet2, clips: Sequence[Clip], samples: Sequence[NDArray[np.int16]], hop_seconds: float, what: str
) -> list[ScoredClip]:
    """Scores the windows of clips (`samples`: int16 [n] each); silent ones are not scored. `what` names them."""
    found: list[ScoredClip] = []
    for some in cuts(model.config, samples, hop_seconds, what):
        raw = iter(score_at(model, [cut.sound for cut in some], [cut.starts for cut in some]).tolist())
        found += [
            cut.scored(clips[len(found) + number], list(islice(raw, len(cut.places))))
            for number, cut in enumerate(some)
        ]
    return found


def cuts(
    config: Config, samples: Sequence[NDArray[np.int16]], hop_seconds: float, what: str, whole_blocks: bool = False
) -> Iterator[list[WindowedClip]]:
    """The clips (int16 [n] each) cut into windows, so many at a time that about AT_ONCE windows are to be scored.

    With `whole_blocks` the end of a clip that fills no block is left out, which the runtime scores by itself.
    """
    hop = hop_samples(config, hop_seconds)
    multiple = 1 if config.has_blocks and not whole_blocks else hop_multiple(config)
    tail = int(TAIL_SECONDS * config.sample_rate)
    waiting: list[WindowedClip] = []
    for clip in tqdm(samples, desc=f"scoring {what}", unit="clip"):
        judged, as_it_came = as_judged(clip, config.sample_rate), clip.astype(np.float32) / np.float32(32768)
        places = starts(len(clip), config.window_samples, hop, multiple, tail)
        windows = [
            _unscored(judged[start:end], as_it_came[start:end], start, config.sample_rate)
            for start, end in ((start, start + config.window_samples) for start in places)
        ]
        audible = [number for number, window in enumerate(windows) if window.verdict is not Verdict.SILENT]
        waiting.append(
            WindowedClip(judged, tuple(windows), tuple(audible), tuple(places[number] for number in audible))
        )
        if sum(len(cut.places) for cut in waiting) >= AT_ONCE:
            yield waiting
            waiting = []
    if waiting:
        yield waiting


def judge(heard: ScoredClip, calibration: Calibration) -> JudgedClip:
    """The verdicts of a clip under a calibration, by its windows alone: alarms, which need 6 s, have no say."""
    thresholds = Thresholds(calibration.threshold, calibration.threshold_bonafide)
    summarizer = Summarizer(thresholds)
    said = []
    for window in heard.windows:
        llr = None if window.score is None else calibration.scale * window.score + calibration.offset
        said.append(replace(window, score=llr, verdict=decide(llr, thresholds, window.reason)))
        summarizer.add(said[-1])
    return JudgedClip(heard.clip, tuple(said), summarizer.summary())


def groups(clips: Sequence[Clip]) -> list[str]:
    """What each clip [n] belongs to when some are left out or drawn: its source, or itself where sources are few."""
    labels, sources = np.array([clip.is_bonafide for clip in clips], bool), [clip.source for clip in clips]
    few = labels.all() or not labels.any() or units(labels, sources).over == "clips"
    return [str(number) for number in range(len(clips))] if few else sources


def shares(judged: Sequence[JudgedClip], level: str, rounds: int = 1000) -> dict[tuple[str, Verdict], Estimate]:
    """Which share of each label gets which verdict, with 95 % intervals from a bootstrap over `groups`.

    Where it is none or all of a label, of which a bootstrap knows nothing else, the bound is that of a binomial of as
    many clips as there are.

    `level` is `clips` or `windows`; what is silent does not count. A label that is not there gets no shares.
    """
    of_clip = groups([item.clip for item in judged])
    rows: list[tuple[bool, Verdict | None, str]] = []
    for item, group in zip(judged, of_clip, strict=True):
        verdicts = [item.summary.verdict] if level == "clips" else [w.verdict for w in item.windows]
        rows += [(item.clip.is_bonafide, verdict, group) for verdict in verdicts if verdict is not Verdict.SILENT]
    human = np.array([row[0] for row in rows], bool)
    said = np.array([[row[1] is verdict for verdict in SAID] for row in rows], np.float64)
    drawn = [np.arange(len(rows)), *units(human, [row[2] for row in rows]).draws(rounds, seed=0)]
    found: dict[tuple[str, Verdict], Estimate] = {}
    for name, side in (("human", human), ("spoofed", ~human)):
        if not side.any():
            continue
        clips = sum(item.clip.is_bonafide == (name == "human") for item in judged)
        doubt = 1 - 0.025 ** (1 / clips)
        rates = np.array([said[sample][side[sample]].mean(axis=0) for sample in drawn])
        low, high = np.percentile(rates[1:], [2.5, 97.5], axis=0) if len(rates) > 1 else np.eye(2)[[0, 0], :].T
        for place, verdict in enumerate(SAID):
            value = float(rates[0, place])
            interval = (
                min(float(low[place]), value, 1 - doubt if value == 1 else 1),
                max(float(high[place]), value, doubt if value == 0 else 0),
            )
            found[name, verdict] = Estimate(value, *interval, int(human.sum()), int((~human).sum()))
    return found


def _unscored(sound: NDArray[np.float32], as_it_came: NDArray[np.float32], start: int, rate: int) -> Window:
    quality = measure(sound, as_it_came=as_it_came)
    reason = objection(quality, len(sound) / rate)
    verdict = Verdict.SILENT if quality.silent else Verdict.UNSURE
    begin, end = start / rate, (start + len(sound)) / rate
    return Window(begin, end, None, verdict, quality.level_dbfs, quality.peak_dbfs, quality.clipped, 0, reason)
