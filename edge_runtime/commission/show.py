"""The report of the commissioning test for people."""

from __future__ import annotations

from collections.abc import Iterator

from edge_runtime.capture.device.probe import Probed
from edge_runtime.commission.check import Check, Grade
from edge_runtime.commission.run import Findings
from edge_runtime.system.log import times
from edge_runtime.system.machine import Machine
from edge_runtime.system.text import printable
from edge_runtime.version import __version__

_COLUMN = 15


def as_text(found: Findings) -> str:
    """Machine, microphones, a line for each check, and what it comes to."""
    lines = [f"edge-detect {__version__} on {_machine(found.machine)}", *_microphones(found)]
    for check in found.checks:
        lines += _check(check)
    return "".join(f"{printable(line)}\n" for line in [*lines, _end(found)])


def _machine(machine: Machine) -> str:
    memory = f", {machine.memory_bytes / 1e9:.1f} GB" if machine.memory_bytes else ""
    board = f"{machine.board}, " if machine.board and machine.board != machine.processor else ""
    cores = f"{machine.cores} core{'s' if machine.cores != 1 else ''}"
    return f"{board}{machine.processor}, {machine.architecture}, {cores}{memory}"


def _microphones(found: Findings) -> Iterator[str]:
    if not found.microphones:
        yield "no microphone is listed"
        return
    yield "microphones:"
    for one in found.microphones:
        yield _microphone(one)


def _microphone(one: Probed) -> str:
    device = one.device
    channels = f"{device.channels} channel{'s' if device.channels != 1 else ''}"
    rates = ", ".join(map(str, one.rates)) + " Hz" if one.rates else "takes no common rate"
    usb = f", USB {one.card.usb}" if one.card and one.card.usb else ""
    return f"{'*' if device.default else ' '}{device.index:3d}  {device.name}  ({channels}{usb}; {rates})"


def _check(check: Check) -> Iterator[str]:
    yield f"{check.grade:<6}{check.name:<{_COLUMN}}{check.found}"
    if check.todo:
        yield f"{'':6}{'':{_COLUMN}}-> {check.todo}"


def _end(found: Findings) -> str:
    counts = {grade: sum(check.grade is grade for check in found.checks) for grade in Grade}
    if counts[Grade.FAIL]:
        return f"not fit: {counts[Grade.FAIL]} of {len(found.checks)} checks failed (exit code {found.exit_code})"
    if counts[Grade.WARN]:
        return f"fit, and warned {times(counts[Grade.WARN])}"
    return "fit: all is well"
