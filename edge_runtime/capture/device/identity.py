"""Which microphone the sound comes from: its card in the kernel, or its source in PulseAudio or PipeWire."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_CARD = re.compile(r"^\s*(\d+)\s+\[(.+?)\s*\]:\s*(.*)\n?\s*(.*)$", re.MULTILINE)
_PLACE = re.compile(r"\(hw:(\d+),(\d+)\)$")
_ASK_SECONDS = 3.0


@dataclass(frozen=True)
class SoundCard:
    """A sound card as the kernel knows it: its number changes with the order of plugging, the rest hardly ever."""

    number: int
    id: str
    usb: str = ""  # vendor:product
    title: str = ""  # its maker, and the port that it is plugged into

    def same(self, other: SoundCard) -> bool:
        """Whether both are one card, perhaps under two numbers."""
        return (self.id, self.usb) == (other.id, other.usb) or bool(self.usb and self.title == other.title)


@dataclass(frozen=True)
class Known:
    """What is remembered of a microphone, so that it is found again: its name in PortAudio's list, and its card."""

    name: str
    card: SoundCard | None = None


@dataclass(frozen=True)
class Facts:
    """What can be seen of a running stream."""

    source: str = ""  # in the sound server; empty when there is none, or it does not say
    sources: tuple[str, ...] = ()  # all sources of the server
    cards: tuple[SoundCard, ...] = ()


def read_cards(root: Path = Path("/")) -> tuple[SoundCard, ...]:
    """The kernel's sound cards, from `proc/asound` under `root`; none without that folder."""
    folder = root / "proc/asound"
    found = []
    for number, card_id, _, title in _CARD.findall(_text(folder / "cards")):
        found.append(SoundCard(int(number), card_id, _text(folder / f"card{number}/usbid").strip(), title.strip()))
    return tuple(found)


def card_of(device_name: str, cards: Iterable[SoundCard]) -> SoundCard | None:
    """The card of a device that PortAudio lists as `... (hw:C,D)`; None for others."""
    place = _PLACE.search(device_name)
    return next((card for card in cards if place and card.number == int(place[1])), None)


def find(card: SoundCard, cards: Iterable[SoundCard]) -> SoundCard | None:
    """`card` under the number that it has now, or None when it is not there.

    Of several that could be it, the one at the same port with the same id, then the one at the same port.
    """
    same = [other for other in cards if other.same(card)]
    return max(same, key=lambda other: (other.title == card.title, other.id == card.id), default=None)


def renumbered(device_name: str, number: int) -> str:
    """PortAudio's name of a device whose card has another number now."""
    return _PLACE.sub(lambda place: f"(hw:{number},{place[2]})", device_name)


def look(process: int) -> Facts:
    """What can be seen of the stream that the process `process` listens to. Asks the sound server if it uses one."""
    return Facts(*_server(process), cards=read_cards())


def _server(process: int) -> tuple[str, tuple[str, ...]]:
    """The stream's source, and all sources. Nothing when the process does not use PulseAudio's library."""
    if "libpulse" not in _text(Path(f"/proc/{process}/maps")):
        return "", ()
    outputs = _pactl("source-outputs")
    ours = [output.get("source") for output in outputs if _property(output, "application.process.id") == str(process)]
    if not ours:
        return "", ()
    names = {source.get("index"): str(source.get("name")) for source in _pactl("sources")}
    return names.get(ours[-1], ""), tuple(names.values())


def _property(described: dict[str, object], name: str) -> str:
    properties = described.get("properties")
    return str(properties.get(name)) if isinstance(properties, dict) else ""


def _pactl(what: str) -> list[dict[str, object]]:
    command = ["pactl", "--format=json", "list", what]
    try:
        answer = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_ASK_SECONDS,
            env={**os.environ, "LC_ALL": "C"},  # in other languages it writes numbers that are no JSON
        )
        listed = json.loads(answer.stdout)
    except (OSError, subprocess.SubprocessError, ValueError):
        return []
    return [entry for entry in listed if isinstance(entry, dict)] if isinstance(listed, list) else []


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


class Watch:
    """Compares what is heard with what was heard first, and says when that changes."""

    def __init__(self) -> None:
        self.known: Known | None = None
        self._source = ""  # the one that is meant
        self._heard = ""  # the one that is heard
        self._card: SoundCard | None = None  # the one that is heard; `known` has the one that is meant
        self._name = ""
        self._reopened = False

    def opened(self, name: str, card: SoundCard | None) -> list[str]:
        """A stream was opened on the device `name` of `card`. What people should know, in words."""
        before, before_card = self._name, self._card
        self._name, self._card = name, card
        if self.known is None:
            self.known = Known(name, card)
            return []
        if name == before and card == before_card:
            return []
        if card and before_card and card.same(before_card):
            if card.number == before_card.number:
                return []
            return [f"the microphone's card has the number {card.number} now, it had {before_card.number}"]
        return [f"listens to another microphone now: {_called(name, card)}, before: {_called(before, before_card)}"]

    def seen(self, facts: Facts) -> tuple[list[str], bool]:
        """Takes in `facts`. What people should know, and whether to open again since the microphone meant is back."""
        told = []
        if facts.source and facts.source != self._heard:
            if self._heard:
                told.append(f"the sound comes from another source now: {facts.source}, before: {self._heard}")
                if self._heard == self._source and self._source in facts.sources:
                    self._source = facts.source  # both are there: somebody chose the other one
            else:
                self._source = facts.source
            self._heard = facts.source
        back = bool(self._heard != self._source and facts.source and self._source in facts.sources)
        if self.known and self.known.card and (self._card is None or not self._card.same(self.known.card)):
            back = back or find(self.known.card, facts.cards) is not None
        if back and self._reopened:  # that has been tried, and led here again: then this one is meant
            self._source, self.known, back = self._heard, Known(self._name, self._card), False
        self._reopened = back or (self._reopened and self._heard != self._source)
        return told, back


def _called(name: str, card: SoundCard | None) -> str:
    return f"{name} [{card.id}{' ' + card.usb if card.usb else ''}]" if card else name
