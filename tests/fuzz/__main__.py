"""`python -m tests.fuzz TARGET ... --seconds 300`: fuzzes, prints the counts, and keeps what it found."""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.fuzz.harness import Target, fuzz

TARGETS: tuple[str, ...] = (
    "checkpoint",
    "config",
    "contract",
    "ledger",
    "scores",
    "soundfile",
    "wav",
)
"""Modules beside this one; each has TARGET."""


def target_of(name: str) -> Target:
    """The target of that name."""
    target: Target = importlib.import_module(f"tests.fuzz.{name}").TARGET
    return target


def main(argv: Sequence[str] | None = None) -> int:
    """Fuzzes; the exit code is 1 when anything was found."""
    command = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Fuzzes what reads things from outside.")
    command.add_argument("target", nargs="*", metavar="TARGET", help=f"of {', '.join(TARGETS)} (default: all)")
    command.add_argument("--seconds", type=float, default=60.0, help="for each target (default 60)")
    command.add_argument("--seed", type=int, default=0)
    command.add_argument("--keep", type=Path, help="a folder for the inputs that were findings")
    given = command.parse_args(argv)
    if unknown := set(given.target) - set(TARGETS):
        command.error(f"no target {', '.join(sorted(unknown))}: there are {', '.join(TARGETS)}")
    found = 0
    for name in given.target or TARGETS:
        with tempfile.TemporaryDirectory() as folder:
            result = fuzz(target_of(name), Path(folder), seconds=given.seconds, seed=given.seed)
        print(f"{name}: {result}", flush=True)
        found += len(result.findings)
        for number, (sample, text) in enumerate(result.findings):
            print(f"--- {name} {number} ---\n{text}", file=sys.stderr)
            if given.keep:
                given.keep.mkdir(parents=True, exist_ok=True)
                (given.keep / f"{name}-{number}").write_bytes(sample)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
