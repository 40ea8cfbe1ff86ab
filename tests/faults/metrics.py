"""Score files and keys."""

from __future__ import annotations

from pathlib import Path

from tests.faults.case import Case


def _files(folder: Path, scores: str) -> list[str]:
    (folder / "scores").write_text(scores)
    (folder / "key").write_text("".join(f"S T{n} - - {'bonafide' if n % 2 else 'spoof'}\n" for n in range(40)))
    return ["metrics", "scores", "key", "--rounds", "5"]


def _scores(sign: int) -> str:
    return "".join(f"T{n} {sign * (n % 2) + 0.01 * n}\n" for n in range(40))


def _named(folder: Path) -> list[str]:
    lines = (f"T{n} - {'spoof' if n == 1 or n % 2 == 0 else 'bonafide'} {n % 2 + 0.01 * n}\n" for n in range(40))
    return _files(folder, "".join(lines))


CASES = [
    Case(
        "scores that are higher for spoof",
        lambda folder: _files(folder, _scores(-1)),
        0,
        "worse than chance",
        "benchmarks",
    ),
    Case("a score file whose labels contradict the key", _named, 0, "1 trials different labels", "benchmarks"),
    Case(
        "a score written as 1_000",
        lambda folder: _files(folder, "T0 1_000\nT1 1\n"),
        3,
        "line 1: '1_000' is no score",
        "benchmarks",
    ),
    Case("scores that are all equal", lambda folder: _files(folder, "T0 1\nT1 1\n"), 0, "are equal", "benchmarks"),
]
