"""What is listened to: a microphone, a stream from the network, or a pipe; and how people are spoken to about each."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from edge_runtime.capture.address import shown
from edge_runtime.capture.pcm import RawFormat

STDIN = "-"
MIX = "mix"
"""The channel that is the mean of all."""


class Kind(StrEnum):
    """Kinds of live sources, by the words for them."""

    MICROPHONE = "microphone"
    STREAM = "stream"
    """An address, which ffmpeg reads."""
    PIPE = "pipe"
    """Standard input or a FIFO. It cannot be opened again without losing what is in it."""


@dataclass(frozen=True)
class Words:
    """Why a live source is in trouble, in words; `{}` is a number of seconds."""

    opening: str
    stalled: str
    silent: str


WORDS = {
    Kind.MICROPHONE: Words(
        opening="opening the microphone takes longer than {} s: the sound system hangs",
        stalled="the microphone has given no sound for {} s: check the cable, or that no other program has taken it",
        silent="the microphone has given one value only for {} s: it is muted, or broken",
    ),
    Kind.STREAM: Words(
        opening="the stream does not begin within {} s: what sends it does not answer, or sends no sound",
        stalled="the stream has given no sound for {} s: check the network, and what sends it",
        silent="the stream has given one value only for {} s: its microphone is muted, or broken",
    ),
    Kind.PIPE: Words(
        opening="opening the pipe takes longer than {} s",
        stalled="the pipe has given no sound for {} s: nothing writes into it, or what writes stands still",
        silent="the pipe has given one value only for {} s: what writes into it hears nothing",
    ),
}


@dataclass(frozen=True)
class Wanted:
    """A live source, as the settings name it."""

    kind: Kind
    name: str  # of a microphone as `devices.resolve` takes it; a URL; a FIFO's path, or STDIN
    channel: str | int = MIX  # counted from 1
    raw: RawFormat | None = None  # of a pipe without a header

    @property
    def shown(self) -> str:
        """The name as people may read it: without passwords, and as UTF-8 can have it."""
        if self.kind is Kind.STREAM:
            return shown(self.name)
        if self.kind is Kind.PIPE and self.name == STDIN:
            return "standard input"
        return self.name.encode("utf-8", "backslashreplace").decode()
