"""Long recordings as files: people alone, and people with some seconds of a synthetic voice in between."""

from __future__ import annotations

import dataclasses
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.alarms.mixed_stream import FLOOR_DBFS, PAUSE_SECONDS, grouped, leveled
from benchmarks.alarms.stream import usual_rules
from edge_runtime.decision.alarm import FILE_SMOOTHING_SECONDS, Alarms, Rules
from edge_runtime.decision.summary import Summarizer, Summary
from edge_runtime.decision.verdict import Reason, Thresholds, Verdict, Window
from edge_runtime.detector import Detector
from edge_runtime.errors import InputError, UsageError
from evaluation.acoustics.effects import RATE, Random, Samples, pink
from evaluation.progress import silently
from evaluation.protocols import Clip
from evaluation.scoring.perturbation import read_samples

SHORTEST_SECONDS = 10.0
"""A shorter recording is left out: no alarm could begin in it."""
HUMAN_SECONDS = 48.0
INSERTED_SECONDS = (2.0, 3.0, 5.0, 8.0, 12.0)
MIDDLE, END = "in the middle", "at the end"
_BLOCK = round(5 * RATE)


@dataclass(frozen=True)
class ScoredRecording:
    """A recording as a detector with the gate heard it, which scored what is no speech as well."""

    name: str  # the source of the human speech
    seconds: float
    windows: list[Window]
    voice: str = ""  # of what was inserted, its source and system
    inserted_seconds: float = 0.0
    place: str = ""  # MIDDLE or END


def compared(thresholds: Thresholds) -> dict[str, Rules | None]:
    """The rules that are compared, by what a page calls them; None is for the windows alone."""
    return {
        "windows alone, as before": None,
        "alarms, as with a microphone": usual_rules(thresholds),
        "alarms, as with a file": usual_rules(thresholds, smoothing_seconds=FILE_SMOOTHING_SECONDS),
    }


def hear(detector: Detector, sound: Samples) -> list[Window]:
    """The windows of a recording, float32 [n] at RATE."""
    detector.reset()
    windows = [
        window for start in range(0, sound.size, _BLOCK) for window in detector.push(sound[start : start + _BLOCK])
    ]
    return windows + detector.flush()


def open_ears(detector: Detector) -> None:
    """Raises UsageError for a model of another rate than RATE."""
    if detector.sample_rate != RATE:
        raise UsageError(f"the model hears {detector.sample_rate} Hz: the recordings are made for {RATE} Hz")


def human(
    detector: Detector, clips: Sequence[Clip], seconds: float, seed: int = 0, progress: Callable[..., Any] = silently
) -> list[ScoredRecording]:
    """Recordings of `seconds` or a little more, each of one source's human clips, all of which are used once.

    Clips of a speaker follow each other, with pauses of PAUSE_SECONDS. What is left of a source is a recording too,
    from SHORTEST_SECONDS on. Raises InputError when there is none.
    """
    open_ears(detector)
    made = list(_joined(clips, seconds, np.random.default_rng(seed)))
    if not made:
        raise InputError(f"no source has {SHORTEST_SECONDS:g} s of human speech")
    random = np.random.default_rng(seed)
    heard = []
    for name, part in progress(made, desc="people alone", unit="recording"):
        sound = _floored(_spoken(part, random), random)
        heard.append(ScoredRecording(name, sound.size / RATE, hear(detector, sound)))
    return heard


def inserted(
    detector: Detector, clips: Sequence[Clip], voices: int, seed: int = 0, progress: Callable[..., Any] = silently
) -> list[ScoredRecording]:
    """HUMAN_SECONDS of a source with INSERTED_SECONDS of a voice, for so many pairs of both, in both places.

    The shorter insertions are the beginnings of the longest. Raises InputError when a label is missing.
    """
    open_ears(detector)
    people, spoofed = grouped(clips)
    if not people or not spoofed:
        raise InputError("a voice cannot be inserted without human and spoofed clips")
    random = np.random.default_rng(seed)
    own, theirs = (_order(sorted(names), voices, random) for names in (people, spoofed))
    heard = []
    for name, voice in progress(list(zip(own, theirs, strict=True)), desc="voices", unit="pair"):
        base = _floored(_spoken(_drawn(people[name], random), random, HUMAN_SECONDS), random)
        speech = _floored(_spoken(_drawn(spoofed[voice], random), random, max(INSERTED_SECONDS)), random)
        alone = hear(detector, base)
        for seconds in INSERTED_SECONDS:
            for place, at in ((MIDDLE, HUMAN_SECONDS / 2), (END, HUMAN_SECONDS)):
                windows = insert(detector, base, alone, speech[: round(seconds * RATE)], at)
                heard.append(ScoredRecording(name, HUMAN_SECONDS + seconds, windows, voice, seconds, place))
    return heard


def insert(detector: Detector, base: Samples, alone: Sequence[Window], part: Samples, at: float) -> list[Window]:
    """The windows of `base` with `part` inserted `at` seconds, where `alone` are those of `base`.

    A window's score knows nothing of the sound outside it, so only windows that hear of the `part` are scored. `at` and
    the part's length must be multiples of the hop.
    """
    window, place, seconds = detector.window_samples, round(at * RATE), part.size / RATE
    first = max(0, place - window)
    crossing = hear(detector, np.concatenate([base[first:place], part, base[place : place + window]]))
    return [
        *(one for one in alone if one.end <= at),
        *(one for one in (_later(one, first / RATE) for one in crossing) if one.end > at and one.start < at + seconds),
        *(_later(one, seconds) for one in alone if one.start >= at),
    ]


def gated(windows: Sequence[Window], least_speech_seconds: float) -> list[Window]:
    """What the gate leaves of windows that were all scored: those with less speech get no score and `no-speech`."""
    left = []
    for window in windows:
        length = window.end - window.start
        spoken = window.speech is None or window.speech * length >= min(least_speech_seconds, length / 2)
        if not spoken and window.reason is not Reason.SILENT:
            window = dataclasses.replace(window, score=None, verdict=Verdict.NO_SPEECH, reason=Reason.NO_SPEECH)
        left.append(window)
    return left


def summary(windows: Sequence[Window], thresholds: Thresholds, rules: Rules | None) -> Summary:
    """What is said of a recording; without `rules` by its windows alone, as before alarms had a say in it."""
    summarizer = Summarizer(thresholds, Alarms(rules) if rules else None)
    for window in windows:
        summarizer.add(window)
    return summarizer.summary()


def gate_cost(detector: Detector, clips: Sequence[Clip], seconds: float) -> float:
    """CPU seconds that the gate takes for an hour of speech, measured on `seconds` of it."""
    from edge_runtime.decision.speech import SpeechGate

    random = np.random.default_rng(0)
    sound = _spoken(_drawn([clip for clip in clips if clip.is_bonafide], random), random, seconds)
    gate = SpeechGate(detector.sample_rate)
    began = time.process_time()
    for start in range(0, sound.size, _BLOCK):
        gate.push(sound[start : start + _BLOCK])
        gate.drop(start)
    return (time.process_time() - began) * 3600 / seconds


def _later(window: Window, seconds: float) -> Window:
    return dataclasses.replace(window, start=window.start + seconds, end=window.end + seconds)


def _joined(clips: Sequence[Clip], seconds: float, random: Random) -> Iterator[tuple[str, Iterator[Clip]]]:
    """The clips of each recording."""
    sources: defaultdict[str, list[Clip]] = defaultdict(list)
    for clip in clips:
        if clip.is_bonafide:
            sources[clip.source].append(clip)
    for name, own in sorted(sources.items()):
        part: list[Clip] = []
        length = 0.0
        for clip in sorted(own, key=lambda one: (one.speaker, one.path.name)):
            part.append(clip)
            length += read_samples(clip.path).size / RATE
            if length >= seconds:
                yield name, iter(part)
                part, length = [], 0.0
        if length >= SHORTEST_SECONDS:
            yield name, iter(part)


def _drawn(clips: Sequence[Clip], random: Random) -> Iterator[Clip]:
    """Without end, each once before any comes again."""
    while True:
        for place in random.permutation(len(clips)).tolist():
            yield clips[place]


def _spoken(clips: Iterator[Clip], random: Random, seconds: float | None = None) -> Samples:
    """One clip after another with pauses between, float32 [n]; `seconds` of it, or all."""
    parts: list[Samples] = []
    length = 0
    for clip in clips:
        if parts:
            parts.append(np.zeros(round(random.uniform(*PAUSE_SECONDS) * RATE), np.float32))
        parts.append(read_samples(clip.path))
        length = sum(part.size for part in parts)
        if seconds is not None and length >= seconds * RATE:
            break
    whole = np.concatenate(parts)
    return whole if seconds is None else whole[: round(seconds * RATE)]


def _floored(sound: Samples, random: Random) -> Samples:
    """Over the noise of a room: no recording has digital silence in its pauses."""
    return np.asarray(np.clip(sound + leveled(pink(np.zeros_like(sound), random), FLOOR_DBFS), -1, 1), np.float32)


def _order(names: Sequence[str], count: int, random: Random) -> list[str]:
    drawn: list[str] = []
    while len(drawn) < count:
        drawn += [names[place] for place in random.permutation(len(names)).tolist()]
    return drawn[:count]
