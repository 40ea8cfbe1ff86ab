"""Endless random batches of augmented crops, balanced over labels, sources and synthesizers."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soundfile
import soxr
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import IterableDataset
from tqdm import tqdm

from edge_runtime.errors import EdgeDetectError, InputError
from edge_runtime.model.contract import HIGH_PASS_HZ
from edge_runtime.model.highpass import filtered
from evaluation.protocols import Clip, read_clips
from training.augmentation.augment import augment
from training.augmentation.splice import own_cut, partial_spoof

SHORTEST_SECONDS = 0.7
END_SECONDS = (0.8, 3.2)
LONGEST_PAUSE_SECONDS = 0.6
LEAST_SPEECH_SECONDS = 1.0
"""Of a crop that begins with silence: with less, the runtime judges no window."""
MINED = {"bonafide": 8, "spoof": 3}
"""Draws of which the hardest is taken. Some synthesizers are found out at once and teach nothing more; but a spoofed
clip that stays hard may hold no trace at all."""


BALANCES = ("group", "source", "source-evenly")
"""What clips are drawn by: a group (a source of human speech, or a system) as the square root of its length and then a
clip; a source as the square root of its length, then a system in it, then a clip; or all sources alike."""


def load(path: Path, sample_rate: int) -> NDArray[np.float32]:
    """The samples of a clip, float32 [n], mixed to mono and resampled. Raises InputError."""
    try:
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except (OSError, soundfile.SoundFileError) as reason:
        raise InputError(f"cannot read {path}: {reason}") from None
    mono = np.nan_to_num(samples.mean(axis=1))
    return soxr.resample(mono, rate, sample_rate).astype(np.float32) if rate != sample_rate else mono


def repeat_to(samples: NDArray[np.float32], length: int) -> NDArray[np.float32]:
    """The samples, repeated until there are `length` of them: RawNet2's padding."""
    return np.resize(samples, length) if len(samples) else np.zeros(length, np.float32)


def groups(clips: Sequence[Clip]) -> Iterator[tuple[tuple[str, str], list[int]]]:
    """The indices of clips that belong together: one source of human speech, one synthesizer."""
    found: dict[tuple[str, str], list[int]] = {}
    for index, clip in enumerate(clips):
        found.setdefault((clip.label, clip.source if clip.is_bonafide else clip.system), []).append(index)
    yield from found.items()


class Library:
    """All clips in memory as 16-bit samples; unreadable ones are left out and named in `unreadable`."""

    def __init__(self, clips: Sequence[Clip], sample_rate: int, progress: type | None = None) -> None:
        self.sample_rate = sample_rate
        self.clips: list[Clip] = []
        self.samples: list[NDArray[np.int16]] = []
        self.unreadable: list[str] = []
        for clip in progress(clips, desc="reading clips", unit="clip") if progress else clips:
            try:
                samples = load(clip.path, sample_rate)
            except EdgeDetectError as reason:
                self.unreadable.append(str(reason))
                continue
            if len(samples) < sample_rate * 0.2 or not np.any(samples):
                self.unreadable.append(f"{clip.path} is empty, silent or shorter than 0.2 s")
                continue
            self.clips.append(clip)
            self.samples.append((np.clip(samples, -1, 1) * 32767).astype(np.int16))
        place = {clip.path.resolve(): index for index, clip in enumerate(self.clips)}
        self.original = np.array([place.get(c.original.resolve(), -1) if c.original else -1 for c in self.clips])
        """Index of the human clip that a copy was made from; -1 where there is none."""
        self.hardness = torch.zeros(len(self.clips)).share_memory_()
        """Running mean of the loss of each clip, float32 [clips]; loading processes read it, the trainer writes it."""

    def hours(self, label: str) -> float:
        total = sum(len(s) for c, s in zip(self.clips, self.samples, strict=True) if c.label == label)
        return total / self.sample_rate / 3600

    def home(self, index: int) -> str:
        """The source that a clip's voice comes from: a copy's is its original's, whatever its list says."""
        original = int(self.original[index])
        return self.clips[original if original >= 0 else index].source

    def weights(self, label: str, balance: str = "group") -> NDArray[np.float64]:
        """Probability of each clip of a label, by one of BALANCES; long clips of a group or a system weigh more."""
        weights = np.zeros(len(self.clips))
        lengths = np.array([len(samples) for samples in self.samples], np.float64)
        if balance == "group":
            for (group_label, _), members in groups(self.clips):
                if group_label == label:
                    weights[members] = lengths[members] * lengths[members].sum() ** -0.5
            return weights / max(weights.sum(), 1e-12)
        sources: dict[str, dict[str, list[int]]] = {}
        for index, clip in enumerate(self.clips):
            if clip.label == label:
                system = "" if clip.is_bonafide else clip.system
                sources.setdefault(self.home(index), {}).setdefault(system, []).append(index)
        for systems in sources.values():
            whole = sum(lengths[members].sum() for members in systems.values())
            share = (1.0 if balance == "source-evenly" else whole**0.5) / len(systems)
            for members in systems.values():
                weights[members] = share * lengths[members] / lengths[members].sum()
        return weights / max(weights.sum(), 1e-12)


@dataclass(frozen=True)
class Strengths:
    """How hard batches are made. Augmentation rises from 30 % to all of its strength over `ramp` batches."""

    augmentation: float = 1.0  # scales the probability of every augmentation
    ramp: int = 1000
    matched: float = 0.8  # probability that a copy brings its original along, else a clip a human one of its source
    partial: float = 0.0  # probability that a copy is but a stretch in its original; human clips get as many cuts
    mining: float = 0.0  # probability that a clip is the hardest of several draws
    joined: float = 0.0  # probability that another clip of the same label follows, as in speech that goes on
    waiting: float = 0.0  # probability that a crop begins with silence, as when a box hears somebody begin to speak
    shares: Mapping[str, float] = field(default_factory=dict)  # probabilities by name, in place of the scaled ones
    balance: str = BALANCES[0]  # what clips are drawn by


class Crops(IterableDataset[tuple[Tensor, Tensor, Tensor]]):
    """Yields batches forever: waveforms float32 [batch, crop_samples], labels int64 [batch] (1 = bona fide), and the
    clips that they are from, int64 [batch, 2]: each crop's own and the one that follows it, -1 where none does.

    A batch is made of pairs of a spoofed and a human crop. Where the spoofed clip is a copy of a human one, the
    pair may be the two of them, cut and augmented alike: then nothing but the trace of synthesis tells them apart.
    Else the human one may come from the same source: the same page, room and level.
    Give it to a DataLoader with batch_size=None. Batch `n` depends on `seed` and `n` alone, whatever the number
    of workers, so a resumed run goes on where it stopped; with `mining` it depends on the losses so far as well.
    """

    def __init__(
        self,
        library: Library,
        batch: int,
        crop_samples: int,
        seed: int,
        first: int,
        strengths: Strengths,
        high_pass_hz: float = HIGH_PASS_HZ,
    ) -> None:
        """`high_pass_hz` is the corner of what the runtime filters all sound with before anything judges it."""
        self.high_pass_hz = high_pass_hz
        self.library, self.batch, self.crop_samples = library, batch, crop_samples
        self.seed, self.first, self.strengths = seed, first, strengths
        bonafide = library.weights("bonafide", strengths.balance)
        self.bonafide = np.cumsum(bonafide)
        sources = np.array([clip.source for clip in library.clips])
        self.by_source = {name: np.cumsum(bonafide * (sources == name)) for name in np.unique(sources)}
        self.spoof = np.cumsum(library.weights("spoof", strengths.balance))

    def make(self, number: int) -> tuple[Tensor, Tensor]:
        """Batch `number`."""
        return self.make_indexed(number)[:2]

    def make_indexed(self, number: int) -> tuple[Tensor, Tensor, Tensor]:
        """Batch `number` and the clips, int64 [batch, 2], that its crops were cut from, as the class says."""
        rng = np.random.default_rng((self.seed, number))
        waveforms = np.empty((self.batch, self.crop_samples), np.float32)
        labels = np.arange(self.batch) % 2
        clips = np.full((self.batch, 2), -1, np.int64)
        strength = self.strengths.augmentation * min(1.0, 0.3 + 0.7 * number / max(1, self.strengths.ramp))
        for row in range(0, self.batch, 2):
            spoof, bonafide, matched = self._pair(rng)
            original = int(self.library.original[spoof])
            seeds = rng.integers(0, 1 << 32, 2)
            lengths = [len(self.library.samples[index]) for index in (spoof, bonafide)]
            shared = min(lengths) if matched else 0
            samples = [self._samples(index) for index in (spoof, bonafide)]
            if rng.random() < self.strengths.partial and original >= 0:
                samples[0] = partial_spoof(self._samples(original), samples[0], rng, self.library.sample_rate)
                samples[1] = own_cut(samples[1], rng, self.library.sample_rate)
            elif self.strengths.joined and rng.random() < self.strengths.joined:
                others = self._pair(rng)[:2]
                clips[row : row + 2, 1] = others
                samples = self._joined([clip[: shared or None] for clip in samples], others, rng)
                shared = min(map(len, samples)) if matched else 0
            clips[row : row + 2, 0] = spoof, bonafide
            waveforms[row] = self._crop(samples[0], np.random.default_rng(seeds[0]), strength, shared)
            if row + 1 < self.batch:
                rng_bonafide = np.random.default_rng(seeds[0 if matched else 1])
                waveforms[row + 1] = self._crop(samples[1], rng_bonafide, strength, shared)
        return torch.from_numpy(waveforms), torch.from_numpy(labels), torch.from_numpy(clips)

    def _pair(self, rng: np.random.Generator) -> tuple[int, int, bool]:
        """A spoofed and a human clip, and whether the one is a copy of the other."""
        spoof = self._mined(self.spoof, "spoof", rng)
        original = int(self.library.original[spoof])
        matched = original >= 0 and rng.random() < self.strengths.matched
        human = self.by_source[self.library.home(spoof)]
        near = human[-1] > 0 and rng.random() < self.strengths.matched
        bonafide = original if matched else self._mined(human if near else self.bonafide, "bonafide", rng)
        return spoof, bonafide, matched

    def _joined(
        self, firsts: list[NDArray[np.float32]], others: tuple[int, int], rng: np.random.Generator
    ) -> list[NDArray[np.float32]]:
        """The ends of a spoofed and a human clip, each followed by one of `others`, often after a pause.

        The summary of a window over such a cut is one that no clip has, and what a box hears has many.
        """
        rate = self.library.sample_rate
        end = int(rng.uniform(*END_SECONDS) * rate)
        pause = np.zeros(int(rng.integers(2) * rng.uniform(0, LONGEST_PAUSE_SECONDS) * rate), np.float32)
        pairs = zip(firsts, others, strict=True)
        return [np.concatenate((first[-end:], pause, self._samples(other))) for first, other in pairs]

    def _mined(self, cumulative: NDArray[np.float64], label: str, rng: np.random.Generator) -> int:
        """A clip; with the probability `mining` the one of several draws that the network does worst on."""
        draws = [_draw(cumulative, rng) for _ in range(MINED[label] if rng.random() < self.strengths.mining else 1)]
        return max(draws, key=lambda index: float(self.library.hardness[index]))

    def _samples(self, index: int) -> NDArray[np.float32]:
        return self.library.samples[index].astype(np.float32) / np.float32(32768)

    def _crop(
        self, clip: NDArray[np.float32], rng: np.random.Generator, strength: float, until: int
    ) -> NDArray[np.float32]:
        """A random stretch, at times a short one, augmented and repeated up to the crop's length.

        It is taken from the clip's first `until` samples, unless that is 0.

        Short stretches come from both labels alike, so that repetition is no sign of either.
        """
        clip, rate = clip[: until or None], self.library.sample_rate
        length = whole = int(self.crop_samples * 1.12)  # speed shortens by up to 10 %
        if rng.random() < 0.25:
            length = int(rng.uniform(SHORTEST_SECONDS * rate, length))
        start = rng.integers(0, max(1, len(clip) - length + 1))
        part = clip[start : start + length]
        if self.strengths.waiting and rng.random() < self.strengths.waiting:
            # The level of blocks is low after silence, and what it is related to it stands out as in no clip.
            longest = self.crop_samples / rate - LEAST_SPEECH_SECONDS
            silence = np.zeros(int(rng.uniform(0, max(0.0, longest)) * rate), np.float32)
            rest = whole - silence.size
            part = np.concatenate((silence, repeat_to(part[:rest], rest)))
        samples = augment(part, rng, rate, strength, self.strengths.shares)
        samples = filtered(samples, self.high_pass_hz, rate)
        return repeat_to(samples[: self.crop_samples], self.crop_samples)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        worker = torch.utils.data.get_worker_info()
        step, offset = (worker.num_workers, worker.id) if worker else (1, 0)
        number = self.first + offset
        while True:
            yield self.make_indexed(number)
            number += step


def _draw(cumulative: NDArray[np.float64], rng: np.random.Generator) -> int:
    return min(int(np.searchsorted(cumulative, rng.random() * cumulative[-1])), len(cumulative) - 1)


def read_library(locations: list[Path], audio: Path | None, sample_rate: int, need: str) -> Library:
    """Reads clips into memory and says what it could not read. Raises InputError when a label is missing."""
    clips: list[Clip] = []
    for location in locations:
        clips += read_clips(location, audio)
    found = Library(clips, sample_rate, tqdm)
    for line in found.unreadable[:10]:
        print(f"left out: {line}", file=sys.stderr)
    if found.unreadable:
        print(f"left out {len(found.unreadable)} of {len(clips)} clips", file=sys.stderr)
    labels = {clip.label for clip in found.clips}
    if labels != {"bonafide", "spoof"}:
        raise InputError(f"the {need} data need both bonafide and spoof clips, found {sorted(labels) or 'none'}")
    print(
        f"{need}: {len(found.clips)} clips, {found.hours('bonafide'):.2f} h bona fide, "
        f"{found.hours('spoof'):.2f} h spoof"
    )
    return found
