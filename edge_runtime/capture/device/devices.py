"""Which microphones there are, and which one a name means."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_runtime.capture.device.identity import Known, SoundCard, find, read_cards, renumbered
from edge_runtime.capture.device.names import place, plain
from edge_runtime.errors import InputError
from edge_runtime.system.bounded import OPEN_SECONDS, bounded
from edge_runtime.system.extras import how_to_get_pyaudio
from edge_runtime.system.quiet import quiet_c

_CARD = re.compile(r"\(hw:\d+,\d+\)$")


@dataclass(frozen=True)
class Device:
    """One microphone as PortAudio lists it. The index holds until the list is made again, the name longer."""

    index: int
    name: str
    channels: int
    rate: int  # its default, Hz
    default: bool = False


def load_pyaudio() -> Any:
    """The module `pyaudio`. Raises InputError that says how to install it."""
    try:
        import pyaudio
    except ImportError as reason:
        raise InputError(
            f"microphones need PyAudio, which cannot be loaded here: {how_to_get_pyaudio()} "
            f"(`sh deploy/try` in a clone does all of it) ({str(reason).splitlines()[0]})"
        ) from None
    return pyaudio


def list_devices() -> list[Device]:
    """All inputs that PortAudio finds now. One that another program holds open is not among them.

    Raises InputError when PyAudio is missing or sound does not work at all.
    """
    pyaudio = load_pyaudio()

    def listed() -> list[Device]:
        try:
            portaudio = pyaudio.PyAudio()
        except OSError as reason:
            raise InputError(f"the sound system does not start: {reason}") from None
        try:
            return devices_of(portaudio)
        finally:
            portaudio.terminate()

    with quiet_c():
        return bounded(listed, OPEN_SECONDS, "listing the microphones")


def devices_of(portaudio: Any) -> list[Device]:
    """The inputs in the list that a running `pyaudio.PyAudio` has."""
    try:
        default = int(portaudio.get_default_input_device_info()["index"])
    except OSError:
        default = -1
    found = []
    for index in range(portaudio.get_device_count()):
        info = portaudio.get_device_info_by_index(index)
        name = info["name"]
        if isinstance(name, bytes):  # PyAudio gives up on names that are no UTF-8
            name = name.decode("utf-8", "backslashreplace")
        channels = int(info["maxInputChannels"])
        if channels > 0:
            rate = int(info["defaultSampleRate"])
            found.append(Device(index, str(name), channels, rate, default=index == default))
    return found


def resolve(name: str, devices: Sequence[Device], root: Path = Path("/")) -> Device:
    """The device that `name` means.

    In this order: an index; the exact name, in which several blanks count as one; `default`; a name of ALSA for a card
    (`names.place`), whose id is looked up in `proc/asound/cards` under `root`; else the only device with `name`
    somewhere in its own, whatever the case. Raises InputError that lists the candidates, or says what to give instead.
    """
    name = plain(name)
    if re.fullmatch(r"\d+", name):
        return _only([device for device in devices if device.index == int(name)], name, devices)
    exact = [device for device in devices if plain(device.name) == name]
    if exact:
        return exact[0]
    if name.lower() == "default":
        return _only([device for device in devices if device.default], name, devices)
    try:
        meant = place(name)
    except ValueError as reason:
        raise InputError(f"the name {name!r} {reason}{_there_are(devices)}") from None
    if meant is not None:
        card = _card_number(meant.card, root)
        there = f"{card},{meant.device}"
        matches = [
            device
            for device in devices
            if device.name.endswith(f"(hw:{there})") or device.name in (f"hw:{there}", f"hw:{card}")
        ]
        return _only(matches[:1] if card is not None else [], name, devices)
    return _only([device for device in devices if name and name.lower() in plain(device.name).lower()], name, devices)


def in_order(devices: Iterable[Device]) -> list[Device]:
    """As people want to read them: cards of the machine first, then the names of ALSA's configuration and servers.

    The index of each stays what PortAudio calls it by.
    """
    return sorted(devices, key=lambda device: (_CARD.search(device.name) is None, not device.default, device.index))


def resolve_again(
    name: str, known: Known | None, devices: Sequence[Device], cards: Iterable[SoundCard], root: Path = Path("/")
) -> Device:
    """The device that `name` means, by preference the one `known` from before, whatever numbers it has now.

    A card is found again by its id, maker and port among `cards`; an index, which other devices move, by the name that
    it stood for. Raises InputError like `resolve`.
    """
    if known is None:
        return resolve(name, devices, root)
    card = find(known.card, cards) if known.card else None
    if card is not None:
        there = renumbered(known.name, card.number)
        moved = [device for device in devices if device.name == there]
        if moved:
            return moved[0]
        # It is there and not listed: another program has it, or it is not ready. Another card at its number is not it.
        if known.card and card.number != known.card.number:
            raise InputError(f"the microphone {there!r} is not listed: another program uses it, or it is not ready yet")
    return resolve(known.name if re.fullmatch(r"\d+", name.strip()) else name, devices, root)


def _card_number(card: str, root: Path) -> int | None:
    """Of a card's number or id; where no id is written just so, whatever the case."""
    if re.fullmatch(r"\d+", card):
        return int(card)
    cards = read_cards(root)
    same = [other for other in cards if other.id == card] or [
        other for other in cards if other.id.lower() == card.lower()
    ]
    return same[0].number if same else None


def _only(matches: Sequence[Device], name: str, devices: Sequence[Device]) -> Device:
    if len(matches) == 1:
        return matches[0]
    if not devices:
        raise InputError(f"no microphone {name!r}: PortAudio finds none (one that another program uses is not listed)")
    if matches:
        raise InputError(f"{name!r} fits several microphones, say more of the name: {_listed(matches)}")
    raise InputError(f"no microphone {name!r} (one that another program uses is not listed){_there_are(devices)}")


def _there_are(devices: Sequence[Device]) -> str:
    return f"; there are: {_listed(devices)}" if devices else ""


def _listed(devices: Sequence[Device]) -> str:
    return "; ".join(f"{device.index}: {device.name}" for device in in_order(devices))
