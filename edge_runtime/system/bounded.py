"""Calls into a sound system that may never come back, and what has been left behind in one that died."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from edge_runtime.errors import InputError

OPEN_SECONDS = 15.0
"""Time for a sound system to start, list or open: some wait for hardware that does not answer."""

_abandoned: list[str] = []

Answer = TypeVar("Answer")


def abandon(what: str) -> None:
    """Notes that `what` is left as it is, since even closing it could hang or abort the process."""
    _abandoned.append(what)


def anything_abandoned() -> bool:
    """True when Python cannot end in good order any more, but must leave by `os._exit`."""
    return bool(_abandoned)


def bounded(call: Callable[[], Answer], seconds: float, doing: str) -> Answer:
    """The result of `call`, or InputError when it takes longer than `seconds`; its own errors pass."""
    answers: list[Answer] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            answers.append(call())
        except BaseException as error:
            errors.append(error)

    worker = threading.Thread(target=work, daemon=True, name=doing)
    worker.start()
    worker.join(seconds)
    if errors:
        raise errors[0]
    if not answers:
        abandon(doing)
        raise InputError(f"{doing} takes longer than {seconds:g} s: the sound system hangs, restart it")
    return answers[0]
