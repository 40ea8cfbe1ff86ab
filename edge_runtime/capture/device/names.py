"""Names of sound devices as ALSA's programs print and take them, and which card each means.

PortAudio lists a card as `... (hw:C,D)` and, beside the cards, the names of ALSA's configuration that take no
arguments. So a name with arguments (`sysdefault:CARD=Device`) is understood here, and looked for among the cards.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_OF_A_CARD = ("hw", "plughw", "sysdefault", "default", "front", "dsnoop", "usbstream")
"""Names that take a card and stand for its microphone, with or without a plugin before it."""
_FOR_PLAYING = (
    *("dmix", "rear", "center_lfe", "side", "surround21", "surround40", "surround41", "surround50", "surround51"),
    *("surround71", "iec958", "spdif", "hdmi", "modem", "phoneline"),
)
_SERVERS = ("alsa_input.", "alsa_output.", "bluez_input.", "bluez_source.", "bluez_output.")
_KEYS = ("CARD", "DEV", "SUBDEV")
_NAME = re.compile(r"([A-Za-z][\w-]*)\s*:\s*(.*)", re.DOTALL)
_NODE = re.compile(r"/dev/snd/pcmC(\d+)D(\d+)c")
_LISTED = re.compile(r"card (\d+): .*\bdevice (\d+):.*", re.DOTALL)


@dataclass(frozen=True)
class Place:
    """A device of a card; `card` is its number or its id."""

    card: str
    device: int = 0


def plain(name: str) -> str:
    """A name without quotes around it, and with single blanks."""
    name = " ".join(name.split())
    while len(name) > 1 and name[0] == name[-1] and name[0] in "'\"":
        name = name[1:-1].strip()
    return name


def place(name: str) -> Place | None:
    """The place that a `plain` name means, or None when it is none of ALSA's names with arguments.

    Raises ValueError for one that has no place, or one that PortAudio cannot reach: with what to give instead, as the
    end of a sentence that begins with the name.
    """
    numbered = _NODE.fullmatch(name) or _LISTED.fullmatch(name)
    if numbered:
        return Place(numbered[1], int(numbered[2]))
    if name.startswith(_SERVERS):
        raise ValueError(
            f"is a name of the sound server: make it the default (`pactl set-default-source {name}`), and give pulse "
            "or default"
        )
    found = _NAME.fullmatch(name)
    if not found:
        return None
    plugin, words = found[1].lower(), found[2]
    if plugin == "plug":
        return place(plain(re.sub(r"^SLAVE\s*=", "", words, flags=re.IGNORECASE)))
    if plugin in _FOR_PLAYING:
        raise ValueError(
            "is for playing sound and no microphone; give the card as hw:CARD=NAME (`arecord -l` shows it)"
        )
    if plugin in _OF_A_CARD:
        return _place(words)
    if re.search(r"(?:^|,)\s*\w+\s*=", words):
        raise ValueError(
            "is a name with arguments, which PortAudio does not list: give one without them to it in ~/.asoundrc "
            '(`pcm.mic { type plug slave.pcm "NAME" }`), and use that (mic)'
        )
    return None


def _place(words: str) -> Place:
    """The arguments of one of _OF_A_CARD: `1`, `1,0`, `1,0,0`, `Name`, `CARD=Name,DEV=0` in any order."""
    values: dict[str, str] = {}
    for number, word in enumerate(words.split(",")):
        key, mark, value = (part.strip() for part in word.partition("="))
        if not mark:
            key, value = (_KEYS[number] if number < len(_KEYS) else ""), key
        if key.upper() not in _KEYS or not value or key.upper() in values:
            raise ValueError("is no name of a card: give it as hw:1,0 or hw:CARD=NAME,DEV=0 (`arecord -l` shows both)")
        values[key.upper()] = value
    card, device, part = values.get("CARD", ""), values.get("DEV", "0"), values.get("SUBDEV", "0")
    if not card or not device.isdecimal():
        raise ValueError("names no card: give it as hw:1,0 or hw:CARD=NAME,DEV=0 (`arecord -l` shows both)")
    if part not in ("0", "-1"):
        raise ValueError(
            f"names a part of a device (subdevice {part}), which PortAudio cannot choose: give hw:{card},{device}"
        )
    return Place(card, int(device))
