"""Sound out of a file of chunks (WAV, AIFF, CAF and kin) that arrives in pieces of any size: files and pipes alike.

A header's size of the sound is a promise, not the truth. Where less comes, that is an error after the sound. Where more
comes, what follows is looked at: metadata and padding are skipped, another file is read on, and anything else is sound
whose size was never brought up to date, and is read to the end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from edge_runtime.capture.formats.layout import Family, OtherCoding, Start
from edge_runtime.capture.formats.tags import LOOK_BYTES, tag_bytes
from edge_runtime.capture.formats.trailing import HEAD_BYTES, OTHER_FILES, Buffer, is_metadata, may_be_chunk
from edge_runtime.capture.formats.wide import WideParser
from edge_runtime.capture.pcm import Piece, RawParser, check_limits
from edge_runtime.errors import InputError

_LARGEST_FORMAT = 4096
_PADDING_STEP = 1 << 16
_MOST_CHUNKS = 10_000
_LEAST_FOREIGN_BYTES = 16
"""Fewer bytes after the sound's metadata are not worth a word."""


class ChunkParser:
    """Reads one family of files; more of them, of any family, may follow each other.

    `family_of` finds the family of a file by its first bytes. With `counting` nothing is decoded: other codings are
    passed over, and only what is wrong with the sizes comes out.
    """

    def __init__(self, family_of: Callable[[bytes], Family | None], counting: bool = False) -> None:
        self._family_of = family_of
        self._counting = counting
        self._buffer = Buffer()
        self._ended = False
        self._step: Callable[[], Iterator[Piece] | None] = self._preamble
        self._skip = 0
        self._skip_matters = False  # what is skipped now is of unknown kind
        self._family: Family | None = None
        self._start: Start | None = None
        self._body: RawParser | WideParser | None = None
        self._left: int | None = None  # bytes of the announced sound
        self._announced = 0
        self._zeros = 0  # bytes after the announced end, held back: padding, unless sound follows
        self._stale = False  # the sound goes on after its announced end
        self._fed = 0
        self._metadata_passed = False
        self._foreign_bytes = 0
        self._foreign_varies = False
        self._files = 0
        self._chunks = 0  # one after the other, without sound

    @property
    def rate(self) -> int:
        """Hz; 0 before the sound began."""
        return self._start.form.rate if self._start and self._start.form else 0

    @property
    def frame_bytes(self) -> int:
        """Bytes of a sample of all channels; 0 before the sound began."""
        return self._start.form.frame_bytes if self._start and self._start.form else 0

    @property
    def passing(self) -> bool:
        """Whether what comes now is most likely no sound: there may be much of it."""
        return bool(self._skip or self._zeros or self._counting or self._step == self._foreign)

    def announced_seconds(self, file_bytes: int) -> float | None:
        """How long the sound is by its header, in a file of so many bytes; None where that is not known."""
        form = self._start.form if self._start else None
        if form is None:
            return None
        return form.seconds(min(self._announced, file_bytes) if self._announced else file_bytes)

    def push(self, data: bytes) -> Iterator[Piece]:
        """Takes bytes of any number and gives their frames. Raises InputError or OtherCoding when it cannot go on."""
        self._buffer.add(data)
        yield from self._run()

    def flush(self) -> Iterator[Piece]:
        """The bytes ended: gives what was held back. Raises InputError when they ended too early, or not there."""
        self._ended = True
        yield from self._run()
        yield from self._close()

    def _run(self) -> Iterator[Piece]:
        while True:
            if self._skip:
                self._skip -= self._buffer.drop(self._skip)
                if self._skip:
                    return
            found = self._step()
            if found is None:
                return
            yield from found

    def _preamble(self) -> Iterator[Piece] | None:
        """The first bytes of a file."""
        if self._family is None:
            if len(self._buffer) < HEAD_BYTES and not (self._ended and self._buffer):
                return None
            self._family = self._family_of(self._buffer.look(HEAD_BYTES))
            if self._family is None:
                raise OtherCoding("no file of chunks")
        if len(self._buffer) < self._family.preamble_bytes:
            return None
        preamble = self._buffer.take(self._family.preamble_bytes)
        self._files += 1
        start = self._family.begin(preamble)
        self._step = self._chunk
        return iter(()) if start is None else self._open(start)

    def _chunk(self) -> Iterator[Piece] | None:
        """A chunk before the sound."""
        family = self._family
        assert family is not None
        if len(self._buffer) < family.head_bytes:
            return None
        self._count_chunk()
        name, size = family.chunk(self._buffer.look(family.head_bytes))
        start = family.sound(name, size)
        if start is not None:
            self._buffer.take(family.head_bytes)
            return self._open(start)
        if size < 0 or (family.describes(name) and size > _LARGEST_FORMAT):
            raise InputError(f"the {family.name}'s header is damaged")
        if family.describes(name):
            if len(self._buffer) < family.head_bytes + size:
                return None
            family.describe(name, self._buffer.look(size, family.head_bytes))
        self._buffer.take(family.head_bytes)
        self._skip = size + family.padding(size)
        return iter(())

    def _open(self, start: Start) -> Iterator[Piece]:
        """The sound begins."""
        yield from self._end_of_body()
        if start.form is not None:
            check_limits(start.form.rate, start.form.channels)
        elif not self._counting and self._files == 1:
            raise OtherCoding(start.coding)
        if self._files > 1 and (start.form is None or self._counting):
            # Where only sizes are counted, what decoded the first file read that one alone.
            raise InputError("another file begins in it, of a coding that is not read there, and was left out")
        self._start = start
        if start.form is not None and not self._counting:
            self._body = WideParser(start.form, start.bits, start.at_top) if start.bits else RawParser(start.form)
        self._left = start.size
        self._announced = start.size or 0
        self._skip = start.skip
        self._skip_matters = False
        self._stale = self._metadata_passed = False
        self._zeros = self._fed = 0
        self._step = self._offset if start.offset else self._sound

    def _offset(self) -> Iterator[Piece] | None:
        """Before the sound stand two numbers: how far it begins from there, and one that does not matter."""
        if len(self._buffer) < 8:
            return None
        self._skip = int.from_bytes(self._buffer.take(8)[:4], "big")
        self._left = max(0, (self._left or 0) - 8 - self._skip)
        self._announced = self._left
        self._step = self._sound
        return iter(())

    def _sound(self) -> Iterator[Piece] | None:
        """Sound of a known size."""
        if self._left is None:
            self._step = self._endless
            return iter(())
        if not self._left:
            self._step = self._tail
            return iter(())
        if not self._buffer:
            return None
        data = self._buffer.take(self._left)
        self._left -= len(data)
        return self._heard(data)

    def _endless(self) -> Iterator[Piece] | None:
        """Sound whose end nothing tells: to the end of the input, or to the beginning of another file in it."""
        if not self._buffer:
            return None
        if self._stale and (zeros := self._buffer.zeros()):
            self._zeros += self._buffer.drop(zeros)
            return iter(())
        place, certain = self._buffer.beginning(self._ended)
        if certain and not place:
            self._step = self._another
            return iter(())
        data = self._buffer.take(place)
        return self._heard(data) if data else None

    def _heard(self, data: bytes) -> Iterator[Piece]:
        if self._body is None:
            return
        self._chunks = 0
        if self._stale:  # zeros at the very end of a file are what a disk was filled with, not sound
            sound = data.rstrip(b"\0")
            zeros, self._zeros = self._zeros, self._zeros + len(data)
            if not sound:
                return
            self._zeros = len(data) - len(sound)
            data = sound
            while zeros:
                silence = bytes(min(zeros, _PADDING_STEP))
                zeros -= len(silence)
                self._fed += len(silence)
                yield from self._body.push(silence)
        self._fed += len(data)
        yield from self._body.push(data)

    def _tail(self) -> Iterator[Piece] | None:
        """What stands after the announced end of the sound."""
        if not self._buffer or (len(self._buffer) < LOOK_BYTES and not self._ended):
            return None
        zeros = self._buffer.zeros() if self._announced else 0
        if zeros and zeros == len(self._buffer):
            self._zeros += self._buffer.drop(zeros)
            return iter(())
        padding = self._family.padding(self._announced) if self._family and not self._zeros else 0
        for place in sorted({0, padding, zeros}):
            if len(self._buffer) - place < LOOK_BYTES and not self._ended:
                return None
            if self._passed(place):
                self._zeros = 0
                return iter(())
        if self._body is None or self._metadata_passed or self._buffer.look(LOOK_BYTES).startswith(OTHER_FILES):
            self._step = self._foreign
            return iter(())
        self._stale = self._announced > 0
        self._step = self._endless
        return iter(())

    def _passed(self, place: int) -> bool:
        """Whether at `place` begins what is no sound, or another file: then it is passed."""
        family, here = self._family, self._buffer.look(LOOK_BYTES, place)
        assert family is not None
        if self._family_of(here[:HEAD_BYTES]) is not None:
            self._buffer.drop(place)
            self._step = self._another
            return True
        self._skip_matters = False
        self._count_chunk()
        tag = tag_bytes(here)
        if tag:
            self._skip = place + tag
            return True
        if not family.head_bytes or len(here) < family.head_bytes:
            return False
        name, size = family.chunk(here[: family.head_bytes])
        if not may_be_chunk(name, size):
            return False
        known = is_metadata(name)
        if not known and (family.describes(name) or family.sound(name, size) is not None):
            self._buffer.drop(place)
            self._step = self._chunk
            return True
        self._skip = place + family.head_bytes + size + family.padding(size)
        self._skip_matters = not known
        self._metadata_passed = True
        return True

    def _count_chunk(self) -> None:
        self._chunks += 1
        if self._chunks > _MOST_CHUNKS:
            raise InputError(f"is damaged: {_MOST_CHUNKS} parts without sound follow each other in it")

    def _another(self) -> Iterator[Piece]:
        """Another file begins here."""
        yield from self._end_of_body()
        self._family = None
        self._step = self._preamble

    def _foreign(self) -> Iterator[Piece] | None:
        """Neither sound nor metadata: how much of it there is."""
        if not self._buffer:
            return None
        data = self._buffer.take(len(self._buffer))
        self._foreign_varies |= data.count(data[:1]) < len(data)
        self._foreign_bytes += len(data)
        return iter(())

    def _end_of_body(self) -> Iterator[Piece]:
        body, self._body = self._body, None
        if body is not None:
            if self._stale and self._start and self._start.form:  # a last sample may itself end in zeros
                missing = -self._fed % self._start.form.frame_bytes
                yield from body.push(bytes(min(self._zeros, missing)))
            yield from body.flush()

    def _close(self) -> Iterator[Piece]:
        name = self._family.name if self._family else "file"
        if self._step in (self._preamble, self._chunk):
            if not self._files and not self._buffer:
                raise InputError("no sound came: the input is empty")
            if self._start is not None:
                raise InputError(f"is cut short: another {name} begins in it and ends inside its header")
            raise InputError(f"the input ended inside the {name}'s header, before any sound")
        yield from self._end_of_body()
        if self._step in (self._sound, self._offset) and self._left:
            form = self._start.form if self._start else None
            missing = f"{form.seconds(self._left):.2f} s" if form else f"{self._left} bytes"
            raise InputError(f"the {name} is cut short: {missing} that its header announces are missing")
        if (self._skip and self._skip_matters) or (
            self._foreign_varies and self._foreign_bytes >= _LEAST_FOREIGN_BYTES
        ):
            what = f"{self._foreign_bytes} bytes" if self._foreign_bytes else "a part of unknown kind that is cut short"
            raise InputError(
                f"after the sound that its header announces stand {what}, which were left out: where that is sound, "
                "convert the file to 16-bit WAV first"
            )
