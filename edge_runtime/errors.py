"""The errors that a user can meet, each with the exit code that the program ends with."""

from __future__ import annotations


class EdgeDetectError(Exception):
    """Base of all errors with one clear line for the user; `exit_code` is the program's answer."""

    exit_code = 1


class UsageError(EdgeDetectError):
    """A wrong option or configuration."""

    exit_code = 2


class InputError(EdgeDetectError):
    """Audio that cannot be had: a missing or corrupt file, an absent or failing microphone."""

    exit_code = 3


class ModelError(EdgeDetectError):
    """A model or checkpoint that is missing, damaged, hostile or of another kind than asked for."""

    exit_code = 4


class OutputError(EdgeDetectError):
    """A result that cannot be written: a full disk, a missing folder, no permission."""

    exit_code = 5


class Ended(Exception):
    """The program was asked to end while it opened what a run needs: no error, but nothing more to do."""


SPOOF_FOUND = 10
"""Exit code of `edge-detect --fail-on-spoof` when the verdict was spoof."""

CHECK_FAILED = 12
"""Exit code of `edge-detect commission` for a failed check that has no code of its own: too slow, a clip misjudged."""
