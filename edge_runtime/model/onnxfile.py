"""A look into an ONNX file before ONNX Runtime sees it: its metadata, its hash, and that it is one file.

ONNX Runtime reads weights from other files where a tensor says so ("external data"), whatever folder they lie in, and
no hash of the model covers them. So the file's protobuf is walked here, just far enough to see all tensors, with bounds
on how deep and how much. https://onnx.ai/onnx/api/classes.html has the messages, onnx.proto3 their numbers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edge_runtime.errors import ModelError

LARGEST_BYTES = 512 << 20
"""A longer file is refused unread; the largest public RawNet2 makes one of 102 MB."""
LARGEST_METADATA = 128 << 20
"""Bytes of all metadata: a contract with its first block."""
MOST_PARTS = 500_000
"""Fields that are looked at; the shipped model has 2,905."""
DEEPEST = 32
"""Graphs within graphs; ours have two (a Scan in a graph)."""
NO_MODEL = "it is no ONNX file, or a damaged one; `python -m export` makes one of a checkpoint"

_MODEL, _GRAPH, _NODE, _ATTRIBUTE, _TENSOR, _SPARSE, _FUNCTION, _TRAINING, _ENTRY = range(9)
_PARTS: dict[int, dict[int, int]] = {
    _MODEL: {7: _GRAPH, 14: _ENTRY, 20: _TRAINING, 25: _FUNCTION},
    _GRAPH: {1: _NODE, 5: _TENSOR, 15: _SPARSE},
    _NODE: {5: _ATTRIBUTE},
    _ATTRIBUTE: {5: _TENSOR, 6: _GRAPH, 10: _TENSOR, 11: _GRAPH, 22: _SPARSE, 23: _SPARSE},
    _SPARSE: {1: _TENSOR, 2: _TENSOR},
    _FUNCTION: {7: _NODE, 11: _ATTRIBUTE},
    _TRAINING: {1: _GRAPH, 2: _GRAPH},
    _TENSOR: {},
    _ENTRY: {},
}
"""Of each message the fields that lead to tensors or metadata, and which message they hold."""
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14  # of a tensor
_KEY, _VALUE = 1, 2  # of an entry


@dataclass(frozen=True)
class OnnxFile:
    """What was read. `metadata` has the texts that the file says of itself."""

    sha256: str
    size: int
    metadata: dict[str, str]


class _NoModelError(Exception):
    """The bytes are no such message."""


def read(path: Path) -> OnnxFile:
    """Reads a file once. Raises ModelError when it cannot be read, is no ONNX model, or is not all of one."""
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_BYTES + 1)
    except OSError as reason:
        raise ModelError(f"cannot read the model {path}: {reason.strerror or reason}") from None
    if len(content) > LARGEST_BYTES:
        raise ModelError(f"cannot open the model {path}: it has more than {LARGEST_BYTES >> 20} MB")
    try:
        return OnnxFile(hashlib.sha256(content).hexdigest(), len(content), examine(content))
    except ModelError as reason:
        raise ModelError(f"cannot open the model {path}: {reason}") from None


def examine(content: bytes) -> dict[str, str]:
    """The metadata of an ONNX model in memory. Raises ModelError when it is none, or refers to other files."""
    if content[4:8] == b"ORTM":
        raise ModelError("it has ONNX Runtime's own format: give the .onnx file that it was made from")
    try:
        return _Walk(memoryview(content)).metadata
    except _NoModelError:
        raise ModelError(NO_MODEL) from None


class _Walk:
    """One pass over a model's messages."""

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self._parts = 0
        self.metadata: dict[str, str] = {}
        self._metadata_bytes = 0
        if not self._message(_MODEL, 0, len(data), 0):
            raise _NoModelError

    def _message(self, kind: int, start: int, end: int, depth: int) -> bool:
        """Looks through a message; whether it holds any message of those that lead on."""
        if depth > DEEPEST:
            raise ModelError(f"its graphs are nested more than {DEEPEST} deep")
        if kind == _ENTRY:
            self._entry(start, end)
            return True
        inner, led = _PARTS[kind], False
        for number, first, last in self._fields(start, end):
            if kind == _TENSOR:
                # A value in the place of a length is that of data_location, whose 1 is EXTERNAL.
                if number == _EXTERNAL_DATA or (number == _DATA_LOCATION and first != 0):
                    raise ModelError(
                        "its weights lie in other files (external data): make one file of it, with `onnx.save`"
                    )
            elif number in inner and last >= 0:
                led = True
                self._message(inner[number], first, last, depth + (inner[number] == _GRAPH))
        return led

    def _entry(self, start: int, end: int) -> None:
        key = value = ""
        try:
            for number, first, last in self._fields(start, end):
                if last >= 0 and number in (_KEY, _VALUE):
                    self._metadata_bytes += last - first
                    if self._metadata_bytes > LARGEST_METADATA:
                        raise ModelError(f"its metadata have more than {LARGEST_METADATA >> 20} MB")
                    text = str(self._data[first:last], "utf-8")
                    key, value = (text, value) if number == _KEY else (key, text)
        except UnicodeDecodeError:
            raise ModelError("its metadata are no text") from None
        if key in self.metadata:
            raise ModelError(f"its metadata have {key[:100]!r} twice")
        self.metadata[key] = value

    def _fields(self, start: int, end: int) -> Iterator[tuple[int, int, int]]:
        """Number, begin and end of each field; of one that is a number, the value and -1."""
        place = start
        while place < end:
            self._parts += 1
            if self._parts > MOST_PARTS:
                raise ModelError(f"it has more than {MOST_PARTS} parts")
            tag, place = self._varint(place, end)
            number, wire = tag >> 3, tag & 7
            if wire == 0:
                value, place = self._varint(place, end)
                yield number, value, -1
                continue
            if wire == 2:
                size, place = self._varint(place, end)
            elif wire in (1, 5):
                size = 8 if wire == 1 else 4
            else:
                raise _NoModelError
            if number == 0 or size > end - place:
                raise _NoModelError
            # A number in fixed bytes is no message, whatever its field says.
            yield (number, place, place + size) if wire == 2 else (0, 0, -1)
            place += size

    def _varint(self, place: int, end: int) -> tuple[int, int]:
        value = shift = 0
        while place < end and shift < 70:
            byte = self._data[place]
            place += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value, place
            shift += 7
        raise _NoModelError
