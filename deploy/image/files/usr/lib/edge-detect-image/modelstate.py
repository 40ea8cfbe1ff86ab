"""What `edge-detect-model` has decided on a box, and the files of models that it wrote itself.

All of it stands in one file, DIR/environment, which the service reads at its start. It is replaced whole, after the
model that it names: a power cut at any moment leaves the old state or the new one. It also lists the files that were
written (`written`, with their SHA-256), before they are: only these are ever removed, and only while they are what was
written. Everything else in DIR is somebody's own.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

SETTLED, TRIAL, PROBATION = "settled", "trial", "probation"
REFUSED, UNUSABLE, UNWRITTEN = 3, 4, 5
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")
SHA256 = re.compile(r"[0-9a-f]{64}")
CREATED = re.compile(r"[0-9A-Z:.+-]{0,40}")
HIGHEST_SEQUENCE = (1 << 63) - 1
LARGEST_JSON = 1 << 20
WORK = ".new-"
"""How folders begin in which a bundle is unpacked."""
CONTENT, MODEL = "content", "model"
"""The files in them."""
_LATEST = 1e11  # seconds since 1970, far beyond what a clock says
_WORK = re.compile(re.escape(WORK) + r"[a-z0-9_]{8}")

Model = dict[str, Any]


class Wrong(Exception):
    """A line for the user, and the exit code."""

    def __init__(self, text: str, code: int = REFUSED) -> None:
        super().__init__(line(text))
        self.code = code


def line(text: str) -> str:
    """On one line, without what a terminal would obey, and not for ever."""
    text = " ".join(text.split())
    text = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)
    return text if len(text) <= 600 else text[:600] + "..."


@dataclasses.dataclass
class State:
    """Models are {name, sha256, created, sequence, file}; None stands for the one that the service has by itself."""

    phase: str = SETTLED
    running: Model | None = None
    candidate: Model | None = None
    previous: Model | None = None
    sequence: int = 0  # the highest that was taken in
    since: float = 0.0  # when the phase began, in seconds since 1970
    restart: bool = False  # the service has not begun with it yet
    last: str = ""  # what came of the last change
    written: dict[str, str] = dataclasses.field(default_factory=dict)  # our files' names, and their SHA-256

    def models(self) -> list[Model]:
        """Those that it names."""
        return [model for model in (self.running, self.candidate, self.previous) if model]


class Store:
    """The folder of models of one box."""

    def __init__(self, models: Path, report: Path, configuration: Path) -> None:
        """`report` is where a trial writes; a file that `configuration` names is never removed."""
        self.models = models
        self.report = report
        self.environment = models / "environment"
        self._configuration = configuration
        self.state = self.read()

    def read(self) -> State:
        """What was decided; nothing yet where there is no file. Raises Wrong for one that is not ours."""
        try:
            with open(os.open(self.environment, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
                text = file.read(LARGEST_JSON)
        except FileNotFoundError:
            return State()
        try:
            told = json.loads(next(row[2:] for row in text.decode().splitlines() if row.startswith("# {")))
            # A system that was taken back may know less than the one that wrote it.
            state = State(**{field.name: told[field.name] for field in dataclasses.fields(State) if field.name in told})
            _need_whole(state)
        except (ValueError, TypeError, KeyError, AttributeError, StopIteration, RecursionError):
            # Its models must not be taken for leftovers.
            raise Wrong(f"{self.environment} was changed by somebody else: put it back, or remove it") from None
        # One that was written before there was a list: these are ours.
        state.written |= {Path(model["file"]).name: model["sha256"] for model in state.models()}
        return state

    def save(self) -> None:
        """Replaces the state, then removes what it needs no longer."""
        self._write()
        self.prune()

    def _write(self) -> None:
        state = self.state
        values = {"EDGE_DETECT_MODEL": state.running and state.running["file"]}
        if state.candidate:
            values |= {"EDGE_DETECT_SHADOW": state.candidate["file"], "EDGE_DETECT_SHADOW_REPORT": str(self.report)}
        lines = ["# Written by edge-detect-model, with its state:", f"# {json.dumps(dataclasses.asdict(state))}"]
        lines += [f'{name}="{value}"' for name, value in values.items() if value]
        half = self.environment.with_name(".environment.part")
        with half.open("w", encoding="utf-8") as file:
            os.fchmod(file.fileno(), 0o644)
            file.write("\n".join(lines) + "\n")
            file.flush()
            os.fsync(file.fileno())
        half.rename(self.environment)
        self._settle_folder()

    def place(self, unpacked: Path, model: Model) -> None:
        """Puts a model where it stays. Raises Wrong where something else has its name."""
        target = Path(model["file"])
        if os.path.lexists(target):
            if not _is(target, model["sha256"]):
                raise Wrong(f"{target} is there, and is not this model: move it away")
            return  # the same bytes, whosever they are
        self.state.written[target.name] = model["sha256"]
        self._write()
        unpacked.rename(target)
        self._settle_folder()

    def prune(self) -> None:
        """Removes those of our files that no state names, and what was cut short."""
        kept = {Path(model["file"]).name for model in self.state.models()}
        for name, sha256 in list(self.state.written.items()):
            if name in kept or name in self._configured():
                continue
            file = self.models / name
            with contextlib.suppress(OSError):  # then it is in the way of nothing
                if _is(file, sha256):
                    file.unlink()
                del self.state.written[name]  # removed, or replaced by somebody, whose it is now
        for folder in self.models.iterdir():
            if _WORK.fullmatch(folder.name) and folder.is_dir() and not folder.is_symlink():
                with contextlib.suppress(OSError):
                    if {file.name for file in folder.iterdir()} <= {CONTENT, MODEL}:
                        shutil.rmtree(folder)

    def _configured(self) -> str:
        try:
            return self._configuration.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""

    def _settle_folder(self) -> None:
        folder = os.open(self.models, os.O_RDONLY | os.O_DIRECTORY)
        os.fsync(folder)
        os.close(folder)


def _need_whole(state: State) -> None:
    """Raises ValueError or another error of wrong types for a state that this program never wrote."""
    kinds: dict[str, type | tuple[type, ...]] = {
        "phase": str,
        "last": str,
        "restart": bool,
        "sequence": int,
        "written": dict,
        "since": (int, float),
    }
    for model in state.models():
        named = NAME.fullmatch(model["name"]) and SHA256.fullmatch(model["sha256"])
        if not named or not isinstance(model["file"], str) or type(model["sequence"]) is not int:
            raise ValueError
    for name, sha256 in state.written.items():
        if Path(name).name != name or not SHA256.fullmatch(sha256):
            raise ValueError
    right = all(isinstance(getattr(state, name), kind) for name, kind in kinds.items())
    if not right or not 0 <= state.since < _LATEST or state.phase not in (SETTLED, TRIAL, PROBATION):
        raise ValueError
    if (state.phase == TRIAL and not state.candidate) or (state.phase == PROBATION and not state.running):
        raise ValueError


def _is(file: Path, sha256: str) -> bool:
    """Whether it is a regular file with this content."""
    if file.is_symlink() or not file.is_file():
        return False
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest() == sha256
