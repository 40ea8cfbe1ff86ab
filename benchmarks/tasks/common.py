"""What several commands share: options of one name and meaning, opening model files, writing reports."""

from __future__ import annotations

import argparse
from pathlib import Path

from edge_runtime.atomic import whole_file
from edge_runtime.errors import OutputError


def add_data(task: argparse.ArgumentParser) -> None:
    """Labelled clips."""
    task.add_argument("--data", type=Path, required=True, help="folders, CSV or ASVspoof protocol")
    task.add_argument("--audio", type=Path, help="folder of the clips that a protocol names")


def add_hop(task: argparse.ArgumentParser) -> None:
    """From one window to the next."""
    task.add_argument("--hop", type=float, default=0.5, help="seconds (default: %(default)s)")


def add_timing(task: argparse.ArgumentParser) -> None:
    """How times are taken."""
    task.add_argument("--rounds", type=int, default=50, help="rounds of timing (default: %(default)s)")
    task.add_argument("--threads", type=int, default=1, help="threads while timing (default: %(default)s)")


def add_workers(task: argparse.ArgumentParser) -> None:
    """Who does the work."""
    task.add_argument("--jobs", type=int, metavar="N", help="processes of this machine (default: its cores)")
    task.add_argument(
        "--cluster",
        metavar="tcp://HOST:PORT",
        help="a running Dask scheduler, in the place of --jobs; its workers need this clone and the clips' paths",
    )


def add_report(task: argparse.ArgumentParser) -> None:
    """Where the report goes; `main` obeys `output`."""
    task.add_argument("--json", action="store_true", help="JSON in place of Markdown")
    task.add_argument("-o", "--output", type=Path, help="file for the report (default: standard output)")


def check_target(target: Path, *, may_be_device: bool = False) -> None:
    """Raises OutputError now for what would else be found out after days.

    A file that appears whole takes the place of what is there, so it must not be a device; one that is written into
    may be, such as /dev/stdout.
    """
    if target.is_dir() or (target.exists() and not target.is_file() and not may_be_device):
        raise OutputError(f"cannot write {target}: it is a folder or a device, not a file")
    if not target.parent.is_dir():
        raise OutputError(f"cannot write {target}: no such folder: {target.parent}")


def write_text(target: Path, text: str) -> None:
    """The file appears whole or not at all; a device gets the text. Raises OutputError when it cannot be written."""
    if not target.exists() or target.is_file():
        with whole_file(target) as temporary:
            temporary.write_text(text, encoding="utf-8")
        return
    try:
        target.write_text(text, encoding="utf-8")
    except OSError as reason:
        raise OutputError(f"cannot write {target}: {reason.strerror}") from None
