"""The list of clips: where each lies, and what it is. It holds facts alone, no sound."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_runtime.errors import InputError

LIST = Path(__file__).resolve().parent.parent / "pages.csv"
USES = ("train", "dev2")
UNSTATED = "none stated"
_COLUMNS = ("path", "ref", "label", "system", "kind", "year", "language", "speaker", "licence", "sha256", "use")


@dataclass(frozen=True)
class ListedClip:
    """One clip. `path` is OWNER+NAME/PATH within the repository OWNER/NAME."""

    path: str
    ref: str  # branch or commit; empty: any that has the path
    label: str
    system: str
    kind: str  # tts, vc, codec, vocoder or human
    year: str  # of the system; empty where it is not known
    language: str
    speaker: str
    licence: str
    sha256: str  # of the file, or how it begins; empty where it is not known
    use: str

    @property
    def clone(self) -> str:
        """The name of the clone's folder."""
        return self.path.partition("/")[0]

    @property
    def inside(self) -> str:
        """The path within the repository."""
        return self.path.partition("/")[2]

    @property
    def source(self) -> str:
        """The repository."""
        return self.clone.replace("+", "/", 1)

    @property
    def is_partial(self) -> bool:
        """Whether but a part of the clip was synthesized."""
        return "partial spoof" in self.system

    @property
    def states_licence(self) -> bool:
        """Whether the page, or the repository that it lies in, states a licence."""
        return bool(self.licence) and not self.licence.startswith(UNSTATED)

    @property
    def file(self) -> str:
        """The name of the clip that is cut."""
        name = hashlib.sha256((self.path + self.ref).encode()).hexdigest()[:12]
        return f"{self.label}/{self.use}_{self.label[0]}_{name}.flac"


def read(path: Path) -> list[ListedClip]:
    """The rows of a list. Raises InputError when it cannot be read or a row is not of this kind."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            if missing := [name for name in _COLUMNS if name not in (reader.fieldnames or ())]:
                raise InputError(f"{path} has no column {', '.join(missing)}: it is no list of pages")
            rows = [ListedClip(*(line[name] or "" for name in _COLUMNS)) for line in reader]
    except OSError as reason:
        raise InputError(f"cannot read {path}: {reason.strerror or reason}") from None
    except (UnicodeDecodeError, csv.Error) as reason:
        raise InputError(f"cannot read {path}: {reason}") from None
    uses: dict[str, str] = {}
    for number, row in enumerate(rows, start=2):
        fault = _fault(row)
        if row.sha256 and uses.setdefault(row.sha256, row.use) != row.use:
            fault = fault or "the same file is for training and for dev2"
        if fault:
            raise InputError(f"{path}, line {number}: {fault}")
    return rows


def _fault(row: ListedClip) -> str:
    if not row.inside or "+" not in row.clone or ".." in row.path.split("/"):
        return "the path is not OWNER+NAME/PATH"
    if row.label not in ("bonafide", "spoof"):
        return f"the label is {row.label[:40]!r}, neither bonafide nor spoof"
    if row.use not in USES:
        return f"the use is {row.use[:40]!r}, neither {' nor '.join(USES)}"
    if "\0" in row.path + row.ref or not "".join((row.system, row.speaker, row.licence)).isprintable():
        return "it holds characters that no table can"
    if row.sha256 and not (16 <= len(row.sha256) <= 64 and set(row.sha256) <= set("0123456789abcdef")):
        return "the SHA-256 is not 16 to 64 hexadecimal digits"
    if row.ref.startswith("-"):
        return "the ref begins with a dash"
    if row.year and not (row.year.isascii() and row.year.isdigit()):
        return f"the year is {row.year[:40]!r}"
    return ""


def chosen(
    rows: Sequence[ListedClip], use: str, sources: Sequence[str], stated_licence_only: bool, without_partial: bool
) -> list[ListedClip]:
    """The rows of one use, of `sources` where any are named, less what is left out."""
    return [
        row
        for row in rows
        if row.use == use
        and (not sources or row.source in sources)
        and not (stated_licence_only and not row.states_licence)
        and not (without_partial and row.is_partial)
    ]
