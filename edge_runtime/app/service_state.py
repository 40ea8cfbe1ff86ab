"""`edge-detect status`: what systemd knows of the service, and what its journal said last."""

from __future__ import annotations

import shutil
import subprocess
from typing import Any

from edge_runtime.report.jsonl import to_json
from edge_runtime.report.output import Output
from edge_runtime.system.text import printable

NOT_LISTENING = 3
"""The exit code where no service listens, as `systemctl status` has it."""
_SECONDS = 10.0
_FIELDS = ("LoadState", "ActiveState", "SubState", "StatusText", "ActiveEnterTimestamp", "NRestarts", "MainPID")


def state_of(unit: str) -> dict[str, str]:
    """What systemd says of a unit, by the names that `systemctl show` has; nothing where there is no systemd."""
    said = _said("systemctl", "show", unit, "--property", ",".join(_FIELDS))
    return dict(line.split("=", 1) for line in said.splitlines() if "=" in line)


def journal_of(unit: str, lines: int) -> list[str]:
    """The last lines of a unit in the journal, oldest first; none where it cannot be read."""
    said = _said("journalctl", "--unit", unit, "--lines", str(max(0, lines)), "--no-pager", "--output", "short-iso")
    return [line for line in said.splitlines() if line and not line.startswith("-- ")]


def show(unit: str, lines: int, as_json: bool, output: Output) -> int:
    """Prints it and gives the exit code: 0 while the service runs, else NOT_LISTENING. Raises OutputError."""
    state = state_of(unit)
    active = state.get("ActiveState") == "active"
    journal = journal_of(unit, lines) if state.get("LoadState") == "loaded" else []
    if as_json:
        about: dict[str, Any] = {"type": "status", "unit": unit, "active": active, **state, "journal": journal}
        output.write(to_json(about) + "\n")
    else:
        output.write("".join(f"{line}\n" for line in _lines(unit, state, active, journal)))
    return 0 if active else NOT_LISTENING


def _lines(unit: str, state: dict[str, str], active: bool, journal: list[str]) -> list[str]:
    if not state:
        return ["no systemd here, so no service: edge-detect listen --device NAME listens in this terminal"]
    if state.get("LoadState") != "loaded":
        return [f"{printable(unit)} is not installed here: docs/install.md says how a box gets it"]
    name = printable(unit)
    if active:
        begin = f"{name} has run since {printable(state.get('ActiveEnterTimestamp') or 'its start')}"
    else:
        begin = f"{name} is {state['ActiveState']}: nobody listens. `systemctl start {name}` starts it"
    said = [printable(state["StatusText"])] if state.get("StatusText") else []
    restarts = state.get("NRestarts", "0")
    again = [f"it was started again {restarts} times after failures"] if restarts not in ("", "0") else []
    return [begin, *said, *again, *map(printable, journal), f"to follow what it says: journalctl -fu {name}"]


def _said(*command: str) -> str:
    """What a program prints; nothing where it is missing, fails or does not answer."""
    if shutil.which(command[0]) is None:
        return ""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""
