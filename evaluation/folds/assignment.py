"""Folds by source: alike in clips and in modern systems, and with as few systems as possible in several folds.

A head that is judged on a fold must have met neither its sources nor, where that can be, its systems. Sources decide:
clips of one page share voices, rooms, codecs and levels. A name that stands on many pages, such as a vocoder's, cannot
lie in one fold; the names that do are the systems that a fold's head never met.
"""

from __future__ import annotations

import math
import random
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

MODERN = 2024
"""First year of the systems that are balanced over folds by themselves."""
_NO_SYSTEM = {"", "unknown", "various", "mixed"}
"""Names, as `system_name` gives them, that name no system."""
_SHARED = 1.0
"""Cost of all systems lying in two folds each."""
_UNEVEN = 1.0
"""Cost of a quantity of a standard deviation over folds as large as its mean."""
_STARTS, _STEPS_PER_UNIT = 4, 300
_HOT, _COLD = 0.01, 0.0002
"""Rises of the cost that the search accepts, as temperatures, at its beginning and its end."""


class FoldClip(NamedTuple):
    """What the assignment reads of a clip."""

    source: str
    label: str  # bonafide or spoof
    system: str = "-"
    year: int | None = None  # of the system
    group: str | None = None  # sources with a group in common go into one fold: near-duplicates, a corpus's speakers


def system_name(system: str) -> str:
    """The name that two spellings of a system share: letters and digits alone, in lower case; "" for no system."""
    name = re.sub(r"[\W_]+", "", system.casefold())
    return "" if name in _NO_SYSTEM else name


@dataclass
class Unit:
    """Sources that go into one fold together. Counts are of human, spoofed and modern spoofed clips."""

    sources: set[str] = field(default_factory=set)
    counts: list[int] = field(default_factory=lambda: [0, 0, 0])
    systems: set[str] = field(default_factory=set)
    modern: set[str] = field(default_factory=set)

    def load(self) -> list[int]:
        """What is balanced: the clips' counts, and the number of modern systems."""
        return [*self.counts, len(self.modern)]


def assign(clips: Sequence[FoldClip], folds: int = 5, seed: int = 0) -> list[int]:
    """The fold, 0 to folds - 1, of each of `clips`: all clips of a source have the same.

    The same set of clips gets the same folds in whatever order it comes; another seed gives another assignment.
    The search (annealing, then descent until no move of a source is better) minimises unevenness in human, spoofed
    and modern spoofed clips and in modern systems, together with the number of systems in several folds.
    Raises ValueError for fewer than two folds, or fewer sources, after gluing by group, than folds.
    """
    if folds < 2:
        raise ValueError(f"{folds} folds: at least 2 are needed")
    units = _units(clips)
    if len(units) < folds:
        raise ValueError(f"{len(units)} sources that can be told apart are too few for {folds} folds")
    rng = random.Random(seed)
    best = min((_search(units, folds, rng) for _ in range(_STARTS)), key=lambda state: state.cost())
    order = sorted(range(folds), key=lambda number: min(_sources_in(units, best.fold, number), default=""))
    renamed = {old: new for new, old in enumerate(order)}
    of_source = {source: renamed[best.fold[i]] for i, unit in enumerate(units) for source in unit.sources}
    return [of_source[clip.source] for clip in clips]


def _sources_in(units: Sequence[Unit], fold: Sequence[int], number: int) -> Iterable[str]:
    return (source for unit, place in zip(units, fold, strict=True) if place == number for source in unit.sources)


def _units(clips: Iterable[FoldClip]) -> list[Unit]:
    """Sources joined by groups, in the order of their first names."""
    parent: dict[tuple[str, str], tuple[str, str]] = {}

    def root(node: tuple[str, str]) -> tuple[str, str]:
        parent.setdefault(node, node)
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    listed = list(clips)
    for clip in listed:
        home = root(("source", clip.source))
        if clip.group:
            parent[root(("group", clip.group))] = home
    found: dict[tuple[str, str], Unit] = defaultdict(Unit)
    for clip in listed:
        unit = found[root(("source", clip.source))]
        unit.sources.add(clip.source)
        if clip.label == "bonafide":
            unit.counts[0] += 1
            continue
        modern = clip.year is not None and clip.year >= MODERN
        unit.counts[1] += 1
        unit.counts[2] += modern
        if name := system_name(clip.system):
            unit.systems.add(name)
            if modern:
                unit.modern.add(name)
    return sorted(found.values(), key=lambda unit: min(unit.sources))


class _State:
    """An assignment of units whose cost is kept up to date as units move."""

    def __init__(self, units: Sequence[Unit], folds: int, fold: list[int]) -> None:
        self.folds, self.fold = folds, fold
        self.loads = [unit.load() for unit in units]
        self.systems = [sorted(unit.systems) for unit in units]  # a set's order, and so a sum's last bits, is by chance
        self.means = [sum(column) / folds for column in zip(*self.loads, strict=True)]
        self.names = len({name for names in self.systems for name in names})
        self.sums = [[0] * len(self.means) for _ in range(folds)]
        self.places: dict[str, Counter[int]] = defaultdict(Counter)
        self.held: Counter[int] = Counter()
        for number, place in enumerate(fold):
            self._add(number, place, 1)

    def _add(self, number: int, place: int, sign: int) -> None:
        self.held[place] += sign
        for quantity, amount in enumerate(self.loads[number]):
            self.sums[place][quantity] += sign * amount
        for name in self.systems[number]:
            self.places[name][place] += sign
            if not self.places[name][place]:
                del self.places[name][place]

    def cost(self) -> float:
        """Unevenness and sharing, weighted."""
        uneven = sum(
            (row[q] / mean - 1) ** 2 / self.folds for q, mean in enumerate(self.means) if mean for row in self.sums
        )
        shared = sum(math.sqrt(len(places) - 1) for places in self.places.values())
        return _UNEVEN * uneven + _SHARED * shared / max(self.names, 1)

    def rise(self, number: int, place: int) -> float:
        """How much the cost rises when a unit moves; without end where it would leave a fold empty."""
        left, uneven, shared = self.fold[number], 0.0, 0.0
        if self.held[left] == 1:
            return math.inf
        for q, (amount, mean) in enumerate(zip(self.loads[number], self.means, strict=True)):
            if amount:
                uneven += 2 * amount * (self.sums[place][q] - self.sums[left][q] + amount) / mean**2 / self.folds
        for name in self.systems[number]:
            places = self.places[name]
            after = len(places) - (places[left] == 1) + (place not in places)
            shared += math.sqrt(after - 1) - math.sqrt(len(places) - 1)
        return _UNEVEN * uneven + _SHARED * shared / max(self.names, 1)

    def move(self, number: int, place: int) -> None:
        """Puts a unit into another fold."""
        self._add(number, self.fold[number], -1)
        self._add(number, place, 1)
        self.fold[number] = place


def _search(units: Sequence[Unit], folds: int, rng: random.Random) -> _State:
    """Dealt out, the largest sources first; then annealing; then descent until no move of a source is better."""
    state = _State(units, folds, [0] * len(units))
    by_size = sorted(range(len(units)), key=lambda number: (-sum(units[number].counts), rng.random()))
    for rank, number in enumerate(by_size):
        state.move(number, rank % folds)
    steps = _STEPS_PER_UNIT * len(units)
    for step in range(steps):
        heat = _HOT * (_COLD / _HOT) ** (step / steps)
        number = rng.randrange(len(units))
        place = (state.fold[number] + rng.randrange(1, folds)) % folds
        rise = state.rise(number, place)
        if rise <= 0 or rng.random() < math.exp(-rise / heat):
            state.move(number, place)
    _descend(state)
    return state


def _descend(state: _State) -> None:
    better = True
    while better:
        better = False
        for number in range(len(state.loads)):
            rise, place = min(
                (state.rise(number, place), place) for place in range(state.folds) if place != state.fold[number]
            )
            if rise < -1e-12:  # less is the arithmetic's last bits, which could go round in circles
                state.move(number, place)
                better = True


@dataclass(frozen=True)
class FoldBalance:
    """What a fold holds."""

    fold: int
    sources: int
    bonafide: int
    spoof: int
    modern_spoof: int
    systems: int
    modern_systems: int
    unmet_systems: int  # that lie in no other fold


def balance(clips: Sequence[FoldClip], fold: Sequence[int]) -> tuple[list[FoldBalance], dict[str, list[int]]]:
    """The content of each fold, and the systems in several folds, by their commonest spelling, with these folds."""
    spellings: dict[str, Counter[str]] = defaultdict(Counter)
    places: dict[str, set[int]] = defaultdict(set)
    held: dict[int, list[FoldClip]] = defaultdict(list)
    for clip, place in zip(clips, fold, strict=True):
        held[place].append(clip)
        if clip.label != "bonafide" and (name := system_name(clip.system)):
            spellings[name][clip.system] += 1
            places[name].add(place)
    rows = []
    for place in sorted(held):
        spoof = [clip for clip in held[place] if clip.label != "bonafide"]
        modern = [clip for clip in spoof if clip.year is not None and clip.year >= MODERN]
        names = {system_name(clip.system) for clip in spoof} - {""}
        rows.append(
            FoldBalance(
                place,
                len({clip.source for clip in held[place]}),
                len(held[place]) - len(spoof),
                len(spoof),
                len(modern),
                len(names),
                len({system_name(clip.system) for clip in modern} - {""}),
                sum(places[name] == {place} for name in names),
            )
        )
    shared = {
        max(spellings[name].items(), key=lambda item: (item[1], item[0]))[0]: sorted(found)
        for name, found in sorted(places.items())
        if len(found) > 1
    }
    return rows, shared
