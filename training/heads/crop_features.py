"""What a held encoder sums up of augmented crops, and files of it: looking at crops takes an hour, a head minutes.

So one run's crops are kept, more are added by another run, and the heads of an ablation are all fitted on the same.
"""

from __future__ import annotations

import json
from collections.abc import Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm

from edge_runtime.atomic import whole_file
from edge_runtime.errors import InputError, UsageError
from export.rawnet2 import RawNet2
from training.batches import Crops, Library

DIGEST = "crops_sha256"
"""Under this name a run's options have the digest of what it made of its crops, by which it is known again."""
SHARED = 0.01
"""Of crops, that two runs may have in common by chance: a short clip, left as it is."""


class Origin(NamedTuple):
    """Where a crop is from. A file of before this was written down knows nothing of it: no source, no kind, no year."""

    sources: tuple[str, ...] = ()  # of all clips that it has sound of; of a copy, the source of its original
    kind: str = ""  # of the clip that it begins with: tts, vc, codec, vocoder or human
    year: str = ""  # of that clip's system


@dataclass(frozen=True)
class Summaries:
    """Of crops in pairs, a spoofed one and then a human one, by one encoder."""

    inputs: Tensor  # float16 [crops, channels]: means and deviations over time
    labels: Tensor  # int64 [crops], 1 = bona fide
    systems: tuple[str, ...]  # what made the clip that the pair's spoofed one begins with, for each crop
    encoder: str  # SHA-256 of the checkpoint that the encoder came in
    made: tuple[dict[str, Any], ...]  # the options of each run that looked at crops
    origins: tuple[Origin, ...] = ()  # of each crop; empty where nothing of them is known

    def __post_init__(self) -> None:
        if not self.origins:
            object.__setattr__(self, "origins", (Origin(),) * len(self.labels))

    def __len__(self) -> int:
        return len(self.labels)

    def save(self, path: Path) -> None:
        """Writes them as safetensors. Raises OutputError."""
        names = sorted(set(self.systems))
        place = {name: number for number, name in enumerate(names)}
        tensors = {
            "inputs": self.inputs.contiguous(),
            "labels": self.labels.contiguous(),
            "systems": torch.tensor([place[system] for system in self.systems]),
        }
        metadata = {"systems": json.dumps(names), "encoder": self.encoder, "made": json.dumps(self.made)}
        if any(origin.sources for origin in self.origins):
            distinct = {origin: number for number, origin in enumerate(dict.fromkeys(self.origins))}
            tensors["origins"] = torch.tensor([distinct[origin] for origin in self.origins])
            metadata["origins"] = json.dumps(list(distinct))
        with whole_file(path) as temporary:  # by Python, whose error says that the disk is full
            temporary.write_bytes(safetensors.torch.save(tensors, metadata))


def read(path: Path) -> Summaries:
    """What `Summaries.save` wrote. Raises InputError."""
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            inputs, labels, systems = (file.get_tensor(name) for name in ("inputs", "labels", "systems"))
            places = file.get_tensor("origins").tolist() if "origins" in file.keys() else []  # noqa: SIM118
        names = json.loads(metadata["systems"])
        made = tuple(json.loads(metadata["made"]))
        origins = _origins(metadata.get("origins", "[]"), places)
        owners = tuple(names[number] for number in systems)
        found = Summaries(inputs, labels, owners, metadata["encoder"], made, origins)
        if not (
            inputs.ndim == 2
            and 2 <= len(inputs) == len(labels) == len(systems)
            and len(labels) % 2 == 0
            and inputs.dtype == torch.float16
            and torch.equal(labels, torch.arange(len(labels)) % 2)
            and min(systems) >= 0
            and len(found.origins) == len(labels)
            and all(isinstance(name, str) for name in names)
            and bool(torch.isfinite(inputs).all())
        ):
            raise ValueError("no pairs of crops")
    except OSError as reason:
        raise InputError(f"cannot read {path}: {reason.strerror or reason}") from None
    except (SafetensorError, KeyError, ValueError, IndexError, TypeError):
        raise InputError(f"{path} is no file that `python -m training.head --keep` wrote, or it is damaged") from None
    return found


def _origins(text: str, places: Sequence[int]) -> tuple[Origin, ...]:
    """The origin of each crop by its place in a table. Raises ValueError, IndexError or TypeError for a damaged one."""
    table = []
    for sources, kind, year in json.loads(text):
        if not (isinstance(sources, list) and all(isinstance(name, str) for name in (*sources, kind, year))):
            raise ValueError("no origins")
        table.append(Origin(tuple(sources), kind, year))
    if places and min(places) < 0:
        raise ValueError("no place in the table")
    return tuple(table[place] for place in places)


def check_systems(systems: Set[str], prefixes: Sequence[str]) -> None:
    """Raises UsageError where one of `prefixes` begins none of the systems' names, or they begin all of them."""
    for prefix in prefixes:
        if not any(system.startswith(prefix) for system in systems):
            raise UsageError(f"no crop is of a system whose name begins with {prefix!r}")
    if systems and all(system.startswith(tuple(prefixes)) for system in systems):
        raise UsageError("no system is left: leave out fewer")


def check_distinct(parts: Sequence[Summaries]) -> None:
    """Raises UsageError where two of `parts` share crops at the same places, which would count twice.

    One seed and one set of clips give that, and with other augmentation some of them still.
    """
    for number, part in enumerate(parts):
        for other in parts[:number]:
            count = min(len(part), len(other))
            alike = torch.nonzero(part.inputs[:count, 0] == other.inputs[:count, 0]).ravel()
            same = (part.inputs[alike] == other.inputs[alike]).all(1).sum()
            if same > SHARED * count:
                raise UsageError("two runs looked at the same crops, which would count twice: give each its own --seed")


def without(parts: Sequence[Summaries], prefixes: Sequence[str]) -> list[Summaries]:
    """`parts` less the pairs whose synthesizer's name begins with one of `prefixes`, and less what is empty then.

    Of joined crops the first clip counts: some 2 % of those that are left may end in one of a system left out.
    Raises UsageError where none is left.
    """
    if not prefixes:
        return list(parts)
    found = []
    for part in parts:
        left = [i for i, system in enumerate(part.systems) if not system.startswith(tuple(prefixes))]
        if left:
            found.append(chosen(part, left))
    if not found:
        raise UsageError("no crops are left: leave out fewer systems")
    return found


def without_sources(parts: Sequence[Summaries], listed: Path | None) -> list[Summaries]:
    """`parts` less the pairs that have sound of a source that `listed` names, one a line, and less what is empty then.

    Raises InputError where the list cannot be read or crops do not say where they are from, UsageError where none is
    left or a source is of no crop.
    """
    if listed is None:
        return list(parts)
    try:
        names = {line.strip() for line in listed.read_text("utf-8").splitlines() if line.strip()}
    except (OSError, UnicodeDecodeError) as reason:
        raise InputError(f"cannot read {listed}: {getattr(reason, 'strerror', None) or reason}") from None
    origins = [origin for part in parts for origin in part.origins]
    if any(not origin.sources for origin in origins):
        raise InputError("a file of --also does not say of which sources its crops are: look at them again with --keep")
    if unknown := sorted(names - {source for origin in origins for source in origin.sources}):
        raise UsageError(f"{listed}: no crop is of the source {unknown[0]!r}")
    found = []
    for part in parts:
        own = [not names.isdisjoint(origin.sources) for origin in part.origins]
        left = [place for place in range(len(own)) if not (own[place // 2 * 2] or own[place // 2 * 2 + 1])]
        if left:
            found.append(chosen(part, left))
    if not found:
        raise UsageError(f"{listed}: no crops are left")
    return found


def chosen(part: Summaries, places: Sequence[int]) -> Summaries:
    """The crops of `part` at `places`."""
    index = torch.tensor(places)
    systems = tuple(part.systems[place] for place in places)
    origins = tuple(part.origins[place] for place in places)
    return replace(part, inputs=part.inputs[index], labels=part.labels[index], systems=systems, origins=origins)


def together(parts: Sequence[Summaries]) -> Summaries:
    """All crops of `parts`, by one encoder, one after the other."""
    return Summaries(
        torch.cat([part.inputs for part in parts]),
        torch.cat([part.labels for part in parts]),
        tuple(system for part in parts for system in part.systems),
        parts[0].encoder,
        tuple(run for part in parts for run in part.made),
        tuple(origin for part in parts for origin in part.origins),
    )


@torch.no_grad()
def look(
    model: RawNet2, lengths: Sequence[Crops], count: int, bfloat16: bool
) -> tuple[Tensor, Tensor, tuple[str, ...], tuple[Origin, ...]]:
    """What the encoder sums up of some `count` crops, their labels, their pairs' systems and their origins.

    They are as in `Summaries`. Each of `lengths` gives every so-many-th batch; a process for each cuts and augments
    them.
    """
    seen, labels = [], []
    systems: list[str] = []
    origins: list[Origin] = []
    distinct = {
        number: iter(DataLoader(crops, batch_size=None, num_workers=1))
        for number, crops in {id(crops): crops for crops in lengths}.items()
    }
    library = lengths[0].library
    batches = -(-count // lengths[0].batch)
    for number in tqdm(range(batches), desc="looking at crops", unit="batch"):
        waveforms, answers, owners = next(distinct[id(lengths[number % len(lengths)])])
        features = model.features_fft(waveforms)
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            seen.append(model.summarize(features).half())
        labels.append(answers)
        systems += [library.clips[spoof].system for spoof, _ in owners.tolist()[::2] for _ in range(2)]
        origins += [_origin(library, own) for own in owners.tolist()]
    return torch.cat(seen), torch.cat(labels), tuple(systems), tuple(origins)


def _origin(library: Library, own: Sequence[int]) -> Origin:
    """That of a crop that begins with the first clip of `own`; the second, where it is not -1, follows."""
    sources = tuple(dict.fromkeys(library.home(index) for index in own if index >= 0))
    first = library.clips[own[0]]
    return Origin(sources, first.kind, first.year)
