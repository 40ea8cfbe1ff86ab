"""Sound to calibrate on: which clips, that none of them is of the test set, and their windows as the network gets them.

Any speech serves, with labels or without, but that which the result is then measured on: ranges and roundings
chosen on the test set would make every figure in the file's proof too kind.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import soundfile
from numpy.typing import NDArray

from edge_runtime.capture.file import mix, read_blocks
from edge_runtime.decision.quality import clean, measure, objection
from edge_runtime.decision.verdict import Reason
from edge_runtime.errors import InputError, UsageError
from edge_runtime.model.contract import Contract
from edge_runtime.model.frontend import FilterBank
from edge_runtime.model.highpass import HighPass
from edge_runtime.system.quiet import quiet_c
from evaluation.protocols import LABELS, SUFFIXES, Clip, read_clips

BUILT_IN = Path(__file__).parent / "clips"
"""Clips that come with a clone, so that quantization works without any data at hand."""
UNLABELLED = "unlabelled"
LARGEST_SET = 1000
"""Clips kept of a larger set: more change no range, and each is read and hashed."""
WINDOWS = 256
"""Windows asked for when nobody says how many."""
FEWEST_WINDOWS = 16
"""With fewer, the ranges and roundings found say more about the clips than about speech."""
_FIRST_FRAMES = 2048  # enough to tell most clips of equal length apart without decoding them

Samples = NDArray[np.float32]
_Key = TypeVar("_Key", bound=object)


@dataclass(frozen=True)
class CalibrationSet:
    """The clips to calibrate on, in the order in which windows are taken from them, and what to call them."""

    name: str
    clips: tuple[Clip, ...]


@dataclass(frozen=True)
class CalibrationWindows:
    """What the network gets. `inputs` is float32 [N, filters, frames], or [N, samples] in the waveform form."""

    inputs: NDArray[np.float32]
    clips: tuple[Clip, ...]  # [N]: where each window comes from
    left_out: tuple[str, ...]  # a line for each clip that could not be read


def read(data: Path | None, audio: Path | None = None, limit: int = LARGEST_SET) -> CalibrationSet:
    """The clips of a folder, a CSV, an ASVspoof protocol (`audio`: its clips) or a file; None for the built-in set.

    A folder with `clips.csv`, or with `bonafide/` and `spoof/`, is read with its labels; any other folder is
    searched for audio files, which need none. A clip listed twice counts once. Of a set larger than `limit`,
    `limit` clips are kept, of both labels and of as many sources and speakers as there are.

    Raises InputError when nothing is there, or a clip that a list names is missing; UsageError for a limit below 1.
    """
    if limit < 1:
        raise UsageError(f"the limit of calibration clips must be at least 1, not {limit}")
    name = "built-in" if data is None else name_of(data)
    clips = list({clip.path.resolve(): clip for clip in _listed(data or BUILT_IN, audio)}.values())
    if not clips:
        raise InputError(f"{data} holds no audio file to calibrate on ({', '.join(sorted(SUFFIXES))})")
    return CalibrationSet(name, tuple(_spread(clips, seed=0)[:limit]))


def name_of(data: Path) -> str:
    """What to call a data set: its folder or file, and of `clips.csv` the folder that it lies in."""
    place = data.resolve()
    return place.parent.name if place.name == "clips.csv" else place.name or str(data)


def refuse_overlap(calibration: CalibrationSet, evaluation: Sequence[Clip]) -> None:
    """Raises UsageError when a clip to evaluate on is in the calibration set, saying how many, with an example.

    A clip is the same when its file is, when the bytes are, or when the sound is, sample for sample, whatever
    lossless format or tags it lies in. A copy that was re-encoded with loss, resampled or cut is not recognized.
    """
    found = overlap(calibration.clips, evaluation)
    if found:
        ours, theirs = found[0]
        raise UsageError(
            f"{len(found)} of {len(evaluation)} clips to evaluate on are in the calibration set too, as {theirs.path}"
            + (f", which is {ours.path}" if ours.path != theirs.path else "")
            + ": calibrate on other clips, or every figure would be too good"
        )


def overlap(calibration: Sequence[Clip], evaluation: Sequence[Clip]) -> list[tuple[Clip, Clip]]:
    """The evaluation clips that are in the calibration set: pairs of (calibration clip, evaluation clip)."""
    found: dict[int, Clip] = {}
    for key in (_place, _content, _sound):
        left = [index for index in range(len(evaluation)) if index not in found]
        matches = key([clip.path for clip in calibration], [evaluation[index].path for index in left])
        found |= {left[theirs]: calibration[ours] for theirs, ours in matches.items()}
    return [(found[index], evaluation[index]) for index in sorted(found)]


def windows(
    calibration: CalibrationSet, contract: Contract, count: int = WINDOWS, seed: int = 0, least: int = FEWEST_WINDOWS
) -> NDArray[np.float32]:
    """The inputs that `gather` finds: float32 [N, filters, frames], or [N, samples] in the waveform form."""
    return gather(calibration, contract, count, seed, least).inputs


def gather(
    calibration: CalibrationSet, contract: Contract, count: int = WINDOWS, seed: int = 0, least: int = FEWEST_WINDOWS
) -> CalibrationWindows:
    """At most `count` windows that do not overlap, as the runtime hands them to the network of `contract`.

    They come from as many clips as possible, the labels, sources and speakers in turn: every clip gives its first
    window before any gives its second. `seed` shuffles the clips; the same seed gives the same windows. A clip
    shorter than a window is repeated up to one, as the runtime does. What the runtime would not judge (silence,
    clipping, damaged samples, less than half a second) is left out, and so is the rest of a clip after its last
    whole window.

    Raises InputError when fewer than `least` (or `count`) windows are usable, UsageError when either is below 1.
    """
    least = min(least, count)
    if least < 1:
        raise UsageError(f"calibration needs 1 window or more, not {least}")
    bank = FilterBank(contract.filters, contract.pool, contract.leading_zeros) if contract.form != "waveform" else None
    order = _spread(calibration.clips, seed)
    taken: list[list[Samples]] = [[] for _ in order]
    left_out: dict[int, str] = {}
    unread = list(range(len(order)))  # clips that may have more windows than were taken
    quota = 0
    # Each clip gives the same number; where some are too short, the others are read once more for what is missing.
    while unread and (missing := count - sum(map(len, taken))) > 0:
        step = math.ceil(missing / len(unread))
        quota += step
        for index in list(unread):
            had = len(taken[index])
            try:
                taken[index] = list(itertools.islice(_usable(order[index].path, contract, bank), quota))
            except InputError as reason:
                taken[index] = []
                left_out[index] = str(reason)
            missing -= len(taken[index]) - had
            if len(taken[index]) < quota:
                unread.remove(index)
            if missing <= 0 and step == 1:  # after a longer step the clips to come would have had none
                break
    rounds = itertools.zip_longest(*([(clip, window) for window in of] for clip, of in zip(order, taken, strict=True)))
    chosen = [pair for pairs in rounds for pair in pairs if pair is not None][:count]
    if len(chosen) < least:
        unreadable = f"; {len(left_out)} clips cannot be read ({next(iter(left_out.values()))})" if left_out else ""
        raise InputError(
            f"calibration data {calibration.name}: {len(chosen)} usable windows of "
            f"{contract.window_samples / contract.sample_rate:g} s in {len(order)} clips, {least} are needed: "
            f"add clips with audible speech{unreadable}"
        )
    return CalibrationWindows(
        np.stack([window for _, window in chosen]),
        tuple(clip for clip, _ in chosen),
        tuple(left_out[index] for index in sorted(left_out)),
    )


def _usable(path: Path, contract: Contract, bank: FilterBank | None) -> Iterator[Samples]:
    """The network's inputs for a clip's windows that the runtime would judge. Raises InputError as `read_blocks`."""
    high_pass = HighPass(contract.high_pass_hz, contract.sample_rate)
    for sound in _cut(path, contract.sample_rate, contract.window_samples):
        values, invalid = clean(sound)
        judged = high_pass.push(values, invalid)
        quality = measure(judged, int(np.count_nonzero(invalid)), values)
        if objection(quality, values.size / contract.sample_rate) is Reason.NONE:
            whole = np.resize(judged, contract.window_samples)  # repeats what is shorter
            yield bank.whole(whole) if bank else whole


def _cut(path: Path, rate: int, window_samples: int) -> Iterator[Samples]:
    """A clip's whole windows one after the other; all of a clip that is shorter than one."""
    held = np.empty(0, np.float32)
    cut = False
    for block in read_blocks(str(path), None, rate):
        held = np.concatenate((held, block))
        while held.size >= window_samples:
            cut = True
            yield held[:window_samples]
            held = held[window_samples:]
    if held.size and not cut:
        yield held


def _listed(data: Path, audio: Path | None) -> list[Clip]:
    if data.is_dir():
        labelled = (data / "clips.csv").is_file() or all((data / label).is_dir() for label in LABELS)
        return read_clips(data) if labelled else _found(data)
    if data.is_file() and data.suffix.lower() in SUFFIXES:
        return [Clip(data, UNLABELLED)]
    return read_clips(data, audio)


def _found(folder: Path) -> list[Clip]:
    """All audio files below a folder; its folders count as sources."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    return [Clip(path, UNLABELLED, source=str(path.parent.relative_to(folder))) for path in paths]


def _spread(clips: Sequence[Clip], seed: int) -> list[Clip]:
    """The clips in such an order that labels take turns; within a label sources do, within a source speakers."""
    shuffled = list(clips)
    random.Random(seed).shuffle(shuffled)
    keys: list[Callable[[Clip], str]] = [lambda clip: clip.label, lambda clip: clip.source, lambda clip: clip.speaker]
    return _take_turns(shuffled, keys)


def _take_turns(clips: list[Clip], keys: Sequence[Callable[[Clip], str]]) -> list[Clip]:
    if not keys:
        return clips
    groups: dict[str, list[Clip]] = {}
    for clip in clips:
        groups.setdefault(keys[0](clip), []).append(clip)
    turns = itertools.zip_longest(*(_take_turns(group, keys[1:]) for group in groups.values()))
    return [clip for turn in turns for clip in turn if clip is not None]


# Each of these finds which of `theirs` is one of `ours`, {index in theirs: index in ours}. A dear key is only
# computed where a cheap one agrees.


def _place(ours: Sequence[Path], theirs: Sequence[Path]) -> dict[int, int]:
    return _same([path.resolve() for path in ours], [path.resolve() for path in theirs])


def _content(ours: Sequence[Path], theirs: Sequence[Path]) -> dict[int, int]:
    return _same_if(ours, theirs, _size, _sha256)


def _sound(ours: Sequence[Path], theirs: Sequence[Path]) -> dict[int, int]:
    return _same_if(ours, theirs, _beginning, _sha256_of_samples)


def _same(ours: Sequence[_Key | None], theirs: Sequence[_Key | None]) -> dict[int, int]:
    known = {key: index for index, key in enumerate(ours) if key is not None}
    return {index: known[key] for index, key in enumerate(theirs) if key is not None and key in known}


def _same_if(
    ours: Sequence[Path],
    theirs: Sequence[Path],
    cheap: Callable[[Path], object | None],
    dear: Callable[[Path], object | None],
) -> dict[int, int]:
    our_cheap, their_cheap = [cheap(path) for path in ours], [cheap(path) for path in theirs]
    shared = (set(our_cheap) & set(their_cheap)) - {None}
    return _same(
        [dear(path) if key in shared else None for path, key in zip(ours, our_cheap, strict=True)],
        [dear(path) if key in shared else None for path, key in zip(theirs, their_cheap, strict=True)],
    )


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def _sha256(path: Path) -> bytes | None:
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").digest()
    except OSError:
        return None


def _beginning(path: Path) -> tuple[int, int, bytes] | None:
    """Rate, length and first samples, by which most sounds differ; None for what libsndfile does not read."""
    try:
        with quiet_c(), soundfile.SoundFile(str(path)) as sound:
            first = mix(sound.read(_FIRST_FRAMES, dtype="float32", always_2d=True))
            return sound.samplerate, sound.frames, first.tobytes()
    except (OSError, RuntimeError, ValueError, TypeError):
        return None


def _sha256_of_samples(path: Path) -> bytes | None:
    """Of the mono samples at the clip's own rate; None when they cannot be read to the end."""
    beginning = _beginning(path)
    if beginning is None:
        return None
    digest = hashlib.sha256()
    try:
        for block in read_blocks(str(path), None, beginning[0]):
            digest.update(block.astype("<f4").tobytes())
    except InputError:
        return None
    return digest.digest()
