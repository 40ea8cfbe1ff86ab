"""What a check found: a verdict, one line that says what is so, and one that says what to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class Grade(StrEnum):
    """How a check ended, the better ones first."""

    OK = "ok"
    WARN = "warn"
    """It works, and could work better, or should be looked at."""
    FAIL = "fail"
    """It does not do what it is there for."""


@dataclass(frozen=True)
class Check:
    """One check. `code` is the exit code that it asks for, 0 unless it failed."""

    name: str
    grade: Grade
    found: str
    todo: str = ""  # nothing where all is well
    code: int = 0


def ok(name: str, found: str) -> Check:
    """All is well."""
    return Check(name, Grade.OK, found)


def warn(name: str, found: str, todo: str) -> Check:
    """Not quite."""
    return Check(name, Grade.WARN, found, todo)


def fail(name: str, found: str, todo: str, code: int) -> Check:
    """Not at all."""
    return Check(name, Grade.FAIL, found, todo, code)


def worst(checks: Sequence[Check]) -> Grade:
    """The grade of all together."""
    return max((check.grade for check in checks), key=list(Grade).index, default=Grade.OK)


def exit_code(checks: Sequence[Check]) -> int:
    """That of the first check that failed, as later ones may fail for the same reason; 0 when none did."""
    return next((check.code for check in checks if check.grade is Grade.FAIL), 0)
