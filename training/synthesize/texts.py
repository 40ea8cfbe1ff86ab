"""Sentences to speak, in several languages: drawn from slots, or taken from the user's own file.

The file has sections `[xx]` (two letters of a language). Within a section, blank lines part the frames;
a line is a slot whose alternatives are parted by `|`; a sentence is one alternative of each slot of one
frame. A plain list of English sentences, each between blank lines, is therefore a valid file too.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from edge_runtime.errors import InputError
from training.synthesize.engine import Generator

OWN = Path(__file__).with_name("texts.txt")
TIGHT = ("zh", "ja")
"""Languages that write no spaces between words."""

Frame = list[list[str]]


@dataclass(frozen=True)
class Texts:
    """Frames of each language."""

    frames: dict[str, list[Frame]]

    def speaks(self, language: str) -> bool:
        return language in self.frames

    def draw(self, language: str, generator: Generator) -> str:
        """A sentence; frames with more variety are drawn more often."""
        frames = self.frames[language]
        weights = [sum(len(slot) for slot in frame) for frame in frames]
        frame = frames[int(generator.choice(len(frames), p=[w / sum(weights) for w in weights]))]
        words = [slot[int(generator.integers(len(slot)))] for slot in frame]
        return ("" if language in TIGHT else " ").join(words)


def read_texts(path: Path = OWN) -> Texts:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as text ({error})") from None
    frames: dict[str, list[Frame]] = defaultdict(list)
    language = "en"
    for block in re.split(r"\n\s*\n", text):
        slots: Frame = []
        for line in block.splitlines():
            section = re.fullmatch(r"\[([a-z]{2})\]", line.strip())
            if section:
                language = section[1]
            elif line.strip() and not line.startswith("#"):
                slots.append([part.strip() for part in line.split("|") if part.strip()])
        if slots and all(slots):
            frames[language].append(slots)
    if not frames:
        raise InputError(f"{path}: holds no sentences")
    return Texts(dict(frames))
