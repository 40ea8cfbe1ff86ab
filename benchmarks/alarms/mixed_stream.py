"""Hours of mixed sound: people and synthesizers taking turns, a room, noise and music; the same for the same seed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.fft

from edge_runtime.errors import InputError, UsageError
from evaluation.acoustics.effects import RATE, Random, Samples, pink, white
from evaluation.protocols import Clip
from evaluation.scoring.perturbation import read_samples

HUMAN, SPOOF, ROOM, NOISE, MUSIC = "human", "spoof", "room", "noise", "music"
SHARES = {HUMAN: 0.45, SPOOF: 0.2, ROOM: 0.15, NOISE: 0.08, MUSIC: 0.12}
"""Of the sound: mostly people, and enough synthesizers to count what is found."""
SECONDS = {HUMAN: (10, 90), SPOOF: (10, 45), ROOM: (10, 90), NOISE: (5, 45), MUSIC: (20, 120)}
"""How long a piece lasts, drawn evenly on a logarithmic scale; a turn ends with the clip that reaches it."""
LEVELS_DBFS = {ROOM: (-66, -50), NOISE: (-40, -18), MUSIC: (-34, -16)}
GAP_SECONDS = (0.5, 15)
PAUSE_SECONDS = (0.2, 1.5)
FLOOR_DBFS = -66.0
"""A room's noise under everything, some 40 dB under a clip of dev: no microphone gives digital silence."""
FEWEST_CLIPS = 3
"""A system with fewer is heard together with the others like it of its source."""
LONGEST_MINUTES = 60 * 24 * 7
_LEAD = 60.0


@dataclass(frozen=True)
class StreamPiece:
    """A turn or another stretch of one kind. Times in seconds of the stream; a gap follows `end`."""

    kind: str
    group: str  # whose clips they are; of music the file or `synthesized`
    start: float
    end: float


class _Deck:
    """Draws that come round to everything before anything comes twice."""

    def __init__(self, size: int, random: Random) -> None:
        self._size, self._random = size, random
        self._left: list[int] = []

    def draw(self) -> int:
        if not self._left:
            self._left = self._random.permutation(self._size).tolist()
        return self._left.pop()


class _TurnsOfLabel:
    """Turns of one label: the groups in turn, and within each its clips."""

    def __init__(self, groups: dict[str, list[Clip]], random: Random) -> None:
        self._names, self._groups, self._random = sorted(groups), groups, random
        self._order = _Deck(len(groups), random)
        self._clips = {name: _Deck(len(groups[name]), random) for name in self._names}

    def take(self, seconds: float) -> tuple[str, Samples]:
        name = self._names[self._order.draw()]
        parts: list[Samples] = []
        length = 0
        while length < seconds * RATE:
            if parts:
                parts.append(np.zeros(round(self._random.uniform(*PAUSE_SECONDS) * RATE), np.float32))
            parts.append(read_samples(self._groups[name][self._clips[name].draw()].path))
            length = sum(part.size for part in parts)
        return name, np.concatenate(parts)


def grouped(clips: Sequence[Clip]) -> tuple[dict[str, list[Clip]], dict[str, list[Clip]]]:
    """Human clips by their source, and spoofed ones by source and system; systems of few clips share a group."""
    human, systems = defaultdict(list), defaultdict(list)
    for clip in clips:
        if clip.is_bonafide:
            human[clip.source].append(clip)
        else:
            systems[clip.source, clip.system].append(clip)
    spoofed: defaultdict[str, list[Clip]] = defaultdict(list)
    for (source, system), own in systems.items():
        spoofed[f"{source}: {system if len(own) >= FEWEST_CLIPS else 'several'}"] += own
    return dict(human), dict(spoofed)


def mixed(
    clips: Sequence[Clip], minutes: float, seed: int = 0, music: Sequence[Path] = ()
) -> Iterator[tuple[StreamPiece, Samples]]:
    """Pieces with their sound and the gap after it, float32 [n] at RATE, until `minutes` are full or a little over.

    Clips keep their level; one after another, with pauses, they make a turn of one source or system, each once before
    any comes again. `music` are files, parts of which are drawn; without them music is made. Raises UsageError for
    minutes that cannot be, InputError when a label is missing or a file cannot be read.
    """
    if not 0 < minutes <= LONGEST_MINUTES:
        raise UsageError(f"the stream must last above 0 and at most {LONGEST_MINUTES} minutes, not {minutes:g}")
    human, spoofed = grouped(clips)
    if not human or not spoofed:
        raise InputError("a mixed stream needs human and spoofed clips")
    random = np.random.default_rng(seed)
    turns = {HUMAN: _TurnsOfLabel(human, random), SPOOF: _TurnsOfLabel(spoofed, random)}
    songs = [(path.name, read_samples(path)) for path in music]
    kinds = list(SHARES)
    had = dict.fromkeys(kinds, 0.0)
    written = 0
    while written < minutes * 60 * RATE:
        total = sum(had.values()) + _LEAD
        behind = np.array([max(0.0, SHARES[kind] * total - had[kind]) for kind in kinds])
        kind = kinds[random.choice(len(kinds), p=behind / behind.sum())]
        seconds = float(np.exp(random.uniform(*np.log(SECONDS[kind]))))
        if kind in turns:
            group, sound = turns[kind].take(seconds)
        elif kind == MUSIC:
            group, sound = _music(songs, seconds, random)
        else:
            group, sound = _noise(kind, seconds, random)
        gap = np.zeros(round(random.uniform(*GAP_SECONDS) * RATE), np.float32)
        piece = StreamPiece(kind, group, written / RATE, (written + sound.size) / RATE)
        whole = np.concatenate([sound, gap])
        whole += leveled(_pink(whole.size, random), FLOOR_DBFS)
        had[kind] += sound.size / RATE
        written += whole.size
        yield piece, np.clip(whole, -1, 1)


def leveled(sound: Samples, dbfs: float) -> Samples:
    """`sound`, float32 [n], at an RMS of so many dB of full scale; silence stays silent."""
    rms = float(np.sqrt(np.mean(sound.astype(np.float64) ** 2)))
    return np.asarray(sound * (10 ** (dbfs / 20) / rms if rms else 0.0), np.float32)


def chords_and_drums(seconds: float, random: Random) -> Samples:
    """Music of a kind, float32 [n]: a progression of chords with decaying harmonics, a bass, a kick and a hi-hat."""
    size = round(seconds * RATE)
    sound = np.zeros(size)
    beat = round(60 / random.uniform(70, 150) * RATE)
    key_hz = random.uniform(110, 220)
    minor, decay, bright = random.random() < 0.5, random.uniform(1, 4), random.uniform(0.8, 2)
    drums = random.uniform(0, 1.5)
    third = 3 if minor else 4
    roots = random.choice([0, 3, 5, 7, 8, 10] if minor else [0, 2, 4, 5, 7, 9], 4)
    for index, start in enumerate(range(0, size, beat)):
        time = np.arange(min(2 * beat, size - start)) / RATE
        root_hz = key_hz * 2 ** (roots[index // 4 % 4] / 12)
        notes = [0, third, 7] if index % 2 == 0 else [random.choice([0, third, 7, 12])]
        part = np.zeros(time.size)
        for note in [-12, *notes]:
            pitch_hz = root_hz * 2 ** (note / 12)
            for harmonic in range(1, max(2, int(min(9, 7000 / pitch_hz)))):
                part += np.sin(2 * np.pi * harmonic * pitch_hz * time) / harmonic**bright * np.exp(-decay * time)
        part += drums * 3 * np.sin(2 * np.pi * 55 * time) * np.exp(-18 * time) * (index % 2 == 0)
        part += drums * random.standard_normal(time.size) * np.exp(-60 * time)
        sound[start : start + time.size] += part * np.minimum(1, time * 200)
    return sound.astype(np.float32)


def _music(songs: Sequence[tuple[str, Samples]], seconds: float, random: Random) -> tuple[str, Samples]:
    level = random.uniform(*LEVELS_DBFS[MUSIC])
    if not songs:
        return "synthesized", leveled(chords_and_drums(seconds, random), level)
    name, song = songs[int(random.integers(len(songs)))]
    size = min(round(seconds * RATE), song.size)
    start = int(random.integers(song.size - size + 1))
    return name, leveled(song[start : start + size], level)


def _pink(size: int, random: Random) -> Samples:
    """Cut from a length that the Fourier transform is quick at: a minute may be a prime number of samples."""
    return pink(np.zeros(scipy.fft.next_fast_len(size, real=True), np.float32), random)[:size]


def _noise(kind: str, seconds: float, random: Random) -> tuple[str, Samples]:
    """Of a room: pink. Louder: white, pink, a fan with its hum, or knocks and clatter."""
    size = round(seconds * RATE)
    name = "pink" if kind == ROOM else str(random.choice(["white", "pink", "fan", "knocks"]))
    sound = white(np.zeros(size, np.float32), random) if name == "white" else leveled(_pink(size, random), -20)
    time = np.arange(size) / RATE
    if name == "fan":
        hum_hz = random.uniform(45, 130)
        hum = sum(np.sin(2 * np.pi * hum_hz * k * time + random.uniform(0, 6)) / k for k in range(1, 8))
        sound = np.asarray(sound + 0.1 * hum, np.float32)
    if name == "knocks":
        sound = np.asarray(0.1 * sound, np.float32)
        for place in random.integers(0, size, max(1, round(2 * seconds))).tolist():
            ring = random.standard_normal(min(RATE // 5, size - place))
            ring *= random.uniform(0.2, 1) * np.exp(-np.arange(ring.size) * 50 / RATE)
            sound[place : place + ring.size] += ring
    return name, leveled(sound, random.uniform(*LEVELS_DBFS[kind]))
