"""What an engine is: a name, a licence, a check whether it can run here, and a way to make a wave."""

from __future__ import annotations

import importlib
import importlib.util
import shutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from training.synthesize.dsp import Wave

Generator = np.random.Generator


class EngineFailed(Exception):
    """An engine could not make one clip; the message is one line."""


@dataclass(frozen=True)
class Need:
    """Something an engine stands on: Python `modules` or `programs`, and what installs them."""

    install: str
    modules: tuple[str, ...] = ()
    programs: tuple[str, ...] = ()

    def missing(self) -> str | None:
        """One line naming what is absent and what installs it; None where all is there."""
        absent = [m for m in self.modules if not has_module(m)] + [p for p in self.programs if not shutil.which(p)]
        return f"{', '.join(absent)} not found; install with: {self.install}" if absent else None


def has_module(name: str) -> bool:
    """Whether a top-level Python module can be found (it is not imported)."""
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False


def load(module: str) -> Any:
    """An optional module, imported when first used, without its warnings about its own dependencies."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(module)
    except ImportError as error:
        raise EngineFailed(f"{module} cannot be imported: {error}") from None


@dataclass(frozen=True)
class CopyEngine:
    """A vocoder: takes a human wave apart and builds it again.

    `render(wave [samples], rate Hz, generator)` gives a wave of the same rate and about the same length.
    `share` is the part of the human clips it is used on unless the caller says otherwise.
    """

    name: str
    licence: str
    share: float
    need: Need
    render: Callable[[Wave, int, Generator], Wave]

    def missing(self) -> str | None:
        return self.need.missing()


@dataclass(frozen=True)
class Voice:
    """One voice of a text-to-speech engine and the language (two letters) its texts have to be in."""

    name: str
    language: str


@dataclass(frozen=True)
class Speech:
    """What a text-to-speech engine said: `wave` [samples] at `rate` Hz."""

    wave: Wave
    rate: int


class SpeechEngine(Protocol):
    """A text-to-speech engine. `minutes` is how much it makes unless the caller says otherwise."""

    @property
    def name(self) -> str: ...
    @property
    def licence(self) -> str: ...
    @property
    def minutes(self) -> float: ...

    def missing(self) -> str | None:
        """One line saying why the engine cannot run here and what installs it; None where it can."""

    def voices(self) -> list[Voice]:
        """The voices that are installed, in a stable order."""

    def say(self, text: str, voice: Voice, generator: Generator) -> Speech:
        """Speak `text`; speed, pitch and the like are drawn from `generator`."""
