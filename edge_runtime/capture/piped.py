"""Sound out of the bytes of a pipe: a file of chunks (WAV and kin), or raw."""

from __future__ import annotations

from collections.abc import Iterator

from edge_runtime.capture.formats.chunks import ChunkParser
from edge_runtime.capture.formats.containers import family_of
from edge_runtime.capture.formats.layout import OtherCoding
from edge_runtime.capture.pcm import Piece, RawFormat, RawParser
from edge_runtime.errors import InputError


class PipedSound:
    """Takes the bytes as they come, in pieces of any size. Every call raises InputError for what is no such sound."""

    def __init__(self, raw: RawFormat | None) -> None:
        """`raw` is how headerless sound is written; None: it has a header."""
        self._parser: RawParser | ChunkParser = ChunkParser(family_of) if raw is None else RawParser(raw)

    def push(self, data: bytes) -> Iterator[Piece]:
        """The frames that these bytes complete."""
        try:
            yield from self._parser.push(data)
        except OtherCoding as reason:
            raise _refusal(reason) from None

    def flush(self) -> Iterator[Piece]:
        """The bytes ended: gives what was held back. Raises InputError, after that, when they ended too early."""
        try:
            yield from self._parser.flush()
        except OtherCoding as reason:
            raise _refusal(reason) from None
        if isinstance(self._parser, RawParser) and self._parser.rest_bytes:
            raise InputError(
                f"is cut short or of another coding: it ends with {self._parser.rest_bytes} of the "
                f"{self._parser.form.frame_bytes} bytes of a sample (s24le is packed in three bytes; ALSA's S24_LE is "
                "s24le-in-32)"
            )


def _refusal(reason: OtherCoding) -> InputError:
    return InputError(
        "the piped input is no WAV: convert it first, or say what raw sound it is with "
        "--raw s16le --rate 16000 --channels 1"
        if str(reason) == "no file of chunks"
        else f"its coding ({reason}) is not read from a pipe: name the file, or convert it to 16-bit PCM first"
    )
