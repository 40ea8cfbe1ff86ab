"""How families of sound files are laid out: what a parser must know of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from edge_runtime.capture.pcm import RawFormat


class OtherCoding(Exception):
    """The sound is coded in a way that is not decoded here; the text says which."""


@dataclass(frozen=True)
class Start:
    """Where the sound lies: `skip` bytes from here, then `size` bytes; None where nothing says how many.

    `bits` are those of a sample where the container is wider and the place in it is not known; 0 elsewhere.
    `form` is None where the coding is another (OtherCoding).
    """

    size: int | None
    form: RawFormat | None
    bits: int = 0
    skip: int = 0
    offset: bool = False
    """AIFF: the sound begins with the number of bytes to skip."""
    coding: str = ""
    """What coding it is where there is no form."""
    at_top: bool = False  # where `bits` are, and the samples do not prove the low end


class Family(Protocol):
    """How one kind of file is laid out. `name` is for people."""

    name: str
    preamble_bytes: int
    head_bytes: int
    """Of a chunk; 0 where there are none, and the sound follows the preamble."""

    def begin(self, preamble: bytes) -> Start | None:
        """Reads the file's beginning; gives where the sound lies if it is known already."""

    def chunk(self, head: bytes) -> tuple[bytes, int]:
        """Name (4 bytes) and size of the body of the chunk that `head` begins; a size below 0 is not known."""

    def padding(self, size: int) -> int:
        """Bytes between a body of `size` bytes and the next chunk."""

    def describes(self, name: bytes) -> bool:
        """Whether the chunk says how the sound is coded, so that its body is wanted."""

    def describe(self, name: bytes, body: bytes) -> None:
        """Takes such a body. Raises InputError for damage."""

    def sound(self, name: bytes, size: int) -> Start | None:
        """Where the sound lies if the chunk holds it. Raises InputError when the coding was not described yet."""
