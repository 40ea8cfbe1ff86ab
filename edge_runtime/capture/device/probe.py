"""Which microphones there are, and the rates that each takes; `python -m edge_runtime.capture.device.probe` prints it.

Rates are found by asking PortAudio to open each microphone at each of them, and its calls may hang or abort. So that is
done in a process of its own, which `probe` starts and does not wait for without end.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
from dataclasses import dataclass
from typing import Any

from edge_runtime.capture.device.devices import Device, devices_of, load_pyaudio
from edge_runtime.capture.device.identity import SoundCard, card_of, read_cards
from edge_runtime.capture.device.microphone import COMMON_RATES
from edge_runtime.errors import InputError
from edge_runtime.system.process import command, own_output

RATES = tuple(sorted((16000, *COMMON_RATES)))
"""Hz, that are asked for."""
_PROBE_SECONDS = 30.0


@dataclass(frozen=True)
class Probed:
    """A microphone, with the rates in Hz that it takes and, of a card of its own, the kernel's name of that."""

    device: Device
    rates: tuple[int, ...]
    card: SoundCard | None


def probe(seconds: float = _PROBE_SECONDS) -> list[Probed]:
    """All microphones that PortAudio finds now; one that another program holds open is not among them.

    Raises InputError when PyAudio is missing, or sound does not work or answer within `seconds`.
    """
    words, environment = command("edge_runtime.capture.device.probe")
    try:
        done = subprocess.run(
            words,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=seconds,
        )
        told = json.loads(done.stdout)
    except subprocess.TimeoutExpired:
        raise InputError(f"listing the microphones takes longer than {seconds:g} s: the sound system hangs") from None
    except OSError as reason:
        raise InputError(f"no process can be started to list the microphones: {reason}") from None
    except ValueError:
        raise InputError("the sound system broke down while the microphones were listed") from None
    if isinstance(told, str):
        raise InputError(told)
    return [
        Probed(Device(**one["device"]), tuple(one["rates"]), SoundCard(**one["card"]) if one["card"] else None)
        for one in told
    ]


def _found() -> list[Probed]:
    pyaudio = load_pyaudio()
    try:
        portaudio = pyaudio.PyAudio()
    except OSError as reason:
        raise InputError(f"the sound system does not start: {reason}") from None
    cards = read_cards()
    return [
        Probed(device, tuple(rate for rate in RATES if _takes(pyaudio, portaudio, device, rate)), card)
        for device in devices_of(portaudio)
        for card in (card_of(device.name, cards),)
    ]


def _takes(pyaudio: Any, portaudio: Any, device: Device, rate: int) -> bool:
    for channels in dict.fromkeys((1, min(2, device.channels), device.channels)):  # some cards have no mono
        try:
            portaudio.is_format_supported(
                rate, input_device=device.index, input_channels=channels, input_format=pyaudio.paFloat32
            )
        except (OSError, ValueError):
            continue
        return True
    return False


def main() -> None:
    """Prints JSON: the microphones, or a text with what is wrong. Never returns: closing PortAudio may hang."""
    try:
        handle = own_output()
        try:
            told: Any = [dataclasses.asdict(one) for one in _found()]
        except InputError as reason:
            told = str(reason)
        with open(handle, "w") as output:
            json.dump(told, output)
    finally:
        os._exit(0)


if __name__ == "__main__":
    main()
