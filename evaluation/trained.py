"""Which systems and sources a model was trained on, by their names: figures on the others are those that count.

Names are written in many ways: `vocoder HiFi-GAN`, `copysyn-HiFi-GAN` and `Tacotron2+HGAN_V1` have the same vocoder. A
system counts as trained on when one of its parts holds, or is held in, a name of the training data; in doubt it does.
So what is left as unseen is unseen by any name, but not by what it is: a system under a wholly other name stays.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge_runtime.decision.verdict import Verdict
from evaluation import breakdown
from evaluation.bootstrap import Estimate
from evaluation.false_alarms import share
from evaluation.metrics import Floats, eer_clustered
from evaluation.protocols import Clip, read_list
from evaluation.within import auc_within, within_sources

_KINDS = re.compile(r"^(vocoder|vc|tts|e2e|copy-?syn(thesis)?)[\s_-]+")
_SAYS_NOTHING = frozenset(
    (
        *("ours", "proposed", "repro", "demo", "sample", "variant", "unknown", "unstated", "anonymised", "readme"),
        *("vocoder", "cloning", "emotional", "speech", "voice", "multispeaker", "relative", "scaling", "cascaded"),
        *("comprehensive", "transformer", "notebook", "thorsten"),
    )
)
_ALIASES = (("hgan", "hifigan"), ("pwgan", "parallelwavegan"), ("pwg", "parallelwavegan"))
_SHORTEST, _SHORTEST_WORD = 4, 6
"""Letters that a part needs, and a word of several in a part, before it is looked for inside other names."""


@dataclass(frozen=True)
class Trained:
    """The names in lists of training data."""

    lists: tuple[str, ...]
    systems: frozenset[str]  # parts, as `parts` gives them
    sources: frozenset[str]

    def knows_system(self, name: str) -> bool:
        """Whether the system, or a part of it, was trained on under this name or a like one."""
        return any(own == other or _held(own, other) for own in parts(name) for other in self.systems)

    def knows_source(self, name: str) -> bool:
        """Whether clips of the source were trained on; `unknown` names none."""
        return name != "unknown" and name.strip().casefold() in self.sources


@dataclass(frozen=True)
class Split:
    """Figures of a part of the clips; None where they are too few."""

    name: str
    bonafide: int
    spoof: int
    pooled: Estimate | None
    within: Estimate | None
    auc_within: Estimate | None
    human_called_spoof: Estimate | None
    spoof_found: Estimate | None


@dataclass(frozen=True)
class Unseen:
    """Figures apart for what was trained on and what was not."""

    lists: tuple[str, ...]
    systems_seen: list[str]  # of the clips, so that a reader can see what was taken for what
    sources_seen: list[str]
    systems: int  # of the clips
    sources: int
    splits: list[Split]


def read_trained(lists: Sequence[Path]) -> Trained:
    """The names in the lists that a model was trained on. Raises InputError for what cannot be read."""
    clips = [clip for path in lists for clip in read_list(path, needs_audio=False).clips]
    return trained(clips, ["/".join(path.resolve().parts[-2:]) for path in lists])  # a page names no machine's folders


def trained(clips: Iterable[Clip], lists: Sequence[str] = ()) -> Trained:
    """The names of training clips."""
    known = list(clips)
    systems = {clip.system for clip in known if not clip.is_bonafide}
    return Trained(
        tuple(lists),
        frozenset(part for name in systems for part in parts(name)),
        frozenset(clip.source.strip().casefold() for clip in known),
    )


def parts(system: str) -> frozenset[str]:
    """What a system's name says it is made of, in small letters and digits.

    Parts stand between plus, slash and brackets; of a part of several words, each long word counts as one too.
    """
    found, whole = set(), []
    for piece in re.split(r"[+/()]", system.casefold()):
        bare = _KINDS.sub("", piece.strip())
        whole.append(_bare(bare))
        found |= {word for word in map(_bare, bare.split()) if len(word) >= _SHORTEST_WORD}
    found |= {part for part in whole if len(part) >= _SHORTEST}
    found -= _SAYS_NOTHING
    return frozenset(found or {"".join(whole)} - {""})


def _bare(piece: str) -> str:
    bare = re.sub(r"[^\w]|_", "", piece)
    for short, long in _ALIASES:
        if bare.startswith(short):
            return long + bare[len(short) :]
    return bare


def _held(one: str, other: str) -> bool:
    short, long = sorted((one, other), key=len)
    return len(short) >= _SHORTEST and short in long


def unseen(known: Trained, clips: Sequence[Clip], scores: Floats, verdicts: Sequence[Verdict]) -> Unseen:
    """The figures of scored clips, [n] each, for seen and unseen systems and sources."""
    human = np.array([clip.is_bonafide for clip in clips], bool)
    names = {clip.system for clip in clips if not clip.is_bonafide}
    places = {clip.source for clip in clips}
    seen_systems = {name for name in names if known.knows_system(name)}
    seen_sources = {name for name in places if known.knows_source(name)}
    system = np.array([clip.system in seen_systems for clip in clips], bool)
    source = np.array([clip.source in seen_sources for clip in clips], bool)
    chosen = [
        ("systems not trained on, all human clips", human | ~system),
        ("systems trained on, all human clips", human | system),
        ("sources not trained on", ~source),
        ("sources trained on", source),
        ("neither source nor system trained on", ~source & (human | ~system)),
    ]
    return Unseen(
        known.lists,
        sorted(seen_systems),
        sorted(seen_sources),
        len(names),
        len(places),
        [_split(name, members, human, clips, scores, verdicts) for name, members in chosen],
    )


def _split(
    name: str,
    members: breakdown.Members,
    human: breakdown.Members,
    clips: Sequence[Clip],
    scores: Floats,
    verdicts: Sequence[Verdict],
) -> Split:
    own = [clips[i] for i in np.flatnonzero(members).tolist()]
    mine, label, alike = scores[members], human[members], [clip.source for clip in own]
    called = np.array([verdict == Verdict.SPOOF for verdict in verdicts], bool)[members]
    spoofed = [item for item, is_human in zip(alike, label.tolist(), strict=True) if not is_human]
    humans = [item for item, is_human in zip(alike, label.tolist(), strict=True) if is_human]
    return Split(
        name,
        len(humans),
        len(spoofed),
        eer_clustered(mine, label, alike) if breakdown.enough(label) else None,
        within_sources(mine, label, own, alike),
        auc_within(mine, label, own),
        share(called[label], humans),
        share(called[~label], spoofed, bonafide=False),
    )
